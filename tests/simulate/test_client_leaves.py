"""Clients that leave, do not read, or are left."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx
import pytest

ENDLESS = {"max_tokens": 100_000, "ignore_eos": True}


class Caller:
    """A client that sends one request and can leave at any time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def ask(cls, url: str, request_id: str, *, words: int = 1, **body: object) -> "Caller":
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        messages = [{"role": "user", "content": "word " * words}]
        data = json.dumps({"model": "m", "messages": messages, **body}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: {request_id}\r\n"
        writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        return cls(reader, writer)

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Look until it holds; the test's time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.005)


async def leaves(e, request_id: str, caller: Caller) -> dict:
    """The client leaves; its line of the truth log."""
    await caller.leave()
    await until(lambda: any(line["request_id"] == request_id for line in e.truth()))
    return e.truth_of(request_id)


@pytest.fixture
async def next_in_line(endpoint) -> Callable[..., Awaitable]:
    """Starts an endpoint for one request at a time, and says whether another request is served."""
    started = []

    async def start(**settings):
        e = await endpoint(max_batch=1, **settings)
        started.append(e)
        return e

    yield start
    for e in started:
        response = await e.chat(messages=[{"role": "user", "content": "x"}], max_tokens=2)
        assert response.json()["usage"]["completion_tokens"] <= 2


async def test_a_client_that_leaves_while_its_answer_comes_frees_its_slot(next_in_line):
    e = await next_in_line()
    caller = await Caller.ask(e.url, "gone", stream=True, **ENDLESS)
    await caller.reader.readuntil(b'"content":"')
    await caller.reader.readuntil(b'"content":"')
    line = await leaves(e, "gone", caller)
    assert line["status"] == "cancelled"
    assert line["http_status"] == 200
    assert line["finish_reason"] is None
    assert 0 < line["output_tokens"] < ENDLESS["max_tokens"]
    assert line["received_ns"] < line["first_token_ns"] <= line["last_token_ns"] < line["done_ns"]


async def test_a_client_that_leaves_during_its_prefill_frees_its_slot(next_in_line):
    e = await next_in_line(prefill_tokens_per_s=1000, prefill_chunk_tokens=100)
    caller = await Caller.ask(e.url, "gone", words=60_000, stream=True)
    # The opening is sent when the prefill begins.
    await caller.reader.readuntil(b'"role":"assistant"')
    line = await leaves(e, "gone", caller)
    assert line["status"] == "cancelled"
    assert line["first_token_ns"] is line["prefill_s"] is None
    assert line["output_tokens"] == 0
    assert line["queue_s"] == 0


async def test_a_client_that_leaves_in_the_queue_leaves_the_queue(next_in_line):
    e = await next_in_line()
    first = await Caller.ask(e.url, "first", stream=True, **ENDLESS)
    await first.reader.readuntil(b'"role":"assistant"')
    waiting = await Caller.ask(e.url, "waiting", stream=True, **ENDLESS)
    # A request on the same event loop that is answered after the waiting one was read.
    await until(lambda: waiting.writer.transport.get_write_buffer_size() == 0)
    await e.client.get("/health")
    line = await leaves(e, "waiting", waiting)
    assert line["status"] == "cancelled"
    assert line["queue_s"] is line["http_status"] is None
    assert (await leaves(e, "first", first))["status"] == "cancelled"


async def test_a_client_that_leaves_without_streaming_frees_its_slot(next_in_line):
    e = await next_in_line()
    caller = await Caller.ask(e.url, "gone", **ENDLESS)
    queued = asyncio.ensure_future(e.chat(messages=[{"role": "user", "content": "x"}], max_tokens=1))
    await e.client.get("/health")
    line = await leaves(e, "gone", caller)
    assert line["status"] == "cancelled"
    assert (await queued).status_code == 200


async def test_a_client_that_leaves_before_its_body_is_complete_is_a_line_in_the_log(endpoint):
    e = await endpoint()
    parts = urlsplit(e.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-request-id: half\r\ncontent-length: 100\r\n\r\n{")
    await e.client.get("/health")
    line = await leaves(e, "half", Caller(asyncio.StreamReader(), writer))
    assert line["status"] == "cancelled"
    assert line["body_ns"] is None


async def test_a_client_that_does_not_read_gets_everything_later_and_holds_up_nobody(endpoint):
    e = await endpoint(max_batch=1, decode_ms=0.01, reasoning_rate=0)
    slow = await Caller.ask(e.url, "slow", stream=True, max_tokens=60_000, ignore_eos=True)
    await slow.reader.readuntil(b'"role":"assistant"')
    other = await e.chat(messages=[{"role": "user", "content": "x"}], max_tokens=1)
    assert other.status_code == 200
    # The slot is free, the answer still waits for its reader.
    assert [line["request_id"] for line in e.truth()] != ["slow"]
    text = b""
    while b"[DONE]" not in text[-100:]:
        text += await slow.reader.read(1 << 20)
    assert text.count(b'"delta":{"content":"') == 60_000
    await slow.leave()


async def test_a_client_that_never_reads_does_not_keep_the_server_from_ending(endpoint):
    e = await endpoint(decode_ms=0.01)
    stuck = await Caller.ask(e.url, "stuck", stream=True, max_tokens=100_000, ignore_eos=True)
    await stuck.reader.readuntil(b'"role":"assistant"')
    await e.stop()
    assert e.truth_of("stuck")["status"] == "error"
    await stuck.leave()


async def test_a_cut_answer_ends_without_its_end(endpoint):
    e = await endpoint(cut_rate=1.0, reasoning_rate=0)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 10, "stream": True}
    received = b""

    async def read() -> None:
        nonlocal received
        async with e.client.stream("POST", "/v1/chat/completions", json={**body, "ignore_eos": True}) as response:
            async for data in response.aiter_bytes():
                received += data

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert received.count(b'"delta":{"content":"') == 5
    (line,) = e.truth()
    assert (line["status"], line["output_tokens"], line["finish_reason"]) == ("error", 5, None)


async def test_stopping_the_server_breaks_off_what_is_under_way(endpoint):
    e = await endpoint(max_batch=1)
    streaming = await Caller.ask(e.url, "streaming", stream=True, **ENDLESS)
    await streaming.reader.readuntil(b'"role":"assistant"')
    queued = asyncio.ensure_future(e.chat(messages=[{"role": "user", "content": "x"}]))
    await e.client.get("/health")
    await e.stop()
    assert (await queued).status_code == 503
    rest = await streaming.reader.read()
    assert b"[DONE]" not in rest
    await streaming.leave()
    assert {line["status"] for line in e.truth()} == {"error"}
