"""The calls inside a WebSocket: each `response.create` of the client, with the server's events up to its end.

The events are those of the HTTP stream, so each call is read as if it had come by HTTP: the message is the request's
body, every event one event of a stream. A server answers one request after the other (OpenAI's websocket mode), so
events belong to the oldest request that has no end yet.
"""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from otel_agentperf.semconv import ErrorType
from otel_agentperf_proxy.calls import Call
from otel_agentperf_proxy.dialects import Dialect, MessageCache
from otel_agentperf_proxy.dialects.openai_responses import TERMINAL
from otel_agentperf_proxy.facts import Headers
from otel_agentperf_proxy.frames import End, Open, Outcome, ResponseHead, encode_record
from otel_agentperf_proxy.headers import parse_traceparent, without_secrets
from otel_agentperf_proxy.trajectory import identify, identity_key
from otel_agentperf_proxy.websocket_messages import Message, MessageReader

CREATE: Final = "response.create"

ERROR: Final = "error"
"""Type of an event that ends a call, or tells of a request that began none."""

_OF_HANDSHAKE: Final = frozenset((b"x-request-id", b"x-codex-turn-metadata", b"traceparent", b"tracestate"))
"""Fields of the handshake that speak of one request, which none of those inside it is."""

_TRACEPARENT: Final = "ws_request_header_traceparent"
_TRACESTATE: Final = "ws_request_header_tracestate"
"""Where Codex puts, in `client_metadata`, what would be a header by HTTP."""

_HEAD: Final = encode_record(ResponseHead(200, [(b"content-type", b"text/event-stream")]))
"""What the events would come with by HTTP."""


class _Sent(msgspec.Struct):
    """What matters here of a client's message."""

    type: Any = None
    generate: Any = None
    client_metadata: Any = None


class _Received(msgspec.Struct):
    """What matters here of a server's event."""

    type: Any = None
    status: Any = None
    status_code: Any = None
    headers: Any = None


_SENT: Final = msgspec.json.Decoder(_Sent)
_RECEIVED: Final = msgspec.json.Decoder(_Received)


class WebSocketCall(Call):
    """A call whose request was a message.

    Args:
        dialect: of the messages.
        message: the request.
        generates: it asks for output, instead of only warming the server up.
        connection: trace id and span id of the connection's span.
    """

    __slots__ = ("_bytes_received", "_first_ns", "_generates", "_last_ns", "_message", "_told_status")

    def __init__(
        self,
        opened: Open,
        dialect: Dialect,
        message: Message,
        *,
        generates: bool,
        connection: tuple[bytes, bytes],
        content: bool,
        cache: MessageCache,
    ) -> None:
        super().__init__(opened, message.first_ns, content=content, cache=cache)
        self.dialect = dialect
        self.connection = connection
        self._message = message
        self._generates = generates
        self._told_status: int | None = None
        self._bytes_received = 0
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self.request_body(message.last_ns, message.data)
        self.request_end(message.last_ns)

    @property
    def http_status(self) -> int | None:
        """None but for an error that says what its status would be by HTTP: no head was sent for this call."""
        return self._told_status

    def read_request(self) -> None:
        super().read_request()
        if self.request is not None:
            # Everything is streamed here, so nobody has to ask for it.
            self.request.stream = True
            self.request.auxiliary = self.request.auxiliary or not self._generates

    def event(self, message: Message, told: _Received) -> bool:
        """Take an event; whether it is the last one."""
        if self._first_ns is None:
            self._first_ns = message.last_ns
            self.response_head(message.last_ns, _HEAD)
        self._last_ns = message.last_ns
        self._bytes_received += len(message.data)
        self.response_body(message.last_ns, _as_sse(message.data))
        if told.type != ERROR:
            return told.type in TERMINAL
        if isinstance(told.headers, dict):
            # An error says what would be header fields by HTTP: how long to wait, what is left.
            self.head = ResponseHead(200, without_secrets(_error_fields(told.headers)))
        status = told.status if told.status is not None else told.status_code
        if isinstance(status, int) and 100 <= status < 600:
            self._told_status = status
        return True

    def end_at(self, time_ns: int, outcome: str = Outcome.COMPLETE, error_type: str | None = None) -> None:
        """The call is over."""
        message = self._message
        record = End(
            outcome=outcome,
            error_type=error_type,
            status=None,
            request_bytes=len(message.data),
            response_bytes=self._bytes_received,
            sent_ns=message.last_ns,
            upload_ns=message.last_ns - message.first_ns,
            first_chunk_ns=self._first_ns,
            last_chunk_ns=self._last_ns,
            overhead_ns=None,
            dropped_frames=0,
            unread_bytes=0,
        )
        self.finish(time_ns, encode_record(record))


