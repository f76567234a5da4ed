"""Expressions of DuckDB's SQL, written for ClickHouse: those that are known to mean the same, and no others."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlglot import exp

from otel_agentperf_analyzers.clickhouse import functions
from otel_agentperf_analyzers.clickhouse.functions import name, text
from otel_agentperf_analyzers.clickhouse.kinds import (
    List,
    Map,
    Scalar,
    Struct,
    clickhouse_type,
    kind_of,
    of_json,
    resolved,
)
from otel_agentperf_analyzers.clickhouse.scopes import Untranslatable

__all__ = ["Expressions"]

_BINARY: Final[dict[type[exp.Expr], str]] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.And: "AND",
    exp.Or: "OR",
    exp.Like: "LIKE",
    exp.ILike: "ILIKE",
}

_UNITS: Final = frozenset(("second", "minute", "hour", "day", "week", "month", "quarter", "year"))

_WHOLE: Final = frozenset(("BIGINT", "INT", "SMALLINT", "TINYINT", "HUGEINT", "INT128"))


class Expressions(ABC):
    """Writes expressions of resolved queries.

    Args:
        parameters: values of `$name`.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    @abstractmethod
    def query(self, node: exp.Expr) -> str:
        """A query inside an expression."""

    def order(self, order: exp.Order) -> str:
        """What follows ORDER BY."""
        return ", ".join(self._ordered(each) for each in order.expressions)

    def _ordered(self, node: exp.Expr) -> str:
        if not isinstance(node, exp.Ordered):
            return self.write(node)
        nulls = "FIRST" if node.args.get("nulls_first") else "LAST"
        if isinstance(node.this, exp.Var) and node.this.name.upper() == "ALL":
            return f"ALL {'DESC' if node.args.get('desc') else 'ASC'} NULLS {nulls}"
        return f"{self.write(node.this)} {'DESC' if node.args.get('desc') else 'ASC'} NULLS {nulls}"

    def write(self, node: exp.Expr) -> str:
        """One expression."""
        if operator := _BINARY.get(type(node)):
            return f"({self.write(node.this)} {operator} {self.write(node.expression)})"
        if type(node) in functions.AGGREGATES or isinstance(node, _OTHER_AGGREGATES):
            return self._aggregate(node, None)
        if same := functions.SAME.get(type(node)):
            return self._call(same, node)
        if writer := _WRITERS.get(type(node)):
            return writer(self, node)
        raise Untranslatable(f"{_called(node)} cannot be run on ClickHouse")

    def alike(self, nodes: Sequence[exp.Expr]) -> list[str]:
        """Values of which one is taken: whole numbers and others have no type in common on ClickHouse."""
        kinds = [kind_of(each) for each in nodes]
        if any(isinstance(kind, List) for kind in kinds):
            return ["[]" if isinstance(each, exp.Null) else self.write(each) for each in nodes]
        written = [self.write(each) for each in nodes]
        if not any(isinstance(kind, Scalar) and kind.type == "DOUBLE" for kind in kinds):
            return written
        return [
            f"CAST({value}, 'Nullable(Float64)')" if isinstance(kind, Scalar) and kind.type in _WHOLE else value
            for value, kind in zip(written, kinds, strict=True)
        ]

    def _call(self, function: str, node: exp.Expr) -> str:
        given = [node.this, node.args.get("expression"), *node.expressions]
        return f"{function}({', '.join(self.write(each) for each in given if isinstance(each, exp.Expr))})"

    def _aggregate(self, node: exp.Expr, where: exp.Expr | None) -> str:
        condition = None if where is None else self.write(where)
        ending = "" if condition is None else "If"

        def of(function: str, *values: str, parameter: str = "") -> str:
            return f"{function}{ending}{parameter}({', '.join([*values, *([condition] if condition else [])])})"

        match node:
            case exp.Count():
                inner = node.this
                if isinstance(inner, exp.Distinct):
                    return f"toInt64({of('uniqExact', *map(self.write, inner.expressions))})"
                if isinstance(inner, exp.Star) or inner is None:
                    return f"toInt64({of('count')})"
                return f"toInt64({of('count', self.write(inner))})"
            case exp.Median():
                return of("quantileExactInclusiveOrNull", self.write(node.this), parameter="(0.5)")
            case exp.PercentileCont():
                if not isinstance(node.expression, exp.Literal):
                    raise Untranslatable("QUANTILE_CONT on ClickHouse needs a number for its percentile")
                return of("quantileExactInclusiveOrNull", self.write(node.this), parameter=f"({node.expression.name})")
            case exp.Mode():
                return functions.mode(self.write(node.this), condition)
            case exp.ArrayAgg():
                return self._list(node.this, of)
            case exp.GroupConcat():
                return self._joined(node, of)
            case _:
                given = [node.this, node.args.get("expression")]
                values = [self.write(each) for each in given if isinstance(each, exp.Expr)]
                return of(functions.AGGREGATES[type(node)] + "OrNull", *values)

    def _list(self, node: exp.Expr, of: Callable[..., str]) -> str:
        """LIST, with DISTINCT or ORDER BY; NULLs stay in it."""
        order = node if isinstance(node, exp.Order) else None
        value = node.this if order is not None else node
        if isinstance(value, exp.Distinct):
            if order is not None:
                raise Untranslatable("LIST(DISTINCT ... ORDER BY ...) cannot be run on ClickHouse")
            # A tuple around it, since NULL would be left out.
            return f"arrayMap(x -> x.1, {of('groupUniqArray', f'tuple({self.write(value.expressions[0])})')})"
        written = self.write(value)
        if order is None:
            return f"arrayMap(x -> x.1, {of('groupArray', f'tuple({written})')})"
        if any(each.args.get("desc") for each in order.expressions):
            raise Untranslatable("LIST(... ORDER BY ... DESC) cannot be run on ClickHouse")
        keys = [self.write(each.this) for each in order.expressions]
        if keys == [written]:
            return f"arrayMap(x -> toNullable(x), arraySort({of('groupArray', written)}))"
        pairs = of("groupArray", f"tuple(tuple({', '.join(keys)}), {written})")
        return f"arrayMap(x -> x.2, arraySort(x -> x.1, {pairs}))"

    def _joined(self, node: exp.GroupConcat, of: Callable[..., str]) -> str:
        """STRING_AGG; NULL for no value."""
        order = node.this if isinstance(node.this, exp.Order) else None
        value = order.this if order is not None else node.this
        function = "groupArray"
        if isinstance(value, exp.Distinct):
            value, function = value.expressions[0], "groupUniqArray"
        written = self.write(value)
        found = of(function, written)
        if order is not None:
            if [self.write(each.this) for each in order.expressions] != [written] or order.expressions[0].args.get(
                "desc"
            ):
                raise Untranslatable("STRING_AGG on ClickHouse is ordered by its own value")
            found = f"arraySort({found})"
        return f"if(empty({found}), NULL, arrayStringConcat({found}, {self.write(node.args['separator'])}))"

    def _column(self, node: exp.Column) -> str:
        return f"{name(node.table)}.{name(node.name)}" if node.table else name(node.name)

    def _dot(self, node: exp.Dot) -> str:
        field = node.expression.name
        of = kind_of(node.this)
        if isinstance(of, Struct):
            position = of.position(field)
            if position is None:
                raise Untranslatable(f"no field {field!r}")
            return f"tupleElement({self.write(node.this)}, {position})"
        if isinstance(node.this, exp.Identifier):
            # The parameter of a function that stands in `each.field`.
            return f"tupleElement({name(node.this.name)}, {text(field)})"
        raise Untranslatable(f"cannot tell the field {field!r}")

    def _bracket(self, node: exp.Bracket) -> str:
        [index] = node.expressions
        of = self.write(node.this)
        if isinstance(kind_of(node.this), Map):
            key = self.write(index)
            return f"if(mapContains({of}, {key}), {of}[{key}], NULL)"
        if isinstance(index, exp.Literal) and index.is_int:
            return f"arrayElement({of}, {int(index.name) + 1})"
        if isinstance(index, exp.Add) and isinstance(index.this, exp.Literal):
            # sqlglot has counted such an index down to start at 0.
            return f"arrayElement({of}, {self.write(index)} + 1)"
        raise Untranslatable("an index on ClickHouse is a number")

    def _filter_list(self, node: exp.ArrayFilter) -> str:
        function = node.expression
        [parameter] = function.expressions
        kind = kind_of(node.this)
        body = function.this.copy()
        item = kind.item if isinstance(kind, List) else None

        def fields(each: exp.Expr) -> exp.Expr:
            if isinstance(each, exp.Identifier) and each.name == parameter.name and isinstance(each.parent, exp.Dot):
                return resolved(exp.column(parameter.name, quoted=True), item or Scalar())
            return each

        condition = self.write(body.transform(fields) if item is not None else body)
        return f"arrayFilter({name(parameter.name)} -> ifNull({condition}, 0), {self.write(node.this)})"

    def _window(self, node: exp.Window) -> str:
        parts = []
        if partition := node.args.get("partition_by"):
            parts.append(f"PARTITION BY {', '.join(map(self.write, partition))}")
        if order := node.args.get("order"):
            parts.append(f"ORDER BY {self.order(order)}")
        inner, where = node.this, None
        if isinstance(inner, exp.Filter):
            inner, where = inner.this, inner.expression.this
        if isinstance(inner, exp.Lag | exp.Lead):
            if inner.args.get("default") is not None:
                raise Untranslatable("LAG and LEAD on ClickHouse have no default but NULL")
            offset = f", {self.write(inner.args['offset'])}" if inner.args.get("offset") else ""
            function = "lagInFrame" if isinstance(inner, exp.Lag) else "leadInFrame"
            call = f"{function}(toNullable({self.write(inner.this)}){offset})"
            parts.append("ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING")
        else:
            call = self._window_function(inner, where)
            if spec := node.args.get("spec"):
                parts.append(self._frame(spec))
        written = f"{call} OVER ({' '.join(parts)})"
        return f"toInt64({written})" if isinstance(inner, _COUNTING) else written

    def _window_function(self, node: exp.Expr, where: exp.Expr | None) -> str:
        if function := _OF_WINDOWS.get(type(node)):
            return f"{function}()" if node.this is None else f"{function}({self.write(node.this)}) RESPECT NULLS"
        if isinstance(node, exp.Count):
            return self._aggregate(node, where).removeprefix("toInt64(").removesuffix(")")
        return self._aggregate(node, where)

    def _frame(self, spec: exp.WindowSpec) -> str:
        ends = []
        for end in ("start", "end"):
            bound, side = spec.args.get(end), spec.args.get(f"{end}_side")
            if bound is None:
                continue
            word = bound if isinstance(bound, str) else self.write(bound)
            ends.append(f"{word} {side or ''}".strip().upper())
        return f"{spec.args['kind'].upper()} BETWEEN {' AND '.join(ends)}"

    def _case(self, node: exp.Case) -> str:
        value = None if node.this is None else self.write(node.this)
        branches = []
        for each in node.args["ifs"]:
            condition = self.write(each.this)
            if value is not None:
                condition = f"{value} = {condition}"
            branches.append(f"WHEN {condition} THEN")
        results = [each.args["true"] for each in node.args["ifs"]]
        *values, last = self.alike([*results, node.args.get("default") or exp.null()])
        return f"CASE {' '.join(' '.join(both) for both in zip(branches, values, strict=True))} ELSE {last} END"

    def _in(self, node: exp.In) -> str:
        value = self.write(node.this)
        if query := node.args.get("query"):
            inside = query.this if isinstance(query, exp.Subquery) else query
            if isinstance(inside, exp.Select) and len(inside.expressions) == 1:
                only = inside.expressions[0].this
                if isinstance(only, exp.Tuple):
                    inside = inside.copy()
                    inside.set("expressions", list(only.expressions))
            found = f"{value} IN ({self.query(inside)})"
            # ClickHouse says that NULL is in nothing.
            return f"({found})" if isinstance(node.this, exp.Tuple) else f"if(isNull({value}), NULL, {found})"
        # With equality what is NULL stays NULL.
        return f"({' OR '.join(f'{value} = {self.write(each)}' for each in node.expressions)})"

    def _cast(self, node: exp.Cast | exp.TryCast) -> str:
        value = self.write(node.this)
        kind = node.to.this.value
        try:
            to = clickhouse_type(Scalar(kind))
        except ValueError as problem:
            raise Untranslatable(f"a cast to {kind} cannot be run on ClickHouse") from problem
        of = kind_of(node.this)
        if isinstance(node, exp.TryCast):
            if kind in _WHOLE:
                return f"toInt64OrNull({value})"
            if kind == "DOUBLE":
                return f"toFloat64OrNull({value})"
            raise Untranslatable(f"TRY_CAST to {kind} cannot be run on ClickHouse")
        if kind in _WHOLE and isinstance(of, Scalar) and of.type == "DOUBLE":
            # DuckDB rounds to the even one here, as this does; a cast alone would cut off.
            value = f"round({value})"
        return f"CAST({value}, {text(to)})"

    def _literal(self, node: exp.Literal) -> str:
        return text(node.name) if node.is_string else node.name

    def _parameter(self, node: exp.Placeholder) -> str:
        value = self._parameters[node.name]
        match value:
            case None:
                return "CAST(NULL, 'Nullable(String)')"
            case bool():
                return str(value).lower()
            case int() | float():
                return repr(value)
            case str():
                return text(value)
        raise Untranslatable(f"a parameter of type {type(value).__name__} cannot be given to ClickHouse")

    def _series(self, node: exp.GenerateSeries) -> str:
        start, end = node.args.get("start"), node.args.get("end")
        if not node.args.get("is_end_exclusive") or node.args.get("step") is not None:
            raise Untranslatable("GENERATE_SERIES cannot be run on ClickHouse; RANGE can")
        last = self.write(end or exp.null())
        if start is None:
            return f"range(ifNull({last}, 0))"
        first = self.write(start)
        return f"range(ifNull({first}, 0), if(isNull({first}), 0, ifNull({last}, 0)))"

    def _unsafe_equal(self, node: exp.Expr) -> str:
        one, other = self.write(node.this), self.write(node.expression)
        written = f"coalesce({one} != {other}, isNull({one}) != isNull({other}))"
        return written if isinstance(node, exp.NullSafeNEQ) else f"(NOT {written})"

    def _is(self, node: exp.Is) -> str:
        if isinstance(node.expression, exp.Null):
            of = kind_of(node.this)
            return f"{'isNull' if isinstance(of, Scalar) else 'empty'}({self.write(node.this)})"
        return self._unsafe_equal(exp.NullSafeEQ(this=node.this, expression=node.expression))

    def _anonymous(self, node: exp.Anonymous) -> str:
        given = [self.write(each) for each in node.expressions]
        match node.name.lower(), given:
            case "make_timestamptz", [microseconds]:
                return f"fromUnixTimestamp64Micro({microseconds}, 'UTC')"
            case "epoch_ns", [moment]:
                return f"(toUnixTimestamp64Micro({moment}) * 1000)"
            case "epoch_us", [moment]:
                return f"toUnixTimestamp64Micro({moment})"
        raise Untranslatable(f"{_called(node)} cannot be run on ClickHouse")


