"""The collector's table as the relation `raw_spans`: a SELECT that reads attributes out of their maps, by their types.

The bounds of time are conditions on `Timestamp`, by which the table is partitioned and ordered, so that nothing else is
read. An attribute that is there and empty counts as absent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from otel_agentperf import semconv
from otel_agentperf_analyzers.clickhouse.functions import name, text
from otel_agentperf_analyzers.clickhouse.kinds import Columns, Kind, List, Map, Scalar, clickhouse_type
from otel_agentperf_analyzers.sources import rows
from otel_agentperf_analyzers.sources.base import Period

__all__ = ["COLUMNS", "SpanTable", "typed_table"]

_DAY_NS: Final = 86_400 * 10**9

_TYPES: Final = {
    "trace_id": "String",
    "span_id": "String",
    "name": "LowCardinality(String)",
    "kind": "Int64",
    "start_unix_ns": "Int64",
    "end_unix_ns": "Int64",
    "status_code": "Int64",
}
"""Types in a table of typed columns, of columns that are never NULL."""

_KINDS: Final[dict[pa.DataType, Kind]] = {
    rows.TEXT: Scalar("VARCHAR"),
    rows.INT: Scalar("BIGINT"),
    rows.DOUBLE: Scalar("DOUBLE"),
    rows.BOOL: Scalar("BOOLEAN"),
    rows.TEXTS: List(Scalar("VARCHAR")),
    rows.MAP: Map(),
}

COLUMNS: Final[Columns] = {field.name: _KINDS[field.type] for field in rows.SCHEMA}
"""Columns of `raw_spans`."""


def _items(attributes: str) -> str:
    """Attributes of an event or a link as the JSON of OTLP; the types of values are not in the table."""
    item = """concat('{"key":', toJSONString(k), ',"value":{"stringValue":', toJSONString(v), '}}')"""
    values = f"arrayMap((k, v) -> {item}, mapKeys({attributes}), mapValues({attributes}))"
    return f"""if(empty({attributes}), '', concat(',"attributes":[', arrayStringConcat({values}, ','), ']'))"""


def _listed(item: str, parameters: str, columns: Iterable[str]) -> str:
    given = ", ".join(columns)
    first = next(iter(columns))
    joined = f"arrayStringConcat(arrayMap({parameters} -> {item}, {given}), ',')"
    return f"if(empty({first}), NULL, concat('[', {joined}, ']'))"


_EVENTS: Final = _listed(
    """concat('{"timeUnixNano":"', toString(toUnixTimestamp64Nano(t)), '","name":', toJSONString(n), """
    + _items("a")
    + ", '}')",
    "(t, n, a)",
    ["`Events.Timestamp`", "`Events.Name`", "`Events.Attributes`"],
)
_LINKS: Final = _listed(
    """concat('{"traceId":', toJSONString(t), ',"spanId":', toJSONString(s), """ + _items("a") + ", '}')",
    "(t, s, a)",
    ["`Links.TraceId`", "`Links.SpanId`", "`Links.Attributes`"],
)


def _code(column: str, prefix: str, names: Iterable[str]) -> str:
    """An enumeration by its name, which exporters write in two ways (`Client`, `SPAN_KIND_CLIENT`), as its number."""
    branches = ", ".join(f"{word} = {text(each)}, {at}" for at, each in enumerate(names, 1) for word in ("w",))
    words = f"replaceOne(upper(toString({column})), {text(prefix)}, '')"
    return f"arrayElement(arrayMap(w -> toInt64(multiIf({branches}, 0)), [{words}]), 1)"


def _without(attributes: str, left_out: Iterable[str], *, is_only: bool = False) -> str:
    """A map without some keys, or of these only."""
    keys = ", ".join(map(text, left_out))
    return f"CAST(mapFilter((k, v) -> k {'' if is_only else 'NOT '}IN ({keys}), {attributes}), 'Map(String, String)')"


_HEAD: Final = {
    "trace_id": "TraceId",
    "span_id": "SpanId",
    "parent_span_id": "nullIf(ParentSpanId, '')",
    "name": "toString(SpanName)",
    "kind": _code("SpanKind", "SPAN_KIND_", ("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")),
    "start_unix_ns": "toUnixTimestamp64Nano(Timestamp)",
    "end_unix_ns": "toUnixTimestamp64Nano(Timestamp) + toInt64(Duration)",
    "status_code": _code("StatusCode", "STATUS_CODE_", ("OK", "ERROR")),
    "status_message": "nullIf(StatusMessage, '')",
    "events": _EVENTS,
    "links": _LINKS,
    "service_name": "nullIf(toString(ServiceName), '')",
    "service_instance_id": "nullIf(ResourceAttributes['service.instance.id'], '')",
    "scope_name": "nullIf(ScopeName, '')",
    "resource_attributes": _without("ResourceAttributes", ("service.name", "service.instance.id")),
    "attributes": _without("SpanAttributes", (*rows.ATTRIBUTES, *sorted(rows.CONTENT))),
    "content": _without("SpanAttributes", sorted(rows.CONTENT), is_only=True),
}


def _attribute(key: str, kind: pa.DataType) -> str:
    value = f"SpanAttributes[{text(key)}]"
    if kind == rows.INT:
        return f"toInt64OrNull({value})"
    if kind == rows.DOUBLE:
        # Numbers that are none count as absent, as with other sources.
        return f"if(isFinite(toFloat64OrNull({value})), toFloat64OrNull({value}), NULL)"
    if kind == rows.BOOL:
        return f"multiIf({value} = 'true', true, {value} = 'false', false, NULL)"
    if kind == rows.TEXTS:
        listed = f"JSONExtract({value}, 'Array(Nullable(String))')"
        one = f"if({value} = '', [], [toNullable({value})])"
        return f"if(startsWith({value}, '['), {listed}, {one})"
    return f"nullIf({value}, '')"


@dataclass(frozen=True, slots=True)
class SpanTable:
    """The spans of a period in a table of the collector's exporter, or in one that `typed_table` makes of it; with a
    service, those of the traces in which it has spans."""

    table: str
    """Quoted, with its database."""
    period: Period
    service: str | None = None
    is_typed: bool = False
    """It has the columns of `raw_spans` themselves."""
    has_doubles: bool = False
    """Spans are there twice: one copy of each is taken, the last to end, and a partial one only where there is no
    other."""

    def counted(self) -> str:
        """Gives spans and distinct spans."""
        return f"SELECT count(), uniqExact(sipHash64(TraceId, SpanId)) FROM {self.table}{self._where()}"

    def linked(self) -> str:
        """Gives how many processes wrote link keys."""
        column = name(semconv.LINK_KEYS)
        written = (
            f"{column} IS NOT NULL" if self.is_typed else f"mapContains(SpanAttributes, {text(semconv.LINK_KEYS)})"
        )
        instance = f"ifNull({self._expression('service_instance_id')}, '')"
        return f"SELECT uniqExact({instance}) FROM {self.table}{self._where(written)}"

    def with_doubles(self) -> "SpanTable":
        """The same, when some are there twice."""
        return replace(self, has_doubles=True)

    def select(self, columns: Iterable[str] | None = None) -> str:
        """The spans.

        Args:
            columns: only these of `COLUMNS`.
        """
        wanted = COLUMNS.keys() if columns is None else set(columns)
        chosen = ", ".join(f"{self._expression(each)} AS {name(each)}" for each in COLUMNS if each in wanted)
        chosen = chosen or "1 AS one"
        if not self.has_doubles:
            return f"SELECT {chosen} FROM {self.table}{self._where()}"
        ids = "(TraceId, SpanId)"
        doubled = f"SELECT TraceId, SpanId FROM {self.table}{self._where()} GROUP BY TraceId, SpanId HAVING count() > 1"
        status = self._expression(semconv.STATUS)
        last = f"ifNull({status} = 'partial', 0), {self._expression('end_unix_ns')} DESC"
        return (
            f"SELECT {chosen} FROM {self.table}{self._where(f'{ids} NOT IN ({doubled})')} UNION ALL "
            f"(SELECT {chosen} FROM {self.table}{self._where(f'{ids} IN ({doubled})')} "
            f"ORDER BY {last} LIMIT 1 BY TraceId, SpanId)"
        )

    def _expression(self, column: str) -> str:
        if self.is_typed:
            return name(column)
        return _HEAD.get(column) or _attribute(column, rows.ATTRIBUTES[column])

    def _where(self, *more: str) -> str:
        conditions = [*self._bounds(0)]
        if self.service is not None:
            # A trace of ours goes on for six hours at most.
            near = [f"ServiceName = {text(self.service)}", *self._bounds(_DAY_NS)]
            conditions.append(f"TraceId IN (SELECT TraceId FROM {self.table} WHERE {' AND '.join(near)})")
        conditions += more
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def _bounds(self, wider_ns: int) -> Iterator[str]:
        since_ns, until_ns = self.period.since_ns, self.period.until_ns
        if since_ns is not None:
            yield f"Timestamp >= fromUnixTimestamp64Nano(toInt64({max(since_ns - wider_ns, 0)}))"
        if until_ns is not None:
            yield f"Timestamp < fromUnixTimestamp64Nano(toInt64({until_ns + wider_ns}))"


def typed_table(table: str, source: str) -> list[str]:
    """Statements that make a table of typed columns, keep it filled from the collector's, and take over what is there.

    Args:
        table: the new one; quoted, with its database.
        source: the collector's.
    """
    columns = [f"{name(column)} {_TYPES.get(column) or clickhouse_type(kind)}" for column, kind in COLUMNS.items()]
    keys = ("Timestamp DateTime64(9)", "TraceId String", "SpanId String", "ServiceName LowCardinality(String)")
    listed = ",\n    ".join(f"{each} CODEC(ZSTD(1))" for each in (*keys, *columns))
    spans = SpanTable(source, Period()).select().removeprefix("SELECT ").removesuffix(f" FROM {source}")
    select = f"SELECT Timestamp, TraceId, SpanId, ServiceName, {spans}\nFROM {source}"
    return [
        f"CREATE TABLE IF NOT EXISTS {table} (\n    {listed}\n)\n"
        "ENGINE = MergeTree\nPARTITION BY toDate(Timestamp)\nORDER BY (ServiceName, name, toDateTime(Timestamp))",
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {table[:-1]}_view` TO {table} AS\n{select}",
        # What arrives meanwhile may come twice, and counts once.
        f"INSERT INTO {table}\n{select}",
    ]
