"""What the observer is told of an exchange: its ids before it goes on, a copy of its bytes after, and its end.

None of this waits, and none of it fails: what cannot be told is counted.
"""

import logging
from binascii import hexlify
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from otel_agentperf.http1 import Exchange as HTTPExchange
from otel_agentperf_proxy import headers
from otel_agentperf_proxy.client_side import RequestHead
from otel_agentperf_proxy.frames import End, Kind, Open, ResponseHead, encode_record
from otel_agentperf_proxy.routes import Upstream
from otel_agentperf_proxy.sinks import remember
from otel_agentperf_proxy.trajectory import identify, identity_key

if TYPE_CHECKING:
    from otel_agentperf_proxy.relay import Relay

REQUEST_BODY: Final = Kind.REQUEST_BODY.value
REQUEST_END: Final = Kind.REQUEST_END.value
RESPONSE_HEAD: Final = Kind.RESPONSE_HEAD.value
RESPONSE_BODY: Final = Kind.RESPONSE_BODY.value

logger = logging.getLogger(__name__)


class Observed(HTTPExchange):
    """An exchange's account of itself. Times are monotonic nanoseconds."""

    __slots__ = (
        "_call",
        "_dropped",
        "_first_chunk_ns",
        "_last_chunk_ns",
        "_overhead_ns",
        "_path",
        "_relay",
        "_request",
        "_request_bytes",
        "_response_bytes",
        "_rooms",
        "_status",
        "_unread",
        "_upload_ns",
    )

    def __init__(self, relay: "Relay", request: RequestHead) -> None:
        super().__init__(is_head=request.method == b"HEAD")
        self._relay = relay
        self._request = request
        self._call = next(relay.calls)
        self._path = ""
        self._status: int | None = None
        self._request_bytes = self._response_bytes = 0
        self._rooms = [relay.config.observed_body_bytes] * 2
        """How much more of the bodies is observed: of the request's, of the response's."""
        self._dropped = self._unread = 0
        self._upload_ns = 0
        self._first_chunk_ns: int | None = None
        self._last_chunk_ns: int | None = None
        self._overhead_ns: int | None = None

    def _tell_open(self, taken: headers.ForwardedRequest, upstream: Upstream | None) -> headers.Headers:
        """Give the call its ids. Returns the trace context to forward."""
        if not self._relay.config.observe:
            return [pair for pair in self._request.headers if pair[0] in (b"traceparent", b"tracestate")]
        try:
            return self._opened(taken, upstream)
        except Exception:
            self._not_observed()
            return []

    def _opened(self, taken: headers.ForwardedRequest, upstream: Upstream | None) -> headers.Headers:
        relay, request = self._relay, self._request
        tenant = relay.tenant(taken.credential, upstream)
        ids = relay.random_bytes(24)
        span_id = ids[:8]
        parent = taken.parent
        key = None
        try:
            identity = identify(taken.headers, taken.tags)
            if identity is not None:
                key = identity_key(identity, tenant)
        except Exception:
            relay.errors["identify"] += 1
            logger.exception("cannot tell the identity of a request")
        trace_id = parent.trace_id if parent else relay.sink.traces.get(key) if key else None
        if trace_id is None:
            trace_id = ids[8:]
            if key:
                remember(relay.sink.traces, key, trace_id)
        relay.sink.open(
            self._call,
            request.received_ns,
            Open(
                method=text(request.method),
                path=self._path,
                headers=headers.without_secrets(taken.headers),
                tags=taken.tags,
                tenant=tenant,
                server_address=upstream.origin.host if upstream else "",
                server_port=upstream.origin.port if upstream else 0,
                trace_id=trace_id,
                span_id=span_id,
                parent_span_id=parent.span_id if parent else None,
                sampled=parent.sampled if parent else True,
                tracestate=parent.tracestate if parent else "",
                identity_key=key,
                client=request.client,
            ),
        )
        flags = b"01" if parent is None or parent.sampled else b"00"
        context = [(b"traceparent", b"00-%b-%b-%b" % (hexlify(trace_id), hexlify(span_id), flags))]
        if parent and parent.tracestate:
            context.append((b"tracestate", parent.tracestate.encode("latin-1")))
        return context

    def _tell_head(self, fields: headers.Headers, time_ns: int) -> None:
        """The response's head was read."""
        self._put(RESPONSE_HEAD, time_ns, encode_record(ResponseHead(self.status, headers.without_secrets(fields))))

    def _tell_body(self, kind: int, direction: int, time_ns: int, part: bytes) -> None:
        """A part of a body, as far as it is observed; direction: 0 of the request's, 1 of the response's."""
        room = self._rooms[direction] - len(part)
        if room < 0:
            self._unread -= room
            part = part[:room]
            room = 0
            if not part:
                return
        self._rooms[direction] = room
        self._put(kind, time_ns, part)

    def _put(self, kind: int, time_ns: int, payload: bytes) -> None:
        try:
            if not self._relay.sink.put(kind, self._call, time_ns, payload):
                self._dropped += 1
        except Exception:
            self._not_observed()

    def _tell_end(self, outcome: str, error_type: str | None) -> None:
        """The exchange is over."""
        record = End(
            outcome=outcome,
            error_type=error_type,
            status=self._status,
            request_bytes=self._request_bytes,
            response_bytes=self._response_bytes,
            sent_ns=self.sent_ns,
            upload_ns=self._upload_ns,
            first_chunk_ns=self._first_chunk_ns,
            last_chunk_ns=self._last_chunk_ns,
            overhead_ns=self._overhead_ns,
            dropped_frames=self._dropped,
            unread_bytes=self._unread,
        )
        try:
            self._relay.sink.end(self._call, monotonic_ns(), record)
        except Exception:
            self._not_observed()

    def _not_observed(self) -> None:
        """A failure of ours that is nobody else's business."""
        if not self._relay.errors["observe"]:
            logger.exception("a call cannot be observed")
        self._relay.errors["observe"] += 1


def text(method: bytes) -> str:
    """A request's method as text."""
    return method.decode("latin-1")
