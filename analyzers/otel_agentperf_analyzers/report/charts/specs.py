"""Vega-Lite specifications of the plots, without data, size and configuration: these are added where they are drawn."""

import math
from collections.abc import Sequence
from typing import Any, Final

from otel_agentperf_analyzers.report.charts.style import PARTS, SERIES, colour

__all__ = ["ENDS", "VERDICTS", "bars", "contexts", "ends", "margins", "shares", "spread", "traffic", "waterfall"]

Spec = dict[str, Any]

VERDICTS: Final = {
    "holds": ("circle", "○"),
    "misses": ("cross", "+"),
    "holds, but not valid": ("triangle-up", "△"),
    "cannot be told": ("diamond", "◇"),
}
"""What a level or load comes to: its sign in a plot, and in text."""

ENDS: Final = {"succeeded": "good", "failed": "bad", "not told": "human"}
"""How tasks came out, and the colour for it."""

_MOST_TICKS: Final = 14
_FEW_DECADES: Final = 2.3
_MOST_NUMBERS: Final = 12


def margins(
    tiers: Sequence[str], agents: Sequence[float], extent: tuple[float, float], *, with_intervals: bool
) -> Spec:
    """How far above its targets each tier is, by the number of agents; both axes are logarithmic."""
    x = {
        "field": "agents",
        "type": "quantitative",
        "title": "concurrent agents",
        "scale": {"type": "log", "base": 2, "nice": False, "padding": 26},
        "axis": {"values": _ticks(agents), "format": "~r", "labelFlush": False},
    }
    y_scale = {"type": "log", "domain": list(extent), "nice": False}
    y = {
        "field": "margin",
        "type": "quantitative",
        "title": "times better than the target",
        "scale": y_scale,
        "axis": {"values": _marks(*extent), "labelExpr": "format(datum.value, '~r') + '×'"},
    }
    tier = {
        "field": "tier",
        "type": "nominal",
        "scale": {"domain": list(tiers), "range": [tier_colour(place) for place in range(len(tiers))]},
        "legend": {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolOpacity": 1},
    }
    verdict = {
        "field": "verdict",
        "type": "nominal",
        "scale": {"domain": list(VERDICTS), "range": [sign for sign, _ in VERDICTS.values()]},
        "legend": None,
    }
    layers: list[Spec] = [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rect", "color": colour("bad"), "opacity": 0.07},
            "encoding": {"y": {"datum": extent[0], "scale": y_scale}, "y2": {"datum": 1}},
        },
        {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "color": colour("bad"), "strokeDash": [5, 4], "strokeWidth": 1.2},
            "encoding": {"y": {"datum": 1, "scale": y_scale}},
        },
        {
            "data": {"values": [{}]},
            "mark": {"type": "text", "align": "left", "baseline": "top", "dx": 5, "dy": 4, "color": colour("bad")},
            "encoding": {"y": {"datum": 1, "scale": y_scale}, "x": {"value": 0}, "text": {"value": "below: missed"}},
        },
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "color": tier},
        },
    ]
    if with_intervals:
        layers.append(
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": "margin_low"},
                    "y2": {"field": "margin_high"},
                    "color": tier,
                },
            }
        )
    layers.append(
        {
            "mark": {"type": "point", "size": 90, "strokeWidth": 2, "fill": colour("paper"), "opacity": 1},
            "encoding": {
                "x": x,
                "y": y,
                "color": tier,
                "shape": verdict,
                "tooltip": [
                    _told("tier", "tier", kind="nominal"),
                    _told("agents", "agents", ".3~r"),
                    _told("margin", "times better", ".3~r"),
                    _told("verdict", "verdict", kind="nominal"),
                    _told("found", "found", kind="nominal"),
                    _told("turns", "turns", ",d"),
                ],
            },
        }
    )
    return {"data": {"name": "rows"}, "layer": layers}


