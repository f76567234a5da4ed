"""The proxied port's HTTP/1.1: a client's connection, one exchange after the other.

What the parser (llhttp, in its strict mode) takes for one message, the upstream is sent as one message with a framing
of our own; what it does not take is answered and ends the connection. Nothing here waits.
"""

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from collections import deque
from http import HTTPStatus
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from otel_agentperf_proxy import dialects
from otel_agentperf_proxy.client_side import RequestHead, address_of_peer
from otel_agentperf_proxy.exchange import JOINED_BYTES, Exchange
from otel_agentperf_proxy.headers import Headers
from otel_agentperf_proxy.incoming import Incoming, read_head
from otel_agentperf_proxy.tunnel import ClientEnd, asks_for_websocket

if TYPE_CHECKING:
    from otel_agentperf_proxy.listener import Listener

KEEP_ALIVE_S: Final = 75.0
"""How long a client's idle connection is kept, as by nginx: longer than clients keep theirs."""

LINGER_S: Final = 5.0
"""How long the rest of a request that has been answered is read and thrown away: a connection that is closed over
unread bytes is reset, and the client may lose the answer (RFC 9112 9.6)."""

HANG_UP_S: Final = 0.02
"""How often is looked whether a client has all that it was sent."""

UNPARSED_BYTES: Final = 16 * 1024
"""A body of known length of which more than this is missing goes past the parser."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER that makes the end of a connection a reset."""

logger = logging.getLogger(__name__)


