"""Writes queries of DuckDB's SQL for ClickHouse: one source per relation, two engines.

What is written gives the same rows without any setting of the session. NULL is kept by its types: what a SELECT gives
is Nullable, unless it is a list, a struct or a map, so that outer joins leave NULL and not a default.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from sqlglot import exp

from otel_agentperf_analyzers.clickhouse.expressions import Expressions
from otel_agentperf_analyzers.clickhouse.functions import name
from otel_agentperf_analyzers.clickhouse.kinds import Columns, Scalar, kind_of
from otel_agentperf_analyzers.clickhouse.scopes import Untranslatable, conjuncts, parsed, resolve

__all__ = ["Translated", "Untranslatable", "translate"]

_SETS: Final[dict[type[exp.Expr], str]] = {
    exp.Union: "UNION",
    exp.Intersect: "INTERSECT",
    exp.Except: "EXCEPT",
}


@dataclass(frozen=True, slots=True)
class Translated:
    """A query for ClickHouse."""

    sql: str
    columns: Columns
    shared: tuple[tuple[str, str], ...] = ()
    """Name and SELECT of what it reads several times and leaves out, each after those that it reads itself."""


def translate(
    sql: str,
    known: Mapping[str, Columns],
    parameters: Mapping[str, Any] | None = None,
    *,
    only: Set[str] | None = None,
    apart: Callable[[str], str] | None = None,
) -> Translated:
    """Write one query.

    Args:
        known: the relations that it may read.
        parameters: values of its `$name`.
        only: columns of its result that are wanted; others may be left out.
        apart: gives another name to a common table expression that is read several times: ClickHouse would compute it
            each time. None to leave all where they are.

    Raises:
        Untranslatable: it uses what ClickHouse has no equal for.
    """
    query = parsed(sql)
    if only is not None:
        _narrow(query, only)
    columns = resolve(query, known)
    writer = _Writer(parameters or {})
    shared = [] if apart is None else [(name, writer.query(body)) for name, body in _taken_apart(query, apart)]
    return Translated(writer.query(query), columns, tuple(shared))


def _taken_apart(query: exp.Query, apart: Callable[[str], str]) -> Iterator[tuple[str, exp.Query]]:
    """Take out of a query the common table expressions that it reads several times."""
    with_ = query.args.get("with_")
    if with_ is None:
        return
    is_recursive = bool(with_.args.get("recursive"))
    found, left = [], []
    for cte in with_.expressions:
        reads = [table for table in query.find_all(exp.Table) if table.name == cte.alias]
        # What reads something that stays must stay too.
        is_bound = any(table.name in left for table in cte.this.find_all(exp.Table))
        if len(reads) < 2 or _is_of_itself(cte) or is_bound:
            left.append(cte.alias)
            continue
        new = apart(cte.alias)
        for table in reads:
            table.set("this", exp.to_identifier(new, quoted=True))
        found.append((new, cte))
    for _, cte in found:
        cte.pop()
    if not with_.expressions:
        query.set("with_", None)
    elif is_recursive and not any(_is_of_itself(cte) for cte in with_.expressions):
        with_.set("recursive", False)
    for new, cte in found:
        yield new, cte.this


def _is_of_itself(cte: exp.CTE) -> bool:
    return any(table.name == cte.alias for table in cte.this.find_all(exp.Table))


def _narrow(query: exp.Query, only: Set[str]) -> None:
    """Leave out what a plain SELECT gives and nobody wants: what it is made of need not be there, then."""
    if isinstance(query, exp.Select) and not any(
        query.args.get(key) for key in ("distinct", "group", "order", "qualify")
    ):
        kept = [
            each for each in query.expressions if not each.alias_or_name or each.alias_or_name in only or _is_star(each)
        ]
        query.set("expressions", kept or query.expressions[:1])


def _is_star(node: exp.Expr) -> bool:
    return isinstance(node, exp.Star | exp.Columns | exp.Explode) or isinstance(node.this, exp.Star)


class _Writer(Expressions):
    """Writes queries."""

    def query(self, node: exp.Expr) -> str:
        with_ = node.args.get("with_")
        before = ""
        if with_ is not None:
            ctes = ",\n".join(f"{name(cte.alias)} AS ({self.query(cte.this)})" for cte in with_.expressions)
            before = f"WITH {'RECURSIVE ' if with_.args.get('recursive') else ''}{ctes}\n"
        match node:
            case exp.SetOperation():
                word = _SETS[type(node)] + _which(node)
                both = f"\n{word}\n".join(self._branch(side) for side in (node.left, node.right))
                if before or _has_end(node):
                    # What stands before or after would belong to one of the two alone.
                    return f"{before}SELECT * FROM ({both}){self._end(node)}"
                return both
            case exp.Subquery():
                return before + self.query(node.this)
            case exp.Select():
                return before + self._select(node)
        raise Untranslatable(f"no {type(node).__name__} on ClickHouse")

    def _branch(self, node: exp.Expr) -> str:
        while isinstance(node, exp.Subquery):
            node = node.this
        is_plain = not node.args.get("with_") and not _has_end(node)
        if (isinstance(node, exp.Select) and is_plain) or (
            type(node) is exp.Union and is_plain and not node.args.get("distinct")
        ):
            return self.query(node)
        return f"SELECT * FROM ({self.query(node)})"

    def _select(self, node: exp.Select) -> str:
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            raise Untranslatable("DISTINCT ON cannot be run on ClickHouse")
        parts = [f"SELECT{' DISTINCT' if distinct else ''} {', '.join(map(self._projection, node.expressions))}"]
        moved: list[exp.Expr] = []
        if from_ := node.args.get("from_"):
            parts.append(f"FROM {self._source(from_.this)}")
            for join in node.args.get("joins") or ():
                parts.append(self._join(join, moved))
        where = [*moved, *([node.args["where"].this] if node.args.get("where") else [])]
        if where:
            parts.append(f"WHERE {' AND '.join(map(self.write, where))}")
        if group := node.args.get("group"):
            parts.append(f"GROUP BY {', '.join(self._groups(group, node))}")
        for key in ("having", "qualify"):
            if clause := node.args.get(key):
                parts.append(f"{key.upper()} {self.write(clause.this)}")
        return "\n".join(parts) + self._end(node)

    def _end(self, node: exp.Expr) -> str:
        end = ""
        if order := node.args.get("order"):
            end += f"\nORDER BY {self.order(order)}"
        for key, word in (("limit", "LIMIT"), ("offset", "OFFSET")):
            if clause := node.args.get(key):
                end += f"\n{word} {self.write(clause.expression)}"
        return end

    def _projection(self, node: exp.Expr) -> str:
        inner = node.this if isinstance(node, exp.Alias) else node
        written = self.write(inner)
        kind = kind_of(inner)
        if (isinstance(inner, exp.Literal) and inner.is_int) or (isinstance(inner, exp.Neg) and inner.this.is_int):
            # A small number has a small type, in which sums and recursion would not fit.
            written = f"toInt64({written})"
        if isinstance(kind, Scalar):
            written = f"toNullable({written})"
        return f"{written} AS {name(node.alias)}" if node.alias else written

    def _source(self, node: exp.Expr) -> str:
        if isinstance(node, exp.Subquery):
            return f"({self.query(node.this)}) AS {name(node.alias)}"
        return f"{name(node.name)} AS {name(node.alias_or_name)}"

    def _join(self, join: exp.Join, moved: list[exp.Expr]) -> str:
        right, side, kind = join.this.alias_or_name, join.side.upper(), join.kind.upper()
        source = self._source(join.this)
        conditions = [*conjuncts(join.args.get("on"))]
        if side not in ("", "LEFT") or kind not in ("", "INNER", "CROSS", "OUTER"):
            raise Untranslatable(f"{side or kind} JOIN cannot be run on ClickHouse")
        if join.args.get("method") == "ASOF":
            return f"ASOF {side or 'INNER'} JOIN {source} ON {self._on(conditions)}"
        if side:
            if not any(_is_key(each, right) for each in conditions):
                raise Untranslatable("LEFT JOIN without an equality cannot be run on ClickHouse")
            return f"LEFT JOIN {source} ON {self._on(conditions)}"
        keys = [each for each in conditions if _is_key(each, right)]
        moved.extend(each for each in conditions if not _is_key(each, right))
        return f"INNER JOIN {source} ON {self._on(keys)}" if keys else f"CROSS JOIN {source}"

    def _on(self, conditions: Sequence[exp.Expr]) -> str:
        return " AND ".join(
            f"{self.write(each.this)} IS NOT DISTINCT FROM {self.write(each.expression)}"
            if isinstance(each, exp.NullSafeEQ)
            else self.write(each)
            for each in conditions
        )

    def _groups(self, group: exp.Group, select: exp.Select) -> Iterator[str]:
        if group.args.get("all"):
            for each in select.expressions:
                if not any(isinstance(node, exp.AggFunc) for node in each.walk()):
                    yield self.write(each.this)
            return
        if any(group.args.get(key) for key in ("cube", "rollup", "grouping_sets")):
            raise Untranslatable("CUBE, ROLLUP and GROUPING SETS cannot be run on ClickHouse")
        for each in group.expressions:
            if isinstance(each, exp.Literal) and each.is_int:
                yield self.write(select.expressions[int(each.name) - 1].this)
            else:
                yield self.write(each)


def _is_key(node: exp.Expr, right: str) -> bool:
    """Whether a condition of a join compares something of the table on the right with something of the others."""
    if not isinstance(node, exp.EQ | exp.NullSafeEQ):
        return False
    sides = [{column.table for column in side.find_all(exp.Column)} for side in (node.this, node.expression)]
    return (sides[0] == {right} and right not in sides[1] and bool(sides[1])) or (
        sides[1] == {right} and right not in sides[0] and bool(sides[0])
    )


def _which(node: exp.SetOperation) -> str:
    if not isinstance(node, exp.Union):
        return ""
    return " DISTINCT" if node.args.get("distinct") else " ALL"


def _has_end(node: exp.Expr) -> bool:
    return any(node.args.get(key) for key in ("order", "limit", "offset"))
