"""Responses as they come off the wire: heads, framings, interim responses, and everything that is no clean end."""

import asyncio
from typing import Any

import pytest

from otel_agentperf.http1 import Client, ProtocolError, ResetError, Response
from otel_agentperf.http1.connection import MAX_HEAD_BYTES, READ_HIGH_WATER

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def get(client: Client, server: Any, method: bytes = b"GET") -> Response:
    return await client.request(server.origin, method, b"/", [(b"host", b"x")])


async def body(response: Response) -> bytes:
    data = b""
    while chunks := await response.read():
        data += b"".join(part for _, part in chunks)
    return data


async def emptied(client: Client) -> None:
    """All connections are gone, or will be when the loop has turned."""
    async with asyncio.timeout(20):
        while client.stats()["connections"]:
            await asyncio.sleep(0)
    assert client.stats() == {"connections": 0, "idle": 0}


async def test_fields_keep_their_order_their_duplicates_and_their_bytes(client: Client, server: Any) -> None:
    server.answer(
        b"HTTP/1.1 299 Whatever\r\nX-B: 2\r\nSet-Cookie: a=1\r\nx-a:\r\nSet-Cookie: b=2\r\nX-Raw: caf\xe9 \xff\r\n"
        b"Content-Encoding: gzip\r\nX-B: 1\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x00"
    )
    response = await get(client, server)
    assert response.status == 299
    assert response.headers == [
        (b"x-b", b"2"),
        (b"set-cookie", b"a=1"),
        (b"x-a", b""),
        (b"set-cookie", b"b=2"),
        (b"x-raw", b"caf\xe9 \xff"),
        (b"content-encoding", b"gzip"),
        (b"x-b", b"1"),
        (b"content-length", b"3"),
    ]
    assert await body(response) == b"\x1f\x8b\x00"


CLEAN = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "until close 1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "offered upgrade": b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
    "line break before": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("framing", CLEAN)
async def test_a_body_ends_where_its_framing_says(framing: str, client: Client, server: Any) -> None:
    server.answer(CLEAN[framing])
    response = await get(client, server)
    assert await body(response) == b"hello"
    assert response.complete
    assert await response.read() == []


