"""Clients that leave, upstreams that fail: the other side learns at once, and every exchange has exactly one end."""

import asyncio
import json
import socket
import struct

import pytest

from otel_agentperf.http1 import Client, UpstreamTimeout
from otel_agentperf.semconv import ErrorType
from otel_agentperf_proxy.frames import Outcome

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\ncontent-length: 2\r\n\r\n{}"
MESSAGES = b"POST /v1/messages HTTP/1.1\r\nhost: p\r\ncontent-length: 2\r\n\r\n{}"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def leave(client, how: str) -> None:
    sock = client.writer.get_extra_info("socket")
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort() if how == "reset" else client.writer.close()


async def gone(peer) -> None:
    async with asyncio.timeout(20):
        await peer.gone.wait()


async def silent(peer):
    await peer.request()
    await peer.until_closed()


async def mid_stream(peer):
    await peer.request()
    await peer.say(STREAM_HEAD + b"9\r\ndata: 0\n\n\r\n")
    await peer.until_closed()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("script", [silent, mid_stream])
async def test_a_client_that_leaves_ends_the_upstream_call(bench, script, how):
    async with bench(script) as running:
        async with running.client(CHAT) as client:
            peer = await running.peer()
            if script is mid_stream:
                await client.reader.readuntil(b"\n\n\r\n")
            leave(client, how)
            await gone(peer)
        end = await running.sink.end_of()
        assert (end.outcome, end.error_type) == (Outcome.CLIENT_DISCONNECTED, ErrorType.CLIENT_DISCONNECTED)
        assert end.status == (200 if script is mid_stream else None)
        assert running.relay.inflight == 0
        assert running.relay.client.stats() == {"connections": 0, "idle": 0}


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_while_uploading(bench, how):
    async with bench(silent) as running:
        async with running.client(b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 100\r\n\r\npart") as client:
            peer = await running.peer()
            leave(client, how)
            await gone(peer)
        end = await running.sink.end_of()
        assert (end.outcome, end.request_bytes) == (Outcome.CLIENT_DISCONNECTED, 4)
        assert running.relay.client.stats()["connections"] == 0


async def test_aborts_leave_no_connection_behind(bench):
    async with bench(silent) as running:
        for _ in range(50):
            async with running.client(CHAT) as client:
                async with asyncio.timeout(20):
                    while not running.relay.inflight:
                        await asyncio.sleep(0)
                leave(client, "close")
            async with asyncio.timeout(20):
                while running.relay.inflight:
                    await asyncio.sleep(0)
        assert running.relay.outcomes == {Outcome.CLIENT_DISCONNECTED: 50}
        async with asyncio.timeout(20):
            while running.relay.client.stats()["connections"]:
                await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("request_bytes", "shape"),
    [
        (CHAT, lambda body: body["error"]["type"]),
        (MESSAGES, lambda body: (body["type"], body["error"]["type"])),
        (b"GET /other HTTP/1.1\r\nhost: p\r\n\r\n", lambda body: body["error"]["type"]),
    ],
)
async def test_an_unreachable_upstream_is_a_502_in_the_dialects_shape(bench, request_bytes, shape):
    async with bench(None) as running:
        head, body = await running.exchange(request_bytes)
        end = await running.sink.end_of()
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"content-type: application/json" in head
    assert shape(json.loads(body))
    assert "cannot connect" in body.decode()
    assert (end.outcome, end.error_type, end.status) == (Outcome.UPSTREAM_FAILED, ErrorType.UPSTREAM_CONNECT, 502)


async def test_an_upstream_that_takes_too_long_to_connect_is_a_504(bench, monkeypatch):
    async def too_long(client, origin):
        raise UpstreamTimeout(f"connecting to {origin} took longer than 1 s")

    monkeypatch.setattr(Client, "connect", too_long)
    async with bench(silent) as running:
        head, body = await running.exchange(CHAT)
        end = await running.sink.end_of()
    assert head.startswith(b"HTTP/1.1 504 ")
    assert "took longer" in json.loads(body)["error"]["message"]
    assert (end.outcome, end.error_type) == (Outcome.UPSTREAM_FAILED, ErrorType.UPSTREAM_TIMEOUT)


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (b"", ErrorType.UPSTREAM_RESET),
        (b"HTTP/1.1 200 OK\r\ncontent-le", ErrorType.UPSTREAM_RESET),
        (b"this is no HTTP\r\n\r\n", ErrorType.UPSTREAM_PROTOCOL),
    ],
)
async def test_an_upstream_that_breaks_off_before_its_head_is_a_502(bench, answer, error_type):
    async def script(peer):
        await peer.request()
        await peer.say(answer)

    async with bench(script) as running:
        head, _ = await running.exchange(CHAT)
        end = await running.sink.end_of()
    assert head.startswith(b"HTTP/1.1 502 ")
    assert (end.outcome, end.error_type) == (Outcome.UPSTREAM_FAILED, error_type)


