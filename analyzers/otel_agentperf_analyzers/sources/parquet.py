"""Parquet files: exports of our relation `spans`, what `ship` sends, and tables of the DuckDB extension `otlp`.

Which of them a file is shows in its columns. Of an export only the columns that a query needs are read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.sources import rows
from otel_agentperf_analyzers.sources.base import Intake, Skipped
from otel_agentperf_analyzers.sources.build import BATCH, Builder, otlp_item, sql_text

_EXPORT: Final = frozenset(("trace_id", "span_id", "start_ns", "end_ns"))
_ROWS: Final = frozenset(("trace_id", "span_id", "start_unix_ns", "end_unix_ns"))
_OTLP: Final = frozenset(("trace_id", "span_id", "start_time_unix_nano", "duration_time_unix_nano"))

TYPES: Final = {
    rows.TEXT: "VARCHAR",
    rows.INT: "BIGINT",
    rows.DOUBLE: "DOUBLE",
    rows.BOOL: "BOOLEAN",
    rows.TEXTS: "VARCHAR[]",
    rows.MAP: "MAP(VARCHAR, VARCHAR)",
}
_SPELLED: Final = {
    "kind": ("internal", "server", "client", "producer", "consumer"),
    "status_code": ("ok", "error"),
}
"""Numbers from 1 that an export spells out."""
_RENAMED: Final = {"start_unix_ns": "start_ns", "end_unix_ns": "end_ns"}


def read(path: Path, intake: Intake) -> None:
    """Give the spans of a file.

    Raises:
        SourceError: it is damaged, or holds something else than spans.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            if names >= _EXPORT or names >= _ROWS:
                intake.select(_export_sql(path, file.schema_arrow), path, file.metadata.num_rows)
            elif names >= _OTLP:
                _read_otlp(file, str(path), intake)
            else:
                raise SourceError(
                    f"{path} is a Parquet file without spans: it has neither the columns of an export"
                    ' (otel-agentperf query "FROM spans" -o FILE.parquet) nor those of the DuckDB extension otlp'
                )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
        reason = str(problem).splitlines()[0]
        raise SourceError(f"cannot read {path}: not a Parquet file that can be read ({reason})") from problem
    except OSError as problem:
        raise SourceError(f"cannot read {path}: {problem.strerror or problem}") from problem


def _export_sql(path: Path, schema: pa.Schema) -> str:
    """Rows of an export. What has no column in it, because an earlier version wrote it, is among the attributes."""
    has_attributes = "attributes" in schema.names and pa.types.is_map(schema.field("attributes").type)
    columns = []
    for field in rows.SCHEMA:
        name, kind = field.name, TYPES[field.type]
        if name not in schema.names:
            name = _RENAMED.get(name, name)
        if name in _SPELLED and name in schema.names:
            words = ", ".join(f"'{word}'" for word in _SPELLED[name])
            value = f'COALESCE(TRY_CAST("{name}" AS BIGINT), LIST_POSITION([{words}], CAST("{name}" AS VARCHAR)), 0)'
        elif name in schema.names:
            value = f'"{name}"'
        elif field.name in rows.ATTRIBUTES and has_attributes and field.type != rows.TEXTS:
            value = f"attributes['{name}']"
        else:
            value = "NULL"
        columns.append(f'TRY_CAST({value} AS {kind}) AS "{field.name}"')
    return f"SELECT {', '.join(columns)} FROM read_parquet({sql_text(str(path))})"


def _read_otlp(file: pq.ParquetFile, name: str, intake: Intake) -> None:
    """Attributes are JSON text in these tables."""
    builder = Builder()
    number = 0
    wanted = [column for column in file.schema_arrow.names if column in _OTLP_COLUMNS]
    for batch in file.iter_batches(BATCH, columns=wanted):
        for record in _nanoseconds(batch).to_pylist():
            number += 1
            _add_otlp(builder, record, f"{name}, row {number}", intake.skipped)
        for built in builder.full():
            intake.batch(built)
    for built in builder.rest():
        intake.batch(built)


_OTLP_COLUMNS: Final = _OTLP | {
    "parent_span_id",
    "service_name",
    "service_instance_id",
    "scope_name",
    "name",
    "kind",
    "status_code",
    "status_status_message",
    "resource_attributes",
    "span_attributes",
    "events_json",
    "links_json",
}


def _nanoseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same with the start as an integer, whatever kind of time it was."""
    at = batch.schema.get_field_index("start_time_unix_nano")
    start = batch.column(at)
    if pa.types.is_timestamp(start.type):
        start = start.cast(pa.timestamp("ns", start.type.tz)).cast(pa.int64())
    return batch.set_column(at, "start_time_unix_nano", start)


def _add_otlp(builder: Builder, record: dict[str, Any], where: str, skipped: Skipped) -> None:
    try:
        trace_id, span_id, start = record["trace_id"], record["span_id"], record["start_time_unix_nano"]
        if not trace_id or not span_id or start is None:
            raise ValueError("no trace_id, span_id or start")
        resource = _members(record.get("resource_attributes"))
        for key, column in (("service.name", "service_name"), ("service.instance.id", "service_instance_id")):
            if record.get(column):
                resource[key] = record[column]
        builder.add(
            trace_id=trace_id.lower(),
            span_id=span_id.lower(),
            parent_span_id=(record.get("parent_span_id") or "").lower(),
            name=record.get("name") or "",
            kind=record.get("kind") or 0,
            start_ns=start,
            end_ns=start + (record["duration_time_unix_nano"] or 0),
            status_code=record.get("status_code") or 0,
            status_message=record.get("status_status_message"),
            events=_items(record.get("events_json"), _event),
            links=_items(record.get("links_json"), _link),
            resource=resource,
            scope_name=record.get("scope_name"),
            attributes=_members(record.get("span_attributes")),
        )
    except (ValueError, TypeError, AttributeError) as problem:
        skipped.record(where, f"not a span: {problem}")


def _members(value: Any) -> dict[str, Any]:
    if not value:
        return {}
    if isinstance(value, list):
        return dict(value)
    return msgspec.json.decode(value, type=dict[str, Any])


def _items(value: str | None, as_otlp: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]] | None:
    return [as_otlp(item) for item in msgspec.json.decode(value, type=list[dict[str, Any]])] if value else None


def _event(item: dict[str, Any]) -> dict[str, Any]:
    return otlp_item(
        {"timeUnixNano": str(_first(item, "time_unix_nano", "timeUnixNano")), "name": item.get("name")}, item
    )


def _link(item: dict[str, Any]) -> dict[str, Any]:
    ids = {"traceId": _first(item, "trace_id", "traceId"), "spanId": _first(item, "span_id", "spanId")}
    return otlp_item(ids, item)


def _first(item: dict[str, Any], *names: str) -> Any:
    return next((item[name] for name in names if name in item), None)