def spread(title: str, loads: Sequence[str], extent: tuple[float, float], bounds: Sequence[Spec], judged: str) -> Spec:
    """How a metric is spread, by the number of agents: 5th to 95th percentile, quartiles, median, a sample of turns,
    and the lines of the tiers.

    Args:
        title: of the vertical axis, with its unit.
        loads: labels of the horizontal axis, in order.
        extent: of the vertical axis.
        bounds: `label` and `value` of each line, and the `place` of its tier.
        judged: what the percentile that tiers look at is called.
    """
    x = {
        "field": "load",
        "type": "ordinal",
        "sort": list(loads),
        "title": "concurrent agents",
        "axis": {"labelAngle": 0, "labelOverlap": True},
    }
    scale = {"type": "log", "domain": list(extent), "nice": False}
    axis = {"format": "~r", "values": _marks(*extent)}

    def y(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}

    told = [
        _told("load", "agents", kind="nominal"),
        _told("turns", "turns", ",d"),
        _told("p5", "P5", ".3~r"),
        _told("p25", "P25", ".3~r"),
        _told("p50", "median", ".3~r"),
        _told("p75", "P75", ".3~r"),
        _told("p95", "P95", ".3~r"),
        _told("judged", judged, ".3~r"),
    ]
    layers: list[Spec] = [
        {
            "data": {"name": "sample"},
            "mark": {"type": "circle", "size": 14, "opacity": 0.28, "color": colour("series-1")},
            "encoding": {
                "x": x,
                "xOffset": {
                    "field": "jitter",
                    "type": "quantitative",
                    "scale": {"domain": [-1.5, 1.5], "zero": False, "nice": False},
                },
                "y": y("figure"),
                "tooltip": [
                    _told("figure", title, ".3~r"),
                    _told("trajectory", "trajectory", kind="nominal"),
                    _told("turn", "turn", kind="nominal"),
                ],
            },
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2, "color": colour("series-1"), "strokeCap": "round"},
            "encoding": {"x": x, "y": y("p5"), "y2": {"field": "p95"}, "tooltip": told},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 10, "color": colour("series-1"), "strokeCap": "round"},
            "encoding": {"x": x, "y": y("p25"), "y2": {"field": "p75"}, "tooltip": told},
        },
        {
            "mark": {"type": "point", "shape": "circle", "size": 34, "filled": True, "opacity": 1},
            "encoding": {"x": x, "y": y("p50"), "color": {"value": colour("paper")}, "tooltip": told},
        },
        {
            "mark": {
                "type": "point",
                "shape": "diamond",
                "size": 80,
                "strokeWidth": 2,
                "fill": colour("paper"),
                "stroke": colour("ink"),
                "opacity": 1,
            },
            "encoding": {"x": x, "y": y("judged"), "tooltip": told},
        },
    ]
    if len(loads) <= _MOST_NUMBERS:
        layers.append(
            {
                "mark": {"type": "text", "align": "left", "dx": 9, "color": colour("ink"), "fontSize": 11},
                "encoding": {"x": x, "y": y("judged"), "text": {"field": "judged", "format": ".3~r"}},
            }
        )
    for bound in bounds:
        tint = tier_colour(bound["place"])
        at = {"datum": bound["value"], "type": "quantitative", "scale": scale, "axis": axis, "title": title}
        layers += [
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.4, "color": tint},
                "encoding": {"y": at},
            },
            {
                "data": {"values": [{}]},
                "mark": {
                    "type": "text",
                    "align": "right",
                    "baseline": "bottom",
                    "dy": -3,
                    "color": tint,
                    "fontSize": 11,
                },
                "encoding": {"y": at, "x": {"value": "width"}, "text": {"value": bound["label"]}},
            },
        ]
    return {"data": {"name": "rows"}, "layer": layers}