@pytest.mark.parametrize(
    "answer",
    [
        STREAM_HEAD + b"9\r\ndata: 0\n\n\r\n",
        STREAM_HEAD + b"9\r\ndata",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_a_response_that_breaks_off_never_ends_cleanly(bench, answer, reset):
    delivered = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.say(answer)
        await delivered.wait()
        if reset:
            peer.reset()

    async with bench(script) as running, running.client(CHAT) as client:
        async with asyncio.timeout(20):
            await client.reader.readuntil(b"\r\n\r\n")
            delivered.set()
            rest = await client.reader.read()
        assert not rest.endswith(b"0\r\n\r\n")
        assert len(rest) < 100
        end = await running.sink.end_of()
        assert (end.outcome, end.status) == (Outcome.UPSTREAM_FAILED, 200)
        assert end.error_type == ErrorType.UPSTREAM_RESET


async def test_a_response_without_length_ends_with_its_connection(bench):
    async def script(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    async with bench(script) as running:
        head, body = await running.exchange(CHAT)
        assert body == b"until the end"
        assert b"transfer-encoding: chunked" in head
        assert (await running.sink.end_of()).outcome == Outcome.COMPLETE


async def test_an_early_answer_reaches_a_client_that_still_uploads(bench):
    async def script(peer):
        await peer.request(body=False)
        await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with bench(script) as running:
        request = b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 1000000\r\n\r\nstart"
        async with running.client(request) as client, asyncio.timeout(20):
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        assert (await running.sink.end_of()).status == 413


async def test_a_post_is_not_sent_twice_when_a_kept_connection_closes(bench):
    requests = []

    async def script(peer):
        requests.append(await peer.request())
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        requests.append(await peer.request())
        # The second request of a connection finds it closing.

    async with bench(script) as running:
        await running.exchange(CHAT)
        head, _ = await running.exchange(CHAT)
        assert head.startswith(b"HTTP/1.1 502 ")
        assert len(requests) == 2


async def test_a_client_that_does_not_read_is_not_buffered_without_bound(bench):
    sent = 0

    async def flood(peer):
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 200000000\r\n\r\n")
        while sent < 200_000_000:
            await peer.say(b"x" * 100_000)
            sent += 100_000

    async with bench(flood) as running, running.client() as client:
        client.writer.transport.pause_reading()
        await client.say(CHAT)
        before = -1
        async with asyncio.timeout(60):
            while sent == 0 or sent != before:
                before = sent
                await asyncio.sleep(0.3)
        # Socket buffers of two hops and the read buffer of the relay, far from the whole body.
        assert sent < 50_000_000
        leave(client, "close")
        assert (await running.sink.end_of()).outcome == Outcome.CLIENT_DISCONNECTED


async def test_a_bug_in_the_observation_does_not_alter_the_exchange(bench, monkeypatch, caplog):
    from otel_agentperf_proxy import observed as module

    async def script(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    monkeypatch.setattr(module, "identify", lambda *_: 1 / 0)
    async with bench(script) as running:
        _, body = await running.exchange(CHAT)
        assert body == b"ok"
        assert running.relay.errors == {"identify": 1}


async def test_an_observer_that_raises_is_nobodys_concern(bench, monkeypatch, caplog):
    async def script(peer):
        for _ in range(2):
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with bench(script) as running:
        for name in ("open", "put", "end"):
            monkeypatch.setattr(running.sink, name, lambda *_: 1 / 0)
        for _ in range(2):
            assert (await running.exchange(CHAT))[1] == b"ok"
        # Open, request body and its end, response head and body, end.
        assert running.relay.errors == {"observe": 12}
        assert running.relay.outcomes == {Outcome.COMPLETE: 2}
        assert running.relay.inflight == 0
    assert caplog.text.count("a call cannot be observed") == 1
