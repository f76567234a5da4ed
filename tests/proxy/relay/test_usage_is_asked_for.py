"""With `ask_usage` the upstream is asked for token counts, and the client gets what it would get without."""

import asyncio
import json

import pytest

from otel_agentperf_proxy import ask_usage
from otel_agentperf_proxy.frames import Kind, Outcome

ASKED = b'{"stream_options":{"include_usage":true},"model":"m","stream":true}'
BODY = b'{"model":"m","stream":true}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DELTA = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}\n\n'
COUNTS = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def post(body: bytes, *fields: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"host: p", *fields, b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*parts: bytes, end: bool = True) -> bytes:
    return b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in parts]) + b"0\r\n\r\n" * end


def answering(*parts: bytes, head: bytes = HEAD):
    async def script(peer):
        await peer.request()
        await peer.say(head)
        for part in parts:
            await peer.say(chunked(part, end=False))
            await asyncio.sleep(0)
        await peer.say(b"0\r\n\r\n")

    return script


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
async def test_the_counts_are_asked_for_observed_and_hidden(bench, size):
    stream = DELTA + COUNTS + DONE
    async with bench(answering(*split(stream, size)), ask_usage=True) as running:
        head, body = await running.exchange(post(BODY, b"x-other: 1"))
        end = await running.sink.end_of()
        peer = running.peers[0]
        assert peer.body == ASKED
        assert peer.head.count(b"content-length: %d\r\n" % len(ASKED)) == 1
        assert b"x-other: 1\r\n" in peer.head
        assert b"transfer-encoding: chunked" in head
        assert body == DELTA + DONE
        assert running.sink.bytes_of(Kind.REQUEST_BODY) == BODY
        assert running.sink.bytes_of(Kind.RESPONSE_BODY) == stream
        assert (end.outcome, end.request_bytes, end.response_bytes) == (Outcome.COMPLETE, len(BODY), len(stream))
        assert running.relay.stats()["usage"] == {"asked": 1, "hidden": 1}


async def test_a_body_in_pieces_and_chunked(bench):
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\ntransfer-encoding: chunked\r\n\r\n"
    async with bench(answering(COUNTS, DONE), ask_usage=True) as running, running.client(request) as client:
        for part in split(chunked(*split(BODY, 5)), 3):
            await client.say(part)
            await asyncio.sleep(0.001)
        assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(chunked(DONE))
        assert running.peers[0].body == ASKED
        assert b"content-length" not in running.peers[0].head


async def test_a_large_body_that_comes_slowly(bench):
    body = b'{"model":"m","messages":"%b","stream":true}' % (b"x" * 1_000_000)
    async with bench(answering(DELTA, COUNTS), ask_usage=True) as running:
        _, got = await running.exchange(post(body))
        assert got == DELTA
        assert running.peers[0].body == body.replace(b"{", b"{" + ask_usage.ASK, 1)


@pytest.mark.parametrize(
    ("request_bytes", "config"),
    [
        (post(BODY), {}),
        (post(b'{"model":"m","stream":true,"stream_options":{"include_usage":false}}'), {"ask_usage": True}),
        (post(b'{"model":"m"}'), {"ask_usage": True}),
        (post(b"no JSON"), {"ask_usage": True}),
        (post(b""), {"ask_usage": True}),
        (post(BODY, b"content-encoding: gzip"), {"ask_usage": True}),
        (post(BODY, path=b"/v1/completions"), {"ask_usage": True}),
    ],
)
async def test_other_requests_pass_as_they_are_and_so_do_their_answers(bench, request_bytes, config):
    async with bench(answering(DELTA + COUNTS, DONE), **config) as running:
        _, body = await running.exchange(request_bytes)
        assert body == DELTA + COUNTS + DONE
        assert running.peers[0].body == request_bytes.partition(b"\r\n\r\n")[2]
        assert running.relay.stats()["usage"] == {}


async def test_a_body_that_is_too_long_goes_on_before_it_is_complete(bench, monkeypatch):
    monkeypatch.setattr(ask_usage, "MAX_BODY_BYTES", 1000)
    body = BODY + b" " * 5000
    arrived = asyncio.Event()

    async def script(peer):
        await peer.request(body=False)
        await peer.reader.readexactly(2000)
        arrived.set()
        await peer.reader.readexactly(len(body) - 2000)
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    request = post(body)
    async with bench(script, ask_usage=True) as running, running.client(request[:-2000]) as client:
        async with asyncio.timeout(20):
            await arrived.wait()
        await client.say(request[-2000:])
        assert (await client.reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"text/event-stream", b"application/json"),
        HEAD.replace(b"200 OK", b"400 Bad Request"),
        HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"),
    ],
)
async def test_an_answer_that_is_no_plain_stream_passes_as_it_is(bench, head):
    async with bench(answering(COUNTS, DONE, head=head), ask_usage=True) as running:
        _, body = await running.exchange(post(BODY))
        assert body == COUNTS + DONE


async def test_a_stream_of_known_length_passes_as_it_is(bench):
    async def script(peer):
        await peer.request()
        await peer.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(COUNTS) + COUNTS
        )

    async with bench(script, ask_usage=True) as running:
        assert (await running.exchange(post(BODY)))[1] == COUNTS


async def test_what_was_held_back_of_a_stream_that_breaks_off_is_not_lost(bench):
    delivered = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.say(HEAD + chunked(DELTA, COUNTS[:30], end=False))
        await delivered.wait()
        peer.reset()

    async with bench(script, ask_usage=True) as running, running.client(post(BODY)) as client:
        await client.reader.readuntil(DELTA)
        delivered.set()
        rest = await client.reader.read()
        assert COUNTS[:30] in rest
        assert not rest.endswith(b"0\r\n\r\n")
        assert (await running.sink.end_of()).outcome == Outcome.UPSTREAM_FAILED


async def test_the_next_exchange_of_the_connection_is_not_touched(bench):
    async def script(peer):
        await peer.request()
        await peer.say(HEAD + chunked(COUNTS, DONE))
        await peer.request()
        await peer.say(HEAD + chunked(COUNTS, DONE))

    async with bench(script, ask_usage=True) as running, running.client() as client:
        own = json.dumps({"stream": True, "stream_options": {"include_usage": True}}).encode()
        await client.say(post(BODY))
        assert COUNTS not in await client.reader.readuntil(b"0\r\n\r\n")
        await client.say(post(own))
        assert COUNTS in await client.reader.readuntil(b"0\r\n\r\n")
        assert running.peers[0].body == own
