"""One exchange from the client to the upstream and back, with a time for everything that happened.

Nothing is parsed here but the request's head. Bytes go on first, then a copy goes to the observer (see `Observed`).
Everything happens in calls from the two connections: no task and no future per request or chunk. Who stands on the
client's side is not known here; see `ClientSide`.
"""

import asyncio
import logging
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otel_agentperf.http1 import (
    ConnectError,
    Connection,
    HTTPError,
    ProtocolError,
    ResetError,
    Response,
    UpstreamTimeout,
    framing_of,
    request_head,
)
from otel_agentperf.http1.client import IDEMPOTENT
from otel_agentperf.semconv import ErrorType
from otel_agentperf_proxy import dialects, headers
from otel_agentperf_proxy.ask_usage import Question, UsageHider, may_ask, may_hide, with_length
from otel_agentperf_proxy.client_side import ClientSide, RequestHead
from otel_agentperf_proxy.frames import Outcome
from otel_agentperf_proxy.observed import REQUEST_BODY, REQUEST_END, RESPONSE_BODY, Observed, text
from otel_agentperf_proxy.routes import Upstream
from otel_agentperf_proxy.tunnel import UPGRADE_FIELDS, ClientEnd, dialect_of, splice

if TYPE_CHECKING:
    from otel_agentperf_proxy.relay import Relay

HELD_BYTES: Final = 256 * 1024
"""Of a body, while there is no connection to the upstream yet, before the client is no longer read."""

JOINED_BYTES: Final = 16 * 1024
"""Up to so many bytes it costs less to copy them behind others than to hand them over by themselves."""

logger = logging.getLogger(__name__)