def _called(node: exp.Expr) -> str:
    return node.name.upper() if isinstance(node, exp.Anonymous) else node.key.upper()


def _contains(writer: Expressions, node: exp.Contains) -> str:
    return f"(position({writer.write(node.this)}, {writer.write(node.expression)}) > 0)"


def _concat(writer: Expressions, node: exp.Concat) -> str:
    parts = ", ".join(f"ifNull(toString({writer.write(each)}), '')" for each in node.expressions)
    return f"concat({parts})"


def _concat_ws(writer: Expressions, node: exp.ConcatWs) -> str:
    separator, *values = node.expressions
    listed = ", ".join(f"toNullable({writer.write(each)})" for each in values)
    return f"arrayStringConcat(arrayFilter(x -> isNotNull(x), [{listed}]), {writer.write(separator)})"


def _from_json(writer: Expressions, node: exp.FromJson) -> str:
    kind = clickhouse_type(of_json(json.loads(node.expression.name)))
    return f"JSONExtract(ifNull({writer.write(node.this)}, ''), {text(kind)})"


def _regexp_replace(writer: Expressions, node: exp.RegexpReplace) -> str:
    given = ", ".join(writer.write(each) for each in (node.this, node.expression, node.args["replacement"]))
    return f"replaceRegexpOne({given})"


