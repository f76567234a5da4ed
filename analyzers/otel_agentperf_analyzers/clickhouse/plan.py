"""Which statements make the rows of a query: relations that are read several times become temporary tables, with the
columns that something asks for; the others stand inside the statement that reads them."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Final

from sqlglot import exp

from otel_agentperf_analyzers import catalog
from otel_agentperf_analyzers.clickhouse.dialect import translate
from otel_agentperf_analyzers.clickhouse.functions import name
from otel_agentperf_analyzers.clickhouse.kinds import Columns, Scalar
from otel_agentperf_analyzers.clickhouse.scopes import parsed
from otel_agentperf_analyzers.clickhouse.spans import COLUMNS

__all__ = ["Given", "Planner", "Statement", "beside"]

_RAW: Final = "raw_spans"
_SPANS: Final = "spans"
_WIDE: Final = frozenset(column for column, kind in COLUMNS.items() if not isinstance(kind, Scalar)) | {
    "events",
    "links",
}
"""Columns of the spans that cost most to read, and that few ask for."""

_MANY: Final = 4
"""A relation that only renames others is kept when it is read so often: ClickHouse would plan it anew each time."""

_RECURSIVE: Final = "WITH RECURSIVE "


@dataclass(frozen=True, slots=True)
class Given:
    """A table that relations read beside the spans."""

    selects: tuple[str, ...]
    """Its rows: one SELECT, or several that are too long for one statement."""
    columns: Columns


@dataclass(frozen=True, slots=True)
class Statement:
    """What is to be run: the SELECT of a temporary table, or of the rows that were asked for."""

    select: str
    what: str = "rows"
    """The relation, or part of one, that it makes."""
    table: str | None = None
    """The temporary table that it goes into."""
    outdated: tuple[str, ...] = ()
    """Temporary tables that nothing reads any more when it has been run."""


@dataclass(slots=True)
class _Made:
    table: str
    columns: Columns
    given: tuple[tuple[str, ...], ...]
    """What its rows are made from beside the spans."""


@dataclass(frozen=True, slots=True)
class _Needed:
    """What a query is made from."""

    columns: frozenset[str]
    """Those that something may ask for."""
    is_kept: bool
    """It is worth a temporary table."""


@dataclass(slots=True)
class Planner:
    """Writes statements, and knows the temporary tables that are there.

    Args:
        spans: SELECT of `raw_spans` with these columns.
        columns: names of the columns of a relation.
        prefix: of the names of temporary tables.
        relations: all, each after those it is made from.
    """

    spans: Callable[[Set[str]], str]
    columns: Callable[[str], Sequence[str]]
    prefix: str
    relations: Sequence[catalog.Relation]
    _made: dict[str, _Made] = field(default_factory=dict)
    _count: int = 0
    _all: dict[str, catalog.Relation] = field(init=False)
    _below: dict[str, frozenset[str]] = field(init=False)
    """All that a relation is made from, however indirectly."""

    def __post_init__(self) -> None:
        self._all = {relation.name: relation for relation in self.relations}
        self._below = {_RAW: frozenset()}
        for each in self._all:
            reads = frozenset(self._reads(each))
            self._below[each] = reads.union(*(self._below[name] for name in reads & self._below.keys()))

    def statements(
        self, sql: str, parameters: Mapping[str, Any] | None, given: Mapping[str, Given]
    ) -> Iterator[Statement]:
        """The statements that make a query's rows, in order; the last gives them. A table counts as made when the next
        statement is asked for.

        Raises:
            Untranslatable: it cannot be run on ClickHouse.
        """
        needed = self._needed(sql)
        known: dict[str, Columns] = {table: each.columns for table, each in given.items()}
        inside: dict[str, str] = {}
        loose: list[str] = []
        for table in sorted(given.keys() & set(_counted(parsed(sql))).union(*(self._below[each] for each in needed))):
            if len(given[table].selects) == 1:
                [inside[table]] = given[table].selects
                continue
            names = [self._name(table) for _ in given[table].selects]
            for part, select in zip(names, given[table].selects, strict=True):
                yield Statement(select, table, part)
            inside[table] = " UNION ALL ".join(f"SELECT * FROM {name(part)}" for part in names)
            loose += names
        beside = {
            each: tuple(given[table].selects for table in sorted(self._below[each] & given.keys())) for each in needed
        }
        there = {
            each: made
            for each, made in self._made.items()
            if each in needed and made.given == beside[each] and needed[each].columns <= made.columns.keys()
        }
        reached = self._reached(sql, needed.keys(), there.keys())
        for relation, each in needed.items():
            if relation not in reached:
                continue
            if relation in there:
                known[relation], inside[relation] = (
                    there[relation].columns,
                    f"SELECT * FROM {name(there[relation].table)}",
                )
                continue
            made = self._made.get(relation)
            columns, select, shared = self._select(relation, each, known)
            known[relation] = columns
            parts = []
            for part, text in shared:
                table = self._name(part)
                yield Statement(_whole(text, inside), part, table)
                inside[part] = f"SELECT * FROM {name(table)}"
                parts.append(table)
            if not each.is_kept:
                inside[relation] = select
                loose += parts
                continue
            table = self._name(relation)
            outdated = (*parts, made.table) if made is not None else tuple(parts)
            yield Statement(_whole(select, inside), relation, table, outdated)
            self._made[relation] = _Made(table, columns, beside[relation])
            inside[relation] = f"SELECT * FROM {name(table)}"
        yield Statement(_whole(translate(sql, known, parameters).sql, inside), outdated=tuple(loose))

    def _select(
        self, relation: str, needed: "_Needed", known: Mapping[str, Columns]
    ) -> tuple[Columns, str, tuple[tuple[str, str], ...]]:
        """Columns of a relation that are needed, the SELECT that gives them, and what that reads several times."""
        if relation == _RAW:
            return (
                {each: kind for each, kind in COLUMNS.items() if each in needed.columns},
                self.spans(needed.columns),
                (),
            )
        written = translate(self._all[relation].query, known, only=needed.columns, apart=f"{relation}__{{}}".format)
        columns = {column: kind for column, kind in written.columns.items() if column in needed.columns}
        if columns.keys() == written.columns.keys():
            return columns, written.sql, written.shared
        select = f"SELECT {', '.join(map(name, columns)) or '1 AS `one`'} FROM ({written.sql})"
        return columns, select, written.shared

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self.prefix}_{what}_{self._count}"

    def tables(self) -> list[str]:
        """Temporary tables that are there."""
        return [each.table for each in self._made.values()]

    def _needed(self, sql: str) -> "dict[str, _Needed]":
        """What a query is made from, each after what that is made from itself; the spans come first."""
        query = parsed(sql)
        direct = _counted(query)
        every = self._all
        used = direct.keys() & every.keys()
        names = used.union(*(self._below[user] & every.keys() for user in used))
        uses: Counter[str] = Counter(direct)
        for each in names:
            uses.update(self._reads(each))
        whole = direct.keys() if _has_star(query) else frozenset()
        found = {}
        for each, relation in every.items():
            if each not in names:
                continue
            above = [sql, *(every[user].query for user in names if each in self._below[user])]
            columns = self.columns(each)
            if each not in whole:
                columns = [column for column in columns if any(_names(text, column) for text in above)]
            is_kept = uses[each] > 1 and (relation.is_table or (uses[each] >= _MANY and each != _SPANS))
            found[each] = _Needed(frozenset(columns), is_kept)
        if not names:
            return found
        found = {_RAW: _Needed(self._of_spans(sql, names, found), max(uses[_RAW], uses[_SPANS]) > 1), **found}
        if any(each in self._made and not found[each].columns <= self._made[each].columns.keys() for each in found):
            # Who asks again for something else will ask for more: made once more, it has all but what costs most.
            every_column = {_RAW: [*COLUMNS], **{each: self.columns(each) for each in names}}
            found = {
                each: _Needed(needed.columns | (frozenset(every_column[each]) - _WIDE), needed.is_kept)
                for each, needed in found.items()
            }
        return found

    def _of_spans(self, sql: str, names: Set[str], found: "Mapping[str, _Needed]") -> frozenset[str]:
        """Columns of the spans that are read."""
        readers = {each: self._all[each].query for each in names if _RAW in self._reads(each)}
        texts = [sql, *(self._all[each].query for each in names)]
        passed_on = found[_SPANS].columns if _SPANS in found else frozenset()
        others = [query for each, query in readers.items() if each != _SPANS]
        return frozenset(
            column
            for column in COLUMNS
            if column in passed_on
            or any(
                _names(text, column)
                for text in (others if column in _WIDE else texts if "." in column else readers.values())
            )
        )

    def _reached(self, sql: str, needed: Set[str], there: Set[str]) -> set[str]:
        """What a query reads, and what that is made from, as far as it is not there already."""
        reached: set[str] = set()
        todo = [*_counted(parsed(sql))]
        while todo:
            each = todo.pop()
            if each in needed and each not in reached:
                reached.add(each)
                todo += [] if each in there else [*self._reads(each)]
        return reached

    def _reads(self, relation: str) -> Counter[str]:
        """Tables that a relation's query reads, and how often."""
        return Counter() if relation == _RAW else _read_by(self._all[relation].query)


