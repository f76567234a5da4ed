"""Jaeger's query service: its API v3 (OTLP JSON), else the classic one that its user interface uses.

Times come as they were exported (`raw`), not adjusted for the skew of clocks.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers.sources import otlp
from otel_agentperf_analyzers.sources.backend import Address, Backend, connected
from otel_agentperf_analyzers.sources.base import Intake, Skipped
from otel_agentperf_analyzers.sources.build import STATUS_CODES, Builder, otlp_item
from otel_agentperf_analyzers.sources.paging import pages

EXAMPLE: Final = "jaeger+http://HOST:16686?service=NAME"
LIMIT: Final = 200
"""Traces per request."""

_STEP_NS: Final = 1000
_DAY_NS: Final = 86_400 * 10**9
_KINDS: Final = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}


@dataclass(slots=True, frozen=True)
class _Page:
    traces: int
    starts_ns: list[int]
    content: Any
    """What to read the spans from, in the form of the API."""


@dataclass(slots=True, frozen=True)
class Jaeger:
    """The traces in which a service has spans."""

    address: Address

    @classmethod
    def named(cls, url: str) -> "Jaeger":
        """From a source URL.

        Raises:
            UsageError: it names no service.
        """
        address = Address.parse(url, ("service",))
        if not any(address.parameters.get("service", [])):
            raise UsageError(f"{url} names no service; Jaeger searches by service: {EXAMPLE}")
        return cls(address)

    @property
    def name(self) -> str:
        """The URL."""
        return self.address.url

    def read(self, intake: Intake) -> None:
        """Give the spans of all traces."""
        period = intake.period
        first_ns = period.since_ns or 0
        last_ns = period.until_ns if period.until_ns is not None else time.time_ns() + _DAY_NS
        with connected(self.address) as backend:
            current = _V3(backend, self.address.path)
            api = current if current.is_there() else _Classic(backend, self.address.path)
            seen: set[str] = set()
            builder = Builder()
            for service in self.address.parameters["service"]:

                def fetch(lower: int, upper: int, limit: int, service: str = service) -> _Page:
                    return api.search(service, lower, upper, limit)

                for page in pages(first_ns, max(last_ns, first_ns + 1), fetch, limit=LIMIT, step_ns=_STEP_NS):
                    for batch in api.batches(page, seen, builder, intake.skipped):
                        intake.batch(batch)
        if not intake.spans and not period.is_bounded:
            services = ", ".join(self.address.parameters["service"])
            raise SourceError(
                f"{self.name} holds no spans of {services}; see which services there are in its interface"
            )


class _V3:
    """`GET /api/v3/traces`: OTLP JSON."""

    def __init__(self, backend: Backend, prefix: str) -> None:
        self._backend = backend
        self._path = f"{prefix}/api/v3"

    def is_there(self) -> bool:
        """Whether the server has this API; an older one answers unknown paths with its user interface."""
        response = self._backend.request("GET", f"{self._path}/services", absent=(404, 405, 501))
        return response.status_code == 200 and response.headers.get("content-type", "").startswith("application/json")

    def search(self, service: str, lower: int, upper: int, limit: int) -> _Page:
        """The traces that start between these times."""
        params = {
            "query.service_name": service,
            "query.start_time_min": _rfc3339(lower),
            "query.start_time_max": _rfc3339(upper),
            "query.search_depth": limit,
            # What versions before 2.10 call it.
            "query.num_traces": limit,
            "query.raw_traces": "true",
        }
        response = self._backend.request("GET", f"{self._path}/traces", params=params, absent=(404,))
        if response.status_code == 404:
            return _Page(0, [], [])
        found, ids, starts = [], set(), []
        try:
            pieces = _pieces(response.content)
        except msgspec.DecodeError as problem:
            raise self._backend.nonsense(f"{self._path}/traces gives no traces ({problem})") from problem
        for piece in pieces:
            if "error" in piece:
                raise self._backend.nonsense(str(piece["error"].get("message", piece["error"])))
            for resource_spans in piece.get("result", {}).get("resourceSpans", []):
                found.append(resource_spans)
                for scope_spans in resource_spans.get("scopeSpans", []):
                    for span in scope_spans.get("spans", []):
                        if span.get("traceId") not in ids:
                            ids.add(span.get("traceId"))
                            starts.append(int(span.get("startTimeUnixNano", 0)))
        return _Page(len(ids), starts, found)

    def batches(self, page: _Page, seen: set[str], builder: Builder, skipped: Skipped) -> Iterator[Any]:
        """The spans of a page, without those of traces that an earlier one had."""
        fresh: set[str] = set()
        for number, resource_spans in enumerate(page.content, 1):
            for scope_spans in resource_spans.get("scopeSpans", []):
                spans = [span for span in scope_spans.get("spans", []) if span.get("traceId") not in seen]
                fresh.update(span.get("traceId", "") for span in spans)
                scope_spans["spans"] = spans
            line = msgspec.json.encode({"resourceSpans": [resource_spans]})
            yield from otlp.batches([(self._backend.address.url, number, line)], skipped)
        seen |= fresh


def _pieces(content: bytes) -> list[dict[str, Any]]:
    """The answer; a gateway may send it in several pieces, one a line."""
    try:
        return [msgspec.json.decode(content, type=dict[str, Any])]
    except msgspec.DecodeError:
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in content.splitlines() if line.strip()]


def _rfc3339(ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09}Z"


class _Classic:
    """`GET /api/traces`: Jaeger's own JSON, times in microseconds."""

    def __init__(self, backend: Backend, prefix: str) -> None:
        self._backend = backend
        self._path = f"{prefix}/api/traces"

    def search(self, service: str, lower: int, upper: int, limit: int) -> _Page:
        """The traces that start between these times."""
        params = {"service": service, "start": lower // 1000, "end": -(-upper // 1000), "limit": limit, "raw": "true"}
        response = self._backend.request("GET", self._path, params=params, absent=(404,))
        if response.status_code == 404:
            return _Page(0, [], [])
        try:
            answer = msgspec.json.decode(response.content, type=dict[str, Any])
            traces = answer["data"] or []
            starts = [min(span["startTime"] for span in trace["spans"]) * 1000 for trace in traces if trace["spans"]]
        except (msgspec.DecodeError, KeyError, TypeError) as problem:
            raise self._backend.nonsense(f"{self._path} gives no traces ({problem})") from problem
        return _Page(len(traces), starts, traces)

    def batches(self, page: _Page, seen: set[str], builder: Builder, skipped: Skipped) -> Iterator[Any]:
        """The spans of a page, without those of traces that an earlier one had."""
        for trace in page.content:
            trace_id = trace.get("traceID", "")
            if trace_id in seen:
                continue
            seen.add(trace_id)
            for span in trace["spans"]:
                try:
                    _add(builder, span, trace.get("processes") or {})
                except (KeyError, TypeError, ValueError, AttributeError) as problem:
                    where = f"{self._backend.address.url}, span {span.get('spanID')}"
                    skipped.record(where, f"not a span: {problem!r}")
            yield from builder.full()
        yield from builder.rest()


def _add(builder: Builder, span: dict[str, Any], processes: dict[str, Any]) -> None:
    tags = _tags(span.get("tags"))
    process = processes.get(span.get("processID", "")) or span.get("process") or {}
    trace_id = span["traceID"].lower().rjust(32, "0")
    parent, links = None, []
    for reference in span.get("references") or []:
        ids = {"traceId": reference["traceID"].lower().rjust(32, "0"), "spanId": _span_id(reference["spanID"])}
        if reference["refType"] == "CHILD_OF" and parent is None and ids["traceId"] == trace_id:
            parent = ids["spanId"]
        else:
            links.append(ids)
    status = tags.pop("otel.status_code", "ERROR" if tags.get("error") is True else "")
    if status == "ERROR":
        tags.pop("error", None)
    start_ns = span["startTime"] * 1000
    scope = tags.pop("otel.scope.name", None)
    for name in ("otel.scope.version", "otel.library.name", "otel.library.version", "internal.span.format"):
        value = tags.pop(name, None)
        scope = scope or (value if name == "otel.library.name" else None)
    builder.add(
        trace_id=trace_id,
        span_id=_span_id(span["spanID"]),
        parent_span_id=parent,
        name=span["operationName"],
        kind=_KINDS.get(tags.pop("span.kind", ""), 0),
        start_ns=start_ns,
        end_ns=start_ns + span["duration"] * 1000,
        status_code=STATUS_CODES.get(f"STATUS_CODE_{status}", 0),
        status_message=tags.pop("otel.status_description", None),
        events=[_event(log) for log in span.get("logs") or []],
        links=links,
        resource={"service.name": process.get("serviceName"), **_tags(process.get("tags"))},
        scope_name=scope,
        attributes=tags,
    )


def _event(log: dict[str, Any]) -> dict[str, Any]:
    fields = _tags(log.get("fields"))
    name = fields.pop("event", "")
    return otlp_item({"timeUnixNano": str(log["timestamp"] * 1000), "name": name}, {"attributes": fields})


def _tags(tags: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in tags or []}


def _span_id(text: str) -> str:
    return text.lower().rjust(16, "0")
