"""A WebSocket is a tunnel once the upstream agrees: bytes pass as they are, and each end learns of the other's end."""

import asyncio
import json
import os
import socket
import struct

import pytest

from otel_agentperf.semconv import ErrorType
from otel_agentperf_proxy.frames import Kind, Outcome

pytestmark = pytest.mark.face("native")

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ASK = (
    b"GET /v1/responses?beta=1 HTTP/1.1\r\nHost: proxy\r\nConnection: keep-alive, Upgrade, x-hop\r\nX-Hop: 1\r\n"
    b"Upgrade: WebSocket\r\nSec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\nx-agentperf-trajectory-id: T\r\nAuthorization: Bearer secret\r\n"
    b"\r\n"
)
OTHER = ASK.replace(b"/v1/responses", b"/v1/realtime")
SWITCH = (
    b"HTTP/1.1 101 Anything Goes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=1\r\n\r\n"
)
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\ncontent-length: 2\r\n\r\n{}"


def leave(peer, how: str) -> None:
    if how == "reset":
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()
    else:
        peer.writer.close()


async def idle(peer):
    await peer.request()
    await peer.say(SWITCH)
    await peer.until_closed()


async def echo(peer):
    """Answer everything with itself, and end when the client ends."""
    await peer.request()
    await peer.say(SWITCH)
    while data := await peer.reader.read(65536):
        await peer.say(data)


async def test_the_handshake_keeps_what_it_needs_and_the_bytes_are_their_own(bench):
    async def script(peer):
        await peer.request()
        await peer.say(SWITCH + b"hello")
        assert await peer.reader.readexactly(4) == b"\x00\xff\r\n"
        await peer.say(b"bye")
        peer.writer.write_eof()
        assert await peer.reader.read() == b"last"

    async with bench(script) as running, running.client(ASK) as client:
        assert await client.reader.readexactly(len(SWITCH) + 5) == SWITCH + b"hello"
        assert running.relay.stats()["tunnels"] == 1
        client.writer.write(b"\x00\xff\r\n")
        assert await client.reader.read() == b"bye"
        client.writer.write(b"last")
        client.writer.write_eof()
        end = await running.sink.end_of()
        lines = running.peers[0].head.split(b"\r\n")[:-2]
        assert lines[0] == b"GET /v1/responses?beta=1 HTTP/1.1"
        opened = running.sink.opened[1]
        assert lines[1:] == [
            b"host: " + running.relay.routes.default.authority,
            b"sec-websocket-key: " + KEY,
            b"sec-websocket-version: 13",
            b"sec-websocket-extensions: permessage-deflate",
            b"authorization: Bearer secret",
            b"connection: Upgrade",
            b"upgrade: websocket",
            f"traceparent: 00-{opened.trace_id.hex()}-{opened.span_id.hex()}-01".encode(),
        ]
        assert opened.tags == {"trajectory.id": "T"}
        assert (opened.method, opened.path) == ("GET", "/v1/responses")
        assert not {name for name, _ in opened.headers} & {b"authorization", b"sec-websocket-key"}
        assert (end.outcome, end.error_type, end.status) == (Outcome.COMPLETE, None, 101)
        assert (end.request_bytes, end.response_bytes) == (8, 8)
        assert end.overhead_ns > 0
        stats = running.relay.stats()
        assert (stats["tunnels"], stats["inflight"], stats["statuses"]) == (0, 0, {"101": 1})
        assert (await gone(running))["connections"] == 0
        kinds = [kind for kind, *_ in running.sink.frames]
        assert kinds == [
            Kind.REQUEST_END,
            Kind.RESPONSE_HEAD,
            Kind.RESPONSE_BODY,
            Kind.REQUEST_BODY,
            Kind.RESPONSE_BODY,
            Kind.REQUEST_BODY,
        ]


async def gone(running) -> dict[str, int]:
    """Statistics of the client to the upstream once it has no connection."""
    async with asyncio.timeout(20):
        while running.relay.client.stats()["connections"]:
            await asyncio.sleep(0.001)
    return running.relay.client.stats()


async def test_a_websocket_that_nobody_reads_is_only_counted(bench):
    async with bench(echo) as running, running.client(OTHER) as client:
        await client.reader.readexactly(len(SWITCH))
        client.writer.write(b"x" * 1000)
        await client.reader.readexactly(1000)
        client.writer.write_eof()
        end = await running.sink.end_of()
        assert (end.request_bytes, end.response_bytes, end.status) == (1000, 1000, 101)
        assert {kind for kind, *_ in running.sink.frames} == {Kind.REQUEST_END, Kind.RESPONSE_HEAD}


