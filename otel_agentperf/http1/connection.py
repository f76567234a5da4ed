"""One client connection, and the exchanges that it carries one after the other."""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final, cast

import httptools

from otel_agentperf.http1.errors import HTTPError, ProtocolError, ResetError
from otel_agentperf.http1.exchange import READ_HIGH_WATER, Exchange, Headers, Response

MAX_HEAD_BYTES: Final = 256 * 1024
"""A response head that is not complete after so many bytes is refused."""

UNPARSED_BYTES: Final = 16 * 1024
"""A body of known length of which more than this is missing goes past the parser."""

_SIZE_DIGITS: Final = 10
"""A chunk's size line is looked for in so many bytes."""

_X: Final = ord("x")
"""What `int` takes in a prefix, and HTTP does not."""


class Connection(asyncio.Protocol):
    """The protocol of one client connection; carries one exchange at a time."""

    def __init__(self, on_idle: "Callable[[Connection], None]", on_closed: "Callable[[Connection], None]") -> None:
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
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
        self._between_chunks = False
        """What comes next begins with a chunk's size."""
        self._length = 0
        """Bytes of the body that are missing, where its length is known."""
        self._unparsed = False
        """The rest of the body goes past the parser."""
        self.reading_paused = False
        self.writing_paused = False
        self.closed = False
        self.exchanges = 0
        self.idle_since_ns = 0
        self.idle_limit_s: float | None = None
        """What the peer promised in its `Keep-Alive: timeout=`; None without."""

    # Sending.

    def start(self, exchange: Exchange, head: bytes, *, upgrade: bool = False) -> None:
        """Write a request head (and what follows it in the same bytes) and expect its response.

        Args:
            exchange: told of the response.
            head: as on the wire.
            upgrade: take a 101 as the end of HTTP. Without, it is an error.

        Raises:
            ResetError: the connection is gone.
        """
        self._head = [] if upgrade else None
        self._exchange = exchange
        self.exchanges += 1
        self.idle_limit_s = None
        self.write(head)
        exchange.started_ns = monotonic_ns()

    def request(self, head: bytes, *, is_head: bool, upgrade: bool = False) -> Response:
        """`start` with a response that can be awaited."""
        response = Response(self, is_head=is_head)
        self.start(response, head, upgrade=upgrade)
        return response

    def hand_over(self) -> Response:
        """From now on a switched connection tells the returned response instead."""
        assert self._exchange is not None
        response = Response(self, is_head=False)
        before = self._exchange
        response.status, response.headers = before.status, before.headers
        response.started_ns, response.sent_ns, response.head_ns = before.started_ns, before.sent_ns, before.head_ns
        self._exchange = response
        return response

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
        self._fail(ResetError("the connection was closed by this side"))

    @property
    def socket(self) -> socket.socket:
        """To set options of."""
        assert self._transport is not None
        # The event loops' own kinds of it.
        return cast("socket.socket", self._transport.get_extra_info("socket"))

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
        if self._poll is None:
            assert self._transport is not None
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def pause_reading(self) -> None:
        if self._transport is not None and not self.closed and not self.reading_paused:
            self.reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.reading_paused and self._transport is not None and not self.closed:
            self.reading_paused = False
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
        if self._exchange is not None:
            self._exchange.writable()

    def data_received(self, data: bytes) -> None:
        now_ns = self._now_ns = monotonic_ns()
        exchange = self._exchange
        if exchange is None:
            # Bytes that nobody asked for: the peer and we disagree about where messages end.
            self.close()
            return
        if self._between_chunks:
            # The usual read of a stream is one whole chunk: the parser, which waits for one, need not know of it.
            at = data.find(b"\r\n", 0, _SIZE_DIGITS)
            if at > 0 and data[:at].isalnum() and data[1] | 0x20 != _X and data.endswith(b"\r\n"):
                try:
                    size = int(data[:at], 16)
                except ValueError:
                    size = 0
                if size and len(data) == at + size + 4:
                    exchange.received(data[at + 2 : -2], now_ns, False)
                    return
            self._between_chunks = False
        elif self._unparsed:
            self._pass(exchange, data)
            return
        elif self._head is not None:
            if self._upgraded:
                exchange.received(data, now_ns, False)
                return
            self._head.append(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not self._message_complete:
                self._unreadable(exchange, data, exc)
                return
            # What follows a complete message concerns the next one only, and there shall be none.
            self._keep_alive = False
        if not exchange.head_ns:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._broken(ProtocolError("response head too large"))
            return
        if self._message_complete:
            self._complete(exchange, self._take_parts())
            return
        if self._between_chunks:
            # After a chunk, or the head, but not in the middle of the next size.
            self._between_chunks = data.endswith(b"\r\n")
        elif self._length > UNPARSED_BYTES:
            self._unparsed = True
        exchange.received(self._take_parts(), now_ns, False)

    def eof_received(self) -> bool:
        exchange = self._exchange
        if self._upgraded and exchange is not None:
            exchange.received(b"", monotonic_ns(), True)
            return self.half_closes
        if exchange is not None and exchange.head_ns and self._until_close:
            self._keep_alive = False
            self._now_ns = monotonic_ns()
            self._complete(exchange, b"")
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
        # The two hold each other.
        self._parser = None

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
        length = 0
        chunked = sized = False
        for name, value in exchange.headers:
            if name == b"content-length":
                sized = True
                # The parser has refused what is no number.
                length = int(value)
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    # The body would be handed on in a coding that nobody tells the reader of.
                    raise ProtocolError("the only transfer coding of a response is chunked")
                chunked = True
            elif name == b"keep-alive":
                self.idle_limit_s = _timeout_of(value)
        bodyless = exchange.is_head or status in (204, 304)
        self._until_close = not sized and not chunked and not bodyless
        self._between_chunks = chunked and not bodyless
        self._length = 0 if chunked or bodyless else length
        exchange.head_ns = self._now_ns
        if exchange.is_head:
            # The parser waits for the body that the head announces; there is none (RFC 9110 9.3.2).
            self._parser = httptools.HttpResponseParser(self)
            self._message_complete = True

    def on_body(self, body: bytes) -> None:
        if self._message_complete:
            self._keep_alive = False
        else:
            self._parts.append(body)
            self._length -= len(body)

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.head_ns:
            self._message_complete = True

    def _pass(self, exchange: Exchange, data: bytes) -> None:
        """A part of a body of known length."""
        beyond = len(data) - self._length
        self._length = -beyond
        if beyond < 0:
            exchange.received(data, self._now_ns, False)
            return
        if beyond:
            data = data[:-beyond]
            self._keep_alive = False
        self._unparsed = False
        # It still waits for this body.
        self._parser = httptools.HttpResponseParser(self)
        self._complete(exchange, data)

    def _take_parts(self) -> bytes:
        parts = self._parts
        if not parts:
            return b""
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _complete(self, exchange: Exchange, data: bytes) -> None:
        """The response is complete: the connection is free again, or of no more use."""
        self._message_complete = self._between_chunks = False
        exchange.received(data, self._now_ns, True)
        self._exchange = None
        if exchange.sent_ns is None:
            self._keep_alive = False
            exchange.stop_upload()
        if not self._keep_alive or self.closed:
            self.close()
            return
        self.resume_reading()
        self.idle_since_ns = monotonic_ns()
        self._on_idle(self)

    def _unreadable(self, exchange: Exchange, data: bytes, error: Exception) -> None:
        """What came is not HTTP/1.1, or no longer."""
        upgrade = isinstance(error, httptools.HttpParserUpgrade)
        if upgrade and self._head is not None:
            self._switch(exchange, self._head, len(data) - error.args[0])
            return
        if exchange.head_ns and (parts := self._take_parts()):
            exchange.received(parts, self._now_ns, False)
        if isinstance(error.__context__, ProtocolError):
            # Ours, of what the parser takes.
            self._broken(error.__context__)
            return
        self._broken(ProtocolError("unexpected protocol upgrade" if upgrade else f"invalid response: {error}"))

    def _switch(self, exchange: Exchange, head: list[bytes], beyond: int) -> None:
        """HTTP ends here with a 101; the last `beyond` bytes that came are the other protocol's."""
        came = b"".join(head)
        end = len(came) - beyond
        self._upgraded = True
        self._keep_alive = False
        exchange.status = self._parser.get_status_code()
        exchange.headers = self._headers
        exchange.head_ns = self._now_ns
        exchange.switched(came[:end], came[end:], self._now_ns)

    def _broken(self, error: HTTPError) -> None:
        self._fail(error)
        self.close()

    def _lost(self, how: str) -> None:
        exchange = self._exchange
        if exchange is not None:
            where = "in the middle of the response" if exchange.head_ns else "before it answered"
            self._fail(ResetError(f"the upstream {how} the connection {where}"))

    def _fail(self, error: HTTPError) -> None:
        """Tell the exchange once: it may go on over another connection."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.failed(error)

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
