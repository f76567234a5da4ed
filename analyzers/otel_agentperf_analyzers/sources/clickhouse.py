"""ClickHouse: the table `otel_traces` of the OpenTelemetry collector's exporter, over HTTP.

The relations are computed there (`otel_agentperf_analyzers.clickhouse`). Where that cannot be, the spans are read page
by page. Attributes are read as JSON text, whether the table holds them as maps or as the type JSON. A page is some
minutes of spans, so that one that fails can be asked for again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers.database import Database
from otel_agentperf_analyzers.inputs import Inputs
from otel_agentperf_analyzers.sources.backend import Address, Backend, connected
from otel_agentperf_analyzers.sources.base import Intake, Period
from otel_agentperf_analyzers.sources.build import KINDS, STATUS_CODES, Builder, otlp_item

PAGE: Final = 50_000
"""Spans that a page may have, unless a single minute has more."""

_MINUTE_NS: Final = 60 * 10**9
_DAY_NS: Final = 86_400 * 10**9

_SETTINGS: Final = {
    "enable_http_compression": "1",
    # An error in the middle is told by the status, then.
    "wait_end_of_query": "1",
    "default_format": "JSONCompactEachRow",
    "output_format_json_quote_64bit_integers": "0",
}

_COLUMNS: Final = """
    TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, ScopeName, StatusCode, StatusMessage,
    toUnixTimestamp64Nano(Timestamp), toInt64(Duration), toJSONString(ResourceAttributes), toJSONString(SpanAttributes),
    arrayMap(t -> toUnixTimestamp64Nano(t), Events.Timestamp), Events.Name,
    arrayMap(a -> toJSONString(a), Events.Attributes),
    Links.TraceId, Links.SpanId, arrayMap(a -> toJSONString(a), Links.Attributes)
"""

_MINUTES: Final = msgspec.json.Decoder(tuple[int, int])


class _Row(msgspec.Struct, array_like=True):
    """`_COLUMNS`."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    service: str
    scope: str
    status_code: str
    status_message: str
    start_ns: int
    duration_ns: int
    resource: str
    attributes: str
    event_times: list[int]
    event_names: list[str]
    event_attributes: list[str]
    link_traces: list[str]
    link_spans: list[str]
    link_attributes: list[str]


_ROWS: Final = msgspec.json.Decoder(_Row)