class ClientConnection(asyncio.Protocol):
    """The protocol of one client's connection; the `ClientSide` of its exchanges.

    Args:
        listener: that it belongs to.
    """

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._relay = listener.relay
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._peer = ""
        self._url = b""
        self._headers: Headers = []
        self._in_head = False
        self._head_bytes = 0
        self._empty_bytes = 0
        self._read_ns = self._read_bytes = 0
        self._arriving: Incoming | None = None
        """The request that is being read."""
        self._missing = 0
        """Bytes of its body that are missing, where its length is known."""
        self._unparsed = False
        """The rest of its body goes past the parser."""
        self._waiting: deque[Incoming] = deque()
        """Requests behind the one that is being answered."""
        self._active: Incoming | None = None
        self._exchange: Exchange | None = None
        self._bad: tuple[int, str] | None = None
        """What came after the last request is none; the answer when its turn has come."""
        self._head = b""
        self._chunked = False
        self._keep_alive = True
        self._until_close = False
        self._reading_paused = False
        self._lingering: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._upgrade: ClientEnd | None = None
        self._bodyless = False
        """The parser reports an end of the request that is none."""
        self._repeating = False
        """The parser is fed a head that was reported already."""
        self._draining = False
        self.deadline_s = 0.0
        """Monotonic time by which something must have come; 0 while the time is not the client's."""
        self.write_paused = False
        self.descriptor = -1

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._peer = address_of_peer(transport.get_extra_info("peername"))
        self.descriptor = transport.get_extra_info("socket").fileno()
        self.deadline_s = monotonic() + self._relay.config.head_timeout_s
        if not self._listener.add(self):
            self._refuse(503, "too many connections", (b"retry-after", b"1"))

    def data_received(self, data: bytes) -> None:
        if self._upgrade is not None:
            self._upgrade.received(data)
            return
        if self._lingering is not None or self._bad is not None:
            return
        self._read_ns = monotonic_ns()
        self._read_bytes = len(data)
        if self._unparsed:
            data = self._pass(data)
            if not data:
                self._dispatch()
                return
        self._parse(data)
        if self._bad is None:
            self._count(len(data))
        self._dispatch()

    def eof_received(self) -> bool:
        if self._upgrade is not None:
            return self._upgrade.eof_received()
        if self._exchange is not None:
            # A client that ends its side has given up, as nginx has it.
            self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._upgrade is not None:
            self._upgrade.connection_lost()
        if self._upgrade is None or not self._upgrade.accepted:
            self._leave()
        if self._lingering is not None:
            self._lingering.cancel()
        self._wake()
        self._listener.remove(self)
        # The two hold each other.
        self._parser = None

    def pause_writing(self) -> None:
        self.write_paused = True
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        self.write_paused = False
        self._wake()
        if self._exchange is not None:
            self._exchange.client_resumed()
        elif self._waiting or self._bad is not None:
            self._go_on()

    # The flow control that a tunnel uses.

    async def drain(self) -> None:
        """Wait until the socket takes more, or is closed."""
        if self.write_paused:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()
            self._listener.watch(self)

    def resume_reading(self) -> None:
        if self._transport is not None and self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._listener.unwatch(self)
            self._transport.resume_reading()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # httptools callbacks

    def on_message_begin(self) -> None:
        if not self._repeating:
            self._url = b""
            self._headers = []
            self._in_head = True

    def on_url(self, url: bytes) -> None:
        if not self._repeating:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are dropped: no inference call has any.
        if self._in_head and not self._repeating:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._repeating:
            return
        self._in_head = False
        incoming = self._arriving = read_head(self._parser, self._url, self._headers, self._read_ns, self._peer)
        limit = self._relay.config.max_head_bytes
        # What has been read holds the head, and perhaps more.
        if self._head_bytes + self._read_bytes > limit and incoming.head_bytes() > limit:
            incoming.refusal = (431, "the request's head is too large")
        self._missing = incoming.length
        self._waiting.append(incoming)
        self._head_bytes = 0
        if self._parser.should_upgrade() and incoming.refusal is None:
            if asks_for_websocket(incoming.head.method, incoming.head.headers):
                assert self._transport is not None
                self._upgrade = ClientEnd(self._transport, self, self._leave_http)
                incoming.head = incoming.head._replace(upgrade=self._upgrade)
            else:
                self._bodyless = True

    def on_body(self, body: bytes) -> None:
        if self._arriving is not None:
            self._arriving.parts.append(body)
            self._missing -= len(body)

    def on_message_complete(self) -> None:
        if self._arriving is not None and not self._bodyless:
            self._arriving.complete = True
            self._missing = 0

    # Reading.

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self._upgrade is None and self._bodyless:
                self._read_body()
            rest = data[exc.args[0] :]
            if self._upgrade is not None:
                self._upgrade.received(rest)
            elif rest:
                self._parse(rest)
        except httptools.HttpParserCallbackError:
            logger.exception("a request could not be taken")
            self._bad = (500, "an error of the proxy itself")
        except httptools.HttpParserError as exc:
            if self._arriving is not None and not self._arriving.keep_alive and self._arriving.complete:
                # Nothing may follow a last request: what does is not looked at.
                return
            if isinstance(exc, httptools.HttpParserInvalidURLError):
                self._bad = (400, "invalid request target")
            else:
                self._bad = (400, f"invalid request: {exc}")
        else:
            self._unparsed = self._missing > UNPARSED_BYTES

    def _count(self, size: int) -> None:
        """Hold what may come without an end: a head, and what brings nothing within a body."""
        if self._in_head:
            if not self._head_bytes and self._active is None:
                self.deadline_s = monotonic() + self._relay.config.head_timeout_s
            self._head_bytes += size
            if self._head_bytes > self._relay.config.max_head_bytes:
                self._bad = (431, "the request's head is too large")
            return
        incoming = self._arriving
        if incoming is None or incoming.complete or incoming.parts:
            self._empty_bytes = 0
            return
        self._empty_bytes += size
        if self._empty_bytes > self._relay.config.max_head_bytes:
            self._bad = (400, "too many bytes without a body")

    def _read_body(self) -> None:
        """Go on behind the head of a request that asked for another protocol: with a parser that was not asked."""
        self._bodyless = False
        framing = [b"%b: %b\r\n" % field for field in self._headers if field[0] in _FRAMING]
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._repeating = True
        try:
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))
        finally:
            self._repeating = False

    def _pass(self, data: bytes) -> bytes:
        """Take a part of a body of known length; returns what follows it."""
        incoming = self._arriving
        assert incoming is not None
        rest = b""
        if len(data) >= self._missing:
            data, rest = data[: self._missing], data[self._missing :]
            incoming.complete = True
            self._unparsed = False
            # It still waits for this body.
            self._parser = httptools.HttpRequestParser(self)
        self._missing -= len(data)
        incoming.parts.append(data)
        return rest

    # From request to exchange.

    def _dispatch(self) -> None:
        """Hand on what has been read."""
        active, exchange = self._active, self._exchange
        if self._bad is not None and self._waiting and not self._waiting[-1].complete:
            # It is the body of this request that cannot be read.
            self._waiting[-1].refusal = self._waiting[-1].refusal or self._bad
            self._bad = None
        if active is None:
            self._next()
        elif exchange is not None:
            if self._bad is not None and not active.complete:
                exchange.refuse(*self._bad)
            elif active.parts or active.complete:
                self._feed(exchange, active)
        if self._waiting or self._bad is not None:
            self.pause_reading()

    def _next(self) -> None:
        """Begin with the request whose turn it is."""
        if self._active is not None or self.write_paused or self._transport is None or self._transport.is_closing():
            # A client that does not take its answers gets no more of them.
            return
        if not self._waiting:
            if self._bad is not None:
                self._refuse(*self._bad)
            return
        incoming = self._active = self._waiting.popleft()
        self.deadline_s = 0.0
        if incoming.refusal is not None:
            self._refuse(*incoming.refusal)
            return
        try:
            exchange = self._exchange = Exchange(self._relay, incoming.head, self)
            if incoming.continues and not incoming.complete and not incoming.parts:
                # What can be refused by its head alone is refused before the body is asked for.
                exchange.feed(b"", False)
                if self._exchange is exchange and not incoming.http10:
                    self._transport.write(CONTINUE)
            else:
                exchange.feed(incoming.take(), incoming.complete)
        except Exception:
            self._bug()

    def _feed(self, exchange: Exchange, active: Incoming) -> None:
        try:
            exchange.feed(active.take(), active.complete)
        except Exception:
            self._bug()

    def _bug(self) -> None:
        logger.exception("an exchange failed")
        if self._exchange is not None:
            self._exchange.broke()

    # The client's side of an exchange.

    def respond(self, status: int, fields: Headers) -> None:
        active = self._active
        assert active is not None
        out = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        sized = False
        for pair in fields:
            if pair[0] == b"content-length":
                sized = True
                if status == 204:
                    # There is none to speak of (RFC 9110 8.6).
                    continue
            out.append(b"%b: %b\r\n" % pair)
        self._chunked = self._until_close = False
        self._keep_alive = active.keep_alive and active.complete and not self._draining
        if not sized and not active.is_head and status not in (204, 304):
            if active.http10:
                self._until_close = True
            else:
                self._chunked = True
                out.append(b"transfer-encoding: chunked\r\n")
        out.append(b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(out)

    def send(self, data: bytes, complete: bool) -> None:
        transport = self._transport
        assert transport is not None
        head = self._head
        if head:
            self._head = b""
        if len(data) > JOINED_BYTES:
            transport.write(b"%b%x\r\n" % (head, len(data)) if self._chunked else head)
            transport.write(data)
            tail = (b"\r\n0\r\n\r\n" if complete else b"\r\n") if self._chunked else b""
            if tail:
                transport.write(tail)
        elif not self._chunked:
            if head or data:
                transport.write(head + data)
        elif data:
            transport.write(
                b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(data), data)
                if complete
                else b"%b%x\r\n%b\r\n" % (head, len(data), data)
            )
        else:
            transport.write(head + b"0\r\n\r\n" if complete else head)
        if complete:
            self._responded()

    def break_off(self) -> None:
        transport = self._transport
        assert transport is not None
        self._exchange = None
        if self._until_close and not transport.is_closing():
            # The end of the connection would be the end of the response.
            sock = transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if not transport.can_write_eof():
                # TLS says goodbye in a way of its own, which is an end as well.
                transport.abort()
                return
        self._hang_up()

    def _responded(self) -> None:
        """The response is complete: go on with the next request, or end."""
        active = self._active
        assert active is not None
        assert self._transport is not None
        self._active = self._exchange = None
        upgrade = self._upgrade
        if upgrade is not None and not upgrade.accepted:
            # Refused: HTTP goes on.
            self._upgrade = None
        if not active.complete:
            self._linger()
        elif not self._keep_alive or (self._draining and not self._waiting):
            self._hang_up()
        elif self._waiting or self._bad is not None:
            # Not from here: a client may have sent a thousand.
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self.deadline_s = monotonic() + KEEP_ALIVE_S
            self.resume_reading()
            if upgrade is not None and (held := upgrade.held()):
                asyncio.get_running_loop().call_soon(self.data_received, held)

    def _go_on(self) -> None:
        self._next()
        if not self._waiting and self._bad is None:
            self.resume_reading()

    def _leave_http(self) -> None:
        """No response of HTTP is owed any more."""

    # Ends.

    def ended_unread(self) -> None:
        """The client ended its side, or reset the connection, behind bytes that are not read yet."""
        # In a tunnel, what was sent before the end still counts.
        if self._exchange is not None and self._upgrade is None:
            self._leave()

    def finish_up(self) -> None:
        """Take no further request."""
        self._draining = True
        if self._active is None and self._transport is not None and self._lingering is None:
            self._hang_up()

    def cut(self) -> None:
        """End at once."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cut()
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """The time by which something should have come is over."""
        self.deadline_s = 0.0
        if self._in_head and self._active is None:
            self._refuse(408, "the request's head did not come in time")
        elif self._transport is not None:
            self._hang_up()

    def _refuse(self, status: int, why: str, *more: tuple[bytes, bytes]) -> None:
        """Answer what is no request that could be forwarded, and end the connection."""
        self._relay.errors[f"refused_{status}"] += 1
        self._bad = None
        self._waiting.clear()
        self._active = self._active or Incoming(RequestHead(b"", b"", b"", [], 0))
        # Whatever follows it is not looked at.
        self._active.complete = False
        body = dialects.plain_error_body(status, f"otel-agentperf: {why}")
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
        self.respond(status, fields)
        self.send(b"" if self._active.is_head else body, True)

    def _linger(self) -> None:
        """Nothing more is said: read and throw away until the client has noticed."""
        assert self._transport is not None
        self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)
        self.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _hang_up(self) -> None:
        """Close the connection once what was written has been sent.

        Over TLS the transport waits for the client's consent, and one that pools its connections does not look: a proxy
        that ends does not wait for that.
        """
        transport = self._transport
        assert transport is not None
        transport.close()
        if self._draining and not transport.can_write_eof():
            asyncio.get_running_loop().call_later(HANG_UP_S, self._let_go, False)

    def _let_go(self, before: bool) -> None:
        """End it when all was sent: now and `before`, as what the transport holds follows in the turn after."""
        if self._transport is None or self._parser is None:
            return
        try:
            sent = not any(fcntl.ioctl(self.descriptor, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            # It is closed already, and we are told next.
            return
        sent = sent and not self._transport.get_write_buffer_size()
        if sent and before:
            self._transport.abort()
        else:
            asyncio.get_running_loop().call_later(HANG_UP_S, self._let_go, sent)

    def _leave(self) -> None:
        """The client is gone."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()
        if self._transport is not None:
            self._transport.abort()