def _whole(select: str, inside: Mapping[str, str]) -> str:
    """A SELECT with all that it reads before it."""
    wanted: set[str] = set()
    todo = [select]
    while todo:
        text = todo.pop()
        for each in inside.keys() - wanted:
            if f"`{each}`" in text:
                wanted.add(each)
                todo.append(inside[each])
    if not wanted:
        return select
    ctes = ",\n".join(f"{name(each)} AS ({text})" for each, text in inside.items() if each in wanted)
    # Its order would be lost below another SELECT.
    for word in (_RECURSIVE, "WITH "):
        if select.startswith(word):
            return f"{word}{ctes},\n{select.removeprefix(word)}"
    return f"WITH {ctes}\n{select}"


@cache
def beside() -> tuple[str, ...]:
    """Tables that relations read beside the spans."""
    relations = catalog.all_relations()
    read = frozenset[str]().union(*(_read_by(each.query) for each in relations))
    return tuple(sorted(read - {each.name for each in relations} - {_RAW}))


@cache
def _read_by(query: str) -> Counter[str]:
    return _counted(parsed(query))


def _counted(query: exp.Query) -> Counter[str]:
    own = {cte.alias for cte in query.find_all(exp.CTE)}
    return Counter(table.name for table in query.find_all(exp.Table) if table.name not in own)


def _has_star(query: exp.Query) -> bool:
    return any(
        isinstance(node, exp.Columns) or (isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count))
        for node in query.walk()
    )


def _names(text: str, column: str) -> bool:
    """Whether SQL names a column, or something of that name."""
    return f'"{column}"' in text if "." in column else column in _words(text)


@lru_cache(512)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))
