"""Connections: made, kept, found stale, never used for a request that may have been processed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from otel_agentperf.errors import UsageError
from otel_agentperf.http1 import Client, ConnectError, Origin, ResetError, Response, UpstreamTimeout
from otel_agentperf.http1 import client as client_module

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def exchange(client: Client, server: Any, method: bytes = b"GET", data: bytes | None = None) -> Response:
    response = await client.request(server.origin, method, b"/", [(b"host", b"x")], data)
    while await response.read():
        pass
    return response


def count(server: Any, *closing: int, answer: bytes = OK) -> list[int]:
    """Answer everything, and note which connection each request came on; some close after their first answer."""
    numbers: list[int] = []

    async def script(peer: Any) -> None:
        try:
            while True:
                await peer.request()
                numbers.append(peer.number)
                await peer.send(answer)
                if peer.number in closing:
                    break
        except EOFError:
            pass

    server.play(script)
    return numbers


async def test_a_connection_is_used_again(client: Client, server: Any) -> None:
    numbers = count(server)
    for _ in range(5):
        await exchange(client, server, b"POST", b"data")
    assert numbers == [0] * 5
    assert client.stats() == {"connections": 1, "idle": 1}


async def test_exchanges_at_the_same_time_have_connections_of_their_own(client: Client, server: Any) -> None:
    numbers = count(server)
    await asyncio.gather(*(exchange(client, server) for _ in range(20)))
    assert sorted(numbers) == list(range(20))
    assert client.stats() == {"connections": 20, "idle": 20}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=5\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_ends_soon_is_not_used_again(answer: bytes, client: Client, server: Any) -> None:
    numbers = count(server, answer=answer)
    for _ in range(2):
        await exchange(client, server)
    assert numbers == [0, 1]


async def test_a_promised_time_is_kept_to(client: Client, server: Any) -> None:
    numbers = count(server, answer=b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=100\r\nContent-Length: 2\r\n\r\nok")
    for _ in range(2):
        await exchange(client, server)
    assert numbers == [0, 0]


async def test_idle_connections_are_closed_in_time(
    client: Client, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "IDLE_LIMIT_S", 0.01)
    count(server)
    await asyncio.gather(*(exchange(client, server) for _ in range(3)))
    async with asyncio.timeout(20):
        while client.stats()["connections"]:
            await asyncio.sleep(0.01)
    assert client.stats() == {"connections": 0, "idle": 0}


async def test_a_connection_closed_while_idle_is_not_used(client: Client, server: Any) -> None:
    numbers = count(server, 0)
    await exchange(client, server)
    async with asyncio.timeout(20):
        while client.stats()["connections"]:
            await asyncio.sleep(0)
    await exchange(client, server, b"POST", b"data")
    assert numbers == [0, 1]


async def test_a_close_that_the_loop_has_not_seen_yet_is_found_before_a_request_goes_out(
    client: Client, server: Any
) -> None:
    """A POST must not meet a connection whose end already waits in the socket."""
    peers: list[Any] = []
    done = asyncio.Event()

    async def script(peer: Any) -> None:
        peers.append(peer)
        await peer.request()
        await peer.send(OK)
        await done.wait()

    server.play(script)
    response = await client.request(server.origin, b"POST", b"/", [], b"1")
    while await response.read():
        pass
    assert client.stats()["idle"] == 1
    # No turn of the loop from here to the next request: the end lies in the socket, unseen.
    peers[0].sock.shutdown(socket.SHUT_RDWR)
    assert client.stats()["idle"] == 1
    assert (await exchange(client, server, b"POST", b"2")).status == 200
    assert server.connections == 2
    done.set()


@pytest.mark.parametrize(
    ("method", "data", "repeated"),
    [
        (b"GET", None, True),
        (b"HEAD", None, True),
        (b"OPTIONS", None, True),
        (b"POST", b"data", False),
        (b"POST", None, False),
        (b"DELETE", None, False),
        (b"PUT", b"data", False),
        (b"GET", b"data", False),
    ],
)
async def test_only_what_has_no_effect_is_sent_again_when_a_kept_connection_breaks(
    method: bytes, data: bytes | None, repeated: bool, client: Client, server: Any
) -> None:
    seen: list[bytes] = []

    async def script(peer: Any) -> None:
        seen.append((await peer.request()).split()[0])
        await peer.send(OK)
        if peer.number == 0:
            seen.append((await peer.request()).split()[0])
            peer.reset()

    server.play(script)
    await exchange(client, server)
    if repeated:
        answer = await client.request(server.origin, method, b"/", [], data)
        assert answer.status == 200
    else:
        with pytest.raises(ResetError, match="before it answered"):
            await client.request(server.origin, method, b"/", [], data)
    assert seen == [b"GET", method, method] if repeated else [b"GET", method]


async def test_a_stream_is_never_sent_again(client: Client, server: Any) -> None:
    async def data() -> AsyncIterator[bytes]:
        yield b"data"

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.head()
        peer.reset()

    server.play(script)
    await exchange(client, server)
    with pytest.raises(ResetError):
        await client.request(server.origin, b"GET", b"/", [(b"transfer-encoding", b"chunked")], data())
    assert server.connections == 1


async def test_a_fresh_connection_that_breaks_is_not_tried_again(client: Client, server: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        peer.reset()

    server.play(script)
    with pytest.raises(ResetError):
        await exchange(client, server)
    assert server.connections == 1


async def test_a_response_read_late_does_not_wake_the_next_exchange_on_its_connection(
    client: Client, server: Any
) -> None:
    """Both responses are larger than what is held; the first is complete before it is read."""
    size = 300 * 1024

    async def script(peer: Any) -> None:
        for times in (1, 100):
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size * times))
            for _ in range(times):
                await peer.send(b"x" * size)
        await peer.left()

    server.play(script)
    first = await client.request(server.origin, b"GET", b"/", [])
    kept = b""
    while not first.complete:
        kept += b"".join(part for _, part in await first.read())
    second = await client.request(server.origin, b"GET", b"/", [])
    while chunks := await first.read():
        kept += b"".join(part for _, part in chunks)
    assert len(kept) == size
    received = 0
    while chunks := await second.read():
        received += sum(len(part) for _, part in chunks)
    assert received == size * 100
    assert server.connections == 1


async def test_a_refused_connection_is_an_error(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match=rf"cannot connect to http://127\.0\.0\.1:{port}: .*[Cc]onnect"):
        await client.request(Origin("http", "127.0.0.1", port), b"GET", b"/", [])


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70, "a..b"])
async def test_an_unknown_host_is_an_error(host: str, client: Client) -> None:
    with pytest.raises(ConnectError, match="cannot connect to http://"):
        await client.request(Origin("http", host, 80), b"GET", b"/", [])


async def test_connecting_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*args: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    class Loop:
        create_connection = staticmethod(never)

    monkeypatch.setattr(client_module.asyncio, "get_running_loop", lambda: Loop)
    client = Client(connect_timeout_s=0.01)
    with pytest.raises(UpstreamTimeout, match=r"took longer than 0\.01 s"):
        await client.connect(Origin("http", "127.0.0.1", 9))


async def test_a_closed_client_makes_no_connection(client: Client, server: Any) -> None:
    server.play(lambda peer: peer.left())
    await client.aclose()
    with pytest.raises(ConnectError, match="the client is closed"):
        await exchange(client, server)


@pytest.mark.parametrize(
    ("url", "origin", "path", "authority"),
    [
        ("http://h", Origin("http", "h", 80), b"", b"h"),
        ("http://h/", Origin("http", "h", 80), b"", b"h"),
        ("https://H:443/v1/", Origin("https", "h", 443), b"/v1", b"h"),
        ("http://h:443/a/b", Origin("http", "h", 443), b"/a/b", b"h:443"),
        ("http://[::1]:8000", Origin("http", "::1", 8000), b"", b"[::1]:8000"),
        ("http://h/caf\u00e9 x/%2F", Origin("http", "h", 80), b"/caf%C3%A9%20x/%2F", b"h"),
        ("http://b\u00fccher.example:81", Origin("http", "b\u00fccher.example", 81), b"", b"xn--bcher-kva.example:81"),
    ],
)
def test_a_base_url_is_an_origin_and_a_path(url: str, origin: Origin, path: bytes, authority: bytes) -> None:
    assert Origin.parse(url) == (origin, path)
    assert origin.authority == authority


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not an http or https URL: ''"),
        ("localhost:8000", "not an http or https URL: 'localhost:8000'; write for example http://"),
        ("127.0.0.1:8000", "not an http or https URL"),
        ("ftp://h", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        ("http://h:0", "not an http or https URL"),
        ("http://h:99999", "not a URL"),
        ("http://h:x", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://h?key=1", "no query, fragment or credentials"),
        ("http://h#x", "no query, fragment or credentials"),
        ("http://user:secret@h", "no query, fragment or credentials"),
        ("http://@h", "no query, fragment or credentials"),
        ("http://a..b", "not a host name: 'a..b'"),
        ("http://" + "x" * 70, "not a host name"),
    ],
)
def test_what_is_no_base_url_is_told(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as info:
        Origin.parse(url)
    assert "secret" not in str(info.value)
