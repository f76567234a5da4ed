"""Resolves the names in a query written for DuckDB: every column gets its table, stars are written out, the short
forms of DuckDB become plain SQL. What is left can be written for another engine expression by expression.

Afterwards `kind_of` tells what an expression holds.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import sqlglot
from sqlglot import exp

from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers import catalog
from otel_agentperf_analyzers.clickhouse.kinds import SCALAR, Columns, Kind, List, Struct, kind_of, resolved

__all__ = ["Untranslatable", "conjuncts", "describes", "parsed", "resolve"]


# What it cannot parse is told by an error of ours.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


class Untranslatable(UsageError):
    """SQL that ClickHouse has no equal for, or that is not known to mean the same there."""


def describes(sql: str) -> bool:
    """Whether SQL asks for no rows but for what relations are: DESCRIBE, SHOW."""
    try:
        found = sqlglot.parse_one(sql, read="duckdb")
    except sqlglot.errors.ParseError:
        return False
    is_shown = isinstance(found, exp.Command) and str(found.this).upper() == "SHOW"
    return isinstance(found, exp.Describe | exp.Show) or is_shown


def parsed(sql: str) -> exp.Query:
    """One query, its macros written out; the caller's own copy.

    Raises:
        Untranslatable: it is something else, or cannot be read.
    """
    return _parsed(sql).copy()


@lru_cache(512)
def _parsed(sql: str) -> exp.Query:
    try:
        found = sqlglot.parse_one(sql, read="duckdb")
    except sqlglot.errors.ParseError as problem:
        line = " ".join(str(problem).split())
        raise Untranslatable(f"this SQL cannot be read for ClickHouse: {line}") from problem
    if not isinstance(found, exp.Query):
        raise Untranslatable("only a SELECT can be run on ClickHouse")
    while macros := [node for node in found.find_all(exp.Anonymous) if node.name.lower() in _macros()]:
        for node in macros:
            node.replace(_inlined(node))
    return found


@cache
def _macros() -> Mapping[str, tuple[tuple[str, ...], exp.Expr]]:
    """Name to parameters and body."""
    return {
        statement.this.this.name.lower(): (
            tuple(each.name for each in statement.this.expressions),
            statement.expression,
        )
        for statement in sqlglot.parse(catalog.macros(), read="duckdb")
        if isinstance(statement, exp.Create)
    }


def _inlined(call: exp.Anonymous) -> exp.Expr:
    parameters, body = _macros()[call.name.lower()]
    given = dict(zip(parameters, call.expressions, strict=True))

    def replaced(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Column):
            return node
        if node.table in given:
            # A field of an argument.
            return exp.Dot(this=given[node.table].copy(), expression=node.this.copy())
        return exp.paren(given[node.name].copy()) if not node.table and node.name in given else node

    return exp.paren(body.copy().transform(replaced))


def resolve(query: exp.Query, known: Mapping[str, Columns]) -> Columns:
    """Resolve a query in place; its columns.

    Args:
        known: the relations that it may read.

    Raises:
        Untranslatable: a form that is not known.
    """
    inside = dict(known)
    if with_ := query.args.get("with_"):
        for cte in with_.expressions:
            body = cte.this
            if with_.args.get("recursive") and isinstance(body, exp.SetOperation) and _reads(body.right, cte.alias):
                inside[cte.alias] = resolve(body.left, inside)
                resolve(body.right, inside)
            else:
                inside[cte.alias] = resolve(body, inside)
    match query:
        case exp.SetOperation():
            return _of_both(query, inside)
        case exp.Subquery():
            return resolve(query.this, inside)
        case exp.Select():
            return _Scope(query, inside).resolve()
        case _:
            raise Untranslatable(f"no {type(query).__name__} on ClickHouse")


def _reads(query: exp.Expr, name: str) -> bool:
    return any(table.name == name for table in query.find_all(exp.Table))


def _of_both(query: exp.SetOperation, known: Mapping[str, Columns]) -> Columns:
    left, right = resolve(query.left, known), resolve(query.right, known)
    if not query.args.get("by_name"):
        kinds = [_either(*both) for both in zip(left.values(), right.values(), strict=True)]
        return dict(zip(left, kinds, strict=True))
    columns = {name: _either(left.get(name), right.get(name)) for name in [*left, *right]}
    for side, found in ((query.left, left), (query.right, right)):
        for select in _selects(side):
            by_name = dict(zip(found, select.expressions, strict=True))
            select.set(
                "expressions",
                [by_name.get(name) or exp.alias_(_nothing(kind), name, quoted=True) for name, kind in columns.items()],
            )
    query.set("by_name", False)
    return columns


def _nothing(kind: Kind) -> exp.Expr:
    return exp.Array() if isinstance(kind, List) else exp.null()


def _selects(query: exp.Expr) -> Iterator[exp.Select]:
    if isinstance(query, exp.SetOperation):
        yield from _selects(query.left)
        yield from _selects(query.right)
    elif isinstance(query, exp.Subquery):
        yield from _selects(query.this)
    elif isinstance(query, exp.Select):
        yield query


def _either(one: Kind | None, other: Kind | None) -> Kind:
    """What holds both."""
    for kind in (one, other):
        if kind is not None and kind != SCALAR:
            return kind
    return SCALAR


@dataclass(slots=True)
class _Scope:
    """One SELECT."""

    select: exp.Select
    known: Mapping[str, Columns]

    def resolve(self) -> Columns:
        select = self.select
        self._write_out_joins()
        self._write_out_windows()
        sources: dict[str, Columns] = {}
        for item in self._sources():
            sources[item.alias_or_name] = self._columns(item)
        names = _Names(sources, frozenset(each.alias for each in select.expressions if each.alias), self.known)
        select.set("expressions", [*self._projections(sources)])
        self._write_out_using(sources)
        for key, value in select.args.items():
            if key in ("with_", "from_"):
                continue
            for node in value if isinstance(value, list) else [value]:
                if isinstance(node, exp.Join):
                    if on := node.args.get("on"):
                        names.visit(on)
                elif isinstance(node, exp.Expr):
                    names.visit(node, is_order=isinstance(node, exp.Order))
        columns: dict[str, Kind] = {}
        written: list[exp.Expr] = []
        for number, each in enumerate(select.expressions):
            for name, expression in _unnested(each, number):
                # Columns of one name cannot be asked for, but count in a UNION.
                name = name if name not in columns else f"{name}_{number}"
                columns[name] = kind_of(expression)
                written.append(exp.alias_(expression, name, quoted=True))
        select.set("expressions", written)
        return columns

    def _write_out_joins(self) -> None:
        """DuckDB's SEMI and ANTI joins as IN; tables of FROM that sqlglot keeps inside another table, beside it."""
        select = self.select
        from_ = select.args.get("from_")
        if from_ is not None and from_.this.args.get("joins"):
            select.set("joins", [*from_.this.args["joins"], *(select.args.get("joins") or ())])
            from_.this.set("joins", None)
        joins = []
        for join in select.args.get("joins") or ():
            if join.kind in ("ANTI", "SEMI"):
                condition = _membership(join)
                select.where(exp.Not(this=condition) if join.kind == "ANTI" else condition, copy=False)
            else:
                joins.append(join)
        select.set("joins", joins)

    def _write_out_windows(self) -> None:
        """Windows that have a name, where they are used."""
        named = {window.this.name: window for window in self.select.args.get("windows") or ()}
        self.select.set("windows", None)
        for window in list(self.select.find_all(exp.Window)):
            alias = window.args.get("alias")
            if alias is None or window.parent_select is not self.select:
                continue
            if alias.name not in named:
                raise Untranslatable(f"no WINDOW {alias.name}")
            for key in ("partition_by", "order", "spec"):
                found = named[alias.name].args.get(key)
                copied = [each.copy() for each in found] if isinstance(found, list) else found and found.copy()
                window.set(key, copied)
            window.set("alias", None)

    def _write_out_using(self, sources: Mapping[str, Columns]) -> None:
        """USING as ON, with the first table that has the key."""
        seen = [next(iter(sources))] if sources else []
        for join in self.select.args.get("joins") or ():
            right = join.this.alias_or_name
            for key in join.args.get("using") or ():
                left = next((each for each in seen if key.name in sources[each]), None)
                if left is None:
                    raise Untranslatable(f"no {key.name} to join by")
                equal = exp.EQ(this=_column(left, key.name), expression=_column(right, key.name))
                join.set("on", exp.and_(join.args.get("on"), equal))
            join.set("using", None)
            seen.append(right)

    def _sources(self) -> Iterator[exp.Expr]:
        from_ = self.select.args.get("from_")
        if from_ is not None:
            yield from_.this
        for join in self.select.args.get("joins") or ():
            yield join.this

    def _columns(self, item: exp.Expr) -> Columns:
        if isinstance(item, exp.Subquery):
            if not item.alias:
                item.set("alias", exp.TableAlias(this=exp.to_identifier(f"from_{id(item) % 10**6}", quoted=True)))
            return resolve(item.this, self.known)
        if not isinstance(item, exp.Table):
            raise Untranslatable(f"no {type(item).__name__} in FROM on ClickHouse")
        columns = self.known.get(item.name)
        if columns is None:
            raise Untranslatable(f"no relation {item.name!r} on ClickHouse")
        if not item.alias:
            item.set("alias", exp.TableAlias(this=exp.to_identifier(item.name, quoted=True)))
        return columns

    def _projections(self, sources: Mapping[str, Columns]) -> Iterator[exp.Expr]:
        """Stars written out; joined keys once."""
        joined = {key.name for join in self.select.args.get("joins") or () for key in join.args.get("using") or ()}
        for each in self.select.expressions:
            star, table = (each.this if isinstance(each, exp.Columns) else each), ""
            if isinstance(star, exp.Column) and isinstance(star.this, exp.Star):
                table, star = star.table, star.this
            if not isinstance(star, exp.Star):
                yield each
                continue
            if star.args.get("rename"):
                raise Untranslatable("* RENAME cannot be run on ClickHouse")
            replaced = {alias.alias: alias for alias in star.args.get("replace") or ()}
            left_out = {column.name for column in star.args.get("except_") or ()}
            for name, columns in sources.items():
                if table and name != table:
                    continue
                for column in columns:
                    if column not in left_out and not (not table and column in joined and name != next(iter(sources))):
                        yield replaced.get(column) or _column(name, column)


