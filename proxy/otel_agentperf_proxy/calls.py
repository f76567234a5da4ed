"""One call's facts, put together from its frames.

Frames can be missing: the channel was full (a GAP frame stands where), the observer was restarted in the middle (OPEN
says `resumed`), or the relay died (no END). What is then known stays right: a body is only read up to its first gap, or
from the next event on where it is a stream, and what a gap may have changed is left out.
"""

from typing import Final

import msgspec

from otel_agentperf.semconv import ErrorType, Status
from otel_agentperf_proxy import dialects
from otel_agentperf_proxy.dialects import MessageCache, ResponseParser, encodings
from otel_agentperf_proxy.dialects.encodings import Decoder
from otel_agentperf_proxy.dialects.estimate import estimate
from otel_agentperf_proxy.dialects.openai_choices import ABORTED
from otel_agentperf_proxy.facts import Headers, Identity, RequestFacts, ResponseFacts
from otel_agentperf_proxy.frames import End, Open, Outcome, ResponseHead
from otel_agentperf_proxy.trajectory import Placement, identify

CUT_OFF: Final = "response is cut off"
"""The problem of a document that ends too early, as the dialects word it."""

UNKNOWN_CODING: Final = "content coding unknown"

REQUEST_ID_HEADERS: Final = (b"x-request-id", b"request-id", b"x-amzn-requestid", b"apim-request-id")
"""Response headers with the provider's id of the request, first one present wins."""

_decode_head = msgspec.msgpack.Decoder(ResponseHead).decode
_decode_end = msgspec.msgpack.Decoder(End).decode


def header(headers: Headers, name: bytes) -> str | None:
    """The first field of this name, when it is not empty."""
    value = next((value for field, value in headers if field == name), b"")
    return value.decode("utf-8", "replace").strip() or None


def trace_of(call: "Call") -> bytes:
    """The trace id of a call's span: the client's, else its run's, else the one that was forwarded."""
    if call.opened.parent_span_id is None and call.placement is not None:
        return call.placement.run.trace_id
    return call.opened.trace_id


