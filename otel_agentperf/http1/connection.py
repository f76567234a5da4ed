"""One client connection, and the response that is being read from it."""

import asyncio
import contextlib
import os
import select
from collections.abc import AsyncIterable, Callable
from time import monotonic_ns
from typing import Any, Final, cast

import httptools

from otel_agentperf.http1.errors import HTTPError, ProtocolError, ResetError

READ_HIGH_WATER: Final = 256 * 1024
"""Body bytes held for a slow reader before the socket is no longer read."""

MAX_HEAD_BYTES: Final = 256 * 1024
"""A response head that is not complete after so many bytes is refused."""

Headers = list[tuple[bytes, bytes]]


class Response:
    """One exchange: made when the request is sent, returned to the caller when the response head has come.

    Attributes:
        status: HTTP status.
        headers: fields in wire order, names in lower case, duplicates kept.
        started_ns: monotonic time at which the first request byte was handed to the socket.
        sent_ns: monotonic time at which the last request byte was handed to the socket; None while uploading.
        head_ns: monotonic time of the read that completed the response head.
        upgraded: the head as it came, when it is a 101 that was asked for: the connection then carries another
            protocol, whose bytes `read` and `write` pass, and belongs to the caller, who ends it with `hang_up`.
            Empty otherwise.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_error",
        "_held",
        "_is_head",
        "_pump",
        "_waiter",
        "complete",
        "head_ns",
        "headers",
        "sent_ns",
        "started_ns",
        "status",
        "upgraded",
    )

    def __init__(self, connection: "Connection", *, is_head: bool) -> None:
        self._connection = connection
        self._is_head = is_head
        self._chunks: list[tuple[int, bytes]] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._pump: asyncio.Task[None] | None = None
        self.complete = False
        self.status = 0
        self.headers: Headers = []
        self.started_ns = 0
        self.sent_ns: int | None = None
        self.head_ns = 0
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
            self.fail(ResetError("aborted"))
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
            self.fail(ResetError("the upload was given up"))
            connection.close()
            raise
        except Exception as exc:
            self.fail(exc)
            connection.close()

    # Called by the connection.

    def received(self, data: bytes, time_ns: int) -> None:
        """A part of the body arrived."""
        self._chunks.append((time_ns, data))
        self._held += len(data)
        if self._held >= READ_HIGH_WATER:
            self._connection.pause_reading()
        self._wake()

    def head_received(self, time_ns: int) -> None:
        """The head is complete."""
        self.head_ns = time_ns
        self._wake()

    def finish(self) -> None:
        """The response is complete."""
        self.complete = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """The response will not be complete. The first error stands."""
        if self._error is None and not self.complete:
            self._error = error
            self.stop_upload()
            self._wake()

    def uploading(self) -> bool:
        """The request is still being sent."""
        return self.sent_ns is None

    def stop_upload(self) -> None:
        """The rest of the request has no use: the response is complete, or will never be (RFC 9112 9.6)."""
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


class Connection(asyncio.Protocol):
    """The protocol of one client connection; carries one exchange at a time."""

    def __init__(self, on_idle: "Callable[[Connection], None]", on_closed: "Callable[[Connection], None]") -> None:
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._exchange: Response | None = None
        self._drained: asyncio.Future[None] | None = None
        self._now_ns = 0
        self._parts: list[bytes] = []
        self._headers: Headers = []
        self._head_bytes = 0
        self._until_close = False
        self._keep_alive = False
        self._message_complete = False
        self._head: list[bytes] | None = None
        """What came of the response's head, when it may turn out a 101 that was asked for."""
        self._upgraded = False
        self.writing_paused = False
        self.closed = False
        self.exchanges = 0
        self.idle_since_ns = 0
        self.idle_limit_s: float | None = None
        """What the peer promised in its `Keep-Alive: timeout=`; None without."""

    # Sending.

    def start(self, head: bytes, *, is_head: bool, upgrade: bool = False) -> Response:
        """Write a request head (and what follows it in the same bytes) and expect its response."""
        self._head = [] if upgrade else None
        exchange = self._exchange = Response(self, is_head=is_head)
        self.exchanges += 1
        self.idle_limit_s = None
        self.write(head)
        exchange.started_ns = monotonic_ns()
        return exchange

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket.

        Raises:
            ResetError: the connection is gone.
        """
        if self._transport is None or self.closed:
            raise ResetError("connection closed while sending")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the socket takes more.

        Raises:
            ResetError: the connection is gone.
        """
        if self.closed:
            raise ResetError("connection closed while sending")
        if self.writing_paused:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """Close at once: unsent bytes are dropped, an exchange under way fails."""
        if not self.closed and self._transport is not None:
            self._transport.abort()
        self.closed = True
        if self._exchange is not None:
            self._exchange.fail(ResetError("the connection was closed by this side"))

    @property
    def half_closes(self) -> bool:
        """Whether our side can end alone."""
        return self._transport is not None and self._transport.can_write_eof()

    def write_eof(self) -> None:
        """Send the end of our side."""
        if self._transport is not None and not self.closed:
            self._transport.write_eof()

    def hang_up(self) -> None:
        """Close when what was written has been sent."""
        if self._transport is not None:
            self._transport.close()
        self.closed = True

    def has_input(self) -> bool:
        """Something waits in the socket: on an idle connection that is the peer's end, or bytes nobody asked for."""
        assert self._transport is not None
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def pause_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def data_received(self, data: bytes) -> None:
        self._now_ns = monotonic_ns()
        exchange = self._exchange
        if exchange is None:
            # Bytes that nobody asked for: the peer and we disagree about where messages end.
            self.close()
            return
        if self._head is not None:
            if self._upgraded:
                exchange.received(data, self._now_ns)
                return
            self._head.append(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not self._message_complete:
                upgrade = isinstance(exc, httptools.HttpParserUpgrade)
                if upgrade and self._head is not None:
                    self._switch(exchange, self._head, len(data) - exc.args[0])
                    return
                self._deliver(exchange)
                self._broken(
                    exchange, ProtocolError("unexpected protocol upgrade" if upgrade else f"invalid response: {exc}")
                )
                return
            # What follows a complete message concerns the next one only, and there shall be none.
            self._keep_alive = False
        if not exchange.head_ns:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._broken(exchange, ProtocolError("response head too large"))
            return
        self._deliver(exchange)
        if self._message_complete:
            self._message_complete = False
            self._complete(exchange)

    def eof_received(self) -> bool:
        exchange = self._exchange
        if self._upgraded and exchange is not None:
            exchange.finish()
            return self.half_closes
        if exchange is not None and exchange.head_ns and self._until_close:
            self._keep_alive = False
            self._complete(exchange)
        else:
            # The transport would first send what it still holds, to a peer that may never read it.
            self._lost("closed")
            self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if exc is not None and self._exchange is not None:
            self._read_rest()
        self._lost("closed" if exc is None else "reset")
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ResetError("connection closed while sending"))
            self._drained.exception()
        self._on_closed(self)

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._headers = []
        if self._message_complete:
            self._keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        status = self._parser.get_status_code()
        if exchange is None or self._message_complete or 100 <= status < 200:
            # Interim responses end here; the final one follows (RFC 9110 15.2). A second final one is not ours.
            return
        self._head = None
        exchange.status = status
        exchange.headers = self._headers
        # Trailers go to a list of their own: the head is given away as it came.
        self._headers = []
        self._head_bytes = 0
        self._keep_alive = self._parser.should_keep_alive()
        sized = False
        for name, value in exchange.headers:
            if name == b"content-length" or (name == b"transfer-encoding" and b"chunked" in value.lower()):
                sized = True
            elif name == b"keep-alive":
                self.idle_limit_s = _timeout_of(value)
        bodyless = exchange._is_head or status in (204, 304)
        self._until_close = not sized and not bodyless
        exchange.head_received(self._now_ns)
        if exchange._is_head:
            # The parser waits for the body that the head announces; there is none (RFC 9110 9.3.2).
            self._parser = httptools.HttpResponseParser(self)
            self._message_complete = True

    def on_body(self, body: bytes) -> None:
        if self._message_complete:
            self._keep_alive = False
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.head_ns:
            self._message_complete = True

    def _switch(self, exchange: Response, head: list[bytes], beyond: int) -> None:
        """HTTP ends here with a 101; the last `beyond` bytes that came are the other protocol's."""
        came = b"".join(head)
        end = len(came) - beyond
        self._upgraded = True
        self._keep_alive = False
        exchange.status = self._parser.get_status_code()
        exchange.headers = self._headers
        exchange.upgraded = came[:end]
        exchange.head_received(self._now_ns)
        if beyond:
            exchange.received(came[end:], self._now_ns)

    def _deliver(self, exchange: Response) -> None:
        parts = self._parts
        if parts:
            exchange.received(parts[0] if len(parts) == 1 else b"".join(parts), self._now_ns)
            self._parts = []

    def _complete(self, exchange: Response) -> None:
        """The response is complete: the connection is free again, or of no more use."""
        exchange.finish()
        self._exchange = None
        if exchange.uploading():
            self._keep_alive = False
            exchange.stop_upload()
        if not self._keep_alive or self.closed:
            self.close()
            return
        self.resume_reading()
        self.idle_since_ns = monotonic_ns()
        self._on_idle(self)

    def _broken(self, exchange: Response, error: HTTPError) -> None:
        exchange.fail(error)
        self.close()

    def _lost(self, how: str) -> None:
        exchange = self._exchange
        if exchange is not None:
            where = "in the middle of the response" if exchange.head_ns else "before it answered"
            exchange.fail(ResetError(f"the upstream {how} the connection {where}"))

    def _read_rest(self) -> None:
        """Take what the peer wrote before it went away while we were sending (RFC 9112 9.5).

        A failed write ends the transport at once, with the answer (a 413, say) unread in the socket.
        """
        assert self._transport is not None
        if self._transport.get_extra_info("ssl_object") is not None:
            return
        descriptor = self._transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while self._exchange is not None and (data := os.read(descriptor, READ_HIGH_WATER)):
                self.data_received(data)


def _timeout_of(keep_alive: bytes) -> float | None:
    for part in keep_alive.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.lower() == b"timeout" and value.isdigit():
            return float(value)
    return None
