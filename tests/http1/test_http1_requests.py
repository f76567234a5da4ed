"""Requests as they go on the wire, and uploads that meet an early answer, a failing source, or a peer that leaves."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from otel_agentperf.http1 import Client, ProtocolError, ResetError, Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = (b"transfer-encoding", b"chunked")


async def body(response: Response) -> bytes:
    data = b""
    while chunks := await response.read():
        data += b"".join(part for _, part in chunks)
    return data


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for part in data:
        await asyncio.sleep(0)
        yield part


def record(server: Any, mark: bytes) -> asyncio.Future[bytes]:
    """What arrives up to a mark, on a connection that then answers."""
    seen = asyncio.get_running_loop().create_future()

    async def script(peer: Any) -> None:
        seen.set_result(await peer.until(mark))
        await peer.send(OK)
        await peer.left()

    server.play(script)
    return seen


async def test_the_head_goes_out_as_given_and_nothing_is_added(client: Client, server: Any) -> None:
    seen = record(server, b"\r\n\r\n")
    fields = [(b"host", b"a:1"), (b"x-b", b"2"), (b"X-A", b""), (b"x-b", b"1"), (b"cookie", b"caf\xe9")]
    await client.request(server.origin, b"PURGE", b"/a%2Fb?x=/%20;y#z", fields)
    assert (
        await seen
        == b"PURGE /a%2Fb?x=/%20;y#z HTTP/1.1\r\nhost: a:1\r\nx-b: 2\r\nX-A: \r\nx-b: 1\r\ncookie: caf\xe9\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("fields", "data", "wire"),
    [
        ([], b"hello", b"content-length: 5\r\n\r\nhello"),
        ([], b"", b"content-length: 0\r\n\r\n"),
        ([(b"Content-Length", b"5")], b"hello", b"Content-Length: 5\r\n\r\nhello"),
        ([(b"content-length", b"0")], None, b"content-length: 0\r\n\r\n"),
        ([CHUNKED], b"hello", b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ([CHUNKED], b"", b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ([CHUNKED], None, b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ([], None, b"\r\n\r\n"),
    ],
)
async def test_a_whole_body_is_framed_as_the_fields_say(
    fields: list[tuple[bytes, bytes]], data: bytes | None, wire: bytes, client: Client, server: Any
) -> None:
    seen = record(server, wire)
    response = await client.request(server.origin, b"POST", b"/", [(b"host", b"x"), *fields], data)
    assert await seen == b"POST / HTTP/1.1\r\nhost: x\r\n" + wire.removeprefix(
        b"\r\n" if not fields and data is None else b""
    )
    assert await body(response) == b"ok"


@pytest.mark.parametrize(
    ("field", "wire"),
    [
        ((b"content-length", b"7"), b"abcdefg"),
        (CHUNKED, b"2\r\nab\r\n5\r\ncdefg\r\n0\r\n\r\n"),
        ((b"transfer-encoding", b"gzip, Chunked"), b"2\r\nab\r\n5\r\ncdefg\r\n0\r\n\r\n"),
    ],
)
async def test_a_streamed_body_is_framed_as_the_fields_say(
    field: tuple[bytes, bytes], wire: bytes, client: Client, server: Any
) -> None:
    seen = record(server, wire)
    response = await client.request(server.origin, b"POST", b"/", [field], parts(b"ab", b"", b"cdefg"))
    assert await seen == b"POST / HTTP/1.1\r\n%b: %b\r\n\r\n" % field + wire
    assert await body(response) == b"ok"
    assert response.sent_ns is not None
    assert client.stats()["idle"] == 1


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        (b"GET", b"/", [(b"x", b"a\r\nevil: 1")]),
        (b"GET", b"/", [(b"x", b"a\nevil: 1")]),
        (b"GET", b"/", [(b"x", b"a\revil: 1")]),
        (b"GET", b"/", [(b"x", b"a\0b")]),
        (b"GET", b"/", [(b"x\r\nevil", b"1")]),
        (b"GET", b"/ HTTP/1.1\r\nevil: 1\r\n\r\nGET /", []),
        (b"GET", b"/a b", []),
        (b"GET", b"/a\tb", []),
        (b"GET", b"", []),
        (b"GET /x HTTP/1.1\r\n\r\nGET", b"/", []),
        (b"GET /x", b"/", []),
        (b"POST", b"/", [(b"content-length", b"1"), CHUNKED]),
        (b"POST", b"/", [(b"content-length", b"1"), (b"Content-Length", b"2")]),
        (b"POST", b"/", [(b"content-length", b"+1")]),
        (b"POST", b"/", [(b"content-length", b"1")]),
        (b"POST", b"/", [(b"transfer-encoding", b"gzip")]),
    ],
)
async def test_a_request_that_could_be_read_as_another_is_refused_before_connecting(
    method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], client: Client, server: Any
) -> None:
    server.play(lambda peer: peer.left())
    with pytest.raises(ProtocolError):
        await client.request(server.origin, method, target, fields)
    assert client.stats()["connections"] == 0


@pytest.mark.parametrize(
    ("length", "message"), [(b"3", "longer than its content-length 3"), (b"9", "ended after 4 of 9 bytes")]
)
async def test_a_streamed_body_of_another_length_than_said_breaks_off(
    length: bytes, message: str, client: Client, server: Any
) -> None:
    seen = asyncio.get_running_loop().create_future()

    async def script(peer: Any) -> None:
        await peer.head()
        seen.set_result(await peer.read(2))
        await peer.left()

    server.play(script)
    with pytest.raises(ProtocolError, match=message):
        await client.request(server.origin, b"POST", b"/", [(b"content-length", length)], parts(b"ab", b"cd"))
    assert await seen == b"ab"


async def test_an_answer_can_come_while_the_upload_goes_on(client: Client, server: Any) -> None:
    """A duplex exchange: each part of the body is answered before the next one is made."""
    echoed = asyncio.Event()

    async def ask() -> AsyncIterator[bytes]:
        for part in (b"one", b"two"):
            yield part
            await echoed.wait()
            echoed.clear()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"one", b"two"):
            assert await peer.until(part + b"\r\n") == b"3\r\n" + part + b"\r\n"
            await peer.send(b"3\r\n" + part + b"\r\n")
        await peer.until(b"0\r\n\r\n")
        await peer.send(b"0\r\n\r\n")
        await peer.left()

    server.play(script)
    response = await client.request(server.origin, b"POST", b"/", [CHUNKED], ask())
    for part in (b"one", b"two"):
        assert [data for _, data in await response.read()] == [part]
        assert response.sent_ns is None
        echoed.set()
    assert await response.read() == []
    assert response.sent_ns is not None
    assert client.stats()["idle"] == 1


async def test_a_complete_early_answer_ends_the_upload_and_the_connection(client: Client, server: Any) -> None:
    gone = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            gone.set()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await peer.left()

    server.play(script)
    source = endless()
    response = await client.request(server.origin, b"POST", b"/", [CHUNKED], source)
    assert response.status == 413
    assert await body(response) == b"no"
    assert client.stats()["idle"] == 0
    await source.aclose()
    await gone.wait()


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n", b"Connection: close\r\n"])
async def test_an_answer_written_before_the_peer_stopped_reading_arrives(
    framing: bytes, client: Client, server: Any
) -> None:
    """A server that answers 413 and closes with our bytes unread resets the connection under our hands."""
    answered = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.read(100_000)
        await peer.send(b"HTTP/1.1 413 Too Large\r\n" + framing + b"\r\nno")
        peer.close()
        answered.set()

    async def large() -> AsyncIterator[bytes]:
        yield b"x" * 300_000
        await answered.wait()
        for _ in range(100):
            yield b"x" * 100_000

    server.play(script)
    response = await client.request(server.origin, b"POST", b"/", [CHUNKED], large())
    assert response.status == 413
    chunks = await response.read()
    assert b"".join(part for _, part in chunks) == b"no"
    if b"Length" in framing:
        assert response.complete


async def test_what_the_source_of_an_upload_raises_ends_the_exchange(client: Client, server: Any) -> None:
    left = asyncio.Event()

    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise LookupError("the client left")

    async def script(peer: Any) -> None:
        await peer.head()
        assert await peer.read(7) == b"2\r\nab\r\n"
        await peer.left()
        left.set()

    server.play(script)
    with pytest.raises(LookupError, match="the client left"):
        await client.request(server.origin, b"POST", b"/", [CHUNKED], failing())
    async with asyncio.timeout(20):
        await left.wait()


async def test_a_source_that_fails_after_the_head_breaks_the_response(client: Client, server: Any) -> None:
    go_on = asyncio.Event()

    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        await go_on.wait()
        raise ResetError("another exchange broke")

    async def script(peer: Any) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await peer.left()

    server.play(script)
    response = await client.request(server.origin, b"POST", b"/", [CHUNKED], failing())
    go_on.set()
    with pytest.raises(ResetError, match="another exchange broke"):
        await body(response)


@pytest.mark.parametrize("when", ["before the head", "after the head"])
async def test_an_abort_ends_the_upload_and_leaves_the_body_incomplete(when: str, client: Client, server: Any) -> None:
    wire = asyncio.get_running_loop().create_future()
    sent, gone = asyncio.Event(), asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        try:
            yield b"ab"
            sent.set()
            await asyncio.Event().wait()
        finally:
            gone.set()

    async def script(peer: Any) -> None:
        await peer.head()
        seen = await peer.read(7)
        if when == "after the head":
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.left()
        wire.set_result(seen)

    server.play(script)
    request = asyncio.create_task(client.request(server.origin, b"POST", b"/", [CHUNKED], stalled()))
    if when == "after the head":
        (await request).abort()
    else:
        await sent.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    async with asyncio.timeout(20):
        assert await wire == b"2\r\nab\r\n"
        await gone.wait()


async def test_a_peer_that_stops_sending_fails_an_upload_that_it_does_not_read(client: Client, server: Any) -> None:
    done = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def script(peer: Any) -> None:
        await peer.head()
        peer.sock.shutdown(socket.SHUT_WR)
        await done.wait()

    server.play(script)
    async with asyncio.timeout(20):
        with pytest.raises(ResetError, match="closed the connection before it answered"):
            await client.request(server.origin, b"POST", b"/", [CHUNKED], endless())
    done.set()


async def test_an_upload_waits_for_a_peer_that_reads_slowly(client: Client, server: Any) -> None:
    made = 0
    read_on = asyncio.Event()

    async def large() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(1000):
            yield b"x" * 65536
            made += 1

    async def script(peer: Any) -> None:
        await peer.head()
        await read_on.wait()
        await peer.read(1000 * 65536)
        await peer.send(OK)
        await peer.left()

    server.play(script)
    request = asyncio.create_task(
        client.request(server.origin, b"POST", b"/", [(b"content-length", b"65536000")], large())
    )
    before = -1
    async with asyncio.timeout(20):
        while made == 0 or made > before:
            before = made
            await asyncio.wait((request,), timeout=0.2)
    assert made < 500
    read_on.set()
    assert await body(await request) == b"ok"
    assert made == 1000
