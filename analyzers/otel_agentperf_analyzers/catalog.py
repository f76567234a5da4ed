"""The catalogue: what the relations and metrics are, read from the headers of the SQL files.

Each file of `sql/stitch`, `sql/staging` and `sql/metrics` defines one relation. Its first comment block is the header:

    -- relation: NAME
    -- description: text; a line indented by two or more continues it
    -- grain: one row per ...
    -- requires: what must be in the data
    -- source: where the definition comes from
    -- reads: relations it is made from
    -- visibility: public | internal           internal ones are steps towards the public ones
    -- storage: table | view                   a table is computed once, when the source is opened
    -- scope: trajectory                       of some trajectories its rows come from these trajectories' spans alone,
                                               and from the tables that it reads beside; may be left out
    -- filters: model=COLUMN benchmark=COLUMN trajectory=COLUMN
    -- order: COLUMN, ...                      the natural order of its rows
    -- columns:
    --   NAME TYPE [UNIT]: text                the unit may be left out; four spaces continue the text
    -- metric: NAME                            any number of these, each with its fields:
    --   column: the column of this relation that holds it
    --   definition, formula, unit, grain, requires, source: text; four spaces continue it

No DuckDB here: the headers alone say everything.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from graphlib import TopologicalSorter
from importlib.resources import files
from typing import Final

__all__ = ["Column", "Metric", "Relation", "all_relations", "internal", "macros", "metrics", "relation", "relations"]

_STITCHING: Final = "stitch"
_FOLDERS: Final = (_STITCHING, "staging", "metrics")
_COLUMN: Final = re.compile(r'(?P<name>"[^"]+"|\w+) (?P<type>.+?)(?: \[(?P<unit>[^\]]+)\])?: (?P<text>.+)')
_FIELDS: Final = frozenset(("relation", "description", "grain", "requires", "source", "reads", "visibility", "storage"))
_OPTIONAL: Final = frozenset(("scope", "filters", "order"))
_METRIC_FIELDS: Final = frozenset(("column", "definition", "formula", "unit", "grain", "requires", "source"))


@dataclass(slots=True, frozen=True)
class Column:
    """A column of a relation; `type` is DuckDB's, `unit` is None for what has none."""

    name: str
    type: str
    unit: str | None
    description: str


@dataclass(slots=True, frozen=True)
class Metric:
    """A metric and the column that holds it."""

    name: str
    definition: str
    formula: str
    unit: str
    grain: str
    requires: str
    source: str
    relation: str
    column: str


@dataclass(slots=True, frozen=True)
class Relation:
    """A relation: its documentation, and the query that makes it."""

    name: str
    grain: str
    description: str
    columns: tuple[Column, ...]
    requires: str
    source: str
    metrics: tuple[Metric, ...]
    is_public: bool
    is_table: bool
    is_by_trajectory: bool
    reads: tuple[str, ...]
    filters: Mapping[str, str]
    """Filter name (`model`, `benchmark`, `trajectory`) to the column it compares."""
    order: tuple[str, ...]
    query: str


def relations() -> tuple[Relation, ...]:
    """The documented relations, each after those it is made from."""
    return tuple(each for each in all_relations() if each.is_public)


def relation(name: str) -> Relation | None:
    """The documented relation of that name."""
    return next((each for each in relations() if each.name == name), None)


def internal(name: str) -> Relation:
    """A relation by name, the steps between the documented ones included."""
    return next(each for each in all_relations() if each.name == name)


def metrics() -> tuple[Metric, ...]:
    """All metrics, in the order of their relations."""
    return tuple(metric for each in relations() for metric in each.metrics)


@cache
def all_relations(*, is_linked: bool = True) -> tuple[Relation, ...]:
    """Documented relations and the steps between, each after those it is made from.

    Args:
        is_linked: several processes wrote link keys. Otherwise there is nothing to stitch: what is read of it is
            planned as what it is, without rows, and the steps to it are left out.
    """
    found = {each.name: each for folder in _FOLDERS for each in _parsed(folder)}
    if not is_linked:
        stitching = {each.name for each in _parsed(_STITCHING)}
        read = {name for each in found.values() if each.name not in stitching for name in each.reads}
        found = {
            name: _emptied(each) if name in stitching else each
            for name, each in found.items()
            if name not in stitching or name in read
        }
    order = TopologicalSorter({each.name: [name for name in each.reads if name in found] for each in found.values()})
    return tuple(found[name] for name in order.static_order())