class Call:
    """A call while its frames come, and after. Times are monotonic nanoseconds.

    Args:
        opened: the relay's record.
        t0_ns: the request's head was received.
        content: keep prompts and completions.
        cache: of messages, shared by all calls.
    """

    __slots__ = (
        "_cache",
        "_content",
        "_decoder",
        "_gaps",
        "_parser",
        "_request_parts",
        "_response_bytes",
        "connection",
        "dialect",
        "end",
        "end_ns",
        "ended",
        "error_type",
        "head",
        "held",
        "identity",
        "last_ns",
        "missed",
        "opened",
        "placement",
        "request",
        "request_ended",
        "response",
        "status",
        "t0_ns",
    )

    def __init__(self, opened: Open, t0_ns: int, *, content: bool, cache: MessageCache) -> None:
        self.opened = opened
        self.t0_ns = self.last_ns = t0_ns
        self.dialect = dialects.find(opened.method, opened.path)
        self.identity: Identity | None = identify(opened.headers, opened.tags)
        self.request: RequestFacts | None = None
        self.request_ended = False
        self.head: ResponseHead | None = None
        self.connection: tuple[bytes, bytes] | None = None
        """Trace id and span id of the WebSocket that the call came by; None by HTTP."""
        self.response: ResponseFacts | None = None
        self.placement: Placement | None = None
        self.held = False
        """Waits for its place among the calls of other relays."""
        self.ended = False
        """No frame will come any more."""
        self.missed = opened.resumed
        """The observer did not get all of this call."""
        self.end: End | None = None
        self.end_ns: int | None = None
        """None until END, and for good when the relay died."""
        self.status: str = Status.PARTIAL
        self.error_type: str | None = None
        self._content = content
        self._cache = cache
        # Body parts up to the first gap; None from there on.
        self._request_parts: list[bytes] | None = None if self.missed else []
        self._parser: ResponseParser | None = None
        self._decoder: Decoder | None = None
        self._response_bytes = 0
        self._gaps = 0

    # Frames.

    def request_body(self, time_ns: int, data: bytes) -> None:
        """A part of the request's body."""
        self.last_ns = time_ns
        if self._request_parts is not None and self.dialect is not None:
            self._request_parts.append(data)

    def request_end(self, time_ns: int) -> None:
        """The request is complete."""
        self.last_ns = time_ns
        self.request_ended = True
        self.read_request()

    def gap(self, time_ns: int) -> None:
        """Frames between the last one and the next one are missing."""
        self.last_ns = time_ns
        self.missed = True
        self._gaps += 1
        if not self.request_ended:
            self.read_request()
        if self._parser is not None:
            self._parser.gap()
            if self._decoder is not None:
                # A compressed stream cannot be taken up in its middle.
                self._read_response(self._parser)

    def response_head(self, time_ns: int, payload: bytes) -> None:
        """The response's head; raises msgspec.MsgspecError when the record is none."""
        self.last_ns = time_ns
        self.head = _decode_head(payload)
        dialect = self.dialect
        if dialect is None:
            return
        # A server may answer before it has read the request.
        request = self.request or RequestFacts(dialect.name, dialect.operation, dialect.provider)
        content_type = header(self.head.headers, b"content-type") or ""
        coding = header(self.head.headers, b"content-encoding")
        if coding is not None:
            self._decoder = encodings.decoder(coding)
            if self._decoder is None:
                self.response = ResponseFacts(problem=UNKNOWN_CODING)
                return
        self._parser = dialect.response_parser(request, self.head.status, content_type, content=self._content)

    def response_body(self, time_ns: int, data: bytes) -> None:
        """A part of the response's body."""
        self.last_ns = time_ns
        self._response_bytes += len(data)
        if self._parser is not None:
            if self._decoder is not None:
                data = self._decoder.feed(data)
            self._parser.feed(time_ns, data)

    def finish(self, time_ns: int, payload: bytes) -> None:
        """END; raises msgspec.MsgspecError when the record is none."""
        end = self.end = _decode_end(payload)
        self.end_ns = self.last_ns = time_ns
        self.missed = self.missed or end.dropped_frames > 0 or end.unread_bytes > 0
        self.read_request()
        if self._parser is not None:
            if self._response_bytes < end.response_bytes:
                self._parser.gap()
            self._read_response(self._parser)
        self.status, self.error_type = self._judge(end)
        if self.status == Status.OK and self.request is not None and self.response is not None:
            estimate(self.request, self.response)
        if (
            self.status == Status.TRUNCATED
            and self.response is not None
            and self.response.streamed
            and ABORTED not in self.response.finish_reasons
        ):
            self.response.finish_reasons = (*self.response.finish_reasons, "error")

    def lose(self) -> None:
        """No END will come: the relay died."""
        self.missed = True
        self.read_request()
        if self._parser is not None:
            self._parser.gap()
            self._read_response(self._parser)

    def read_request(self) -> None:
        """Read the request's body as far as it came without a gap; only the first time."""
        if self.dialect is None or self.request is not None:
            return
        body = b"".join(self._request_parts or ())
        self._request_parts = None
        problem = None
        coding = header(self.opened.headers, b"content-encoding")
        if coding is not None and body:
            decoder = encodings.decoder(coding)
            if decoder is None:
                body, problem = b"", UNKNOWN_CODING
            else:
                body = decoder.feed(body)
                problem = decoder.broken
        self.request = self.dialect.parse_request(body, content=self._content, cache=self._cache)
        self.request.problem = problem or self.request.problem

    # Facts that need both sides.

    @property
    def http_status(self) -> int | None:
        """Of the response head that the client got."""
        if self.end is not None and self.end.status is not None:
            return self.end.status
        return self.head.status if self.head is not None else None

    @property
    def parts_missed(self) -> int:
        """Frames, or runs of frames of unknown length, that did not come."""
        dropped = self.end.dropped_frames if self.end is not None else self._gaps + 1
        return dropped + self.opened.resumed

    @property
    def request_id(self) -> str:
        """The client's `x-request-id`, else the provider's id, else the call's span id."""
        told = header(self.opened.headers, b"x-request-id")
        if told is None and self.head is not None:
            for name in REQUEST_ID_HEADERS:
                told = told or header(self.head.headers, name)
        return told or self.opened.span_id.hex()

    @property
    def session_id(self) -> str | None:
        """The conversation's id as the client sent it."""
        told = self.identity.session_id if self.identity is not None else None
        return told or (self.request.session_id if self.request is not None else None)

    def problems(self) -> int:
        """Bodies that came whole and could not be read."""
        if self.missed:
            return 0
        unread_request = self.request_ended and self.request is not None and self.request.problem is not None
        ended_well = self.end is not None and self.end.outcome == Outcome.COMPLETE
        unread_response = ended_well and self.response is not None and self.response.problem is not None
        return unread_request + unread_response

    def _read_response(self, parser: ResponseParser) -> None:
        facts = self.response = parser.finish()
        if self._decoder is not None and self._decoder.broken:
            facts.problem = self._decoder.broken
        self._parser = self._decoder = None

    def _judge(self, end: End) -> tuple[str, str | None]:
        """The status, and the error type where there is one."""
        facts, http_status = self.response, self.http_status
        began = self.head is not None or end.first_chunk_ns is not None or (http_status or 500) < 400
        if http_status is not None and http_status >= 400:
            own = end.error_type if not began else None
            told = facts.error_type if facts is not None else None
            return Status.ERROR, own or told or str(http_status)
        if facts is not None and facts.error_type is not None:
            return Status.ERROR, facts.error_type
        if facts is not None and facts.terminal:
            return Status.PARTIAL if self.missed else Status.OK, None
        match end.outcome:
            case Outcome.COMPLETE:
                return self._judge_complete(facts)
            case Outcome.CLIENT_DISCONNECTED:
                return self._judge_disconnected(end)
        if began:
            return Status.TRUNCATED, end.error_type or ErrorType.TRUNCATED
        return Status.ERROR, end.error_type or ErrorType.PROXY_ERROR

    def _judge_complete(self, facts: ResponseFacts | None) -> tuple[str, str | None]:
        """The exchange went through, and the response did not say that it is complete."""
        if self.dialect is None or not 200 <= (self.http_status or 0) < 300:
            return Status.OK, None
        if self.missed or facts is None:
            return Status.PARTIAL, None
        if facts.streamed or facts.problem in (None, CUT_OFF):
            return Status.TRUNCATED, ErrorType.TRUNCATED
        return Status.PARTIAL, None

    def _judge_disconnected(self, end: End) -> tuple[str, str | None]:
        """The client left, and the response did not say that it is complete."""
        if self.dialect is None:
            length = header(self.head.headers, b"content-length") if self.head is not None else None
            if length is not None and length.isdecimal() and int(length) == end.response_bytes:
                return Status.OK, None
        elif self.missed:
            return Status.PARTIAL, None
        return Status.CANCELLED, end.error_type or ErrorType.CLIENT_DISCONNECTED