@dataclass(slots=True, frozen=True)
class ClickHouse:
    """The spans of a table; with a service, those of the traces in which it has spans."""

    address: Address
    table: str
    """Quoted, with its database."""
    service: str | None
    is_pulled: bool = False
    """Its spans are read, and the relations computed on this side."""

    @classmethod
    def named(cls, url: str) -> "ClickHouse":
        """From a source URL, `clickhouse+http://HOST:8123/DATABASE?table=otel_traces&service=NAME&compute=here`.

        Raises:
            UsageError: the path is no database, or a parameter has no such value.
        """
        address = Address.parse(url, ("table", "service", "compute"))
        if "/" in address.path:
            raise UsageError(f"{url}: the path is the name of a database, such as /default")
        table = f"{_quoted(address.path or 'default')}.{_quoted(address.one('table') or 'otel_traces')}"
        compute = address.one("compute") or "there"
        if compute not in ("there", "here"):
            raise UsageError(f"{url}: compute is here or there, not {compute}")
        return cls(address, table, address.one("service"), compute == "here")

    @property
    def name(self) -> str:
        """The URL."""
        return self.address.url

    def database(self, *, since: datetime | None, until: datetime | None, inputs: Inputs) -> Database:
        """The relations, computed by the server; here where it cannot, which the database notes.

        Raises:
            SourceError: it cannot be reached, or there are no spans.
        """
        from otel_agentperf_analyzers.clickhouse.database import ClickHouseDatabase, Impossible

        if self.is_pulled:
            return Database(self, since=since, until=until, inputs=inputs)
        try:
            return ClickHouseDatabase(self, since=since, until=until, inputs=inputs)
        except Impossible as problem:
            database = Database(self, since=since, until=until, inputs=inputs)
            database.note(f"{problem}; its spans are read, and computed on this side")
            return database

    def read(self, intake: Intake) -> None:
        """Give the spans, page by page."""
        builder = Builder()
        with connected(self.address, user_headers=("X-ClickHouse-User", "X-ClickHouse-Key")) as backend:
            for since_ns, until_ns in self._windows(backend, intake.period):
                where, parameters = self._where(Period(since_ns, until_ns))
                rows = self._select(backend, f"SELECT {_COLUMNS} FROM {self.table} {where}", parameters)
                for number, line in enumerate(rows, 1):
                    try:
                        _add(builder, _ROWS.decode(line))
                    except (msgspec.DecodeError, ValueError) as problem:
                        intake.skipped.record(f"{self.name}, row {number}", f"not a span: {problem}")
                    for batch in builder.full():
                        intake.batch(batch)
        for batch in builder.rest():
            intake.batch(batch)
        if not intake.spans and not intake.period.is_bounded:
            of = f" of {self.service}" if self.service else ""
            raise SourceError(f"{self.name} holds no spans{of}")

    def _windows(self, backend: Backend, period: Period) -> Iterator[tuple[int, int]]:
        """Stretches of time with about a page of spans each, within the period."""
        where, parameters = self._where(period)
        # `div` is ClickHouse's for whole numbers.
        minute = f"intDiv(toUnixTimestamp64Nano(Timestamp), {_MINUTE_NS})"
        sql = f"SELECT {minute} AS minute, count() FROM {self.table} {where} GROUP BY minute ORDER BY minute"
        first, last, spans = None, 0, 0
        for line in self._select(backend, sql, parameters):
            try:
                number, count = _MINUTES.decode(line)
            except msgspec.DecodeError as problem:
                raise backend.nonsense(f"no count of spans ({problem})") from problem
            if first is not None and spans + count > PAGE:
                yield self._within(period, first, last)
                first, spans = None, 0
            first = number if first is None else first
            last, spans = number, spans + count
        if first is not None:
            yield self._within(period, first, last)

    def _within(self, period: Period, first: int, last: int) -> tuple[int, int]:
        since_ns, until_ns = first * _MINUTE_NS, (last + 1) * _MINUTE_NS
        return (
            since_ns if period.since_ns is None else max(since_ns, period.since_ns),
            until_ns if period.until_ns is None else min(until_ns, period.until_ns),
        )

    def _where(self, period: Period) -> tuple[str, dict[str, str]]:
        """The condition, and its parameters."""
        conditions, parameters = [], {}
        for column, bound, comparison in (
            ("since", period.since_ns, ">="),
            ("until", period.until_ns, "<"),
        ):
            if bound is not None:
                conditions.append(f"Timestamp {comparison} fromUnixTimestamp64Nano({{{column}:Int64}})")
                parameters[column] = str(bound)
        if self.service is not None:
            near = ["ServiceName = {service:String}"]
            parameters["service"] = self.service
            # A trace of ours goes on for six hours at most.
            if period.since_ns is not None:
                near.append(f"Timestamp >= fromUnixTimestamp64Nano(toInt64({max(period.since_ns - _DAY_NS, 0)}))")
            if period.until_ns is not None:
                near.append(f"Timestamp < fromUnixTimestamp64Nano(toInt64({period.until_ns + _DAY_NS}))")
            conditions.append(f"TraceId IN (SELECT TraceId FROM {self.table} WHERE {' AND '.join(near)})")
        return ("WHERE " + " AND ".join(conditions) if conditions else ""), parameters

    def _select(self, backend: Backend, sql: str, parameters: dict[str, str]) -> list[bytes]:
        params = _SETTINGS | {f"param_{name}": value for name, value in parameters.items()}
        response = backend.request("POST", "/", params=params, content=sql)
        return [line for line in response.content.split(b"\n") if line]


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _add(builder: Builder, row: _Row) -> None:
    events = zip(row.event_times, row.event_names, row.event_attributes, strict=True)
    links = zip(row.link_traces, row.link_spans, row.link_attributes, strict=True)
    resource = _members(row.resource)
    if row.service:
        resource["service.name"] = row.service
    builder.add(
        trace_id=row.trace_id.lower(),
        span_id=row.span_id.lower(),
        parent_span_id=row.parent_span_id.lower(),
        name=row.name,
        kind=KINDS.get(row.kind if row.kind.startswith("SPAN_KIND_") else f"SPAN_KIND_{row.kind.upper()}", 0),
        start_ns=row.start_ns,
        end_ns=row.start_ns + row.duration_ns,
        status_code=STATUS_CODES.get(
            row.status_code if row.status_code.startswith("STATUS_CODE_") else f"STATUS_CODE_{row.status_code.upper()}",
            0,
        ),
        status_message=row.status_message,
        events=[
            otlp_item({"timeUnixNano": str(at), "name": name}, {"attributes": _members(attributes)})
            for at, name, attributes in events
        ],
        links=[
            otlp_item({"traceId": trace.lower(), "spanId": span.lower()}, {"attributes": _members(attributes)})
            for trace, span, attributes in links
        ],
        resource=resource,
        scope_name=row.scope,
        attributes=_members(row.attributes),
    )


def _members(text: str) -> dict[str, Any]:
    """A JSON object by full names: the type JSON nests them at their dots."""
    found: dict[str, Any] = {}
    todo = [("", msgspec.json.decode(text, type=dict[str, Any]))]
    while todo:
        prefix, members = todo.pop()
        for name, value in members.items():
            if isinstance(value, dict):
                todo.append((f"{prefix}{name}.", value))
            else:
                found[prefix + name] = value
    return found