class WebSocket:
    """A connection whose messages are calls.

    Args:
        opened: of the connection.
        extensions: values of the server's `Sec-WebSocket-Extensions` fields.
        dialect: of the messages.
        content: keep prompts and completions.
        cache: of messages, shared by all calls.
        limit_bytes: longest message that is read.
        trace_of: the trace of the open run of an identity key, as far as known.
        came: called with a call whose request is there, and when it came.
        ended: called with a call of which nothing more comes.
    """

    def __init__(
        self,
        opened: Open,
        extensions: list[str],
        dialect: Dialect,
        *,
        content: bool,
        cache: MessageCache,
        limit_bytes: int,
        trace_of: Callable[[str], bytes | None],
        came: Callable[[Call, int], None],
        ended: Callable[[Call], None],
    ) -> None:
        self._opened = opened
        self._dialect = dialect
        self._content = content
        self._cache = cache
        self._trace_of = trace_of
        self._came = came
        self._ended = ended
        self._sent = MessageReader(extensions, from_client=True, limit_bytes=limit_bytes)
        self._received = MessageReader(extensions, from_client=False, limit_bytes=limit_bytes)
        self._calls: deque[WebSocketCall] = deque()
        self._client_ended = False
        self._server_ended = False
        self._began = False
        self.lost = False
        """Nothing more will be read."""

    @property
    def broken(self) -> bool:
        """The messages cannot be read, or not any longer."""
        return self._sent.broken is not None or self._received.broken is not None

    def sent(self, time_ns: int, data: bytes) -> None:
        """Bytes of the client."""
        if self.lost:
            return
        for message in self._sent.feed(time_ns, data):
            told = _decode(_SENT, message)
            if told is not None and told.type == CREATE:
                call = self._call(message, told)
                self._calls.append(call)
                self._came(call, message.last_ns)
        self._client_ended = self._client_ended or (self._sent.closed and not self._server_ended)
        if self._sent.broken is not None:
            self.lose()

    def received(self, time_ns: int, data: bytes) -> None:
        """Bytes of the server."""
        if self.lost:
            return
        for message in self._received.feed(time_ns, data):
            if not self._calls:
                continue
            told = _decode(_RECEIVED, message)
            if told is not None and self._calls[0].event(message, told):
                call = self._calls.popleft()
                call.end_at(message.last_ns)
                self._ended(call)
        self._server_ended = self._server_ended or (self._received.closed and not self._client_ended)
        if self._received.broken is not None:
            self.lose()

    def client_ended(self) -> None:
        """The client's side of the connection ended first."""
        self._client_ended = self._client_ended or not self._server_ended

    def finish(self, time_ns: int, end: End) -> None:
        """The connection is over, and with it the calls without an end."""
        while self._calls:
            call = self._calls.popleft()
            if end.outcome != Outcome.COMPLETE:
                call.end_at(time_ns, end.outcome, end.error_type)
            elif self._client_ended:
                call.end_at(time_ns, Outcome.CLIENT_DISCONNECTED, ErrorType.CLIENT_DISCONNECTED)
            else:
                call.end_at(time_ns, Outcome.UPSTREAM_FAILED, ErrorType.UPSTREAM_RESET)
            self._ended(call)

    def lose(self) -> None:
        """Nothing after this can be read; what is known of the open calls is all there will be."""
        self.lost = True
        while self._calls:
            call = self._calls.popleft()
            call.lose()
            self._ended(call)

    def _call(self, message: Message, told: _Sent) -> WebSocketCall:
        opened = self._opened
        metadata = told.client_metadata if isinstance(told.client_metadata, dict) else {}
        fields = _fields(opened.headers, metadata)
        identity = identify(fields, opened.tags)
        key = identity_key(identity, opened.tenant) if identity is not None else None
        parent = None
        if isinstance(traceparent := metadata.get(_TRACEPARENT), str):
            tracestate = metadata.get(_TRACESTATE)
            parent = parse_traceparent(
                traceparent.encode("utf-8", "replace"), tracestate if isinstance(tracestate, str) else ""
            )
        changes: dict[str, Any] = {"headers": fields, "span_id": os.urandom(8), "identity_key": key, "resumed": False}
        if parent is not None:
            changes |= {
                "trace_id": parent.trace_id,
                "parent_span_id": parent.span_id,
                "sampled": parent.sampled,
                "tracestate": parent.tracestate,
            }
        elif opened.parent_span_id is None and (self._began or key is None or key != opened.identity_key):
            # The context that the handshake forwarded can stand for one run only: that of the first call.
            changes["trace_id"] = (self._trace_of(key) if key is not None else None) or os.urandom(16)
        self._began = True
        return WebSocketCall(
            msgspec.structs.replace(opened, **changes),
            self._dialect,
            message,
            generates=told.generate is not False,
            connection=(opened.trace_id, opened.span_id),
            content=self._content,
            cache=self._cache,
        )


def _fields(handshake: Headers, metadata: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """The header fields that a request would have had by HTTP: the handshake's, and over them what Codex 0.169 puts
    into `client_metadata` by the names of its headers."""
    told = {
        name.lower().encode("utf-8", "replace"): value.encode("utf-8", "replace")
        for name, value in metadata.items()
        if name[:2].lower() == "x-" and isinstance(value, str)
    }
    kept = [field for field in handshake if field[0] not in _OF_HANDSHAKE and field[0] not in told]
    return [*kept, *told.items()]


def _error_fields(headers: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("utf-8", "replace"), str(value).encode("utf-8", "replace"))
        for name, value in headers.items()
        if isinstance(value, str | int)
    ]


def _decode(decoder: msgspec.json.Decoder[Any], message: Message) -> Any:
    """The message as JSON; None when it is none."""
    if not message.is_text:
        return None
    try:
        return decoder.decode(message.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _as_sse(data: bytes) -> bytes:
    """An event as HTTP would stream it."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    return b"data: %b\n\n" % data
