"""What a column holds, as far as it matters when SQL is written for ClickHouse: lists, structs and maps are told from
all else, because only what is none of these can be NULL there."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

__all__ = [
    "SCALAR",
    "Columns",
    "Kind",
    "List",
    "Map",
    "Scalar",
    "Struct",
    "clickhouse_type",
    "kind_of",
    "of_json",
    "parse",
    "resolved",
]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value that can be NULL; `type` is DuckDB's name of its type, where it is known."""

    type: str | None = None


@dataclass(frozen=True, slots=True)
class List:
    """A list. ClickHouse's cannot be NULL: an empty one stands for NULL."""

    item: "Kind"


@dataclass(frozen=True, slots=True)
class Struct:
    """Fields by name. ClickHouse's tuples cannot be NULL, their fields can."""

    fields: tuple[tuple[str, "Kind"], ...]

    def position(self, name: str) -> int | None:
        """From 1, as `tupleElement` counts."""
        return next((at for at, (field, _) in enumerate(self.fields, 1) if field.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Map:
    """Text by text. It cannot be NULL."""


Kind = Scalar | List | Struct | Map
Columns = Mapping[str, Kind]
"""Columns of a relation in their order."""

SCALAR: Final = Scalar()

_KIND: Final = "kind"
"""Key of what a resolved column holds, in its node's `meta`."""

_TYPES: Final = {
    "VARCHAR": "String",
    "TEXT": "String",
    "BIGINT": "Int64",
    "INT": "Int64",
    "INTEGER": "Int64",
    "HUGEINT": "Int64",
    "INT128": "Int64",
    "UBIGINT": "UInt64",
    "SMALLINT": "Int64",
    "TINYINT": "Int64",
    "DOUBLE": "Float64",
    "FLOAT": "Float64",
    "BOOLEAN": "Bool",
    "TIMESTAMPTZ": "DateTime64(6, 'UTC')",
    "TIMESTAMP": "DateTime64(6, 'UTC')",
    "TIMESTAMPNTZ": "DateTime64(6, 'UTC')",
    "DATE": "Date32",
}
"""DuckDB's types, as sqlglot names them, to ClickHouse's."""


def parse(text: str) -> Kind:
    """A type as DuckDB writes it, such as `STRUCT(low DOUBLE, high DOUBLE)[]`."""
    return _of(exp.DataType.build(text, dialect="duckdb"))


def _of(kind: exp.DataType) -> Kind:
    match kind.this:
        case exp.DataType.Type.LIST | exp.DataType.Type.ARRAY:
            return List(_of(kind.expressions[0]))
        case exp.DataType.Type.STRUCT:
            return Struct(tuple((field.name, _of(field.args["kind"])) for field in kind.expressions))
        case exp.DataType.Type.MAP:
            return Map()
        case _:
            return Scalar(kind.this.value)


def of_json(structure: object) -> Kind:
    """What DuckDB's FROM_JSON gives for a structure, such as `[{"key": "VARCHAR"}]`."""
    match structure:
        case [item]:
            return List(of_json(item))
        case dict():
            return Struct(tuple((name, of_json(value)) for name, value in structure.items()))
        case str():
            return Scalar(structure)
        case _:
            raise ValueError(f"no structure of JSON: {structure!r}")


def clickhouse_type(kind: Kind) -> str:
    """The type that holds it in ClickHouse.

    Raises:
        ValueError: there is none.
    """
    match kind:
        case Scalar(type=name):
            found = _TYPES.get(name or "")
            if found is None:
                raise ValueError(f"no type for {name}")
            return f"Nullable({found})"
        case List(item=item):
            return f"Array({clickhouse_type(item)})"
        case Struct(fields=fields):
            return f"Tuple({', '.join(f'`{name}` {clickhouse_type(field)}' for name, field in fields)})"
        case Map():
            return "Map(String, String)"


def resolved(column: exp.Column, kind: Kind) -> exp.Column:
    """The column, for which `kind_of` tells what it holds from now on."""
    column.meta[_KIND] = kind
    return column


def kind_of(node: exp.Expr) -> Kind:
    """What a resolved expression holds."""
    match node:
        case exp.Column():
            found: Kind = node.meta.get(_KIND, SCALAR)
            return found
        case (
            exp.Paren() | exp.Alias() | exp.Filter() | exp.IgnoreNulls() | exp.AnyValue() | exp.ArgMax() | exp.ArgMin()
        ):
            return kind_of(node.this)
        case exp.ArraySort() | exp.ArrayFilter() | exp.Order():
            return kind_of(node.this)
        case exp.Max() | exp.Min():
            return kind_of(node.this)
        case exp.Distinct():
            return kind_of(node.expressions[0])
        case exp.ArrayAgg():
            return List(kind_of(node.this))
        case exp.Array():
            return List(kind_of(node.expressions[0]) if node.expressions else SCALAR)
        case exp.Struct():
            return Struct(tuple((field.name, kind_of(field.expression)) for field in node.expressions))
        case exp.Explode():
            return _item(kind_of(node.this))
        case exp.Bracket():
            return _item(kind_of(node.this))
        case exp.Dot():
            outer = kind_of(node.this)
            if isinstance(outer, Struct):
                return next(
                    (kind for name, kind in outer.fields if name.lower() == node.expression.name.lower()), SCALAR
                )
            return SCALAR
        case exp.FromJson():
            return of_json(json.loads(node.expression.name))
        case exp.GenerateSeries():
            return List(Scalar("BIGINT"))
        case exp.Split():
            return List(Scalar("VARCHAR"))
        case exp.Case():
            results = [*(each.args["true"] for each in node.args["ifs"]), node.args.get("default")]
            return _first(kind_of(each) for each in results if each is not None)
        case exp.Coalesce():
            return _first(kind_of(each) for each in (node.this, *node.expressions))
        case exp.Cast() | exp.TryCast():
            return Scalar(node.to.this.value)
        case exp.Literal() if not node.is_string:
            return Scalar("BIGINT" if node.is_int else "DOUBLE")
        case exp.Div() | exp.Avg() | exp.Median() | exp.PercentileCont():
            return Scalar("DOUBLE")
        case exp.Count() | exp.RowNumber() | exp.Length() | exp.IntDiv():
            return Scalar("BIGINT")
        case (
            exp.Sum()
            | exp.Window()
            | exp.Lag()
            | exp.Lead()
            | exp.FirstValue()
            | exp.LastValue()
            | exp.Neg()
            | exp.Greatest()
            | exp.Least()
            | exp.Nullif()
        ):
            return kind_of(node.this)
        case exp.Round() | exp.Floor() | exp.Ceil():
            return kind_of(node.this)
        case exp.Add() | exp.Sub() | exp.Mul():
            sides = (kind_of(node.this), kind_of(node.expression))
            return next((side for side in sides if side == Scalar("DOUBLE")), sides[0])
        case _:
            return SCALAR


def _first(kinds: Iterable[Kind]) -> Kind:
    """Of values of which one is taken: a number is DOUBLE when one may be."""
    known = [kind for kind in kinds if kind != SCALAR]
    return next((kind for kind in known if kind == Scalar("DOUBLE")), known[0] if known else SCALAR)


def _item(kind: Kind) -> Kind:
    if isinstance(kind, List):
        return kind.item
    return Scalar("VARCHAR") if isinstance(kind, Map) else SCALAR
