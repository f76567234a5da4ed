"""Colours and fonts of the plots.

A specification names colours as `var(--name)`: the page defines them, for light and dark, and changes them without
drawing anew. For an image of its own they are replaced by the light ones.
"""

import re
from typing import Any, Final

__all__ = ["CONFIG", "LIGHT", "PARTS", "SERIES", "colour", "resolved"]

LIGHT: Final = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d8dee4",
    "good": "#1a7f37",
    "bad": "#c9252d",
    "doubt": "#9a6700",
    "series-1": "#0a62c4",
    "series-2": "#b35900",
    "series-3": "#8250df",
    "series-4": "#0f766e",
    "series-5": "#bf3989",
    "series-6": "#57606a",
    "wait": "#d98e04",
    "prefill": "#e7c04c",
    "queue": "#c2571a",
    "answer": "#2f7ad8",
    "unsplit": "#8a6fd1",
    "retry": "#cf3a3a",
    "tool": "#2c9c6a",
    "subagent": "#b55a9c",
    "harness": "#8b949e",
    "human": "#c3cad2",
}
"""Colours on white; the page has those on black under the same names. Text in `ink`, `muted`, `good`, `bad`, `doubt`
has a contrast of 4.5 and more."""

SERIES: Final = tuple(f"series-{number}" for number in range(1, 7))

PARTS: Final = {
    "first token": "wait",
    "queue": "queue",
    "prefill": "prefill",
    "answer": "answer",
    "not split": "unsplit",
    "failed attempt": "retry",
    "retries": "retry",
    "tool": "tool",
    "sub-agent": "subagent",
    "harness": "harness",
    "human": "human",
}
"""What time goes into, and its colour."""

_VARIABLE: Final = re.compile(r"var\(--([a-z0-9-]+)\)")


def colour(name: str) -> str:
    """A colour as the page resolves it."""
    assert name in LIGHT, name
    return f"var(--{name})"


def resolved(spec: Any) -> Any:
    """The same with the colours on white in place of their names."""
    if isinstance(spec, dict):
        return {key: resolved(value) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [resolved(value) for value in spec]
    return _VARIABLE.sub(lambda found: LIGHT[found[1]], spec) if isinstance(spec, str) else spec


_FONT: Final = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

CONFIG: Final[dict[str, Any]] = {
    "font": _FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "domainColor": colour("line"),
        "tickColor": colour("line"),
        "gridColor": colour("line"),
        "gridOpacity": 0.7,
        "labelColor": colour("muted"),
        "titleColor": colour("muted"),
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 11,
        "titlePadding": 8,
        "labelPadding": 4,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False},
    "legend": {
        "orient": "top",
        "direction": "horizontal",
        "title": None,
        "labelColor": colour("ink"),
        "labelFontSize": 12,
        "symbolSize": 90,
        "columnPadding": 14,
        "columns": {"expr": "width < 420 ? 2 : 8"},
        "offset": 8,
    },
}
