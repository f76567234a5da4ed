"""The byte path: one exchange from the client to the upstream and back, with a time for everything that happened.

Nothing is parsed here but the request's head. Bytes go on first, then a copy goes to the observer's channel, which
never waits. A `Relay` serves a process; all that concerns one exchange lives in an `_Exchange`.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from hashlib import blake2b
from itertools import count
from time import monotonic_ns
from typing import Any, Final
from urllib.parse import quote

from otel_agentperf.http1 import Client, ConnectError, HTTPError, ProtocolError, Response, UpstreamTimeout
from otel_agentperf.semconv import ErrorType
from otel_agentperf_proxy import dialects, headers
from otel_agentperf_proxy.channel import Sink, remember
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import End, Kind, Open, Outcome, ResponseHead, encode_record
from otel_agentperf_proxy.trajectory import identify, identity_key
from otel_agentperf_proxy.tunnel import UPGRADE, UPGRADE_FIELDS, ClientEnd, dialect_of, splice

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RECEIVED_NS: Final = "otel_agentperf.received_ns"
"""Key of an ASGI scope under which a server can leave the monotonic time at which it had read the request's head."""

logger = logging.getLogger(__name__)


class Relay:
    """The relay of one process, an ASGI application for the scope type `http`.

    Args:
        config: see `ProxyConfig`.
        sink: the way to the observer.
    """

    def __init__(self, config: ProxyConfig, sink: Sink) -> None:
        self.config = config
        self.sink = sink
        self.client = Client(connect_timeout_s=config.connect_timeout_s)
        self.origin, self.base_path = config.origin()
        self.authority = self.origin.authority
        self.calls = count(1)
        self.inflight = 0
        self.tunnels = 0
        self.outcomes: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self._salt = bytes.fromhex(config.salt)
        self._origin_name = str(self.origin).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _Exchange(self, scope, receive, send).run()

    def tenant(self, credential: bytes) -> str:
        """Keyed hash of the credential and the upstream, 16 hex digits."""
        return blake2b(credential + b"\0" + self._origin_name, key=self._salt, digest_size=8).hexdigest()

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and the present state."""
        return {
            "inflight": self.inflight,
            "tunnels": self.tunnels,
            "outcomes": dict(self.outcomes),
            "statuses": {str(status): number for status, number in self.statuses.items()},
            "errors": dict(self.errors),
            "upstream": self.client.stats(),
            "channel": self.sink.stats(),
        }

    async def aclose(self) -> None:
        """Close the connections to the upstream."""
        await self.client.aclose()


class _ClientLeft(Exception):
    """The client closed its connection."""


class _Exchange:
    """One request and its response. Times are monotonic nanoseconds."""

    __slots__ = (
        "_call",
        "_client_left",
        "_done",
        "_dropped",
        "_end",
        "_first_chunk_ns",
        "_head_written",
        "_last_chunk_ns",
        "_method",
        "_observed",
        "_overhead_ns",
        "_path",
        "_receive",
        "_relay",
        "_request_bytes",
        "_response",
        "_response_bytes",
        "_scope",
        "_send",
        "_status",
        "_t0",
        "_task",
        "_unread",
        "_upload_ns",
        "_waited_ns",
        "_watcher",
    )

    def __init__(self, relay: Relay, scope: Scope, receive: Receive, send: Send) -> None:
        self._t0 = scope.get(RECEIVED_NS) or monotonic_ns()
        self._relay = relay
        self._scope = scope
        self._receive = receive
        self._send = send
        self._method: str = scope["method"]
        self._path = ""
        self._call = next(relay.calls)
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._response: Response | None = None
        self._client_left = False
        self._head_written = False
        self._done = False
        self._status: int | None = None
        self._end: tuple[str, str | None] = (Outcome.SHUTDOWN, ErrorType.PROXY_SHUTDOWN)
        self._request_bytes = self._response_bytes = 0
        self._observed = [0, 0]
        self._dropped = self._unread = 0
        self._upload_ns = self._waited_ns = 0
        self._first_chunk_ns: int | None = None
        self._last_chunk_ns: int | None = None
        self._overhead_ns: int | None = None

    async def run(self) -> None:
        """Forward the exchange; whatever happens, the observer gets exactly one END."""
        relay = self._relay
        self._task = asyncio.current_task()
        target, fields = self._open()
        relay.inflight += 1
        try:
            await self._forward(target, fields)
            self._end = (Outcome.COMPLETE, None)
        except (_ClientLeft, OSError):
            # Servers of ASGI 2.4 raise OSError when they write to a client that left.
            self._end = (Outcome.CLIENT_DISCONNECTED, ErrorType.CLIENT_DISCONNECTED)
        except asyncio.CancelledError:
            # Our own watcher cancels the task when the client leaves, whatever it was waiting for.
            if not self._client_left:
                raise
            if self._task is not None:
                self._task.uncancel()
            self._end = (Outcome.CLIENT_DISCONNECTED, ErrorType.CLIENT_DISCONNECTED)
        except HTTPError as exc:
            self._end = (Outcome.UPSTREAM_FAILED, _error_type(exc))
            await self._refuse(exc)
        except Exception:
            self._end = (Outcome.UPSTREAM_FAILED, ErrorType.PROXY_ERROR)
            raise
        finally:
            relay.inflight -= 1
            self._close()

    # The way to the upstream.

    def _open(self) -> tuple[bytes, headers.Headers]:
        """Take the request's head apart and tell the observer. Returns the target and the fields to forward."""
        relay, scope = self._relay, self._scope
        request = headers.take_apart(scope["headers"])
        path = headers.take_tags_from_path(_raw_path(scope), request.tags)
        tenant = relay.tenant(request.credential)
        span_id = os.urandom(8)
        parent = request.parent
        key = None
        try:
            identity = identify(request.headers, request.tags)
            if identity is not None:
                key = identity_key(identity, tenant)
        except Exception:
            # A telemetry failure never alters a request.
            relay.errors["identify"] += 1
            logger.exception("cannot tell the identity of a request")
        trace_id = parent.trace_id if parent else relay.sink.traces.get(key) if key else None
        if trace_id is None:
            trace_id = os.urandom(16)
            if key:
                remember(relay.sink.traces, key, trace_id)
        self._path = path.decode("latin-1")
        relay.sink.open(
            self._call,
            self._t0,
            Open(
                method=self._method,
                path=self._path,
                headers=headers.without_secrets(request.headers),
                tags=request.tags,
                tenant=tenant,
                server_address=relay.origin.host,
                server_port=relay.origin.port,
                trace_id=trace_id,
                span_id=span_id,
                parent_span_id=parent.span_id if parent else None,
                sampled=parent.sampled if parent else True,
                tracestate=parent.tracestate if parent else "",
                identity_key=key,
            ),
        )
        flags = b"01" if parent is None or parent.sampled else b"00"
        host = request.host if relay.config.preserve_host and request.host else relay.authority
        fields = [(b"host", host)]
        if request.chunked:
            fields += [pair for pair in request.headers if pair[0] != b"content-length"]
            fields.append((b"transfer-encoding", b"chunked"))
        else:
            fields += request.headers
        if UPGRADE in scope:
            fields += UPGRADE_FIELDS
        traceparent = b"00-%b-%b-%b" % (trace_id.hex().encode(), span_id.hex().encode(), flags)
        fields.append((b"traceparent", traceparent))
        if parent and parent.tracestate:
            fields.append((b"tracestate", parent.tracestate.encode("latin-1")))
        query: bytes = scope.get("query_string", b"")
        target = relay.base_path + path
        return (target + b"?" + query if query else target), fields

    async def _forward(self, target: bytes, fields: headers.Headers) -> None:
        relay = self._relay
        first = await self._receive_body()
        self._waited_ns = self._upload_ns
        method = self._method.encode("latin-1")
        body: bytes | AsyncIterator[bytes] | None
        if first.get("more_body"):
            body = self._upload(first)
        else:
            body = first.get("body") or None
            if body:
                self._observe_request(body)
            self._uploaded()
        client: ClientEnd | None = self._scope.get(UPGRADE)
        response = self._response = await relay.client.request(
            relay.origin, method, target, fields, body, upgrade=client is not None
        )
        if client is not None and response.upgraded:
            await self._tunnel(client, response)
        else:
            await self._answer(response)

    async def _receive_body(self) -> Message:
        started_ns = monotonic_ns()
        message = await self._receive()
        self._upload_ns += monotonic_ns() - started_ns
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        return message

    async def _upload(self, message: Message) -> AsyncIterator[bytes]:
        """The parts of the client's body as they come."""
        while True:
            if part := message.get("body"):
                yield part
                self._observe_request(part)
            if not message.get("more_body"):
                break
            message = await self._receive_body()
        self._uploaded()

    def _uploaded(self) -> None:
        """The client's body is complete: from now on it can only leave, or wait."""
        self._put(Kind.REQUEST_END, monotonic_ns(), b"")
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        """Give up at once when the client leaves, also before the first byte of the response."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._done and self._task is not None:
            self._client_left = True
            self._task.cancel()

    # The way back.

    async def _answer(self, response: Response) -> None:
        send = self._send
        fields = headers.response_headers(response.headers)
        self._status = response.status
        self._head_written = True
        await send({"type": "http.response.start", "status": response.status, "headers": fields})
        record = ResponseHead(response.status, headers.without_secrets(fields))
        self._put(Kind.RESPONSE_HEAD, response.head_ns, encode_record(record))
        more = True
        while more:
            chunks = await response.read()
            more = not response.complete
            if not chunks:
                break
            data = chunks[0][1] if len(chunks) == 1 else b"".join([part for _, part in chunks])
            if not more:
                self._done = True
            await send({"type": "http.response.body", "body": data, "more_body": more})
            if self._first_chunk_ns is None:
                self._first_chunk_ns = chunks[0][0]
                to_upstream_ns = response.started_ns - self._t0 - self._waited_ns
                self._overhead_ns = to_upstream_ns + monotonic_ns() - self._first_chunk_ns
            self._last_chunk_ns = chunks[-1][0]
            self._response_bytes += len(data)
            for time_ns, part in chunks:
                self._observe(Kind.RESPONSE_BODY, 1, time_ns, part)
        if not self._done:
            self._done = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tunnel(self, client: ClientEnd, upstream: Response) -> None:
        """The upstream agreed to leave HTTP: pass bytes both ways until both sides have ended."""
        relay = self._relay
        self._status = upstream.status
        self._head_written = self._done = True
        read = relay.config.observed_body_bytes > 0 and dialect_of(self._path) is not None

        def sent(time_ns: int, data: bytes) -> None:
            self._request_bytes += len(data)
            if read:
                self._put(Kind.REQUEST_BODY, time_ns, data)

        def received(time_ns: int, data: bytes) -> None:
            self._last_chunk_ns = time_ns
            if self._first_chunk_ns is None:
                self._first_chunk_ns = time_ns
            self._response_bytes += len(data)
            if read:
                self._put(Kind.RESPONSE_BODY, time_ns, data)

        relay.tunnels += 1
        try:
            await client.accept(upstream.upgraded)
            to_upstream_ns = upstream.started_ns - self._t0 - self._waited_ns
            self._overhead_ns = to_upstream_ns + monotonic_ns() - upstream.head_ns
            record = ResponseHead(upstream.status, headers.without_secrets(upstream.headers))
            self._put(Kind.RESPONSE_HEAD, upstream.head_ns, encode_record(record))
            await splice(client, upstream, sent, received, lambda: self._put(Kind.REQUEST_END, monotonic_ns(), b""))
            upstream.hang_up()
        finally:
            relay.tunnels -= 1
            client.hang_up()

    async def _refuse(self, error: HTTPError) -> None:
        """Tell the client in its own dialect that the upstream failed; once the head is out, break off instead.

        A response that is left incomplete makes the server close the connection without a clean end.
        """
        self._relay.errors[_error_type(error)] += 1
        if self._head_written or self._client_left:
            logger.warning("%s %s: %s", self._method, self._path, error)
            return
        status = 504 if isinstance(error, UpstreamTimeout) else 502
        logger.warning("%s %s: %s, answered %d", self._method, self._path, error, status)
        dialect = dialects.find(self._method, self._path)
        message = f"otel-agentperf: {error}"
        body = dialect.error_body(status, message) if dialect else dialects.plain_error_body(status, message)
        self._status = status
        self._head_written = self._done = True
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _close(self) -> None:
        relay, response = self._relay, self._response
        if response is not None:
            response.abort()
        if self._watcher is not None and not self._watcher.done() and not self._done:
            self._watcher.cancel()
        self._done = True
        outcome, error_type = self._end
        relay.outcomes[outcome] += 1
        if self._status is not None:
            relay.statuses[self._status] += 1
        relay.sink.end(
            self._call,
            monotonic_ns(),
            End(
                outcome=outcome,
                error_type=error_type,
                status=self._status,
                request_bytes=self._request_bytes,
                response_bytes=self._response_bytes,
                sent_ns=response.sent_ns if response is not None else None,
                upload_ns=self._upload_ns,
                first_chunk_ns=self._first_chunk_ns,
                last_chunk_ns=self._last_chunk_ns,
                overhead_ns=self._overhead_ns,
                dropped_frames=self._dropped,
                unread_bytes=self._unread,
            ),
        )

    # To the observer.

    def _observe_request(self, part: bytes) -> None:
        self._request_bytes += len(part)
        self._observe(Kind.REQUEST_BODY, 0, monotonic_ns(), part)

    def _observe(self, kind: Kind, direction: int, time_ns: int, part: bytes) -> None:
        observed = self._observed[direction]
        room = self._relay.config.observed_body_bytes - observed
        if len(part) > room:
            self._unread += len(part) - room
            part = part[:room]
            if not part:
                return
        self._observed[direction] = observed + len(part)
        self._put(kind, time_ns, part)

    def _put(self, kind: Kind, time_ns: int, payload: bytes) -> None:
        if not self._relay.sink.put(kind, self._call, time_ns, payload):
            self._dropped += 1


def _raw_path(scope: Scope) -> bytes:
    """The path as the client wrote it, below where the application is mounted."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    root = scope.get("root_path", "").encode("latin-1", "ignore")
    if root and raw.startswith(root):
        raw = raw[len(root) :] or b"/"
    return raw


def _error_type(error: HTTPError) -> str:
    if isinstance(error, UpstreamTimeout):
        return ErrorType.UPSTREAM_TIMEOUT
    if isinstance(error, ConnectError):
        return ErrorType.UPSTREAM_CONNECT
    return ErrorType.UPSTREAM_PROTOCOL if isinstance(error, ProtocolError) else ErrorType.UPSTREAM_RESET
