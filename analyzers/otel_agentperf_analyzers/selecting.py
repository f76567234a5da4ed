"""SQL that users give: checked to be one read-only SELECT, and its errors told in one line with their position."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any, Final

import duckdb
import pyarrow as pa

from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers.catalog import Relation

_READING: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_HUGE: Final = pa.decimal128(38, 0)
"""How Arrow tables hold DuckDB's HUGEINT, the type of an integer sum."""


def fetch(connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
    """Run a SELECT in a transaction that cannot write. Sums of integers come as 64-bit integers where they fit."""
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        try:
            table = connection.sql(sql, params=parameters).to_arrow_table()
        except duckdb.Error:
            # The same again: errors of `execute` carry the position, those of `sql` do not.
            connection.execute("ROLLBACK; BEGIN TRANSACTION READ ONLY")
            connection.execute(sql, parameters)
            raise
    finally:
        connection.execute("ROLLBACK")
    for position, column in enumerate(table.schema):
        if column.type == _HUGE:
            with suppress(pa.ArrowInvalid):
                table = table.set_column(position, column.name, table.column(position).cast(pa.int64()))
    return table


def one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """What a user wrote, when it is one SELECT. DuckDB's own errors are for `told`.

    Raises:
        UsageError: it is something else.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise UsageError("one statement at a time; write one SELECT" if statements else "no SQL; write a SELECT")
    if statements[0].type not in _READING:
        kind = statements[0].type.name
        raise UsageError(f"the relations are read-only; write a SELECT instead of {kind}")
    query: str = statements[0].query
    return query


def checked_condition(connection: duckdb.DuckDBPyConnection, condition: str) -> str:
    """A condition that a user wrote, fit to stand in parentheses.

    Raises:
        UsageError: it is no expression.
    """
    # Alone it must be the whole of a WHERE clause, which no unbalanced parenthesis is; in parentheses it must be one
    # expression, which no further clause is.
    for before, after in (("SELECT 1 WHERE ", ""), ("SELECT (\n", "\n)")):
        with told(condition, shift=len(before), what="condition"):
            if len(connection.extract_statements(before + condition + after)) != 1:
                raise UsageError("a condition is one SQL expression, such as \"status = 'error' AND ttft_s > 2\"")
    return condition


def named_columns(relation: Relation, order_by: str) -> str:
    """`COLUMN [ASC|DESC], ...` as SQL, columns checked and quoted.

    Raises:
        UsageError: no such column.
    """
    terms = []
    for part in order_by.split(","):
        name, _, direction = part.strip().partition(" ")
        direction = direction.strip().upper()
        if direction not in ("", "ASC", "DESC"):
            raise UsageError(f"cannot order by {part.strip()!r}; write COLUMN, or COLUMN DESC")
        if all(name != column.name for column in relation.columns):
            raise UsageError(f"{relation.name} has no column {name!r}{_meant(name, relation)}")
        terms.append(f'"{name}" {direction}'.strip() + " NULLS LAST")
    return ", ".join(terms)


def _meant(name: str, relation: Relation) -> str:
    close = get_close_matches(name, [column.name for column in relation.columns], n=1)
    return f"; did you mean {close[0]}?" if close else ""


@contextmanager
def told(sql: str, *, shift: int = 0, what: str = "SQL") -> Iterator[None]:
    """Translate DuckDB's errors about `sql`, which starts `shift` characters into what DuckDB saw."""
    try:
        yield
    except duckdb.Error as problem:
        raise UsageError(_one_line(problem, sql, shift, what)) from problem


def _one_line(problem: duckdb.Error, sql: str, shift: int, what: str) -> str:
    text = str(problem)
    _, brace, rest = text.partition("{")
    try:
        details = json.loads(brace + rest)
    except ValueError:
        return f"{what}: {' '.join(text.split())}"
    message = " ".join(line.strip() for line in str(details.get("exception_message", text)).splitlines() if line)
    position = details.get("position")
    if position is None or not str(position).isdigit():
        return f"{what}: {message}"
    before = sql.encode()[: max(int(position) - shift, 0)].decode(errors="ignore")
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return f"{what}, line {line}, column {column}: {message}"
