"""The relations of a table of spans in ClickHouse, computed there: only results travel.

An empty database of this side stands beside it. It checks what a user writes, with the errors and the types of results
that every other source has, and holds what is given beside the spans.
"""

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import Any, Final

import duckdb
import pyarrow as pa

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import catalog, selecting
from otel_agentperf_analyzers.clickhouse import literal
from otel_agentperf_analyzers.clickhouse.arrow import as_schema
from otel_agentperf_analyzers.clickhouse.client import Refused, opened
from otel_agentperf_analyzers.clickhouse.cost import Cost, Estimate
from otel_agentperf_analyzers.clickhouse.kinds import parse
from otel_agentperf_analyzers.clickhouse.plan import Given, Planner, Statement, beside
from otel_agentperf_analyzers.clickhouse.scopes import Untranslatable, describes
from otel_agentperf_analyzers.clickhouse.spans import SpanTable
from otel_agentperf_analyzers.database import Database, unix_ns
from otel_agentperf_analyzers.inputs import Inputs
from otel_agentperf_analyzers.relations import Relations
from otel_agentperf_analyzers.sources.base import Intake, Period
from otel_agentperf_analyzers.sources.clickhouse import ClickHouse

__all__ = ["ClickHouseDatabase"]

_ENGINES: Final = ("MergeTree ORDER BY tuple()", "Memory")
"""Of temporary tables: on the server's disk, else in its memory, which a user may have who may have no other."""


_MAPS: Final = ("SpanAttributes", "ResourceAttributes")


class Impossible(SourceError):
    """The server cannot compute the relations, for a reason that another user or table may not have."""