def macros() -> str:
    """The SQL functions that the relations share."""
    return (files(__package__) / "sql" / "macros.sql").read_text("utf-8")


@cache
def _parsed(folder: str) -> tuple[Relation, ...]:
    entries = (files(__package__) / "sql" / folder).iterdir()
    texts = sorted((entry for entry in entries if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(parse(entry.read_text("utf-8")) for entry in texts)


def _emptied(relation: Relation) -> Relation:
    """The same columns without rows."""
    columns = ", ".join(f'CAST(NULL AS {column.type}) AS "{column.name}"' for column in relation.columns)
    return replace(relation, is_table=False, reads=(), query=f"SELECT {columns} WHERE FALSE")


def parse(text: str) -> Relation:
    """Read one SQL file.

    Raises:
        ValueError: its header is not as described above.
    """
    header, query = _split(text)
    fields: dict[str, str] = {}
    columns: list[Column] = []
    metrics_fields: list[dict[str, str]] = []
    for key, value, entries in _blocks(header):
        if key == "columns":
            columns = [_column(entry) for entry in entries]
        elif key == "metric":
            metrics_fields.append({"name": value, **dict(_field(entry) for entry in entries)})
        else:
            fields[key] = " ".join((value, *entries)).strip()
    if fields.keys() | _OPTIONAL != _FIELDS | _OPTIONAL:
        raise ValueError(f"fields of {fields.get('relation')}: {sorted(fields.keys() ^ _FIELDS)}")
    name = fields["relation"]
    for metric in metrics_fields:
        if metric.keys() != _METRIC_FIELDS | {"name"}:
            raise ValueError(f"fields of metric {metric['name']}: {sorted(metric.keys() ^ _METRIC_FIELDS)}")
    return Relation(
        name=name,
        grain=fields["grain"],
        description=fields["description"],
        columns=tuple(columns),
        requires=fields["requires"],
        source=fields["source"],
        metrics=tuple(Metric(relation=name, **metric) for metric in metrics_fields),
        is_public=fields["visibility"] == "public",
        is_table=fields["storage"] == "table",
        is_by_trajectory=fields.get("scope") == "trajectory",
        reads=tuple(fields["reads"].replace(",", " ").split()),
        filters=dict(part.split("=", 1) for part in fields.get("filters", "").split()),
        order=tuple(fields.get("order", "").replace(",", " ").split()),
        query=query,
    )


def _split(text: str) -> tuple[list[str], str]:
    """The lines of the header without their dashes, and what follows it."""
    lines = text.splitlines()
    end = next((at for at, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return [line[2:].removeprefix(" ").rstrip() for line in lines[:end]], "\n".join(lines[end:]).strip().rstrip(";")


def _blocks(header: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Key, value and indented entries of each block; deeper lines are joined to their entry."""
    block: tuple[str, str, list[str]] | None = None
    for line in filter(None, header):
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            if block:
                yield block
            key, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"no key: {line!r}")
            block = (key, value.strip(), [])
        elif block is None:
            raise ValueError(f"indented before any key: {line!r}")
        elif depth < 4 or not block[2]:
            block[2].append(line.strip())
        else:
            block[2][-1] += " " + line.strip()
    if block:
        yield block


def _column(entry: str) -> Column:
    match = _COLUMN.fullmatch(entry)
    if match is None:
        raise ValueError(f"not a column, NAME TYPE [UNIT]: text: {entry!r}")
    return Column(match["name"].strip('"'), match["type"], match["unit"], match["text"])


def _field(entry: str) -> tuple[str, str]:
    key, _, value = entry.partition(":")
    return key.strip(), value.strip()