def _length(writer: Expressions, node: exp.Length) -> str:
    function = "lengthUTF8" if isinstance(kind_of(node.this), Scalar) else "length"
    return f"toInt64({function}({writer.write(node.this)}))"


def _format(writer: Expressions, node: exp.Format) -> str:
    values = [writer.write(each) for each in node.expressions]
    return functions.formatted(node.this.name, values, Untranslatable)


def _round(writer: Expressions, node: exp.Round) -> str:
    value, decimals = writer.write(node.this), node.args.get("decimals")
    if decimals is None:
        return functions.rounded(value)
    if not (isinstance(decimals, exp.Literal) and decimals.is_int):
        raise Untranslatable("ROUND on ClickHouse needs a number of places")
    return f"({functions.rounded(f'({value} * 1e{decimals.name})')} / 1e{decimals.name})"


def _substring(writer: Expressions, node: exp.Substring) -> str:
    parts = [node.this, node.args["start"], node.args.get("length")]
    return f"substringUTF8({', '.join(writer.write(each) for each in parts if each is not None)})"


def _part(writer: Expressions, node: exp.SplitPart) -> str:
    value, delimiter = writer.write(node.this), writer.write(node.args["delimiter"])
    parts = f"splitByString({delimiter}, assumeNotNull({value}))"
    return f"if(isNull({value}), NULL, arrayElement({parts}, {writer.write(node.args['part_index'])}))"


