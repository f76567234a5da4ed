"""DuckDB's functions in ClickHouse's words, as far as they are known to give the same.

Nothing here relies on a setting of the server, which a read-only user may not change: aggregates over nothing are NULL
by their own names (`-OrNull`), and so are the rest.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from sqlglot import exp

__all__ = ["AGGREGATES", "SAME", "formatted", "glob", "greatest", "mode", "name", "rounded", "text"]

AGGREGATES: Final[dict[type[exp.Expr], str]] = {
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.AnyValue: "any",
    exp.First: "any",
    exp.LogicalAnd: "min",
    exp.LogicalOr: "max",
    exp.Stddev: "stddevSamp",
    exp.StddevSamp: "stddevSamp",
    exp.StddevPop: "stddevPop",
    exp.Variance: "varSamp",
    exp.VariancePop: "varPop",
    exp.Corr: "corr",
    exp.ArgMax: "argMax",
    exp.ArgMin: "argMin",
}
"""Aggregates that differ in their name only; all ignore NULL."""

SAME: Final[dict[type[exp.Expr], str]] = {
    exp.Abs: "abs",
    exp.Ceil: "ceil",
    exp.Floor: "floor",
    exp.Lower: "lowerUTF8",
    exp.Upper: "upperUTF8",
    exp.Ln: "log",
    exp.Exp: "exp",
    exp.Sqrt: "sqrt",
    exp.Pow: "pow",
    exp.Nullif: "nullIf",
    exp.StartsWith: "startsWith",
    exp.EndsWith: "endsWith",
    exp.Trim: "trimBoth",
}
"""Scalar functions that differ in their name only."""

_SPECIAL: Final = r"([.+^$(){}|\\])"
_ESCAPED: Final = r"\\\1"
_PLACE: Final = re.compile(r"\{(?P<spec>[^{}]*)\}")
_SPEC: Final = re.compile(r":(?:\.\d+)?[fg]")


def name(identifier: str) -> str:
    """A name in quotes."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


def text(value: str) -> str:
    """A string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def rounded(value: str) -> str:
    """To a whole number, halves away from zero; ClickHouse's own round takes the even one."""
    return f"trunc({value} + if({value} < 0, -0.5, 0.5))"


def greatest(function: str, values: Sequence[str]) -> str:
    """`greatest` or `least` of those that are not NULL. ClickHouse before 24.12 gives NULL for any NULL."""
    if len(values) == 1:
        return values[0]
    turned = (", ".join([*values[at:], *values[:at]]) for at in range(len(values)))
    return f"{function}({', '.join(f'coalesce({each})' for each in turned)})"


def glob(value: str, pattern: str) -> str:
    """GLOB as a regular expression made of the pattern: `*`, `?`, `[...]`, `[!...]`."""
    # Inside a class nothing but its negation is special.
    escaped = f"replaceRegexpAll({pattern}, {text(_SPECIAL)}, {text(_ESCAPED)})"
    for sign, meant in (("*", ".*"), ("?", "."), ("[!", "[^")):
        escaped = f"replaceAll({escaped}, {text(sign)}, {text(meant)})"
    return f"match({value}, concat('(?s)^', {escaped}, '$'))"


def mode(value: str, condition: str | None) -> str:
    """The most frequent value, of several the smallest; NULL for none."""
    known = f"isNotNull({value})" if condition is None else f"isNotNull({value}) AND ifNull({condition}, 0)"
    counts = f"sumMapIf([assumeNotNull({value})], [toUInt64(1)], {known})"
    place = f"indexOf(tupleElement({counts}, 2), arrayMax(tupleElement({counts}, 2)))"
    return f"if(empty(tupleElement({counts}, 1)), NULL, arrayElement(tupleElement({counts}, 1), {place}))"


def formatted(template: str, values: Sequence[str], fail: Callable[[str], Exception]) -> str:
    """FORMAT: text with places `{}`, `{:.1f}`, `{:g}`; NULL when a value is."""
    parts, left, at = [], list(values), 0
    for place in _PLACE.finditer(template):
        if place.start() > at:
            parts.append(text(template[at : place.start()]))
        at, spec = place.end(), place["spec"]
        if not left:
            raise fail("FORMAT has more places than values")
        value = left.pop(0)
        if not spec:
            parts.append(f"toString({value})")
        elif _SPEC.fullmatch(spec):
            parts.append(f"printf({text('%' + spec[1:])}, CAST({value}, 'Nullable(Float64)'))")
        else:
            raise fail(f"FORMAT with {{{spec}}} cannot be run on ClickHouse")
    if at < len(template):
        parts.append(text(template[at:]))
    return f"concat({', '.join(parts)})" if len(parts) > 1 else parts[0]
