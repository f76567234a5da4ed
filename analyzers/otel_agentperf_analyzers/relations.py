"""Makes relations when they are first asked for, and keeps what they hold for the next reader of the same spans.

Over few spans a relation is a table in memory. Over many it is a Parquet file, so that memory does not limit them, and
a query reads only the columns that it names; in a store's cache the file outlives this reader, and when the store has
grown, only what changed is made again (`growth.py`).
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import xxhash

from otel_agentperf_analyzers import catalog
from otel_agentperf_analyzers.catalog import Relation
from otel_agentperf_analyzers.growth import Growth, Layer, part, restricted, stacked
from otel_agentperf_analyzers.sources.base import Kept, remove
from otel_agentperf_analyzers.sources.build import sql_text
from otel_agentperf_analyzers.sources.cache import SINCE
from otel_agentperf_analyzers.sources.whole import can_be_damage, is_whole, part_name, publish

MANY_SPANS: Final = 20_000
"""From so many on, relations are files."""

SPANS_OF_PART: Final = 2_500_000
"""Of more spans, relations that are made by trajectory are made in parts of about so many."""

_SPANS: Final = frozenset(("raw_spans",))
"""What staging reads; what only renames it is not worth a file."""

_SHARED_COST: Final = "SELECT 1 FROM given_deployment WHERE price_per_hour IS NOT NULL"
"""With a price per hour open calls share the cost, so that each trajectory's depends on all others."""

_INTROSPECTIVE: Final = re.compile(
    r"\b(show|describe|summarize|pragma\w*|duckdb_\w+|information_schema|sqlite_\w+)\b", re.IGNORECASE
)