def shares(labels: Sequence[str], parts: Sequence[str]) -> Spec:
    """What time went into, as shares: a bar for each of the labels."""
    return {
        "data": {"name": "rows"},
        "mark": {"type": "bar", "height": {"band": 0.66}, "stroke": colour("paper"), "strokeWidth": 1},
        "encoding": {
            "y": {"field": "of", "type": "ordinal", "sort": list(labels), "title": None, "axis": {"labelLimit": 260}},
            "x": {
                "field": "share",
                "type": "quantitative",
                "stack": "zero",
                "title": "share of the trajectories' time",
                "scale": {"domain": [0, 1]},
                "axis": {"format": "~%", "grid": True},
            },
            "order": {"field": "rank", "type": "quantitative"},
            "color": _parts(parts),
            "tooltip": [
                _told("of", "of", kind="nominal"),
                _told("part", "time for", kind="nominal"),
                _told("share", "share", ".1%"),
                _told("seconds", "seconds", ",.1f"),
            ],
        },
    }


def waterfall(labels: Sequence[str], parts: Sequence[str]) -> Spec:
    """What happened in one trajectory, on its time axis: a line for each turn with its tools."""
    return {
        "data": {"name": "rows"},
        "mark": {"type": "bar", "height": {"band": 0.72}, "cornerRadius": 1.5, "minBandSize": 1},
        "encoding": {
            "y": {"field": "line", "type": "ordinal", "sort": list(labels), "title": None, "axis": {"labelLimit": 220}},
            "x": {
                "field": "start_s",
                "type": "quantitative",
                "title": "seconds since it began",
                "axis": {"grid": True},
            },
            "x2": {"field": "end_s"},
            "color": _parts(parts),
            "tooltip": [
                _told("line", "line", kind="nominal"),
                _told("part", "time for", kind="nominal"),
                _told("start_s", "from s", ".3~f"),
                _told("seconds", "seconds", ".3~f"),
                _told("what", "what", kind="nominal"),
            ],
        },
    }


def traffic(names: Sequence[str], extent_s: float) -> Spec:
    """Agents at work and open calls over time, of which so many seconds are seen."""
    form = "%H:%M:%S" if extent_s < 600 else "%H:%M" if extent_s < 86400 else "%b %d %H:%M"
    return {
        "data": {"name": "rows"},
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.8},
        "encoding": {
            "x": {
                "field": "time",
                "type": "temporal",
                "title": "time (UTC)",
                "scale": {"type": "utc"},
                "axis": {"format": form, "tickCount": 8},
            },
            "y": {"field": "mean", "type": "quantitative", "title": "at once, mean of the bucket"},
            "color": {
                "field": "what",
                "type": "nominal",
                "scale": {"domain": list(names), "range": _series(len(names))},
                "legend": {"symbolType": "stroke", "symbolStrokeWidth": 3},
            },
            "tooltip": [
                _told("told", "from", kind="nominal"),
                _told("what", "what", kind="nominal"),
                _told("mean", "mean", ".3~r"),
            ],
        },
    }


def contexts() -> Spec:
    """Size of the context by turn, and how much of it came from the cache."""
    x = {"field": "turn_index", "type": "quantitative", "title": "turn of the trajectory", "axis": {"format": "d"}}
    tooltip = [
        _told("turn_index", "from turn", "d"),
        _told("turns", "turns", ",d"),
        _told("input_tokens_p50", "input, median", ",.0f"),
        _told("cached_input_tokens_p50", "cached, median", ",.0f"),
        _told("input_tokens_p95", "input, P95", ",.0f"),
    ]

    def y(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "title": "input tokens", "axis": {"format": "~s"}}

    def named(name: str) -> Spec:
        names = {"input, P95": "muted", "input, median": "series-1", "of it cached": "series-4"}
        scale = {"domain": list(names), "range": [colour(each) for each in names.values()]}
        return {"datum": name, "type": "nominal", "scale": scale, "legend": {"symbolType": "stroke"}}

    return {
        "data": {"name": "rows"},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.2, "color": colour("series-1")},
                "encoding": {"x": x, "y": y("input_tokens_p50")},
            },
            {
                "mark": {"type": "area", "opacity": 0.35, "color": colour("series-4")},
                "encoding": {"x": x, "y": y("cached_input_tokens_p50")},
            },
            {
                "mark": {"type": "line", "strokeDash": [4, 3], "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y("input_tokens_p95"), "color": named("input, P95")},
            },
            {
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": x, "y": y("cached_input_tokens_p50"), "color": named("of it cached")},
            },
            {
                "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 22}},
                "encoding": {"x": x, "y": y("input_tokens_p50"), "color": named("input, median"), "tooltip": tooltip},
            },
        ],
    }