@pytest.mark.parametrize("status", [b"426 Upgrade Required", b"404 Not Found", b"405 Method Not Allowed", b"200 OK"])
async def test_a_refusal_reaches_the_client_and_its_connection_goes_on(bench, status):
    heads = []

    async def script(peer):
        heads.append(await peer.request())
        await peer.say(b"HTTP/1.1 " + status + b"\r\nsec-websocket-version: 13\r\ncontent-length: 3\r\n\r\nno\n")
        heads.append(await peer.request())
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with bench(script) as running, running.client(ASK) as client:
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head == b"HTTP/1.1 " + status + b"\r\nsec-websocket-version: 13\r\ncontent-length: 3\r\n\r\n"
        assert await client.reader.readexactly(3) == b"no\n"
        # As Codex does: the same question over HTTP.
        client.writer.write(POST)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await client.reader.readexactly(2) == b"ok"
        assert (await running.sink.end_of(1)).outcome == Outcome.COMPLETE
        assert (await running.sink.end_of(2)).outcome == Outcome.COMPLETE
        assert b"upgrade" not in heads[1].lower()


async def test_what_follows_a_refused_handshake_is_read_by_the_proxy_and_by_nobody_else(bench):
    """Otherwise a request could hide in it that the proxy has not looked at."""
    heads = []
    hidden = b"POST /hidden HTTP/1.1\r\nhost: p\r\nx-agentperf-trajectory-id: T\r\ncontent-length: 0\r\n\r\n"

    async def script(peer):
        for answer in (
            b"HTTP/1.1 426 No\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ):
            heads.append(await peer.request())
            await asyncio.sleep(0.05)
            assert not peer.reader._buffer
            await peer.say(answer)

    async with bench(script) as running, running.client(ASK + hidden) as client:
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 426 ")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert heads[1].startswith(b"POST /hidden ")
        assert b"x-agentperf" not in heads[1]
        assert running.sink.opened[2].tags == {"trajectory.id": "T"}


async def test_bytes_sent_before_the_agreement_are_the_first_of_the_tunnel(bench):
    async def script(peer):
        await peer.request()
        assert not peer.reader._buffer
        await peer.say(SWITCH)
        await peer.say(await peer.reader.readexactly(5))

    async with bench(script) as running, running.client(ASK + b"ea") as client:
        await running.peer()
        client.writer.write(b"rly")
        assert await client.reader.readexactly(len(SWITCH) + 5) == SWITCH + b"early"


async def test_a_handshake_behind_another_request(bench):
    async def script(peer):
        await peer.request()
        if b"upgrade" in peer.head.lower():
            await peer.say(SWITCH + b"x")
            await peer.until_closed()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")

    async with bench(script) as running, running.client(POST + ASK) as client:
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await client.reader.readexactly(2 + len(SWITCH) + 1) == b"ok" + SWITCH + b"x"


H2C = b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "body"),
    [
        (ASK.replace(b"WebSocket\r\n", b"h2c\r\n"), b""),
        (ASK.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\ncontent-length: 0\r\n\r\n"), b""),
        (ASK.replace(b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\n{}"), b"{}"),
        (H2C + b"content-length: 2\r\n\r\n{}", b"{}"),
        (H2C + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
    ],
)
@pytest.mark.parametrize("pieces", [False, True])
async def test_who_asks_for_another_protocol_is_answered_in_this_one(bench, request_bytes, body, pieces):
    requests = []

    async def script(peer):
        for _ in range(2):
            requests.append((await peer.request(), peer.body))
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with bench(script) as running, running.client() as client:
        whole = request_bytes + POST
        for part in [whole[at : at + 1] for at in range(len(whole))] if pieces else [whole]:
            await client.say(part)
            await asyncio.sleep(0)
        assert await client.reader.readexactly(40) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        head = requests[0][0].lower()
        assert requests[0][1] == body
        assert b"\r\nconnection:" not in head
        assert b"\r\nupgrade:" not in head
        assert await client.reader.readexactly(40) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        assert (await running.sink.end_of(1)).request_bytes == len(body)
        assert (await running.sink.end_of(2)).request_bytes == 2
        assert len(running.sink.opened) == 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_before_the_agreement(bench, how):
    async def script(peer):
        await peer.request()
        await peer.until_closed()

    async with bench(script) as running, running.client(ASK) as client:
        peer = await running.peer()
        leave(client, how)
        async with asyncio.timeout(20):
            await peer.gone.wait()
        assert (await running.sink.end_of()).outcome == Outcome.CLIENT_DISCONNECTED


async def test_a_client_that_closes(bench):
    async with bench(idle) as running, running.client(ASK) as client:
        await client.reader.readexactly(len(SWITCH))
        leave(client, "close")
        async with asyncio.timeout(20):
            await running.peers[0].gone.wait()
        assert (await running.sink.end_of()).outcome == Outcome.COMPLETE
        # The client's end came first, which is told.
        assert [kind for kind, *_ in running.sink.frames][-1] == Kind.REQUEST_END


async def test_a_client_that_closes_before_an_upstream_that_goes_on(bench):
    async def script(peer):
        await peer.request()
        await peer.say(SWITCH)
        while True:
            await peer.say(b"x" * 1000)
            await asyncio.sleep(0.001)

    async with bench(script) as running, running.client(ASK) as client:
        await client.reader.readexactly(len(SWITCH))
        leave(client, "close")
        async with asyncio.timeout(20):
            await running.peers[0].gone.wait()
        assert (await running.sink.end_of()).outcome == Outcome.CLIENT_DISCONNECTED


async def test_a_client_that_resets(bench):
    async with bench(idle) as running, running.client(ASK) as client:
        await client.reader.readexactly(len(SWITCH))
        leave(client, "reset")
        async with asyncio.timeout(20):
            await running.peers[0].gone.wait()
        end = await running.sink.end_of()
        assert (end.outcome, end.error_type) == (Outcome.CLIENT_DISCONNECTED, ErrorType.CLIENT_DISCONNECTED)
        assert (await gone(running))["connections"] == 0


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_upstream_that_leaves(bench, how):
    delivered = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.say(SWITCH + b"part")
        await delivered.wait()
        leave(peer, how)

    async with bench(script) as running, running.client(ASK) as client:
        await client.reader.readexactly(len(SWITCH) + 4)
        delivered.set()
        async with asyncio.timeout(20):
            assert await client.reader.read() == b""
        client.writer.close()
        end = await running.sink.end_of()
        broke = how == "reset"
        assert end.outcome == (Outcome.UPSTREAM_FAILED if broke else Outcome.COMPLETE)
        assert end.error_type == (ErrorType.UPSTREAM_RESET if broke else None)
        assert end.status == 101
        assert (await gone(running))["connections"] == 0


async def test_an_unreachable_upstream_is_a_502(bench):
    async with bench(None) as running:
        head, body = await running.exchange(ASK)
        assert head.startswith(b"HTTP/1.1 502 ")
        assert json.loads(body)["error"]
        assert (await running.sink.end_of()).error_type == ErrorType.UPSTREAM_CONNECT


async def test_large_traffic_both_ways_at_once_arrives_whole(bench):
    data = os.urandom(3_000_000)

    async with bench(echo) as running, running.client(ASK) as client:
        await client.reader.readexactly(len(SWITCH))

        async def write():
            client.writer.write(data)
            client.writer.write_eof()
            await client.writer.drain()

        async with asyncio.timeout(60):
            _, back = await asyncio.gather(write(), client.reader.read())
        assert back == data
        end = await running.sink.end_of()
        assert (end.outcome, end.request_bytes, end.response_bytes) == (Outcome.COMPLETE, len(data), len(data))
        assert running.sink.bytes_of(Kind.REQUEST_BODY) == running.sink.bytes_of(Kind.RESPONSE_BODY) == data


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_a_side_that_does_not_read_holds_the_other_back(bench, slow):
    sent = 0

    async def flood(peer) -> None:
        nonlocal sent
        while sent < 200_000_000:
            await peer.say(b"x" * 100_000)
            sent += 100_000

    async def script(peer):
        await peer.request()
        await peer.say(SWITCH)
        if slow == "client":
            await flood(peer)
        else:
            peer.writer.transport.pause_reading()
            await asyncio.Event().wait()

    async with bench(script) as running, running.client(ASK) as client:
        await client.reader.readexactly(len(SWITCH))
        if slow == "client":
            client.writer.transport.pause_reading()
            flooding = None
        else:
            flooding = asyncio.create_task(flood(client))
        before = -1
        async with asyncio.timeout(60):
            while sent == 0 or sent != before:
                before = sent
                await asyncio.sleep(0.3)
        assert sent < 50_000_000
        leave(client if slow == "client" else running.peers[0], "reset")
        if flooding is not None:
            await asyncio.gather(flooding, return_exceptions=True)
        end = await running.sink.end_of()
        assert end.outcome == (Outcome.CLIENT_DISCONNECTED if slow == "client" else Outcome.UPSTREAM_FAILED)


async def test_tunnels_that_break_leave_nothing_behind(bench):
    async with bench(idle) as running:
        for _ in range(30):
            async with running.client(ASK) as client:
                await client.reader.readexactly(len(SWITCH))
                leave(client, "reset")
        async with asyncio.timeout(20):
            while running.relay.inflight:
                await asyncio.sleep(0.001)
        assert running.relay.outcomes == {Outcome.CLIENT_DISCONNECTED: 30}
        assert running.relay.tunnels == 0
        assert (await gone(running)) == {"connections": 0, "idle": 0}


async def test_a_full_channel_does_not_alter_the_tunnel(bench):
    async with bench(echo) as running, running.client(ASK) as client:
        running.sink.full = True
        await client.reader.readexactly(len(SWITCH))
        client.writer.write(b"data")
        assert await client.reader.readexactly(4) == b"data"
        client.writer.write_eof()
        end = await running.sink.end_of()
        assert end.outcome == Outcome.COMPLETE
        assert end.dropped_frames >= 3