class Relations:
    """The relations of one database. Tables that they read beside the spans, such as `slo_tiers`, may change between
    two calls: what is made from them is made anew then.

    Args:
        directory: where files of relations go, and may be found; None to hold all in memory.
        growth: what is known of earlier states of the same source.
        kept: the cache that this directory is of.
        spans: how many there are.
        is_linked: several processes wrote link keys.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        directory: Path | None,
        growth: Growth | None = None,
        *,
        kept: Kept | None = None,
        spans: int = 0,
        is_linked: bool = False,
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._growth = growth
        self._kept = kept
        self._damaged = [] if kept is None else kept.damaged
        self._is_checked = False
        self._parts = -(-spans // SPANS_OF_PART)
        self._all = {relation.name: relation for relation in catalog.all_relations(is_linked=is_linked)}
        self._macros = catalog.macros()
        self._words = {relation.name: frozenset(_words(relation.query)) for relation in self._all.values()}
        # Through these one trajectory's spans can tell of another one.
        self._crossing = frozenset(
            name
            for relation in self._all.values()
            if relation.is_by_trajectory
            for name in relation.reads
            if name in self._all and self._all[name].is_table and not self._all[name].is_by_trajectory
        )
        self._made: dict[str, _Made] = {}

    def named_in(self, sql: str) -> None:
        """Make all that a query can mean."""
        if _INTROSPECTIVE.search(sql):
            self.make_all()
        else:
            self.make(_words(sql.lower()) & self._all.keys())

    def make(self, names: Iterable[str]) -> None:
        """Make these, and what they are made from."""
        digests = self._digests()
        for name in sorted(names):
            self._make(self._all[name], digests, is_wanted=True)

    def make_all(self) -> None:
        """Make all, with their comments."""
        digests = self._digests()
        for relation in self._all.values():
            self._make(relation, digests)
            if relation.is_public and not self._made[relation.name].is_commented:
                self._comment(relation)

    def place(self, name: str, made_from: Iterable[str]) -> Path | None:
        """The file that a table goes to, or is found in, which is made from these relations by other means than SQL;
        None to hold it in memory. What is there is whole."""
        if self._directory is None:
            return None
        digests = self._digests()
        path = self._directory / f"{name}-{_digest(' '.join(digests[each] for each in made_from))}.parquet"
        is_whole(path, self._damaged)
        return path

    def _digests(self) -> dict[str, str]:
        """Relation to what changes with its SQL, with that of what it is made from, and with the tables these read."""
        named = frozenset().union(*self._words.values()) - self._all.keys() - _SPANS
        tables = self._connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall()
        found = {}
        for (name,) in tables:
            if name in named:
                rows = f'SELECT CAST(t AS VARCHAR) AS line FROM "{name}" AS t'
                [(found[name],)] = self._connection.execute(
                    f"SELECT md5(STRING_AGG(line, chr(10) ORDER BY line)) FROM ({rows})"
                ).fetchall()
        for relation in self._all.values():
            # In order: what a relation reads is there before it.
            parts = [found[name] or "" for name in sorted(self._words[relation.name] & found.keys())]
            found[relation.name] = _digest("\0".join((duckdb.__version__, self._macros, relation.query, *parts)))
        return found

    def _make(self, relation: Relation, digests: Mapping[str, str], *, is_wanted: bool = False) -> None:
        """Make one, unless it is there.

        Args:
            is_wanted: its rows are asked for, not only what is made from them.
        """
        made, digest = self._made.get(relation.name), digests[relation.name]
        is_file = self._directory is not None and (
            relation.is_table or (is_wanted and relation.is_public and not _SPANS & set(relation.reads))
        )
        if made is not None and made.digest == digest and (made.is_file or not is_file):
            return
        if is_file and self._make_file(relation, digests):
            return
        self._make_inputs(relation, digests)
        self._define(relation.name, "TABLE" if relation.is_table else "VIEW", relation.query)
        self._made[relation.name] = _Made(digest, is_file)

    def _make_file(self, relation: Relation, digests: Mapping[str, str]) -> bool:
        """Make a relation a view of its files; False where no file can be written."""
        assert self._directory is not None
        name = _file(relation, digests)
        path = self._directory / f"{name}.parquet"
        for _ in range(2):
            layers = [Layer(path)] if is_whole(path, self._damaged) else None
            try:
                if self._growth is not None and relation.is_by_trajectory:
                    layers = self._growth.layers(name) or self._grown(relation, digests)
                if layers is None:
                    self._make_inputs(relation, digests)
                    if self._parts > 1 and self._is_parted(relation):
                        self._write_parts(relation, path)
                    else:
                        self._write(relation.query, path)
                    layers = [Layer(path)]
                self._define(relation.name, "VIEW", stacked(layers))
            except (duckdb.Error, OSError) as problem:
                if isinstance(problem, duckdb.Error) and not can_be_damage(problem):
                    raise
                # The disk is full, or bytes on it changed that only reading shows: then once more, without these.
                for layer in layers or [Layer(path)]:
                    remove(layer.path)
                if not self._drop_damaged():
                    return False
            else:
                self._made[relation.name] = _Made(digests[relation.name], True)
                return True
        return False

    def _drop_damaged(self) -> bool:
        """Look for what only reading shows, once; whether there was any."""
        if self._is_checked or self._kept is None:
            return False
        self._is_checked = True
        damaged = self._kept.check()
        self._damaged += damaged
        if damaged:
            # Some of these may be what relations are views of.
            self._made.clear()
        return bool(damaged)

    def _grown(self, relation: Relation, digests: Mapping[str, str]) -> list[Layer] | None:
        """The relation's files, with one more for the trajectories that changed since an earlier state; None when no
        such state helps. What this state is gets written down, so that later ones can go on from it."""
        assert self._growth is not None
        assert self._directory is not None
        if any(self._connection.execute(_SHARED_COST).fetchall()):
            return None
        crossing = [each for each in self._all.values() if each.name in self._crossing]
        for each in crossing:
            self._make(each, digests)
        if not all((made := self._made.get(each.name)) is not None and made.is_file for each in crossing):
            return None
        # Trajectories of spans are looked up, below, by what this one is made from.
        self._make(self._all["spans"], digests)
        self._growth.note()
        name = _file(relation, digests)
        others = [f"{_file(each, digests)}.parquet" for each in crossing]
        for since in self._growth.bases(name, others):
            touched = self._growth.touched(since, others)
            self._make_inputs(relation, digests)
            self._write(restricted(relation, self._all, touched), self._directory / f"{name}{SINCE}{since}.parquet")
            return self._growth.layers(name)
        return None

    def _make_inputs(self, relation: Relation, digests: Mapping[str, str]) -> None:
        for name in relation.reads:
            if name in self._all:
                self._make(self._all[name], digests)

    def _write(self, query: str, path: Path) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            options = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"
            self._connection.execute(f"COPY ({query}) TO {sql_text(str(partial))} ({options})")
            publish(partial, path)
        finally:
            remove(partial)

    def _is_parted(self, relation: Relation) -> bool:
        """Whether it pays: what only renames spans needs little memory, and would read all of them for each part."""
        made_from = (self._all[name] for name in relation.reads if name in self._all)
        return relation.is_by_trajectory and (
            relation.is_table or any(each.is_by_trajectory and each.is_table for each in made_from)
        )

    def _write_parts(self, relation: Relation, path: Path) -> None:
        """A directory with a file for each part of the trajectories, so that memory need hold one at a time."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.mkdir()
            for number in range(self._parts):
                file = partial / part_name(number, self._parts)
                self._write(part(relation, self._all, number, self._parts), file)
            if not path.exists():  # another reader may have been first
                partial.rename(path)
        finally:
            remove(partial)

    def _define(self, name: str, kind: str, query: str) -> None:
        for was in ("TABLE", "VIEW"):
            if was != kind:
                with suppress(duckdb.CatalogException):
                    self._connection.execute(f'DROP {was} "{name}"')
        self._connection.execute(f'CREATE OR REPLACE {kind} "{name}" AS {query}')

    def _comment(self, relation: Relation) -> None:
        made = self._made[relation.name]
        kind = "TABLE" if relation.is_table and not made.is_file else "VIEW"
        statements = [f'COMMENT ON {kind} "{relation.name}" IS {sql_text(relation.description)}']
        for column in relation.columns:
            unit = f" [{column.unit}]" if column.unit else ""
            text = sql_text(column.description + unit)
            statements.append(f'COMMENT ON COLUMN "{relation.name}"."{column.name}" IS {text}')
        self._connection.execute(";\n".join(statements))
        made.is_commented = True


@dataclass(slots=True)
class _Made:
    """How a relation was made."""

    digest: str
    is_file: bool
    is_commented: bool = False


def _words(sql: str) -> set[str]:
    return set(re.findall(r"\w+", sql))


def _file(relation: Relation, digests: Mapping[str, str]) -> str:
    """How the file of a relation is called, without its ending."""
    return f"{relation.name}-{digests[relation.name]}"


def _digest(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())