class Exchange(Observed):
    """One request and its response. Times are monotonic nanoseconds; exactly one END goes to the observer."""

    __slots__ = (
        "_chunked",
        "_client",
        "_client_paused",
        "_connecting",
        "_connection",
        "_done",
        "_head",
        "_head_written",
        "_held",
        "_hider",
        "_missing",
        "_pending",
        "_question",
        "_reaching",
        "_reused",
        "_timer",
        "_tunneling",
        "_uploaded",
        "_upstream",
        "_waited_ns",
        "_waiting_ns",
    )

    def __init__(self, relay: "Relay", request: RequestHead, client: ClientSide) -> None:
        super().__init__(relay, request)
        self._client = client
        self._upstream: Upstream | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tunneling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = b""
        self._chunked = False
        self._missing: int | None = None
        """Bytes that the request's body still owes; None where its length is not told."""
        self._pending: list[bytes] = []
        self._held = 0
        self._question: Question | None = None
        self._hider: UsageHider | None = None
        self._reaching = self._reused = self._uploaded = self._client_paused = False
        self._head_written = self._done = False
        self._waited_ns = 0
        relay.inflight += 1
        self._open()
        self._waiting_ns = request.received_ns

    # The way to the upstream.

    def _open(self) -> None:
        """Take the request's head apart, tell the observer, and make the head that goes on."""
        relay, request = self._relay, self._request
        taken = headers.take_apart(request.headers)
        path = headers.take_tags_from_path(request.path, taken.tags)
        self._path = path.decode("latin-1")
        upstream = self._upstream = relay.routes.find(taken.host, path)
        context = self._tell_open(taken, upstream)
        if upstream is None:
            return
        fields = [(b"host", taken.host if relay.config.preserve_host and taken.host else upstream.authority)]
        if taken.chunked:
            fields += [pair for pair in taken.headers if pair[0] != b"content-length"]
            fields.append((b"transfer-encoding", b"chunked"))
        else:
            fields += taken.headers
        if request.upgrade is not None:
            fields += UPGRADE_FIELDS
        fields += context
        try:
            self._missing, self._chunked = request.framing or framing_of(fields)
            target = upstream.base_path + upstream.stripped(path)
            self._head = request_head(
                request.method, target + b"?" + request.query if request.query else target, fields
            )
        except ProtocolError as exc:
            # No parser of ours lets this through; a server that mounts us may.
            logger.warning("%s %s: %s", text(request.method), self._path, exc)
        if self._missing is None and not self._chunked:
            self._missing = 0
        if relay.config.ask_usage and may_ask(text(request.method), self._path, taken.headers):
            self._question = Question()

    def feed(self, data: bytes, complete: bool) -> None:
        """A part of the request's body came, or nothing yet; `complete`: it was the last one."""
        if self._done:
            return
        now_ns = monotonic_ns()
        self._upload_ns += now_ns - self._waiting_ns
        self._waiting_ns = now_ns
        self._uploaded = complete
        if not self._accept(len(data), complete):
            return
        self._request_bytes += len(data)
        connection = self._connection
        body = data if self._question is None else self._ask(self._question, data, complete)
        if connection is not None:
            self._forward(connection, body)
        elif body or complete:
            if body:
                self._pending.append(body)
                self._held += len(body)
            if not self._reaching:
                self._reaching = True
                self._waited_ns = self._upload_ns
                self._reach()
            if self._connection is None and self._held >= HELD_BYTES:
                self._pause_client()
        if self._done:
            return
        if data:
            self._tell_body(REQUEST_BODY, 0, now_ns, data)
        if complete:
            self._put(REQUEST_END, now_ns, b"")

    def _ask(self, question: Question, data: bytes, complete: bool) -> bytes:
        """Hold the body until it can be made to ask for token counts, or is to pass as it is. Returns what goes on."""
        body = question.feed(data, complete)
        if question.decided:
            self._question = None
        if question.asks:
            self._head = with_length(self._head, len(body))
            self._hider = UsageHider()
            self._relay.usage["asked"] += 1
        return body

    def _accept(self, size: int, complete: bool) -> bool:
        """Whether the request may go on so."""
        limit = self._relay.config.max_body_bytes
        if self._upstream is None:
            self.refuse(self._relay.routes.refusal(_host(self._request)), "no upstream is meant for this request")
        elif not self._head:
            self.refuse(400, "this request cannot be written as HTTP/1.1")
        elif limit is not None and max(self._request_bytes + size, self._missing or 0) > limit:
            self.refuse(413, f"the request's body is longer than {limit} bytes")
        elif self._missing is not None:
            self._missing -= size
            if self._missing < 0 or (complete and self._missing):
                self.refuse(400, "the request's body has another length than its head says")
        return not self._done

    def _reach(self) -> None:
        """Take a connection to the upstream, or make one."""
        assert self._upstream is not None
        connection = self._relay.client.take(self._upstream.origin)
        if connection is not None:
            self._reused = True
            self._begin(connection)
        else:
            self._reused = False
            self._connecting = asyncio.get_running_loop().create_task(self._connect(self._upstream))

    async def _connect(self, upstream: Upstream) -> None:
        try:
            connection = await self._relay.client.connect(upstream.origin)
        except HTTPError as exc:
            self._connecting = None
            self.failed(exc)
            return
        except Exception:
            self._connecting = None
            logger.exception("cannot connect to %s", upstream.origin)
            self.broke()
            return
        self._connecting = None
        if self._done:
            self._relay.client.give_back(connection)
        else:
            self._begin(connection)

    def _begin(self, connection: Connection) -> None:
        """Send the head and what has come of the body."""
        self._connection = connection
        pending, self._pending = self._pending, []
        small = self._held <= JOINED_BYTES
        first = self._head + b"".join(map(self._framed, pending)) if small and pending else self._head
        upgrade = self._request.upgrade is not None
        try:
            if self._uploaded and small:
                connection.start(self, first + b"0\r\n\r\n" if self._chunked else first, upgrade=upgrade)
                self._all_sent(connection)
                return
            connection.start(self, first, upgrade=upgrade)
            if not small:
                for part in pending:
                    connection.write(self._framed(part))
        except ResetError as exc:
            self._failed_to_send(exc)
            return
        self._forward(connection, b"")

    def _forward(self, connection: Connection, data: bytes) -> None:
        try:
            if data:
                connection.write(self._framed(data))
            if self._uploaded and self._chunked:
                connection.write(b"0\r\n\r\n")
        except ResetError as exc:
            self._failed_to_send(exc)
            return
        if self._uploaded:
            self._all_sent(connection)
            self._resume_client()
        elif connection.writing_paused:
            self._pause_client()
        else:
            self._resume_client()

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _all_sent(self, connection: Connection) -> None:
        if not connection.writing_paused:
            self.sent_ns = monotonic_ns()
        if self._relay.config.response_timeout_s is not None:
            self._arm(self._relay.config.response_timeout_s, "the upstream has not answered")

    def _failed_to_send(self, error: ResetError) -> None:
        # The connection tells as well, unless it was lost before the exchange began.
        if not self._done:
            self.failed(error)

    def _pause_client(self) -> None:
        if not self._client_paused and not self._uploaded:
            self._client_paused = True
            self._client.pause_reading()

    def _resume_client(self) -> None:
        if self._client_paused:
            self._client_paused = False
            self._waiting_ns = monotonic_ns()
            self._client.resume_reading()

    # Called by the upstream's connection.

    def writable(self) -> None:
        if self._done:
            return
        if self._uploaded:
            if self.sent_ns is None:
                self.sent_ns = monotonic_ns()
        else:
            self._resume_client()

    def received(self, data: bytes, time_ns: int, complete: bool) -> None:
        if self._done:
            return
        new = not self._head_written
        if new:
            self._head_written = True
            self._status = self.status
            fields = headers.response_headers(self.headers)
            self._client.respond(self.status, fields)
            if self._hider is not None and not may_hide(self.status, fields):
                self._hider = None
        self._client.send(data if self._hider is None else self._shown(self._hider, data, complete), complete)
        if new:
            self._tell_head(fields, self.head_ns)
        if data:
            if self._first_chunk_ns is None:
                self._first_chunk_ns = time_ns
                to_upstream_ns = self.started_ns - self._request.received_ns - self._waited_ns
                self._overhead_ns = to_upstream_ns + monotonic_ns() - time_ns
            self._last_chunk_ns = time_ns
            self._response_bytes += len(data)
            self._tell_body(RESPONSE_BODY, 1, time_ns, data)
        if complete:
            self._end(Outcome.COMPLETE, None)
        elif self._timer is not None or self._relay.config.silence_timeout_s is not None:
            self._arm(self._relay.config.silence_timeout_s, "the upstream has fallen silent")

    def _shown(self, hider: UsageHider, data: bytes, complete: bool) -> bytes:
        """What the client gets of a response that was asked for more than the client did."""
        shown = hider.feed(data)
        if complete:
            shown += hider.finish()
            self._relay.usage["hidden"] += hider.hidden
        return shown

    def failed(self, error: Exception) -> None:
        if self._done:
            return
        repeatable = self._request.method in IDEMPOTENT and not self._request_bytes and self._uploaded
        if isinstance(error, ResetError) and self._reused and not self.head_ns and repeatable:
            self._connection = None
            self.sent_ns = None
            self._reach()
            return
        self._fail(error if isinstance(error, HTTPError) else ResetError(str(error)))

    def switched(self, head: bytes, rest: bytes, time_ns: int) -> None:
        assert self._connection is not None
        assert self._request.upgrade is not None
        upstream = self._connection.hand_over()
        upstream.switched(head, rest, time_ns)
        self._disarm()
        self._tunneling = asyncio.get_running_loop().create_task(self._tunnel(self._request.upgrade, upstream))

    # Called by the client's side.

    def client_paused(self) -> None:
        """The client does not take what it was sent."""
        if self._connection is not None and not self._done:
            self._connection.pause_reading()

    def client_resumed(self) -> None:
        """The client takes more."""
        if self._connection is not None and not self._done:
            self._connection.resume_reading()

    def client_left(self) -> None:
        """The client's connection is gone."""
        self._end(Outcome.CLIENT_DISCONNECTED, ErrorType.CLIENT_DISCONNECTED)

    def cut(self) -> None:
        """The proxy ends before the exchange does."""
        self._end(Outcome.SHUTDOWN, ErrorType.PROXY_SHUTDOWN)

    def broke(self) -> None:
        """It cannot go on, through no fault of the client's or the upstream's."""
        if self._done:
            return
        self._relay.errors[ErrorType.PROXY_ERROR] += 1
        if self._head_written:
            self._client.break_off()
        else:
            self._answer(500, "an error of the proxy itself")
        self._end(Outcome.UPSTREAM_FAILED, ErrorType.PROXY_ERROR)

    def refuse(self, status: int, why: str) -> None:
        """Do not forward the request, or its rest; answer it, unless an answer is under way."""
        if self._done:
            return
        self._relay.errors[ErrorType.REQUEST_REFUSED] += 1
        if self._head_written:
            self._client.break_off()
        else:
            self._answer(status, why)
        self._end(Outcome.UPSTREAM_FAILED, ErrorType.REQUEST_REFUSED)

    # Ends.

    async def _tunnel(self, client: ClientEnd, upstream: Response) -> None:
        """The upstream agreed to leave HTTP: pass bytes both ways until both sides have ended."""
        relay = self._relay
        self._status = upstream.status
        self._head_written = True
        read = relay.config.observed_body_bytes > 0 and dialect_of(self._path) is not None

        def sent(time_ns: int, data: bytes) -> None:
            self._request_bytes += len(data)
            if read:
                self._put(REQUEST_BODY, time_ns, data)

        def received(time_ns: int, data: bytes) -> None:
            self._last_chunk_ns = time_ns
            if self._first_chunk_ns is None:
                self._first_chunk_ns = time_ns
            self._response_bytes += len(data)
            if read:
                self._put(RESPONSE_BODY, time_ns, data)

        relay.tunnels += 1
        try:
            await client.accept(upstream.upgraded)
            to_upstream_ns = upstream.started_ns - self._request.received_ns - self._waited_ns
            self._overhead_ns = to_upstream_ns + monotonic_ns() - upstream.head_ns
            self._tell_head(upstream.headers, upstream.head_ns)
            await splice(client, upstream, sent, received, lambda: self._put(REQUEST_END, monotonic_ns(), b""))
            upstream.hang_up()
        except OSError:
            self.client_left()
        except HTTPError as exc:
            relay.errors[_error_type(exc)] += 1
            logger.warning("%s %s: %s", text(self._request.method), self._path, exc)
            self._end(Outcome.UPSTREAM_FAILED, _error_type(exc))
        else:
            self._end(Outcome.COMPLETE, None)
        finally:
            relay.tunnels -= 1
            upstream.abort()
            client.hang_up()

    def _fail(self, error: HTTPError) -> None:
        """Tell the client in its own dialect that the upstream failed; once the head is out, break off instead."""
        self._relay.errors[_error_type(error)] += 1
        if self._head_written:
            logger.warning("%s %s: %s", text(self._request.method), self._path, error)
            if self._hider is not None:
                self._client.send(self._hider.finish(), False)
            self._client.break_off()
        else:
            status = 504 if isinstance(error, UpstreamTimeout) else 502
            logger.warning("%s %s: %s, answered %d", text(self._request.method), self._path, error, status)
            self._answer(status, str(error))
        self._end(Outcome.UPSTREAM_FAILED, _error_type(error))

    def _answer(self, status: int, why: str) -> None:
        dialect = dialects.find(text(self._request.method), self._path)
        message = f"otel-agentperf: {why}"
        body = dialect.error_body(status, message) if dialect else dialects.plain_error_body(status, message)
        self._status = status
        self._head_written = True
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        self._client.respond(status, fields)
        self._client.send(b"" if self.is_head else body, True)

    def _end(self, outcome: str, error_type: str | None) -> None:
        if self._done:
            return
        self._done = True
        relay = self._relay
        relay.inflight -= 1
        self._disarm()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._tunneling is not None and self._tunneling is not asyncio.current_task():
            self._tunneling.cancel()
        if outcome != Outcome.COMPLETE and self._connection is not None:
            self._connection.close()
        relay.outcomes[outcome] += 1
        if self._status is not None:
            relay.statuses[self._status] += 1
        self._tell_end(outcome, error_type)

    # Limits of time, where some are set.

    def _arm(self, limit_s: float | None, why: str) -> None:
        self._disarm()
        if limit_s is not None:
            self._timer = asyncio.get_running_loop().call_later(limit_s, self._too_late, f"{why} for {limit_s:g} s")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self, why: str) -> None:
        self._timer = None
        if self._connection is not None and self._connection.reading_paused:
            # It is the client that does not read.
            self._arm(self._relay.config.silence_timeout_s, "the upstream has fallen silent")
        elif not self._done:
            self._fail(UpstreamTimeout(why))


def _host(request: RequestHead) -> bytes:
    return next((value for name, value in request.headers if name == b"host"), b"")


def _error_type(error: Any) -> str:
    if isinstance(error, UpstreamTimeout):
        return ErrorType.UPSTREAM_TIMEOUT
    if isinstance(error, ConnectError):
        return ErrorType.UPSTREAM_CONNECT
    return ErrorType.UPSTREAM_PROTOCOL if isinstance(error, ProtocolError) else ErrorType.UPSTREAM_RESET
