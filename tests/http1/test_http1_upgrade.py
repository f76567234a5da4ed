"""A 101 that was asked for: from there on bytes pass both ways, each direction with an end of its own."""

import asyncio
from typing import Any

import pytest

from otel_agentperf.http1 import Client, ProtocolError, ResetError, Response

ASK = [(b"host", b"x"), (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Case: Kept\r\n\r\n"


async def ask(client: Client, server: Any) -> Response:
    return await client.request(server.origin, b"GET", b"/", ASK, upgrade=True)


async def read_all(response: Response) -> bytes:
    data = b""
    while chunks := await response.read():
        data += b"".join([part for _, part in chunks])
    return data


async def all_closed(client: Client) -> None:
    async with asyncio.timeout(20):
        while client.stats()["connections"]:
            await asyncio.sleep(0.001)


async def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(client: Client, server: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(SWITCH + b"hello")
        assert await peer.read(4) == b"ping"
        await peer.left()
        await peer.send(b", and bye")

    server.play(script)
    response = await ask(client, server)
    assert (response.status, response.upgraded) == (101, SWITCH)
    assert response.headers[-1] == (b"x-case", b"Kept")
    response.write(b"ping")
    await response.drain()
    assert response.half_closes
    response.write_eof()
    assert await read_all(response) == b"hello, and bye"
    response.hang_up()
    await all_closed(client)


async def test_a_head_in_pieces_after_an_interim_response(client: Client, server: Any) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"

    async def script(peer: Any) -> None:
        await peer.request()
        for byte in hints + SWITCH + b"x":
            await peer.send(bytes([byte]))

    server.play(script)
    response = await ask(client, server)
    assert response.upgraded == hints + SWITCH
    assert await read_all(response) == b"x"
    response.hang_up()


async def test_a_refusal_is_a_response_as_any_other(client: Client, server: Any) -> None:
    server.answer(*[b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"] * 2)
    for _ in range(2):
        response = await ask(client, server)
        assert (response.status, response.upgraded) == (426, b"")
        assert await read_all(response) == b"no"
    assert server.connections == 1
    assert client.stats() == {"connections": 1, "idle": 1}


@pytest.mark.parametrize(
    ("asked", "head"), [(False, SWITCH), (True, b"HTTP/1.1 101 Switching\r\nfoo: bar\r\n\r\nno HTTP\r\n\r\n")]
)
async def test_a_101_that_is_none_or_was_not_asked_for_is_an_error(
    client: Client, server: Any, asked: bool, head: bytes
) -> None:
    server.answer(head)
    with pytest.raises(ProtocolError):
        await client.request(server.origin, b"GET", b"/", ASK, upgrade=asked)
    await all_closed(client)


async def test_a_reset_is_no_end(client: Client, server: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.request()
        await peer.send(SWITCH)
        await peer.read(1)
        peer.reset()

    server.play(script)
    response = await ask(client, server)
    response.write(b"x")
    with pytest.raises(ResetError):
        await read_all(response)
    with pytest.raises(ResetError):
        response.write(b"y")


async def test_a_reader_that_is_slow_holds_the_peer_back(client: Client, server: Any) -> None:
    total = 20_000_000
    sent = 0

    async def script(peer: Any) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(SWITCH)
        while sent < total:
            await peer.send(b"x" * 100_000)
            sent += 100_000

    server.play(script)
    response = await ask(client, server)
    before = -1
    async with asyncio.timeout(60):
        while sent == 0 or sent != before:
            before = sent
            await asyncio.sleep(0.2)
    assert sent < total
    assert len(await read_all(response)) == total
    response.hang_up()