@dataclass(slots=True)
class _Names:
    """Gives the columns in the expressions of a SELECT their tables."""

    sources: Mapping[str, Columns]
    aliases: frozenset[str]
    known: Mapping[str, Columns]

    def visit(self, node: exp.Expr, *, is_order: bool = False) -> None:
        """Resolve all below a node; in ORDER BY the names of the result come first."""
        if isinstance(node, exp.Query):
            resolve(node, self.known)
            return
        if isinstance(node, exp.Column):
            if is_order and not node.table and node.name in self.aliases:
                return
            node.replace(self._resolved(node))
            return
        for child in list(node.iter_expressions()):
            # A window's own order is over columns.
            self.visit(child, is_order=is_order and not isinstance(child, exp.Window))

    def _resolved(self, node: exp.Column) -> exp.Expr:
        parts = [part.name for part in node.parts]
        if len(parts) > 1 and parts[0] in self.sources and parts[1] in self.sources[parts[0]]:
            table, name, fields = parts[0], parts[1], parts[2:]
        else:
            found = next((table for table, columns in self.sources.items() if parts[0] in columns), None)
            if found is None:
                if len(parts) == 1:
                    # The name of a result, or a wrong one: the engine tells.
                    return node
                raise Untranslatable(f"cannot tell what {'.'.join(parts)} is")
            table, name, fields = found, parts[0], parts[1:]
        column: exp.Expr = resolved(_column(table, name), self.sources[table][name])
        for field in fields:
            column = exp.Dot(this=column, expression=exp.to_identifier(field, quoted=True))
        return column