def bars(labels: Sequence[str], field: str, title: str, longest: float) -> Spec:
    """Horizontal bars with their numbers."""
    y = {"field": "of", "type": "ordinal", "sort": list(labels), "title": None, "axis": {"labelLimit": 220}}
    x = {
        "field": field,
        "type": "quantitative",
        "title": title,
        "axis": {"grid": True, "format": "~g"},
        # Room for the number beside the longest.
        "scale": {"domain": [0, longest * 1.45], "nice": False},
    }
    return {
        "data": {"name": "rows"},
        "layer": [
            {
                "mark": {"type": "bar", "height": {"band": 0.62}, "color": colour("series-1")},
                "encoding": {
                    "y": y,
                    "x": x,
                    "tooltip": [_told("of", "of", kind="nominal"), _told("told", title, kind="nominal")],
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": colour("ink")},
                "encoding": {"y": y, "x": x, "text": {"field": "told", "type": "nominal"}},
            },
        ],
    }


def ends(labels: Sequence[str]) -> Spec:
    """How tasks came out: a bar for each of the labels."""
    return {
        "data": {"name": "rows"},
        "mark": {"type": "bar", "height": {"band": 0.62}},
        "encoding": {
            "y": {"field": "of", "type": "ordinal", "sort": list(labels), "title": None, "axis": {"labelLimit": 220}},
            "x": {
                "field": "tasks",
                "type": "quantitative",
                "stack": "zero",
                "title": "tasks",
                "axis": {"grid": True, "format": "~s", "tickMinStep": 1},
            },
            "order": {"field": "rank", "type": "quantitative"},
            "color": {
                "field": "outcome",
                "type": "nominal",
                "scale": {"domain": list(ENDS), "range": [colour(name) for name in ENDS.values()]},
                "legend": {"symbolType": "square"},
            },
            "tooltip": [
                _told("of", "of", kind="nominal"),
                _told("outcome", "outcome", kind="nominal"),
                _told("tasks", "tasks", ",d"),
            ],
        },
    }


def _parts(parts: Sequence[str]) -> Spec:
    scale = {"domain": list(parts), "range": [colour(PARTS[part]) for part in parts]}
    return {"field": "part", "type": "nominal", "scale": scale, "legend": {"symbolType": "square"}}


def tier_colour(place: int) -> str:
    """The same for a tier in all plots; the first colour of the series is that of what is measured."""
    return colour(SERIES[1 + place % (len(SERIES) - 1)])


def _marks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis has its labels: at 1, 2 and 5 of each decade, over many at 1 only."""
    steps = (1, 2, 5) if math.log10(high / low) < _FEW_DECADES else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    # Ten to a negative power is not exact, a division by one that is whole is as near as can be.
    exact = [step * 10**decade if decade >= 0 else step / 10**-decade for decade in decades for step in steps]
    return [value for value in exact if low <= value <= high]


def _series(count: int) -> list[str]:
    return [colour(SERIES[number % len(SERIES)]) for number in range(max(count, 1))]


def _told(field: str, title: str, form: str | None = None, *, kind: str = "quantitative") -> Spec:
    """A line of a tooltip."""
    return {"field": field, "type": kind, "title": title, **({"format": form} if form else {})}


def _ticks(values: Sequence[float]) -> list[float]:
    """Labels of the axis of agents: levels, as many as it has room for; else whole numbers."""
    if any(value != round(value) for value in values):
        return _marks(min(values) * 0.9, max(values) * 1.1)
    step = -(-len(values) // _MOST_TICKS) or 1
    return list(values[::step])
