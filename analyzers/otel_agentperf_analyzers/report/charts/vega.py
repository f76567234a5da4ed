"""Whole Vega-Lite specifications, and what draws them as one script, from vl-convert; nothing needs a network."""

from types import ModuleType
from typing import Any

from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers.report.charts.model import Chart
from otel_agentperf_analyzers.report.charts.style import CONFIG

__all__ = ["converter", "runtime", "vega_lite"]


def converter() -> ModuleType:
    """vl-convert.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import vl_convert
    except ImportError as exc:
        raise UsageError("plots need the extra `report`: pip install 'otel-agentperf[report]'") from exc
    return vl_convert


def vega_lite(chart: Chart, *, width: int | str = "container") -> dict[str, Any]:
    """The whole specification of a plot; width in pixels, or as wide as where it stands."""
    version = converter().get_vegalite_versions()[-1].partition(".")[0]
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{version}.json",
        "description": f"{chart.title}. {chart.caption}",
        "width": width,
        "height": chart.height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 4,
        "config": CONFIG,
        "datasets": {
            "rows": [_short(row) for row in chart.rows],
            **({"sample": [_short(row) for row in chart.sample]} if chart.sample else {}),
        },
        **chart.spec,
    }


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the digits that anyone can see."""
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}


def runtime() -> str:
    """Vega, Vega-Lite and vega-embed as the text of one module, which leaves `vegaEmbed` in the global object."""
    script: str = converter().javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return script
