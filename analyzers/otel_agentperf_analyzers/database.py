"""DuckDB with the relations of one trace source: the library's door.

with open_source("agentperf-store") as database:
    table = database.relation("turns", model="gpt-oss-120b", limit=10)
    rows = database.query("SELECT status, count(*) FROM turns GROUP BY ALL").to_pylist()
"""

import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf.policies import Tier, load_presets
from otel_agentperf_analyzers import catalog, judging, selecting, sources
from otel_agentperf_analyzers.sources import Skipped, rows

__all__ = ["Database", "open_source"]


def open_source(
    source: str | None = None, *, since: datetime | None = None, until: datetime | None = None
) -> "Database":
    """Read a trace source.

    Args:
        source: store directory, file or glob of OTLP JSON lines (plain, .gz, .zst), `-` for standard input; None for
            `$OTEL_AGENTPERF_STORE`, else `./agentperf-store`.
        since: only spans that start then or later. A time without zone is UTC.
        until: only spans that start before.

    Raises:
        SourceError: it cannot be read, or holds nothing to read.
        UsageError: a kind of source that cannot be read.
    """
    return Database(sources.resolve(source), since=since, until=until)


class Database:
    """The relations over one source, in memory. Not for several threads at once.

    Nothing but the relations can be reached through it: no files, no writing, no settings.
    """

    def __init__(self, source: sources.Source, *, since: datetime | None = None, until: datetime | None = None) -> None:
        self.source_name = source.name
        self.skipped = Skipped()
        self._spill = tempfile.mkdtemp(prefix="otel-agentperf-")
        self.connection = duckdb.connect(":memory:", config={"temp_directory": self._spill})
        try:
            self._prepare()
            self._load(source, _unix_ns(since), _unix_ns(until))
            self._define()
        except duckdb.OutOfMemoryException as problem:
            self.close()
            raise SourceError(
                f"{source.name} does not fit into memory; narrow it with --since and --until"
            ) from problem
        except BaseException:
            self.close()
            raise

    def query(self, sql: str) -> pa.Table:
        """Run one SELECT over the documented relations.

        Raises:
            UsageError: it is not a SELECT, or is wrong; with line and column.
        """
        return selecting.user_query(self.connection, sql)

    def relation(
        self,
        name: str,
        *,
        model: str | None = None,
        benchmark: str | None = None,
        trajectory: str | None = None,
        where: str | None = None,
        limit: int | None = None,
        order_by: str | None = None,
    ) -> pa.Table:
        """A documented relation, filtered, in its natural order or that of `order_by` (`COLUMN [DESC], ...`).

        Args:
            model: only rows of this requested model; likewise `benchmark` and `trajectory`, by their ids.
            where: a condition in SQL over the relation's columns.

        Raises:
            UsageError: no such relation or column, a filter that it cannot have, a condition that is wrong.
        """
        relation = _documented(name)
        conditions, parameters = [], {}
        for label, value in (("model", model), ("benchmark", benchmark), ("trajectory", trajectory)):
            if value is None:
                continue
            column = relation.filters.get(label)
            if column is None:
                raise UsageError(f"{name} cannot be filtered by {label}: its rows do not belong to one")
            conditions.append(f'"{column}" = ${label}')
            parameters[label] = value
        selected = f'SELECT * FROM "{name}"'
        if conditions:
            selected += " WHERE " + " AND ".join(conditions)
        shift = 0
        if where is not None:
            selecting.checked_condition(self.connection, where)
            selected = f"SELECT * FROM ({selected}) WHERE (\n"
            shift = len(selected.encode())
            selected += f"{where}\n)"
        order = order_by or ", ".join(relation.order)
        selected += f"\nORDER BY {selecting.named_columns(relation, order)}" if order else ""
        if limit is not None:
            if limit < 0:
                raise UsageError(f"the limit must not be negative, got {limit}")
            selected += f"\nLIMIT {int(limit)}"
        if where is None:
            return selecting.fetch(self.connection, selected, parameters or None)
        with selecting.told(where, shift=shift, what="condition"):
            return selecting.fetch(self.connection, selected, parameters or None)

    def slo(self, tiers: Sequence[Tier] = ()) -> pa.Table:
        """Relation `slo` for these tiers, whatever the model; for none, the presets that fit the model."""
        if not tiers:
            return self.relation("slo")
        with judging.applied(self.connection, tiers):
            return self.relation("slo")

    def close(self) -> None:
        """Let go of the memory and of what was spilled to disk."""
        self.connection.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        for setting in (
            "TimeZone = 'UTC'",
            "errors_as_json = true",
            "python_enable_replacements = false",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
        ):
            self.connection.execute(f"SET {setting}")

    def _load(self, source: sources.Source, since_ns: int | None, until_ns: int | None) -> None:
        """Read the source into `raw_spans`, one copy of each span."""
        connection = self.connection
        empty = pa.Table.from_batches([], rows.SCHEMA)
        connection.register("batch", empty)
        connection.execute("CREATE TABLE raw_spans AS FROM batch")
        bounds = "COALESCE(start_unix_ns >= $since, TRUE) AND COALESCE(start_unix_ns < $until, TRUE)"
        for batch in source.batches(self.skipped):
            connection.register("batch", pa.Table.from_batches([batch]))
            connection.execute(
                f"INSERT INTO raw_spans FROM batch WHERE {bounds}", {"since": since_ns, "until": until_ns}
            )
        connection.unregister("batch")
        [(copies,)] = connection.execute(
            "SELECT count(*) - count(DISTINCT (trace_id, span_id)) FROM raw_spans"
        ).fetchall()
        if copies:
            self.skipped.duplicates += copies
            connection.execute("""
                CREATE OR REPLACE TABLE raw_spans AS FROM raw_spans
                QUALIFY ROW_NUMBER() OVER (
                    PARTITION BY trace_id, span_id
                    ORDER BY "agentperf.status" IS NOT DISTINCT FROM 'partial', end_unix_ns DESC
                ) = 1
            """)

    def _define(self) -> None:
        """Make the relations, then shut the door to files and settings."""
        connection = self.connection
        connection.execute(catalog.macros())
        judging.apply(connection, load_presets(), only_its_models=True)
        for relation in catalog.all_relations():
            kind = "TABLE" if relation.is_table else "VIEW"
            connection.execute(f'CREATE {kind} "{relation.name}" AS {relation.query}')
            if relation.is_public:
                self._comment(relation, kind)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def _comment(self, relation: catalog.Relation, kind: str) -> None:
        statements = [f'COMMENT ON {kind} "{relation.name}" IS {_literal(relation.description)}']
        for column in relation.columns:
            unit = f" [{column.unit}]" if column.unit else ""
            text = _literal(column.description + unit)
            statements.append(f'COMMENT ON COLUMN "{relation.name}"."{column.name}" IS {text}')
        self.connection.execute(";\n".join(statements))


def _documented(name: str) -> catalog.Relation:
    relation = catalog.relation(name)
    if relation is None:
        names = [each.name for each in catalog.relations()]
        close = get_close_matches(name, names, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"no relation {name!r}; {meant}there are {', '.join(names)}")
    return relation


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unix_ns(time: datetime | None) -> int | None:
    if time is None:
        return None
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return int((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) * 1000
