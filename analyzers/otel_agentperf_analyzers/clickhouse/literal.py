"""Small tables of this side, such as the tiers to judge by, as SELECTs that ClickHouse can read."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from otel_agentperf_analyzers.clickhouse.functions import name, text
from otel_agentperf_analyzers.clickhouse.kinds import Columns, Kind, List, Struct, clickhouse_type

__all__ = ["MOST", "selects"]

MOST: Final = 100_000
"""Characters of rows in one SELECT: a server reads 262,144 of a query, unless it is told otherwise."""


def selects(rows: pa.Table, columns: Columns) -> tuple[str, ...]:
    """The rows, as one SELECT or several that each give a part of them."""
    parts: list[list[str]] = [[]]
    size = 0
    for row in rows.to_pylist():
        written = _row(row, columns)
        if size + len(written) > MOST and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(written)
        size += len(written)
    return tuple(_select(part, columns) for part in parts)


def _select(written: list[str], columns: Columns) -> str:
    kinds = ", ".join(f"`{column}` {clickhouse_type(kind)}" for column, kind in columns.items())
    chosen = ", ".join(f"tupleElement(entry, {at}) AS {name(column)}" for at, column in enumerate(columns, 1))
    listed = f"CAST([{', '.join(written)}], 'Array(Tuple({_quoted(kinds)}))')"
    return f"SELECT {chosen} FROM (SELECT arrayJoin({listed}) AS entry)"


def _quoted(kinds: str) -> str:
    return kinds.replace("'", "\\'")


def _row(row: Mapping[str, Any], columns: Columns) -> str:
    return f"tuple({', '.join(_value(row[column], kind) for column, kind in columns.items())})"


def _value(value: Any, kind: Kind) -> str:
    match value, kind:
        case None, List():
            return "[]"
        case None, Struct(fields=fields):
            return f"tuple({', '.join(_value(None, field) for _, field in fields)})"
        case list(), List(item=item):
            return f"[{', '.join(_value(each, item) for each in value)}]"
        case dict(), Struct(fields=fields):
            return f"tuple({', '.join(_value(value[field], inner) for field, inner in fields)})"
        case None, _:
            return "NULL"
        case bool(), _:
            return str(value).lower()
        case int() | float(), _:
            return repr(value)
        case datetime(), _:
            return text(value.strftime("%Y-%m-%d %H:%M:%S.%f"))
        case _:
            return text(str(value))
