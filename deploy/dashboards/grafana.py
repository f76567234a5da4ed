"""What the dashboards are made of: panels, queries and variables as Grafana's JSON model (schema 39) has them.

Rows and panels are placed one after the other on Grafana's grid of 24 columns.
"""

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

Json = dict[str, Any]

PROMETHEUS: Final = {"type": "prometheus", "uid": "${prometheus}"}
TEMPO: Final = {"type": "tempo", "uid": "${tempo}"}
WIDTH: Final = 24


def promql(expression: str, legend: str = "__auto", *, exemplars: bool = False, instant: bool = False) -> Json:
    """A query of Prometheus. `exemplars` shows the calls behind a histogram as dots that lead to their traces."""
    return {
        "datasource": PROMETHEUS,
        "expr": expression,
        "legendFormat": legend,
        "range": not instant,
        "instant": instant,
        "exemplar": exemplars,
    }


def traceql(query: str, *, limit: int = 100, spans: bool = False, instant: bool = False) -> Json:
    """A query of Tempo: a search (a row for each trace, or with `spans` for each span) or TraceQL metrics."""
    return {
        "datasource": TEMPO,
        "queryType": "traceql",
        "query": query,
        "limit": limit,
        "spss": limit,
        "tableType": "spans" if spans else "traces",
        "metricsQueryType": "instant" if instant else "range",
    }


def _panel(kind: str, title: str, queries: Sequence[Json], **rest: Any) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": rest.pop("description", ""),
        "datasource": queries[0]["datasource"],
        "targets": [{**query, "refId": chr(ord("A") + at)} for at, query in enumerate(queries)],
        "gridPos": {"w": rest.pop("width"), "h": rest.pop("height", 8)},
        **rest,
    }


def _thresholds(steps: Sequence[tuple[float, str]]) -> Json:
    """Green below the first step."""
    first: list[Json] = [{"color": "green", "value": None}]
    return {"mode": "absolute", "steps": first + [{"color": color, "value": value} for value, color in steps]}


def stat(
    title: str,
    query: Json,
    *,
    unit: str = "short",
    steps: Sequence[tuple[float, str]] = (),
    width: int = 3,
    **rest: Any,
) -> Json:
    """One number."""
    defaults: Json = {"unit": unit, "noValue": "–", "thresholds": _thresholds(steps)}
    if "decimals" in rest:
        defaults["decimals"] = rest.pop("decimals")
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value" if steps else "none",
        "graphMode": "area",
        "textMode": "auto",
    }
    rest = {"height": 4, **rest}
    field = {"defaults": defaults, "overrides": []}
    return _panel("stat", title, [query], width=width, fieldConfig=field, options=options, **rest)


def lines(
    title: str,
    *queries: Json,
    unit: str = "short",
    stack: str = "none",
    bounds: bool = False,
    width: int = 12,
    **rest: Any,
) -> Json:
    """Lines over time.

    Args:
        title: of the panel.
        queries: what is drawn.
        unit: Grafana's name of it.
        stack: `none`, `normal`, or `percent` for shares of the whole.
        bounds: legends that begin with `bound` are targets: red and dashed.
        width: in columns.
        rest: `description`, `height`, `highest` (of the axis).
    """
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 0 if stack == "none" else 60,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": stack, "group": "A"},
    }
    defaults: Json = {"unit": unit, "min": 0, "custom": custom}
    if "highest" in rest:
        defaults["max"] = rest.pop("highest")
    target = {
        "matcher": {"id": "byRegexp", "options": "/^bound/"},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
        ],
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    field = {"defaults": defaults, "overrides": [target] if bounds else []}
    return _panel("timeseries", title, queries, width=width, fieldConfig=field, options=options, **rest)


def heatmap(title: str, query: Json, *, unit: str, width: int = 12, **rest: Any) -> Json:
    """A histogram over time."""
    options = {
        "calculate": False,
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
        "cellGap": 1,
        "exemplars": {"color": "orange"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False},
    }
    query = {**query, "format": "heatmap", "legendFormat": "{{le}}"}
    return _panel("heatmap", title, [query], width=width, options=options, **rest)


def table(
    title: str, query: Json, *, links: Sequence[tuple[str, Sequence[Json]]] = (), width: int = 24, **rest: Any
) -> Json:
    """Rows of a search; `links` are links of columns."""
    overrides = [
        {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "links", "value": list(urls)}]}
        for column, urls in links
    ]
    field = {"defaults": {"custom": {"filterable": True}}, "overrides": overrides}
    return _panel("table", title, [query], width=width, fieldConfig=field, options={"showHeader": True}, **rest)


def trace(title: str, query: Json, **rest: Any) -> Json:
    """The spans of one trace, as a waterfall."""
    return _panel("traces", title, [query], width=WIDTH, **rest)


def text(content: str, *, height: int = 3, width: int = WIDTH) -> Json:
    """Markdown."""
    return {
        "type": "text",
        "title": "",
        "gridPos": {"w": width, "h": height},
        "options": {"mode": "markdown", "content": content},
    }


def row(title: str) -> Json:
    """A heading."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}


def link(title: str, url: str) -> Json:
    """A link of a column's values."""
    return {"title": title, "url": url, "targetBlank": True}


JAEGER: Final = link(
    "Open in Jaeger",
    "/explore?schemaVersion=1&panes="
    + quote(
        json.dumps({"a": {"datasource": "$J", "queries": [{"refId": "A", "query": "$V"}], "range": "$R"}})
        .replace('"$R"', '{"from":"$F","to":"$T"}')
        .replace(" ", "")
    )
    .replace("%24J", "${jaeger}")
    .replace("%24V", "${__value.raw}")
    .replace("%24F", "${__from}")
    .replace("%24T", "${__to}"),
)
"""The trace whose id a column has, in Jaeger."""


def datasource(name: str, kind: str) -> Json:
    """A variable: which of Grafana's data sources of a kind is asked."""
    return {"type": "datasource", "name": name, "label": name.capitalize(), "query": kind, "hide": 0, "current": {}}


def values(name: str, label: str, query: str) -> Json:
    """A variable with the values of a Prometheus label; several can be chosen, at first all."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS,
        "definition": query,
        "query": {"query": query, "refId": "values"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def textbox(name: str, label: str, value: str = "") -> Json:
    """A variable that is typed in."""
    current = {"selected": True, "text": value, "value": value}
    return {"type": "textbox", "name": name, "label": label, "query": value, "current": current, "hide": 0}


def dashboard(uid: str, title: str, panels: Sequence[Json], variables: Sequence[Json], **rest: Any) -> Json:
    """A dashboard with its panels placed."""
    placed = []
    x = y = tallest = 0
    for number, panel in enumerate(panels, start=1):
        grid = panel["gridPos"]
        if x + grid["w"] > WIDTH or panel["type"] == "row":
            x, y, tallest = 0, y + tallest, 0
        placed.append({"id": number, **panel, "gridPos": {"x": x, "y": y, **grid}})
        x, tallest = x + grid["w"], max(tallest, grid["h"])
    links = {
        "type": "dashboards",
        "title": "LLM agents",
        "tags": ["otel-agentperf"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }
    return {
        "uid": uid,
        "title": title,
        "tags": ["otel-agentperf"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "links": [links],
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "panels": placed,
        **rest,
    }