class ClickHouseDatabase(Database):
    """A database whose relations are made by the server that has the spans.

    Raises:
        Impossible: not with this user or table.
        SourceError: it cannot be reached, or there are no spans.
    """

    def __init__(
        self,
        source: ClickHouse,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        inputs: Inputs = Inputs(),
    ) -> None:
        super().__init__(_Nothing(source.name), inputs=inputs)
        self._is_strict = False
        self._open = ExitStack()
        try:
            self._client = self._open.enter_context(opened(source.address))
            self._engine = self._check(source)
            period = Period(unix_ns(since), unix_ns(until))
            self._spans = self._counted(SpanTable(source.table, period, source.service, self._is_typed))
            [[writers]] = self._client.rows(self._spans.linked(), "link keys")
            is_linked = int(writers) > 1
            self._relations = Relations(self._connection, None, is_linked=is_linked)
            prefix = f"agentperf_{uuid.uuid4().hex[:12]}"
            self._columns: dict[str, list[str]] = {}
            self._planner = Planner(
                lambda names: self._spans.select(names), self._names, prefix, catalog.all_relations(is_linked=is_linked)
            )
        except BaseException:
            self.close()
            raise

    @property
    def costs(self) -> Sequence[Cost]:
        """What the server has read so far, query by query."""
        return self._client.costs

    def estimates(self) -> Sequence[Estimate]:
        """What a query for the spans of the period has to read, from the server's index."""
        rows = self._client.rows(f"EXPLAIN ESTIMATE {self._spans.counted()}", "estimate")
        return [
            Estimate(table=f"{database}.{table}", parts=int(parts), rows=int(count), marks=int(marks))
            for database, table, parts, count, marks in rows
        ]

    def fetch(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """Run a SELECT on the server."""
        empty = super().fetch(sql, parameters)
        if describes(sql):
            # Relations are the same here.
            return empty
        try:
            return as_schema(self._there(sql, parameters), empty.schema)
        except Untranslatable:
            if self._is_strict:
                raise
            return self._here(sql, parameters)

    def query(self, sql: str) -> pa.Table:
        """Run one SELECT over the documented relations on the server.

        Raises:
            UsageError: it is not a SELECT, is wrong, or is not known to mean the same there.
        """
        with self._strict():
            return super().query(sql)

    def relation(self, name: str, **given: Any) -> pa.Table:
        """A documented relation, as `Database.relation` gives it."""
        with self._strict():
            return super().relation(name, **given)

    @contextmanager
    def _strict(self) -> Iterator[None]:
        """What a user writes is run on the server or refused: it may mean any number of rows."""
        self._is_strict = True
        try:
            yield
        finally:
            self._is_strict = False

    def _there(self, sql: str, parameters: dict[str, Any] | None) -> pa.Table:
        given = {table: self._given(table) for table in beside()}
        for statement in self._planner.statements(sql, parameters, given):
            if statement.table is not None:
                self._make(statement.table, statement)
            else:
                rows = self._client.table(statement.select, statement.what)
            for table in statement.outdated:
                self._drop(table)
        return rows

    def _here(self, sql: str, parameters: dict[str, Any] | None) -> pa.Table:
        """Run a query of ours that has no equal there over the columns that it names of relations from there."""
        words = set(re.findall(r"\w+", sql))
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(catalog.macros())
            for table in words.intersection(beside()):
                connection.register(table, self._connection.sql(f'FROM "{table}"').to_arrow_table())
            for relation in words.intersection(each.name for each in catalog.all_relations()):
                columns = [f'"{column}"' for column in self._names(relation) if column in words]
                connection.register(
                    relation, self.fetch(f'SELECT {", ".join(columns) or "1 AS one"} FROM "{relation}"')
                )
            return selecting.fetch(connection, sql, parameters)

    def close(self) -> None:
        """Let go of the session and of its tables."""
        with suppress(SourceError, AttributeError):
            for table in self._planner.tables():
                self._drop(table)
        self._open.close()
        super().close()

    def _check(self, source: ClickHouse) -> str:
        """What temporary tables are made with; attributes must be maps, and the user must be allowed to make tables."""
        columns = {name: kind for name, kind, *_ in self._client.rows(f"DESCRIBE TABLE {source.table}", "columns")}
        self._is_typed = "start_unix_ns" in columns
        for column in () if self._is_typed else _MAPS:
            if not columns.get(column, "").startswith("Map("):
                raise Impossible(f"{column} of {source.table} is no map")
        if self._client.allowed():
            for engine in _ENGINES:
                with suppress(Refused):
                    self._client.run(f"CREATE TEMPORARY TABLE agentperf_probe (one UInt8) ENGINE = {engine}", "probe")
                    self._drop("agentperf_probe")
                    return engine
        raise Impossible(
            f"the user may make no temporary tables in {source.address.url} (readonly = 1, or not granted)"
        )

    def _counted(self, spans: SpanTable) -> SpanTable:
        [[count, distinct]] = self._client.rows(spans.counted(), "spans")
        count, distinct = int(count), int(distinct)
        if not count and not spans.period.is_bounded:
            of = f" of {spans.service}" if spans.service else ""
            raise SourceError(f"{self.source_name} holds no spans{of}")
        self.skipped.duplicates += count - distinct
        return spans if count == distinct else spans.with_doubles()

    def _make(self, table: str, statement: Statement) -> None:
        """Make a temporary table."""
        self._client.run(
            f"CREATE TEMPORARY TABLE `{table}` ENGINE = {self._engine} AS\n{statement.select}", statement.what
        )

    def _hold(self, table: str, select: str) -> None:
        """The rows of there, here."""
        rows = self.fetch(select)
        self._connection.register("rows_there", rows)
        try:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS FROM rows_there")
        finally:
            self._connection.unregister("rows_there")

    def _drop(self, table: str) -> None:
        self._client.run(f"DROP TEMPORARY TABLE IF EXISTS `{table}`", "")

    def _names(self, relation: str) -> list[str]:
        if relation not in self._columns:
            described = self._connection.execute(f'DESCRIBE "{relation}"').fetchall()
            self._columns[relation] = [name for name, *_ in described]
        return self._columns[relation]

    def _given(self, table: str) -> Given:
        columns = {name: parse(kind) for name, kind, *_ in self._connection.execute(f'DESCRIBE "{table}"').fetchall()}
        rows = self._connection.sql(f'FROM "{table}"').to_arrow_table()
        return Given(literal.selects(rows, columns), columns)


class _Nothing:
    """A source without spans."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, intake: Intake) -> None:
        """Give nothing."""