def _split(writer: Expressions, node: exp.Split) -> str:
    value = writer.write(node.this)
    return f"if(isNull({value}), [], splitByString({writer.write(node.expression)}, assumeNotNull({value})))"


def _position(writer: Expressions, node: exp.StrPosition) -> str:
    return f"toInt64(positionUTF8({writer.write(node.this)}, {writer.write(node.args['substr'])}))"


def _extract(writer: Expressions, node: exp.RegexpExtract) -> str:
    group = node.args.get("group")
    given = [writer.write(node.this), writer.write(node.expression), writer.write(group) if group else "0"]
    return f"regexpExtract({', '.join(given)})"


def _truncated(writer: Expressions, node: exp.TimestampTrunc | exp.DateTrunc) -> str:
    unit = node.args["unit"].name.lower()
    if unit not in _UNITS:
        raise Untranslatable(f"DATE_TRUNC to {unit} cannot be run on ClickHouse")
    return f"CAST(dateTrunc({text(unit)}, {writer.write(node.this)}, 'UTC'), 'Nullable(DateTime64(6, \\'UTC\\'))')"


def _seconds(writer: Expressions, node: exp.TimeToUnix) -> str:
    return f"(toUnixTimestamp64Micro({writer.write(node.this)}) / 1e6)"


def _many(function: str) -> Callable[[Expressions, Any], str]:
    return lambda writer, node: functions.greatest(function, writer.alike([node.this, *node.expressions]))


