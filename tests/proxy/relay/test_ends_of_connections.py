"""Connections end for both sides when they should: a proxy that ends, clients that leave unseen, dead peers."""

import asyncio
import contextlib
import socket
import ssl
import struct
from pathlib import Path

import pytest
import trustme

from otel_agentperf.processes import listen
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import Outcome
from otel_agentperf_proxy.listener import Listener
from otel_agentperf_proxy.relay import Relay
from otel_agentperf_proxy.sinks import Nowhere

pytestmark = pytest.mark.face("native")

GET = b"GET / HTTP/1.1\r\nhost: p\r\n\r\n"
BEGIN = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
END = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(params=["plain", "tls"])
def tls(request, authority, tmp_path):
    """Settings of a proxy, and what a client trusts; None without TLS."""
    if request.param == "plain":
        return {}, None
    both: Path = tmp_path / "both.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(both)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return {"tls_cert": str(both)}, trusting


@contextlib.asynccontextmanager
async def served(script, **config):
    """A proxy before an upstream whose connections are played by `script`; gives its port and listener."""

    playing = set()

    async def play(reader, writer):
        playing.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            await script(reader, writer)
        writer.close()

    upstream = await asyncio.start_server(play, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    relay = Relay(ProxyConfig(upstream=f"http://127.0.0.1:{port}", salt="00", **config), Nowhere())
    listener = Listener(relay)
    sock = listen("127.0.0.1", 0)
    try:
        await listener.start(sock)
        yield sock.getsockname()[1], listener
    finally:
        await relay.aclose()
        upstream.close()
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing)
        # Transports that are closed end in the next turn.
        await asyncio.sleep(0)


async def test_clients_that_keep_their_connections_do_not_hold_up_the_end(face, tls):
    """What is open may end; who waits with an open connection, or goes on waiting after the end, is not waited for."""
    config, trusting = tls
    more = asyncio.Event()

    async def script(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(BEGIN)
            if b"GET /slow " in head:
                await more.wait()
            writer.write(END)

    async with served(script, **config) as (port, listener), asyncio.timeout(20):
        clients = []
        for path, until in ((b"/", END), (b"/slow", b"abc\r\n")):
            client = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
            client[1].write(GET.replace(b"/", path, 1))
            await client[0].readuntil(until)
            clients.append(client)
        idle, busy = clients
        # A pool does not look at a connection that nobody asks for.
        idle[1].transport.pause_reading()
        ending = asyncio.ensure_future(listener.stop(3600, asyncio.Event()))
        while listener.clients > 1:
            await asyncio.sleep(0.01)
        more.set()
        assert await busy[0].readuntil(END) == END
        busy[1].transport.pause_reading()
        await ending
        for _, writer in clients:
            writer.transport.abort()


async def test_requests_that_had_come_before_the_end_are_answered(face):
    more = asyncio.Event()

    async def script(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(BEGIN)
            await more.wait()
            writer.write(END)

    async with served(script) as (port, listener), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + GET)
        await reader.readuntil(b"abc\r\n")
        ending = asyncio.ensure_future(listener.stop(3600, asyncio.Event()))
        await asyncio.sleep(0)
        more.set()
        said = await reader.read()
        await ending
        writer.close()
    assert said.count(END) == 2
    assert b"connection: close" in said


async def test_a_client_that_reads_slowly_gets_all_before_its_connection_ends(face, tls):
    config, trusting = tls
    size = 8_000_000

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        await reader.read()

    async with served(script, **config) as (port, listener), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        writer.write(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await reader.readuntil(b"\r\n\r\n")
        left = size
        while data := await reader.read(100_000):
            left -= len(data)
            await asyncio.sleep(0.003)
        writer.close()
        await listener.stop(0, asyncio.Event())
    assert not left


async def test_http10_is_never_told_a_clean_end_that_is_none(face, tls):
    config, trusting = tls
    delivered = asyncio.Event()

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BEGIN)
        await delivered.wait()

    async with served(script, **config) as (port, listener), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"abc")
        delivered.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await listener.stop(0, asyncio.Event())


def reset(client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_client_that_leaves_behind_a_request_that_is_not_read_yet(bench, how):
    async def script(peer):
        await peer.request()
        await peer.until_closed()

    async with bench(script) as running, running.client(GET + GET) as client:
        peer = await running.peer()
        if how == "RST":
            reset(client)
        else:
            client.writer.close()
        end = await running.sink.end_of()
        assert end.outcome == Outcome.CLIENT_DISCONNECTED
        async with asyncio.timeout(20):
            await peer.gone.wait()
        assert list(running.sink.opened) == [1]


async def test_a_client_that_leaves_an_upload_that_nobody_takes(bench):
    ended = asyncio.Event()

    async def script(peer):
        await peer.request(body=False)
        await ended.wait()

    head = b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 100000000\r\n\r\n"
    async with bench(script) as running, running.client(head + b"x" * 50_000_000) as client:
        passed = -1
        while passed != (now := sum(len(frame[3]) for frame in running.sink.frames)) or not now:
            passed = now
            await asyncio.sleep(0.2)
        reset(client)
        end = await running.sink.end_of()
        assert end.outcome == Outcome.CLIENT_DISCONNECTED
        assert running.relay.client.stats() == {"connections": 0, "idle": 0}
        ended.set()


def asked_after(port: int, upstream: int) -> set[str]:
    """On which sides of a proxy a connection is established whose running timer is not one of sending again."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, _, timer, *_ = line.split()
        if state == "01" and timer.startswith("02:"):
            ports = [int(address.rpartition(":")[2], 16) for address in (local, remote)]
            found |= {side for side, this in (("client", ports[0] == port), ("upstream", ports[1] == upstream)) if this}
    return found


async def test_silent_peers_are_asked_whether_they_are_still_there(bench):
    """A host that lost its power sends no end: on both sides a timer of the system must be running."""

    async def script(peer):
        await peer.request()
        await peer.until_closed()

    async with bench(script) as running, running.client(GET), asyncio.timeout(20):
        await running.peer()
        upstream = running.relay.routes.default.origin.port
        while asked_after(running.port, upstream) != {"client", "upstream"}:
            await asyncio.sleep(0.05)
