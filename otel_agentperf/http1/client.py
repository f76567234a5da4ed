"""Connections kept per origin, and requests over them."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterable, Mapping, Sequence
from time import monotonic_ns
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from otel_agentperf.errors import UsageError
from otel_agentperf.http1.connection import Connection
from otel_agentperf.http1.errors import ConnectError, ProtocolError, ResetError, UpstreamTimeout
from otel_agentperf.http1.exchange import Response

IDLE_LIMIT_S: Final = 4.0
"""An idle connection is not used after this: common servers close theirs after 5 s, and a request that meets the
closing cannot be told from one that was processed, so a POST could not be repeated."""

_PROBES: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""Seconds of silence before the first, between them, and how many may go unanswered; not all systems have all."""

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""Methods that may be sent again when a kept connection turns out closed (RFC 9110 9.2.2; PUT and DELETE may be too,
but not by a proxy that cannot know what they meant)."""


class Origin(NamedTuple):
    """Where requests go."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> tuple["Origin", bytes]:
        """Split a base URL into its origin and its path, which has no slash at the end (empty for the root).

        Raises:
            UsageError: not an http or https URL, or it has a query or credentials.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise UsageError(f"not a URL: {url!r} ({exc})") from exc
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise UsageError(f"not an http or https URL: {url!r}; write for example http://127.0.0.1:8000")
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise UsageError("a base URL has no query, fragment or credentials; keys belong in the client's headers")
        host = parts.hostname
        try:
            host.encode("idna")
        except UnicodeError as exc:
            raise UsageError(f"not a host name: {host!r} ({exc})") from exc
        origin = cls(parts.scheme, host, port or (443 if parts.scheme == "https" else 80))
        return origin, quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~").encode()

    @property
    def authority(self) -> bytes:
        """The value of a Host header; a default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return (host if self.port == default else f"{host}:{self.port}").encode(
            "idna" if not host.isascii() else "ascii"
        )

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode()}"


class Client:
    """An HTTP/1.1 client for one event loop.

    Args:
        connect_timeout_s: limit for name resolution, TCP and TLS together. There is no other time limit: a model may
            think for as long as it likes.
        ssl_context: for https origins; the platform's defaults without.
        ssl_contexts: for some of them.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        ssl_contexts: Mapping[Origin, ssl.SSLContext] | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._ssl_context = ssl_context
        self._ssl_contexts = ssl_contexts or {}
        self._idle: dict[Origin, deque[Connection]] = {}
        self._connections: dict[Connection, Origin] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def request(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes] | None = None,
        *,
        upgrade: bool = False,
    ) -> Response:
        """Send a request; returns when the head of the response has come.

        Args:
            origin: where to connect to.
            method: as on the wire.
            target: path and query as on the wire.
            headers: all fields of the request. For `body` bytes a missing Content-Length is added; for a stream they
                say `content-length` or `transfer-encoding: chunked`.
            body: the whole body, or its parts as they come.
            upgrade: take a 101 as the end of HTTP on this connection; see `Response.upgraded`. Without, it is an error.

        Raises:
            ConnectError, UpstreamTimeout: no connection.
            ResetError: the connection ended before a response head came.
            ProtocolError: the response is not HTTP/1.1, or the request cannot be written as such.
        Whatever the iteration of `body` raises ends the exchange and is raised as it is.
        """
        length, chunked = framing_of(headers)
        streamed = None if body is None or isinstance(body, bytes) else body
        whole = body if isinstance(body, bytes) else b""
        if length is not None and streamed is None and len(whole) != length:
            raise ProtocolError(f"content-length is {length}, the body has {len(whole)} bytes")
        unsaid = isinstance(body, bytes) and length is None and not chunked
        head = request_head(method, target, headers, len(whole) if unsaid else None)
        if chunked and streamed is None:
            whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole) if whole else b"0\r\n\r\n"
        while True:
            connection = self.take(origin)
            reused = connection is not None
            if connection is None:
                connection = await self.connect(origin)
            exchange: Response | None = None
            try:
                exchange = connection.request(
                    head + whole if whole else head, is_head=method == b"HEAD", upgrade=upgrade
                )
                if streamed is not None:
                    exchange.pump(streamed, None if chunked else length or 0)
                else:
                    if connection.writing_paused:
                        await connection.drain()
                    exchange.sent_ns = monotonic_ns()
                await exchange.head()
            except ResetError:
                if exchange is not None:
                    exchange.abort()
                if reused and streamed is None and not whole and method in IDEMPOTENT:
                    continue
                raise
            except BaseException:
                if exchange is not None:
                    exchange.abort()
                raise
            return exchange

    def stats(self) -> dict[str, int]:
        """Open and idle connections."""
        return {"connections": len(self._connections), "idle": sum(map(len, self._idle.values()))}

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    def take(self, origin: Origin) -> Connection | None:
        """A kept connection that is free and open, or None."""
        idle = self._idle.get(origin)
        now = monotonic_ns()
        while idle:
            connection = idle.pop()
            if not (connection.closed or _stale(connection, now) or connection.has_input()):
                return connection
            connection.close()
        return None

    async def connect(self, origin: Origin) -> Connection:
        """A new connection; `give_back` it when it is not used after all.

        Raises:
            ConnectError, UpstreamTimeout: there is none to be had.
        """
        if self._closed:
            raise ConnectError("the client is closed")
        loop = asyncio.get_running_loop()
        tls = None
        if origin.scheme == "https":
            tls = self._ssl_contexts.get(origin)
            if tls is None:
                tls = self._ssl_context = self._ssl_context or client_tls()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._on_idle, self._on_closed),
                    origin.host,
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
        except TimeoutError as exc:
            raise UpstreamTimeout(f"connecting to {origin} took longer than {self._connect_timeout_s:g} s") from exc
        except (OSError, UnicodeError) as exc:
            # A host name that cannot be encoded for the name service is a UnicodeError.
            raise ConnectError(f"cannot connect to {origin}: {getattr(exc, 'strerror', None) or exc}") from exc
        if connection.closed or self._closed:
            connection.close()
            raise ConnectError(f"cannot connect to {origin}: the connection was closed at once")
        find_dead_peers(connection.socket)
        self._connections[connection] = origin
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection from `connect` that carried nothing."""
        connection.idle_since_ns = monotonic_ns()
        if not connection.closed:
            self._on_idle(connection)

    def _on_idle(self, connection: Connection) -> None:
        origin = self._connections.get(connection)
        if origin is None or self._closed:
            connection.close()
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_LIMIT_S, self._sweep)

    def _on_closed(self, connection: Connection) -> None:
        origin = self._connections.pop(connection, None)
        if origin is not None:
            idle = self._idle.get(origin)
            if idle is not None and connection in idle:
                idle.remove(connection)

    def _sweep(self) -> None:
        """Close what idled too long, so that no socket outlives its use."""
        self._sweeper = None
        now = monotonic_ns()
        for idle in self._idle.values():
            while idle and _stale(idle[0], now):
                idle.popleft().close()
        if any(self._idle.values()):
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_LIMIT_S, self._sweep)


