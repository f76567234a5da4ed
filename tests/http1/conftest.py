"""A server that does what a test's script says, byte by byte, over real sockets; every test runs on both event loops.

A script is an async function of a `Peer`, one accepted connection. What a script raises fails the test.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
import uvloop

from otel_agentperf.http1 import Client, Origin

PATIENCE_S = 20.0
"""A test that waits longer than this for something to happen has failed."""

Script = Callable[["Peer"], Awaitable[None]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        """Of this connection, from 0."""
        self._loop = asyncio.get_running_loop()
        self._read = b""

    async def request(self) -> bytes:
        """Read up to the end of a request head; with a Content-Length, its body too."""
        while b"\r\n\r\n" not in self._read:
            await self._more()
        head, _, rest = self._read.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        self._read = rest
        return head + b"\r\n\r\n" + await self.read(int(length[1]) if length else 0)

    async def head(self) -> bytes:
        """Read a request head, and leave its body where it is."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += await self.read(1)
        return data

    async def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        while len(self._read) < size:
            await self._more()
        data, self._read = self._read[:size], self._read[size:]
        return data

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark."""
        while mark not in self._read:
            await self._more()
        data, _, self._read = self._read.partition(mark)
        return data + mark

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def left(self) -> bool:
        """Wait until the client has closed; whatever it still sent is thrown away."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await self._loop.sock_recv(self.sock, 1 << 20):
                    pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def _more(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            data = await self._loop.sock_recv(self.sock, 1 << 20)
        if not data:
            raise EOFError(f"the client closed; read so far: {self._read!r}")
        self._read += data


class RawServer:
    """Listens on a free port and plays a script on each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._tasks: list[asyncio.Task[None]] = []
        self._peers: list[Peer] = []
        self._script: Script | None = None
        self.origin = Origin("http", "127.0.0.1", self._listener.getsockname()[1])

    @property
    def connections(self) -> int:
        """Accepted so far."""
        return len(self._peers)

    def play(self, script: Script) -> None:
        """Begin to accept."""
        self._script = script
        self._tasks.append(asyncio.create_task(self._accept()))

    def answer(self, *responses: bytes) -> None:
        """Answer each connection's requests with these, in turn, and then close."""

        async def script(peer: Peer) -> None:
            for response in responses:
                await peer.request()
                await peer.send(response)

        self.play(script)

    async def aclose(self) -> None:
        """Stop, and raise what a script raised."""
        for accepting in self._tasks[:1]:
            accepting.cancel()
        results = await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), PATIENCE_S)
        self._listener.close()
        for peer in self._peers:
            peer.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            sock.setblocking(False)
            peer = Peer(sock, len(self._peers))
            self._peers.append(peer)
            self._tasks.append(loop.create_task(self._serve(peer)))

    async def _serve(self, peer: Peer) -> None:
        assert self._script is not None
        try:
            await self._script(peer)
        finally:
            peer.close()


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """A server without a script yet."""
    found = RawServer()
    yield found
    await found.aclose()


@pytest.fixture
async def client(server: RawServer) -> AsyncIterator[Client]:
    """A client that is closed before the server."""
    found = Client()
    yield found
    await found.aclose()
