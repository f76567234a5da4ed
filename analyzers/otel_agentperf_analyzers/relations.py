"""Makes relations when they are first asked for, and keeps what they hold for the next reader of the same spans.

Over few spans a relation is a table in memory. Over many it is a Parquet file, so that memory does not limit them, and
a query reads only the columns that it names; in a store's cache the file outlives this reader.
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
from otel_agentperf_analyzers.sources.base import remove
from otel_agentperf_analyzers.sources.build import sql_text

MANY_SPANS: Final = 20_000
"""From so many on, relations are files."""

_SPANS: Final = frozenset(("raw_spans",))
"""What staging reads; what only renames it is not worth a file."""

_INTROSPECTIVE: Final = re.compile(
    r"\b(show|describe|summarize|pragma\w*|duckdb_\w+|information_schema|sqlite_\w+)\b", re.IGNORECASE
)


class Relations:
    """The relations of one database. Tables that they read beside the spans, such as `slo_tiers`, may change between
    two calls: what is made from them is made anew then.

    Args:
        directory: where files of relations go, and may be found; None to hold all in memory.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, directory: Path | None) -> None:
        self._connection = connection
        self._directory = directory
        self._all = {relation.name: relation for relation in catalog.all_relations()}
        self._macros = catalog.macros()
        self._words = {relation.name: frozenset(_words(relation.query)) for relation in self._all.values()}
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
        for name in relation.reads:
            if name in self._all:
                self._make(self._all[name], digests)
        self._define(relation.name, "TABLE" if relation.is_table else "VIEW", relation.query)
        self._made[relation.name] = _Made(digest, is_file)

    def _make_file(self, relation: Relation, digests: Mapping[str, str]) -> bool:
        """Make a relation a view of its file; False where no file can be written."""
        assert self._directory is not None
        path = self._directory / f"{relation.name}-{digests[relation.name]}.parquet"
        view = f"FROM read_parquet({sql_text(str(path))})"
        try:
            if not path.exists():
                for name in relation.reads:
                    if name in self._all:
                        self._make(self._all[name], digests)
                partial = path.with_name(f".{path.name}.{os.getpid()}")
                try:
                    options = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"
                    self._connection.execute(f"COPY ({relation.query}) TO {sql_text(str(partial))} ({options})")
                    partial.rename(path)
                finally:
                    remove(partial)
            self._define(relation.name, "VIEW", view)
        except (duckdb.IOException, duckdb.InvalidInputException, OSError):
            # The disk is full, or the machine went down while the file was written.
            remove(path)
            return False
        self._made[relation.name] = _Made(digests[relation.name], True)
        return True

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


def _digest(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())
