"""Grafana Tempo: traces found by TraceQL, then fetched one by one, as protobuf."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.sources import otlp
from otel_agentperf_analyzers.sources.backend import Address, Backend, connected
from otel_agentperf_analyzers.sources.base import Intake
from otel_agentperf_analyzers.sources.build import Builder, otlp_item
from otel_agentperf_analyzers.sources.paging import pages

LIMIT: Final = 1000
"""Traces per search."""

_ALL: Final = "{}"
_STEP_NS: Final = 10**9
_DAY_NS: Final = 86_400 * 10**9
_AT_ONCE: Final = 8
_PARTIAL: Final = 1


@dataclass(slots=True, frozen=True)
class _Page:
    traces: int
    starts_ns: list[int]
    ids: list[str]


class _Found(msgspec.Struct):
    traceID: str
    startTimeUnixNano: int | str = 0


class _Answer(msgspec.Struct):
    traces: list[_Found] | None = None


@dataclass(slots=True, frozen=True)
class Tempo:
    """The traces that a TraceQL query finds, whole."""

    address: Address

    @classmethod
    def named(cls, url: str) -> "Tempo":
        """From a source URL, `tempo+http://HOST:3200?q={...}`; without a query, all traces."""
        return cls(Address.parse(url, ("q",), verbatim="q"))

    @property
    def name(self) -> str:
        """The URL."""
        return self.address.url

    def read(self, intake: Intake) -> None:
        """Give the spans of all traces."""
        period = intake.period
        first_ns = period.since_ns or 0
        last_ns = period.until_ns if period.until_ns is not None else time.time_ns() + _DAY_NS
        query = self.address.one("q") or _ALL
        with connected(self.address) as backend:

            def search(lower: int, upper: int, limit: int) -> _Page:
                params = {"q": query, "start": lower // 10**9, "end": -(-upper // 10**9), "limit": limit, "spss": 1}
                response = backend.request("GET", f"{self.address.path}/api/search", params=params)
                try:
                    found = msgspec.json.decode(response.content, type=_Answer).traces or []
                    starts = [int(each.startTimeUnixNano) for each in found]
                except ValueError as problem:
                    raise backend.nonsense(f"the search gives no traces ({problem})") from problem
                return _Page(len(found), starts, [each.traceID for each in found])

            seen: set[str] = set()
            for page in pages(first_ns, max(last_ns, first_ns + 1), search, limit=LIMIT, step_ns=_STEP_NS):
                fresh = [trace for trace in dict.fromkeys(page.ids) if trace not in seen]
                seen.update(fresh)
                self._take(backend, fresh, intake)
        if not intake.spans and not period.is_bounded:
            raise SourceError(f"{self.name} holds no traces for {query}")

    def _take(self, backend: Backend, ids: list[str], intake: Intake) -> None:
        builder = Builder()
        for trace_id, response in _fetched(backend, self.address.path, ids):
            where = f"{self.name}, trace {trace_id}"
            if response is None:
                intake.skipped.record(where, "found by the search, but no longer there")
                continue
            if response.headers.get("content-type", "").startswith("application/json"):
                for batch in otlp.batches([(where, 1, _line(response.content))], intake.skipped):
                    intake.batch(batch)
                continue
            try:
                traces, cut = _parsed(response)
            except DecodeError as problem:
                intake.skipped.record(where, f"not a trace: {problem}")
                continue
            if cut is not None:
                intake.skipped.record(where, f"only a part of it came: {cut}")
            _add_all(builder, traces)
            for batch in builder.full():
                intake.batch(batch)
        for batch in builder.rest():
            intake.batch(batch)


def _fetched(backend: Backend, prefix: str, ids: list[str]) -> Iterator[tuple[str, httpx.Response | None]]:
    """The traces in order, some fetched ahead; None for one that is gone."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        waiting: deque[tuple[str, Future[httpx.Response | None]]] = deque()
        for trace_id in ids:
            waiting.append((trace_id, threads.submit(_fetch, backend, prefix, trace_id)))
            if len(waiting) > _AT_ONCE * 2:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _fetch(backend: Backend, prefix: str, trace_id: str) -> httpx.Response | None:
    headers = {"accept": "application/protobuf"}
    # Before Tempo 2.7 there was only the API that has no number.
    for path in (f"{prefix}/api/v2/traces/{trace_id}", f"{prefix}/api/traces/{trace_id}"):
        response = backend.request("GET", path, headers=headers, absent=(404,))
        if response.status_code == 200:
            return response
    return None


def _parsed(response: httpx.Response) -> tuple[TracesData, str | None]:
    """The trace, and what the backend says when it is only a part of it."""
    if "/api/v2/" not in response.request.url.path:
        return TracesData.FromString(response.content), None
    # tempopb.TraceByIDResponse: 1 trace, which is a TracesData by its form; 3 status; 4 message.
    fields = dict(_fields(response.content))
    trace, message = fields.get(1, b""), fields.get(4, b"")
    assert isinstance(trace, bytes)
    assert isinstance(message, bytes)
    told = message.decode(errors="replace") or "no reason given" if fields.get(3) == _PARTIAL else None
    return TracesData.FromString(trace), told


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a protobuf message: numbers, and bytes of strings and messages."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise DecodeError("it is cut off")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        tag = varint()
        match tag & 7:
            case 0:
                yield tag >> 3, varint()
            case 2:
                size = varint()
                if at + size > len(data):
                    raise DecodeError("it is cut off")
                at += size
                yield tag >> 3, data[at - size : at]
            case 1 | 5:
                at += 8 if tag & 7 == 1 else 4
            case _:
                raise DecodeError("it is of an unknown form")


def _line(content: bytes) -> bytes:
    """The OTLP document of a JSON answer: of v2, or of the API before, which called its list `batches`."""
    try:
        document = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        if "trace" in document:
            document = msgspec.json.decode(document["trace"], type=dict[str, msgspec.Raw])
        return b'{"resourceSpans":' + bytes(document.get("resourceSpans") or document["batches"]) + b"}"
    except (msgspec.DecodeError, KeyError):
        return content


def _add_all(builder: Builder, traces: TracesData) -> None:
    for resource_spans in traces.resource_spans:
        resource = _plain_map(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                builder.add(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    name=span.name,
                    kind=span.kind,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status_code=span.status.code,
                    status_message=span.status.message,
                    events=[_event(event) for event in span.events],
                    links=[_link(link) for link in span.links],
                    resource=resource,
                    scope_name=scope_spans.scope.name,
                    attributes=_plain_map(span.attributes),
                )


def _event(event: Span.Event) -> dict[str, Any]:
    fields = {"timeUnixNano": str(event.time_unix_nano), "name": event.name}
    return otlp_item(fields, {"attributes": _plain_map(event.attributes)})


def _link(link: Span.Link) -> dict[str, Any]:
    ids = {"traceId": link.trace_id.hex(), "spanId": link.span_id.hex()}
    return otlp_item(ids, {"attributes": _plain_map(link.attributes)})


def _plain_map(items: "list[KeyValue] | Any") -> dict[str, Any]:
    return {item.key: _plain(item.value) for item in items}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    match kind:
        case "array_value":
            return [_plain(item) for item in found.values]
        case "kvlist_value":
            return _plain_map(found.values)
        case _:
            return found