def _membership(join: exp.Join) -> exp.Expr:
    """The condition of a SEMI join, as IN."""
    right = join.this.alias_or_name
    pairs: list[tuple[exp.Expr, exp.Expr]] = []
    for key in join.args.get("using") or ():
        pairs.append((exp.column(key.name, quoted=True), exp.column(key.name, quoted=True)))
    for each in conjuncts(join.args.get("on")):
        sides = [each.this, each.expression] if isinstance(each, exp.EQ) else []
        inner = [side for side in sides if {column.table for column in side.find_all(exp.Column)} == {right}]
        if len(inner) != 1:
            raise Untranslatable(f"{join.kind} JOIN on ClickHouse needs equalities")
        pairs.append((next(side for side in sides if side is not inner[0]), inner[0]))
    query = exp.select(*(inner.copy() for _, inner in pairs)).from_(join.this.copy())
    left = [outer.copy() for outer, _ in pairs]
    return exp.In(this=exp.Tuple(expressions=left) if len(left) > 1 else left[0], query=exp.Subquery(this=query))


def conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    """The conditions that are joined by AND."""
    if isinstance(node, exp.And):
        yield from conjuncts(node.this)
        yield from conjuncts(node.expression)
    elif isinstance(node, exp.Paren) and isinstance(node.this, exp.And):
        yield from conjuncts(node.this)
    elif node is not None:
        yield node


def _column(table: str, column: str) -> exp.Column:
    return exp.column(column, table=table, quoted=True)


def _unnested(each: exp.Expr, number: int) -> Iterable[tuple[str, exp.Expr]]:
    """Name and expression of each column that a projection gives: UNNEST of structs gives one for each field."""
    inner = each.this if isinstance(each, exp.Alias) else each
    if isinstance(inner, exp.Explode) and inner.expressions:
        item = kind_of(inner.this)
        if not isinstance(item, List) or not isinstance(item.item, Struct):
            raise Untranslatable("UNNEST with options is for lists of structs on ClickHouse")
        plain = exp.Explode(this=inner.this)
        return [
            (name, exp.Dot(this=plain.copy(), expression=exp.to_identifier(name, quoted=True)))
            for name, _ in item.item.fields
        ]
    return [
        (each.alias or (inner.name if isinstance(inner, exp.Column | exp.Dot) else "") or f"column_{number}", inner)
    ]
