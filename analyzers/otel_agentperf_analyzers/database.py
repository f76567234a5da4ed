"""DuckDB with the relations of one trace source: the library's door.

with open_source("agentperf-store") as database:
    table = database.relation("turns", model="gpt-oss-120b", limit=10)
    rows = database.query("SELECT status, count(*) FROM turns GROUP BY ALL").to_pylist()
"""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import duckdb
import pyarrow as pa

from otel_agentperf import semconv
from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf.policies import Tier, load_presets
from otel_agentperf_analyzers import catalog, curve, judging, relations, selecting, sources
from otel_agentperf_analyzers import inputs as given
from otel_agentperf_analyzers.growth import Growth
from otel_agentperf_analyzers.inputs import Inputs
from otel_agentperf_analyzers.relations import Relations
from otel_agentperf_analyzers.sources import Intake, Kept, Period, Skipped, rows
from otel_agentperf_analyzers.sources.build import sql_text
from otel_agentperf_analyzers.sources.whole import can_be_damage

if TYPE_CHECKING:
    from otel_agentperf_analyzers.clickhouse.cost import Cost, Estimate

__all__ = ["MEMORY", "Database", "open_source"]

MEMORY: Final = "OTEL_AGENTPERF_MEMORY"
"""Environment variable: how much memory DuckDB may take, such as `4GB`; beyond it spills to disk. Default: DuckDB's,
four fifths of the machine's."""

_CURVE: Final = re.compile(r"\bcapacity(_curve)?\b", re.IGNORECASE)
"""Relations whose intervals are measured when they are asked for."""

_ORIGINALS: Final = "originals"
"""Name of the file that says, in the directory of kept results, that no span of these is there twice."""

_UNLINKED: Final = "unlinked"
"""Name of the file that says there that no two processes wrote link keys."""


def open_source(
    source: str | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    inputs: Inputs = Inputs(),
) -> "Database":
    """Read a trace source.

    Args:
        source: store directory, file or glob of OTLP JSON lines (plain, .gz, .zst) or Parquet, `-` for standard input,
            or a URL (`jaeger+http`, `tempo+http`, `clickhouse+http`); None for `$OTEL_AGENTPERF_STORE`, else
            `./agentperf-store`.
        since: only spans that start then or later. A time without zone is UTC.
        until: only spans that start before.
        inputs: what spans cannot tell: prices, outcomes, the deployment's size, price and power.

    Raises:
        SourceError: it cannot be read, or holds nothing to read.
        UsageError: a kind of source that cannot be read.
    """
    found = sources.resolve(source)
    if isinstance(found, sources.Executing):
        return found.database(since=since, until=until, inputs=inputs)
    return Database(found, since=since, until=until, inputs=inputs)