_OTHER_AGGREGATES: Final = (
    exp.Count,
    exp.Median,
    exp.PercentileCont,
    exp.Mode,
    exp.ArrayAgg,
    exp.GroupConcat,
)

_OF_WINDOWS: Final[dict[type[exp.Expr], str]] = {
    exp.RowNumber: "row_number",
    exp.Rank: "rank",
    exp.DenseRank: "dense_rank",
    exp.FirstValue: "first_value",
    exp.LastValue: "last_value",
}

_COUNTING: Final = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Count)
"""Window functions that give numbers without sign, of which a difference would be one of another type."""

_WRITERS: Final[dict[type[exp.Expr], Callable[[Expressions, Any], str]]] = {
    exp.Anonymous: Expressions._anonymous,
    exp.Array: lambda writer, node: f"[{', '.join(map(writer.write, node.expressions))}]",
    exp.ArrayFilter: Expressions._filter_list,
    exp.ArraySort: lambda writer, node: f"arraySort({writer.write(node.this)})",
    exp.Between: lambda writer, node: (
        f"({writer.write(node.this)} BETWEEN {writer.write(node.args['low'])} AND {writer.write(node.args['high'])})"
    ),
    exp.Boolean: lambda writer, node: "true" if node.this else "false",
    exp.Bracket: Expressions._bracket,
    exp.Case: Expressions._case,
    exp.Cast: Expressions._cast,
    exp.TryCast: Expressions._cast,
    exp.Coalesce: lambda writer, node: f"coalesce({', '.join(writer.alike([node.this, *node.expressions]))})",
    exp.Column: Expressions._column,
    exp.Concat: _concat,
    exp.ConcatWs: _concat_ws,
    exp.Contains: _contains,
    exp.Dot: Expressions._dot,
    exp.DPipe: lambda writer, node: f"concat({writer.write(node.this)}, {writer.write(node.expression)})",
    exp.Exists: lambda writer, node: f"EXISTS ({writer.query(node.this)})",
    exp.Explode: lambda writer, node: f"arrayJoin({writer.write(node.this)})",
    exp.Filter: lambda writer, node: writer._aggregate(
        node.this.this if isinstance(node.this, exp.IgnoreNulls) else node.this, node.expression.this
    ),
    exp.Format: _format,
    exp.FromJson: _from_json,
    exp.GenerateSeries: Expressions._series,
    exp.Glob: lambda writer, node: functions.glob(writer.write(node.this), writer.write(node.expression)),
    exp.Greatest: _many("greatest"),
    exp.Least: _many("least"),
    exp.IgnoreNulls: lambda writer, node: writer.write(node.this),
    exp.In: Expressions._in,
    exp.IntDiv: lambda writer, node: f"intDiv({writer.write(node.this)}, {writer.write(node.expression)})",
    exp.Is: Expressions._is,
    exp.Length: _length,
    exp.Literal: Expressions._literal,
    exp.Neg: lambda writer, node: f"(-{writer.write(node.this)})",
    exp.Not: lambda writer, node: f"(NOT {writer.write(node.this)})",
    exp.Null: lambda writer, node: "NULL",
    exp.NullSafeEQ: Expressions._unsafe_equal,
    exp.NullSafeNEQ: Expressions._unsafe_equal,
    exp.Paren: lambda writer, node: writer.write(node.this),
    exp.Placeholder: Expressions._parameter,
    exp.RegexpReplace: _regexp_replace,
    exp.Round: _round,
    exp.ArrayContains: lambda writer, node: f"has({writer.write(node.this)}, {writer.write(node.expression)})",
    exp.DateTrunc: _truncated,
    exp.If: lambda writer, node: writer._case(exp.Case(ifs=[node.copy()], default=node.args.get("false"))),
    exp.Mod: lambda writer, node: f"({writer.write(node.this)} % {writer.write(node.expression)})",
    exp.RegexpExtract: _extract,
    exp.Split: _split,
    exp.SplitPart: _part,
    exp.StrPosition: _position,
    exp.Substring: _substring,
    exp.TimestampTrunc: _truncated,
    exp.TimeToUnix: _seconds,
    exp.Struct: lambda writer, node: f"tuple({', '.join(writer.write(each.expression) for each in node.expressions)})",
    exp.Subquery: lambda writer, node: f"({writer.query(node.this)})",
    exp.Tuple: lambda writer, node: f"({', '.join(map(writer.write, node.expressions))})",
    exp.Window: Expressions._window,
}
