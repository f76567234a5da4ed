"""Rows as text for people: units are in the column names, so only digits and alignment are decided here."""

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

import msgspec
from rich.cells import cell_len, chop_cells

__all__ = ["ABSENT", "Cells", "cells", "lines", "record", "that_fit"]

ABSENT: Final = "–"
"""What stands for a value that is not defined."""

_GAP: Final = "  "
_NARROWEST: Final = 12
_WIDE: Final = 40
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_SHARES: Final = frozenset(
    {
        "cache_hit",
        "optimal_cache_hit",
        "power_coverage",
        "hit_efficiency",
        "error_rate",
        "truncated_rate",
        "cancelled_rate",
        "success_rate",
        "goodput",
        "occupancy",
        "relative",
    }
)
"""Columns that hold a share of one, shown in percent, beside those whose name says so."""


@dataclass(frozen=True)
class Cells:
    """A column as text."""

    name: str
    values: list[str]
    right: bool
    """Numbers stand to the right."""

    @cached_property
    def width(self) -> int:
        """Width of the values."""
        return max(map(cell_len, self.values), default=0)

    @cached_property
    def narrowest(self) -> int:
        """Width with the name broken after its underscores."""
        return max(self.width, *map(cell_len, _words(self.name)))


def cells(name: str, values: Sequence[Any], units: Sequence[str] | None = None) -> Cells:
    """A column of Python values as text; numbers of one column get the same number of decimals.

    Args:
        units: where every row has its own; then numbers of one unit get the same number.
    """
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in known):
        if all(isinstance(value, int) for value in known):
            shapes = ["{:,d}"] * len(values)
        elif units is None or name in _SHARES:
            shapes = [_shape(name, known)] * len(values)
        else:
            of = {unit: [v for v, u in zip(values, units, strict=True) if u == unit] for unit in set(units)}
            each = {unit: _shape(f"{name}_{unit}", numbers) for unit, numbers in of.items()}
            shapes = [each[unit] for unit in units]
        return Cells(name, [_number(value, shape) for value, shape in zip(values, shapes, strict=True)], right=True)
    return Cells(name, [_text(value) for value in values], right=False)


def _shape(name: str, values: Sequence[Any]) -> str:
    """How numbers that are not all whole are written; a zero has no sign."""
    if name in _SHARES or name.endswith("_share"):
        return "{:z.1%}"
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return f"{{:z,.{_decimals(name, finite)}f}}"


def _decimals(name: str, values: Sequence[float]) -> int:
    """Decimals for a column: milliseconds while that is worth reading, else about four digits of the largest."""
    if all(value == int(value) for value in values):
        return 0
    largest = max((abs(value) for value in values), default=0.0)
    if name.endswith("_s"):
        return 3 if largest < 100 else 2 if largest < 1000 else 1
    if largest >= 1:
        return max(0, 3 - int(math.log10(largest)))
    return min(9, 3 - math.floor(math.log10(largest)))


def _number(value: Any, shape: str) -> str:
    return ABSENT if value is None or not math.isfinite(value) else shape.format(value)


def _text(value: Any) -> str:
    """One line without control characters: a span's text must not drive the terminal."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.isoformat(timespec="milliseconds")
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict | list | tuple | bytes | timedelta):
        value = msgspec.json.encode(value).decode().strip('"')
    return _CONTROL.sub(lambda match: repr(match.group())[1:-1], str(value))


def that_fit(columns: Sequence[Cells], width: int) -> list[Cells]:
    """The leading columns that fit side by side, never fewer than one."""
    taken: list[Cells] = []
    used = -len(_GAP)
    for column in columns:
        used += min(column.narrowest, _WIDE) + len(_GAP)
        if taken and used > width:
            break
        taken.append(column)
    return taken


def lines(columns: Sequence[Cells], width: int | None = None) -> Iterator[str]:
    """Header, rule and rows, aligned.

    Within a `width`, names are broken after underscores and cells that do not fit are folded; nothing is cut.
    """
    if width is None:
        widths = [max(column.width, cell_len(column.name)) for column in columns]
        names = [[column.name] for column in columns]
    else:
        widths = _share([column.narrowest for column in columns], width)
        names = [_broken(column.name, size) for column, size in zip(columns, widths, strict=True)]
    aligned = [column.right for column in columns]
    depth = max(map(len, names), default=0)
    yield from _aligned([[""] * (depth - len(name)) + name for name in names], aligned, widths)
    yield _GAP.join("─" * size for size in widths)
    for row in zip(*(column.values for column in columns), strict=True):
        pieces = [
            [text] if cell_len(text) <= size else chop_cells(text, size) for text, size in zip(row, widths, strict=True)
        ]
        yield from _aligned(pieces, aligned, widths)


def record(fields: dict[str, Any], width: int | None = None) -> Iterator[str]:
    """One row as a list of its fields; those without a value are left out, long ones are wrapped at words."""
    known = {name: _text(value) for name, value in fields.items() if value is not None and value != ""}
    indent = max(map(cell_len, known), default=0) + len(_GAP)
    for name, text in known.items():
        parts = [text] if width is None else textwrap.wrap(text, max(width - indent, _WIDE)) or [""]
        for index, part in enumerate(parts):
            yield f"{name if index == 0 else '':{indent}}{part}"


def _share(wanted: list[int], limit: int) -> list[int]:
    """Widths that fit together, taken from the widest columns as long as one is wide."""
    widths = [min(width, limit) for width in wanted]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > limit and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _words(name: str) -> list[str]:
    return re.findall(r"[^_]*_+|[^_]+$", name) or [name]


def _broken(name: str, width: int) -> list[str]:
    """A name on as few lines as the width allows."""
    pieces = [""]
    for word in _words(name):
        for part in chop_cells(word, width):
            if pieces[-1] and cell_len(pieces[-1] + part) > width:
                pieces.append(part)
            else:
                pieces[-1] += part
    return pieces


def _aligned(pieces: Sequence[Sequence[str]], right: Sequence[bool], widths: Sequence[int]) -> Iterator[str]:
    """The lines of one row whose cells may have several lines."""
    for index in range(max(map(len, pieces), default=0)):
        parts = []
        for piece, to_the_right, width in zip(pieces, right, widths, strict=True):
            text = piece[index] if index < len(piece) else ""
            space = " " * (width - cell_len(text))
            parts.append(space + text if to_the_right else text + space)
        yield _GAP.join(parts).rstrip()