class Database:
    """The relations over one source, in memory. Not for several threads at once.

    Nothing but the relations can be reached through it: no files, no writing, no settings.
    """

    def __init__(
        self,
        source: sources.Source,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        inputs: Inputs = Inputs(),
    ) -> None:
        self.source_name = source.name
        self._notes: list[str] = []
        self.skipped = Skipped()
        self._scratch = Path(tempfile.mkdtemp(prefix="otel-agentperf-"))
        self._kept: Kept | None = None
        self._curve_of: str | None = None
        self._has_doubles = False
        self._connection = duckdb.connect(":memory:", config={"temp_directory": str(self._scratch / "spilled")})
        try:
            self._prepare()
            intake = Intake(self._scratch, Period(unix_ns(since), unix_ns(until)), self.skipped)
            self._kept = source.read(intake)
            self._load(intake)
            given.create(self._connection, inputs)
            self._relations = self._define(intake)
        except duckdb.Error as problem:
            try:
                self._told_of_source(problem)
            finally:
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the source is read; some of it is known when relations were asked for."""
        damaged = [] if self._kept is None else list(dict.fromkeys(self._kept.damaged))
        if not damaged:
            return tuple(self._notes)
        files = "1 file" if len(damaged) == 1 else f"{len(damaged):,} files"
        told = (
            f"{files} of the cache, missing or damaged, {'is' if len(damaged) == 1 else 'are'} made anew: {damaged[0]}"
        )
        return (*self._notes, told + (", ..." if len(damaged) > 1 else ""))

    def note(self, text: str) -> None:
        """Let a user know."""
        self._notes.append(text)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB, with all relations made. What only needs some of them is faster through `fetch`."""
        try:
            self._relations.make_all()
        except duckdb.Error as problem:
            self._told_of_source(problem)
            raise
        return self._connection

    @property
    def costs(self) -> "Sequence[Cost]":
        """What queries have cost a server that computes the relations; nothing where they are computed here."""
        return ()

    def estimates(self) -> "Sequence[Estimate]":
        """What such a server has to read of its tables for the spans of the period."""
        return ()

    def fetch(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """Run a SELECT of our own, with parameters; errors are DuckDB's.

        Raises:
            SourceError: files of the cache were removed, or damaged so that only reading them showed it; or memory
                does not suffice.
        """
        try:
            if _CURVE.search(sql):
                self._measure_curve()
            self._relations.named_in(sql)
            try:
                return selecting.fetch(self._connection, sql, parameters)
            except duckdb.CatalogException:
                # A name made up at run time, or a wrong one: then others are proposed.
                self._relations.make_all()
                return selecting.fetch(self._connection, sql, parameters)
        except duckdb.Error as problem:
            self._told_of_source(problem)
            raise

    def query(self, sql: str) -> pa.Table:
        """Run one SELECT over the documented relations.

        Raises:
            UsageError: it is not a SELECT, or is wrong; with line and column.
        """
        with selecting.told(sql):
            return self.fetch(selecting.one_select(self._connection, sql))

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
            selecting.checked_condition(self._connection, where)
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
            return self.fetch(selected, parameters or None)
        with selecting.told(where, shift=shift, what="condition"):
            return self.fetch(selected, parameters or None)

    def slo(self, tiers: Sequence[Tier] = ()) -> pa.Table:
        """Relation `slo` for these tiers, whatever the model; for none, the presets that fit the model."""
        return self.judged("slo", tiers)

    def judged(self, name: str, tiers: Sequence[Tier] = ()) -> pa.Table:
        """A relation that judges, `slo`, `capacity` or `capacity_curve`, for these tiers, whatever the model; for none,
        the presets that fit the model."""
        with judging.applied(self._connection, tiers):
            return self.relation(name)

    def _told_of_source(self, problem: duckdb.Error) -> None:
        """Find out whether an error is that of the source, too large or with a damaged cache.

        Raises:
            SourceError: it is; the next reader makes anew what was damaged, and is removed.
        """
        if isinstance(problem, duckdb.OutOfMemoryException):
            raise SourceError(
                f"{self.source_name} does not fit into memory; narrow it with --since and --until, "
                f"or let DuckDB have more: {MEMORY}=8GB"
            ) from problem
        if self._kept is None or not can_be_damage(problem):
            return
        if not self._kept.directory.exists():
            raise SourceError(f"the cache of {self.source_name} was removed while it was read; try again") from problem
        if damaged := self._kept.check():
            files = str(damaged[0]) if len(damaged) == 1 else f"{damaged[0]} and {len(damaged) - 1:,} more"
            raise SourceError(f"damaged in the cache, and removed: {files}; try again") from problem

    def _measure_curve(self) -> None:
        """Fill `capacity_curve` for the tiers that are in force; its intervals are more than SQL can do."""
        [(tiers,)] = self._connection.execute(
            "SELECT md5(STRING_AGG(CAST(t AS VARCHAR))) FROM slo_tiers AS t"
        ).fetchall()
        if tiers == self._curve_of:
            return
        path = self._relations.place("curve_rows", ("turn_loads", "applied_tiers"))
        if path is None or not curve.load(self._connection, path):
            judged_by = self.fetch("FROM applied_tiers")
            self._hold(curve.LOADS, curve.needed(judged_by))
            curve.create(self._connection, judged_by)
            self._connection.execute(f"DROP TABLE {curve.LOADS}")
            if path is not None:
                curve.save(self._connection, path)
        self._curve_of = tiers

    def _hold(self, table: str, select: str) -> None:
        """Make a temporary table of what a SELECT of our own gives."""
        self._relations.named_in(select)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {select}")

    def close(self) -> None:
        """Let go of the memory, of what was spilled to disk, and of the cache."""
        self._connection.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        if self._kept is not None:
            self._kept.close()
            self._kept = None

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
            self._connection.execute(f"SET {setting}")
        if memory := os.environ.get(MEMORY):
            try:
                self._connection.execute(f"SET memory_limit = {sql_text(memory)}")
            except duckdb.Error as problem:
                raise UsageError(f"{MEMORY} is an amount of memory such as 4GB, not {memory!r}") from problem

    def _load(self, intake: Intake) -> None:
        """Make `raw_spans`: the spans of the period, one copy of each."""
        connection = self._connection
        connection.register("batches", pa.Table.from_batches(intake.batches, rows.SCHEMA))
        connection.execute("CREATE TABLE spans_in_memory AS FROM batches")
        connection.unregister("batches")
        selects = ["FROM spans_in_memory", *intake.selects]
        if intake.files:
            selects.append(f"FROM read_parquet([{', '.join(sql_text(str(path)) for path in intake.files)}])")
        since, until = intake.period.since_ns, intake.period.until_ns
        bounds = [f"start_unix_ns >= {since}"] * (since is not None) + [f"start_unix_ns < {until}"] * (
            until is not None
        )
        where = f"WHERE {' AND '.join(bounds)}" if bounds else ""
        connection.execute(f"CREATE VIEW all_spans AS FROM ({' UNION ALL '.join(selects)}) {where}")
        kept = None if intake.period.is_bounded or self._kept is None else self._kept.directory / _ORIGINALS
        if kept is not None and kept.exists():
            connection.execute("CREATE VIEW raw_spans AS FROM all_spans")
            return
        connection.execute("""
            CREATE TABLE doubled AS
            SELECT id FROM (SELECT hash(trace_id, span_id) AS id FROM all_spans) GROUP BY id HAVING count(*) > 1
        """)
        if not connection.execute("SELECT count(*) FROM doubled").fetchall()[0][0]:
            connection.execute("CREATE VIEW raw_spans AS FROM all_spans")
            if kept is not None:
                with suppress(OSError):
                    kept.touch()
            return
        connection.execute("""
            CREATE TABLE originals AS
            FROM all_spans
            WHERE hash(trace_id, span_id) IN (FROM doubled)
            QUALIFY ROW_NUMBER() OVER (
                PARTITION BY trace_id, span_id
                ORDER BY "agentperf.status" IS NOT DISTINCT FROM 'partial', end_unix_ns DESC
            ) = 1
        """)
        connection.execute("""
            CREATE VIEW raw_spans AS
            FROM all_spans WHERE hash(trace_id, span_id) NOT IN (FROM doubled) UNION ALL FROM originals
        """)
        [(copies,)] = connection.execute("""
            SELECT (SELECT count(*) FROM all_spans WHERE hash(trace_id, span_id) IN (FROM doubled))
                - (SELECT count(*) FROM originals)
        """).fetchall()
        self.skipped.duplicates += copies
        self._has_doubles = True

    def _define(self, intake: Intake) -> Relations:
        """Make what relations are made of, then shut the door to files and settings."""
        connection = self._connection
        connection.execute(catalog.macros())
        judging.apply(connection, load_presets(), only_its_models=True)
        curve.empty(connection)
        directory, growth = None, None
        if intake.spans >= relations.MANY_SPANS:
            directory = self._scratch
            if self._kept is not None and not intake.period.is_bounded:
                directory = self._kept.directory
                rest = [path for path in intake.files if path.parent != self._kept.spans]
                growth = Growth(connection, self._kept, self._scratch, rest, self._has_doubles)
            connection.execute("SET preserve_insertion_order = false")
        is_linked = self._is_linked(intake)
        self._shut(intake)
        return Relations(connection, directory, growth, kept=self._kept, spans=intake.spans, is_linked=is_linked)

    def _is_linked(self, intake: Intake) -> bool:
        """Whether several processes wrote link keys, so that there may be something to stitch."""
        kept = None if intake.period.is_bounded or self._kept is None else self._kept.directory / _UNLINKED
        if kept is not None and kept.exists():
            return False
        [(is_linked,)] = self._connection.execute(
            f"""
            SELECT COUNT(DISTINCT COALESCE(service_instance_id, '')) > 1
            FROM all_spans WHERE "{semconv.LINK_KEYS}" IS NOT NULL
            """
        ).fetchall()
        if kept is not None and not is_linked:
            with suppress(OSError):
                kept.touch()
        return bool(is_linked)

    def _shut(self, intake: Intake) -> None:
        """From here on only the files of this source, and our own, can be reached."""
        directories = [self._scratch]
        if self._kept is not None:
            directories += [self._kept.directory.parent, self._kept.spans]
        files = intake.files + intake.originals
        for name, paths in (("allowed_directories", directories), ("allowed_paths", files)):
            self._connection.execute(f"SET {name} = [{', '.join(sql_text(str(path)) for path in paths)}]")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")


def _documented(name: str) -> catalog.Relation:
    relation = catalog.relation(name)
    if relation is None:
        names = [each.name for each in catalog.relations()]
        close = get_close_matches(name, names, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"no relation {name!r}; {meant}there are {', '.join(names)}")
    return relation


def unix_ns(time: datetime | None) -> int | None:
    """Nanoseconds since 1970 of a time, UTC where it names no zone."""
    if time is None:
        return None
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return int((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) * 1000
