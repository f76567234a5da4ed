"""One request and its response over a connection: what the connection tells of it, and the reader that awaits it."""

import asyncio
from collections.abc import AsyncIterable
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from otel_agentperf.http1.errors import ProtocolError, ResetError

if TYPE_CHECKING:
    from otel_agentperf.http1.connection import Connection

READ_HIGH_WATER: Final = 256 * 1024
"""Body bytes held for a slow reader before the socket is no longer read."""

Headers = list[tuple[bytes, bytes]]


class Exchange:
    """What a `Connection` fills in and calls; all calls come from the event loop, none may block.

    Attributes:
        is_head: the request is a HEAD: its response has no body, whatever its fields say.
        status: HTTP status.
        headers: fields in wire order, names in lower case, duplicates kept.
        started_ns: monotonic time at which the first request byte was handed to the socket.
        sent_ns: monotonic time at which the last request byte was handed to the socket; None while uploading.
        head_ns: monotonic time of the read that completed the response head; 0 before.
    """

    __slots__ = ("head_ns", "headers", "is_head", "sent_ns", "started_ns", "status")

    def __init__(self, *, is_head: bool) -> None:
        self.is_head = is_head
        self.status = 0
        self.headers: Headers = []
        self.started_ns = 0
        self.sent_ns: int | None = None
        self.head_ns = 0

    def received(self, data: bytes, time_ns: int, complete: bool) -> None:
        """A read of the socket brought the rest of the head, a part of the body, or the end.

        Args:
            data: of the body; may be empty.
            time_ns: monotonic time of the read.
            complete: the response is; nothing more is told.
        """
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """The response will not be complete; nothing more is told."""
        raise NotImplementedError

    def switched(self, head: bytes, rest: bytes, time_ns: int) -> None:
        """The response is a 101 that was asked for: from now on `received` tells the bytes of another protocol.

        Args:
            head: as it came.
            rest: what followed it.
            time_ns: monotonic time of the read.
        """
        raise NotImplementedError

    def writable(self) -> None:
        """The connection takes more, after it had not."""

    def stop_upload(self) -> None:
        """The rest of the request has no use: the response is complete, or will never be (RFC 9112 9.6)."""


class Response(Exchange):
    """An exchange whose response is awaited: returned to the caller when the head has come.

    Attributes:
        upgraded: the head as it came, when it is a 101 that was asked for: the connection then carries another
            protocol, whose bytes `read` and `write` pass, and belongs to the caller, who ends it with `hang_up`.
            Empty otherwise.
        complete: all has been received.
    """

    __slots__ = ("_chunks", "_connection", "_error", "_held", "_pump", "_waiter", "complete", "upgraded")

    def __init__(self, connection: "Connection", *, is_head: bool) -> None:
        super().__init__(is_head=is_head)
        self._connection = connection
        self._chunks: list[tuple[int, bytes]] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._pump: asyncio.Task[None] | None = None
        self.complete = False
        self.upgraded = b""

    async def read(self) -> list[tuple[int, bytes]]:
        """Body bytes that arrived since the last call, as (monotonic ns of the socket read, bytes); [] at a clean end.

        Raises:
            ResetError: the connection ended before the body was complete; what had arrived was handed over before.
            ProtocolError: the rest is not HTTP/1.1.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return []
            await self._wait()
        chunks = self._chunks
        self._chunks = []
        if self._held >= READ_HIGH_WATER and not self.complete:
            # A complete exchange has given its connection back: another one may have paused it by now.
            self._connection.resume_reading()
        self._held = 0
        return chunks

    def abort(self) -> None:
        """Give the exchange up: closes the connection at once unless the response is complete. Idempotent."""
        if not self.complete or self.upgraded:
            self.failed(ResetError("aborted"))
            self._connection.close()

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket of an upgraded connection.

        Raises:
            ResetError: the connection is gone.
        """
        self._connection.write(data)

    async def drain(self) -> None:
        """Wait until the socket of an upgraded connection takes more.

        Raises:
            ResetError: the connection is gone.
        """
        await self._connection.drain()

    @property
    def half_closes(self) -> bool:
        """Whether one side of an upgraded connection can end alone; not over TLS, where it takes the other with it."""
        return self._connection.half_closes

    def write_eof(self) -> None:
        """End this side of an upgraded connection that `half_closes`."""
        self._connection.write_eof()

    def hang_up(self) -> None:
        """Close an upgraded connection once what was written has been sent."""
        self._connection.hang_up()

    async def head(self) -> None:
        """Wait for the response head."""
        while not self.head_ns:
            if self._error is not None:
                raise self._error
            await self._wait()

    def pump(self, body: AsyncIterable[bytes], length: int | None) -> None:
        """Send the request body while the response may already come; `length` None sends it chunked."""
        self._pump = asyncio.get_running_loop().create_task(self._send(body, length))

    async def _send(self, body: AsyncIterable[bytes], length: int | None) -> None:
        connection = self._connection
        total = 0
        try:
            async for data in body:
                if not data:
                    continue
                total += len(data)
                if length is not None and total > length:
                    raise ProtocolError(f"the request body is longer than its content-length {length}")
                connection.write(b"%x\r\n%b\r\n" % (len(data), data) if length is None else data)
                if connection.writing_paused:
                    await connection.drain()
            if length is None:
                connection.write(b"0\r\n\r\n")
            elif total < length:
                raise ProtocolError(f"the request body ended after {total} of {length} bytes")
            await connection.drain()
            self.sent_ns = monotonic_ns()
        except asyncio.CancelledError:
            self.failed(ResetError("the upload was given up"))
            connection.close()
            raise
        except Exception as exc:
            self.failed(exc)
            connection.close()

    # Called by the connection.

    def received(self, data: bytes, time_ns: int, complete: bool) -> None:
        if data:
            self._chunks.append((time_ns, data))
            self._held += len(data)
            if self._held >= READ_HIGH_WATER:
                self._connection.pause_reading()
        if complete:
            self.complete = True
        self._wake()

    def failed(self, error: Exception) -> None:
        # The first error stands.
        if self._error is None and not self.complete:
            self._error = error
            self.stop_upload()
            self._wake()

    def switched(self, head: bytes, rest: bytes, time_ns: int) -> None:
        self.upgraded = head
        self.received(rest, time_ns, False)

    def stop_upload(self) -> None:
        if self._pump is not None and self._pump is not asyncio.current_task():
            self._pump.cancel()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        await waiter
