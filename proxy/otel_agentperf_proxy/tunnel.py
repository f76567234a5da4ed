"""WebSockets passed through: both connections leave HTTP and carry bytes, each direction with an end of its own.

The proxy's own server leaves a `ClientEnd` in the scope of a request that asks for a WebSocket. Only the upstream's 101
makes it a tunnel. Until then what the client sends is held back: an upstream that refuses would read it as requests,
which nobody looked at. Any other answer is passed on like every answer, and the client's connection goes on with HTTP.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Final, Protocol

from otel_agentperf.http1 import Response
from otel_agentperf_proxy import dialects

UPGRADE: Final = "otel_agentperf.upgrade"
"""Key of an ASGI scope under which a server leaves the `ClientEnd` of a request that asks for a WebSocket."""

UPGRADE_FIELDS: Final = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
"""What such a request tells the next hop about its connection."""

SPOKEN: Final = frozenset(("openai.responses",))
"""Dialects that also go over a WebSocket, on the path of their requests."""

HIGH_WATER: Final = 256 * 1024
"""Bytes held for a slow upstream before the client's socket is no longer read."""

Passed = Callable[[int, bytes], None]
"""Told of bytes that went on, with the monotonic time of the read that brought them."""


class ClientLost(ConnectionError):
    """The client's connection is gone."""


class Flow(Protocol):
    """Flow control of the client's connection, as uvicorn has it."""

    write_paused: bool

    async def drain(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def asks_for_websocket(method: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request's head is the opening handshake of a WebSocket (RFC 6455 4.1): a GET without a body."""
    options: set[bytes] = set()
    protocols: list[bytes] = []
    for name, value in headers:
        if name == b"connection":
            options.update(token.strip().lower() for token in value.split(b","))
        elif name == b"upgrade":
            protocols.append(value.strip().lower())
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return False
    return method == b"GET" and b"upgrade" in options and protocols == [b"websocket"]


def dialect_of(path: str) -> dialects.Dialect | None:
    """The dialect whose messages a WebSocket on this path (without query) carries; None: nobody reads them."""
    found = dialects.find("POST", path)
    return found if found is not None and found.name in SPOKEN else None


class ClientEnd:
    """The client's end of what may become a tunnel.

    Args:
        transport: of the client's connection.
        flow: of the same.
        leave_http: called when HTTP has ended on it.
    """

    def __init__(self, transport: asyncio.Transport, flow: Flow, leave_http: Callable[[], None]) -> None:
        self._transport = transport
        self._flow = flow
        self._leave_http = leave_http
        self._chunks: list[tuple[int, bytes]] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self.accepted = False
        """HTTP has ended on the connection."""
        self.ended = False
        """The client sent the end of its side."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is."""

    @property
    def half_closes(self) -> bool:
        """Whether one side can end alone; not over TLS, where it takes the other with it."""
        return self._transport.can_write_eof()

    # Called by the server's protocol.

    def received(self, data: bytes) -> None:
        """The client sent something after its request's head."""
        if not data:
            return
        self._chunks.append((monotonic_ns(), data))
        self._held += len(data)
        if self._held >= HIGH_WATER:
            self._flow.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The client sent the end of its side; whether the other side stays open."""
        self.ended = True
        self._wake()
        return self.accepted and self.half_closes

    def connection_lost(self) -> None:
        """The connection is closed."""
        if not self.gone.done():
            self.gone.set_result(None)
        self._wake()

    def held(self) -> bytes:
        """What the client sent before the upstream refused."""
        return b"".join([data for _, data in self._chunks])

    # Called by the exchange.

    async def accept(self, head: bytes) -> None:
        """Pass the upstream's 101 on, as it came; from here on bytes are passed.

        Raises:
            ClientLost: the client has left.
        """
        self.accepted = True
        self._leave_http()
        self.write(head)
        await self.drain()

    async def read(self) -> list[tuple[int, bytes]]:
        """What came since the last call, as (monotonic ns of the read, bytes); [] at the end of the client's side.

        Raises:
            ClientLost: the connection ended otherwise.
        """
        while not self._chunks:
            if self.ended:
                return []
            if self.gone.done():
                raise ClientLost("the client left")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        chunks, self._chunks = self._chunks, []
        if self._held >= HIGH_WATER:
            self._flow.resume_reading()
        self._held = 0
        return chunks

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket.

        Raises:
            ClientLost: the connection is gone.
        """
        if self.gone.done():
            raise ClientLost("the client left")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the socket takes more.

        Raises:
            ClientLost: the connection is gone.
        """
        if self._flow.write_paused:
            await self._flow.drain()
        if self.gone.done():
            raise ClientLost("the client left")

    def write_eof(self) -> None:
        """End our side of a connection that `half_closes`."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def hang_up(self) -> None:
        """Close the connection once what was written has been sent."""
        self._transport.close()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


async def splice(
    client: ClientEnd, upstream: Response, sent: Passed, received: Passed, client_ended: Callable[[], None]
) -> None:
    """Pass bytes both ways until both sides have ended, or one has that cannot end alone.

    Args:
        client: accepted.
        upstream: upgraded.
        sent: told of bytes that went upstream.
        received: told of bytes that went to the client.
        client_ended: called when the client's side ends before the upstream's.

    Raises:
        ClientLost: the client's connection broke.
        ResetError: the upstream's did.
    """
    half_closes = client.half_closes and upstream.half_closes

    async def send() -> None:
        while chunks := await client.read():
            upstream.write(_joined(chunks))
            for chunk in chunks:
                sent(*chunk)
            await upstream.drain()
        if not upstream.complete:
            client_ended()
        if half_closes:
            upstream.write_eof()

    async def receive() -> None:
        while chunks := await upstream.read():
            client.write(_joined(chunks))
            for chunk in chunks:
                received(*chunk)
            await client.drain()
        if half_closes:
            client.write_eof()

    loop = asyncio.get_running_loop()
    tasks = {loop.create_task(send()), loop.create_task(receive())}
    try:
        pending = set(tasks)
        while pending:
            done, _ = await asyncio.wait((*pending, client.gone), return_when=asyncio.FIRST_COMPLETED)
            for task in pending & done:
                task.result()
            pending = pending - done if half_closes else set()
            if client.gone.done() and (pending or not client.ended):
                raise ClientLost("the client left")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _joined(chunks: list[tuple[int, bytes]]) -> bytes:
    return chunks[0][1] if len(chunks) == 1 else b"".join([data for _, data in chunks])