def _stale(connection: Connection, now_ns: int) -> bool:
    told = connection.idle_limit_s
    limit_s = IDLE_LIMIT_S if told is None else min(IDLE_LIMIT_S, max(told - 1.0, 0.0))
    return now_ns - connection.idle_since_ns > limit_s * 1e9


def framing_of(headers: Sequence[tuple[bytes, bytes]]) -> tuple[int | None, bool]:
    """What the fields say about the body: its length, if they tell, and whether it is chunked.

    Raises:
        ProtocolError: they contradict each other, so two readers could see two different messages (RFC 9112 6.3).
    """
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value.lower() for name, value in headers if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1 or not all(value.isdigit() for value in lengths):
        raise ProtocolError("contradicting or invalid content-length and transfer-encoding")
    if codings and codings[0].rpartition(b",")[2].strip() != b"chunked":
        raise ProtocolError("the last transfer-encoding of a request is chunked")
    return (int(lengths[0]) if lengths else None), bool(codings)


def request_head(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], content_length: int | None = None
) -> bytes:
    """A request's head as on the wire, with a Content-Length where one is given.

    Raises:
        ProtocolError: it would be read as something else than it says.
    """
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    lines += [b"%b: %b" % field for field in headers]
    if content_length is not None:
        lines.append(b"content-length: %d" % content_length)
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    whole_lines = head.count(b"\n") == breaks and head.count(b"\r") == breaks and b"\0" not in head
    if not whole_lines or lines[0].split() != [method, target, b"HTTP/1.1"]:
        # A line break inside a field would start a field, or a request, of its own (RFC 9112 11.1).
        raise ProtocolError("line break in a header field, or space in the method or the request target")
    return head + b"\r\n\r\n"


def find_dead_peers(sock: socket.socket) -> None:
    """Have the system ask a silent peer whether it is still there, and end the connection after two minutes if not.

    A model that thinks is silent, and so is a host that lost its power. The probes also keep silent connections alive
    in the tables of firewalls and load balancers, which forget them after some minutes.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES:
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def client_tls(ca: str | None = None, *, insecure: bool = False) -> ssl.SSLContext:
    """What https origins are met with.

    Args:
        ca: file of the certificates to trust instead of the platform's.
        insecure: trust anyone.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as exc:
        raise UsageError(f"cannot read certificates from {ca}: {exc.strerror or exc}") from exc
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