@pytest.mark.parametrize("framing", CLEAN)
async def test_bytes_that_come_one_by_one_give_the_same(framing: str, client: Client, server: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        for index in range(len(CLEAN[framing])):
            await peer.send(CLEAN[framing][index : index + 1])
            await asyncio.sleep(0)

    server.play(script)
    response = await get(client, server)
    assert await body(response) == b"hello"
    assert response.complete


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_a_response_without_body_is_complete_with_its_head(
    method: bytes, answer: bytes, client: Client, server: Any
) -> None:
    server.answer(answer, OK)
    response = await get(client, server, method)
    assert response.complete
    assert await response.read() == []
    assert await body(await get(client, server)) == b"ok"
    assert server.connections == 1


async def test_a_body_that_must_not_be_there_is_not_handed_over(client: Client, server: Any) -> None:
    server.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    response = await get(client, server, b"HEAD")
    assert await response.read() == []
    assert client.stats()["idle"] == 0


async def test_interim_responses_are_passed_over(client: Client, server: Any) -> None:
    server.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    response = await get(client, server)
    assert response.status == 200
    assert response.headers == [(b"content-length", b"2")]
    assert await body(response) == b"ok"


async def test_trailers_do_not_change_the_head(client: Client, server: Any) -> None:
    server.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n")
    response = await get(client, server)
    assert await body(response) == b"ok"
    assert response.headers == [(b"transfer-encoding", b"chunked")]


BROKEN = {
    "short length": (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", ResetError),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ResetError),
    "no line after the last chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ResetError,
    ),
    "half a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhello", ResetError),
    "chunk size is no number": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        ProtocolError,
    ),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_half_a_body_is_handed_over_and_is_never_a_clean_end(how: str, client: Client, server: Any) -> None:
    answer, error = BROKEN[how]
    server.answer(answer)
    response = await get(client, server)
    chunks = await response.read()
    assert b"".join(part for _, part in chunks) == b"hello"
    with pytest.raises(error):
        await response.read()
    assert not response.complete
    with pytest.raises(error):
        await response.read()


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 50\r\n", b"Transfer-Encoding: chunked\r\n", b"", b"Connection: close\r\n"],
)
async def test_a_reset_in_the_body_is_never_a_clean_end(head: bytes, client: Client, server: Any) -> None:
    got_head = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        await got_head.wait()
        peer.reset()

    server.play(script)
    response = await get(client, server)
    got_head.set()
    with pytest.raises(ResetError, match="reset the connection in the middle"):
        await response.read()
    assert not response.complete


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_end_before_the_head_is_an_error(ending: str, sent: bytes, client: Client, server: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(sent)
        getattr(peer, ending)()

    server.play(script)
    with pytest.raises(ResetError, match="before it answered"):
        await get(client, server)
    await emptied(client)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_HEAD_BYTES // 10),
    ],
    ids=[
        "ssh",
        "http2",
        "bare line feeds",
        "two lengths",
        "length and chunks",
        "coding without chunks",
        "coding in chunks",
        "upgrade",
        "huge field",
        "endless hints",
    ],
)
async def test_what_is_not_http_is_refused(answer: bytes, client: Client, server: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        try:
            await peer.send(answer)
            await peer.left()
        except ConnectionError:
            pass

    server.play(script)
    with pytest.raises(ProtocolError):
        await get(client, server)


async def test_a_large_body_right_behind_the_head_is_no_large_head(client: Client, server: Any) -> None:
    size = 4 * MAX_HEAD_BYTES
    server.answer(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size,
    )
    assert await body(await get(client, server)) == b"x" * size


EXTRA = {
    "garbage": b"zzz",
    "part of a word": b"H",
    "a second response": b"HTTP/1.1 500 Oops\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil",
    "a second head": b"HTTP/1.1 500 Oops\r\nX-Evil: 1\r\n",
    "an upgrade": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("extra", EXTRA)
async def test_bytes_behind_a_message_neither_change_it_nor_answer_the_next_request(
    extra: str, client: Client, server: Any
) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(OK + (EXTRA[extra] if peer.number == 0 else b""))
        await peer.left()

    server.play(script)
    for _ in range(2):
        response = await get(client, server)
        assert response.status == 200
        assert response.headers == [(b"content-length", b"2")]
        assert await body(response) == b"ok"
    assert server.connections == 2


async def test_unasked_bytes_on_an_idle_connection_end_it(client: Client, server: Any) -> None:
    go_on = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 0:
            await go_on.wait()
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            await peer.left()

    server.play(script)
    assert await body(await get(client, server)) == b"ok"
    go_on.set()
    await emptied(client)
    assert await body(await get(client, server)) == b"ok"


async def test_a_slow_reader_holds_the_peer_back(client: Client, server: Any) -> None:
    size = 64 * 1024 * 1024
    sent = 0
    stuck = asyncio.Event()

    async def script(peer: Any) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        loop = asyncio.get_running_loop()
        part = memoryview(b"x" * 65536)
        while sent < size:
            sending = loop.create_task(loop.sock_sendall(peer.sock, part))
            done, _ = await asyncio.wait((sending,), timeout=0.5)
            if not done:
                stuck.set()
            await sending
            sent += len(part)

    server.play(script)
    response = await get(client, server)
    async with asyncio.timeout(60):
        await stuck.wait()
    held = response._held
    assert held <= 3 * READ_HIGH_WATER
    assert sent < size / 2
    received = 0
    while chunks := await response.read():
        received += sum(len(part) for _, part in chunks)
        assert sum(len(part) for _, part in chunks) <= 3 * READ_HIGH_WATER
    assert received == size


async def test_chunks_carry_the_time_of_the_read_that_brought_them(client: Client, server: Any) -> None:
    go_on = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        for part in (b"ab", b"cd"):
            await go_on.wait()
            go_on.clear()
            await peer.send(part)

    server.play(script)
    response = await get(client, server)
    go_on.set()
    first = await response.read()
    go_on.set()
    second = await response.read()
    assert [part for _, part in first + second] == [b"ab", b"cd"]
    assert response.sent_ns is not None
    times = [response.started_ns, response.sent_ns, response.head_ns, first[0][0], second[0][0]]
    assert times == sorted(times)
    assert first[0][0] < second[0][0]


async def test_an_abort_closes_the_connection(client: Client, server: Any) -> None:
    left = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await peer.left()
        left.set()

    server.play(script)
    response = await get(client, server)
    response.abort()
    response.abort()
    async with asyncio.timeout(20):
        await left.wait()
    assert not response.complete
    await emptied(client)


async def test_an_abort_of_a_complete_response_keeps_the_connection(client: Client, server: Any) -> None:
    server.answer(OK, OK)
    for _ in range(2):
        response = await get(client, server)
        await body(response)
        response.abort()
    assert server.connections == 1


async def test_a_cancelled_request_closes_the_connection(client: Client, server: Any) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.request()
        asked.set()
        await peer.left()
        left.set()

    server.play(script)
    request = asyncio.create_task(get(client, server))
    await asked.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    async with asyncio.timeout(20):
        await left.wait()
    await emptied(client)


async def test_closing_the_client_is_no_clean_end_of_what_is_under_way(client: Client, server: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.left()

    server.play(script)
    response = await get(client, server)
    await client.aclose()
    with pytest.raises(ResetError, match="closed by this side"):
        await response.read()
    assert not response.complete
