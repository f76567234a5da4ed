"""The command `report`: the AgentPerf report of a source."""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from otel_agentperf.cli.common import console
from otel_agentperf.cli.options import Given, Period, Source, Tiers, grouped
from otel_agentperf.cli.output import destination
from otel_agentperf.cli.source import opened, tiers_of
from otel_agentperf.errors import UsageError

if TYPE_CHECKING:
    from otel_agentperf.policies import Tier
    from otel_agentperf_analyzers import Database
    from otel_agentperf_analyzers.explain import Explanation
    from otel_agentperf_analyzers.report import Report
    from otel_agentperf_analyzers.report.charts import Chart

__all__ = ["ReportFormat", "report", "show", "write_html"]

_PLAIN_WIDTH: Final = 120
"""Columns where there is no terminal to ask."""


class ReportFormat(StrEnum):
    """Ways to write what is more than rows."""

    TABLE = "table"
    JSON = "json"


class _Form(StrEnum):
    """Ways to write a report."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


class _PlotFormat(StrEnum):
    """Ways to write a plot."""

    SVG = "svg"
    PNG = "png"


_ENDINGS: Final = {".json": _Form.JSON, ".html": _Form.HTML, ".htm": _Form.HTML}


@grouped
def report(
    source: Source = None,
    *,
    tier: Tiers = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this benchmark. Default: all, and live traffic.")
    ] = None,
    given: Given,
    period: Period,
    form: Annotated[
        _Form | None,
        typer.Option(
            "--format",
            "-f",
            help="`html`: one file with plots that needs no network. Default: by the ending of the output file, else "
            "`table`.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE.")] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every plot of the HTML report into DIR too.")
    ] = None,
    plot_format: Annotated[_PlotFormat, typer.Option(help="How plots are written.")] = _PlotFormat.SVG,
) -> None:
    """Report what a source holds: benchmarks and their levels, SLO verdicts, where the time of agents went, tools.

    HTML and plots need the extra `report`: `pip install 'otel-agentperf[report]'`.

    Example:

        otel-agentperf report -o report.html
    """
    from otel_agentperf_analyzers.report import build

    if form is None:
        form = _ENDINGS.get(out.suffix.lower(), _Form.TABLE) if out is not None else _Form.TABLE
    file = None if out is None or str(out) == "-" else out
    if form is _Form.HTML and file is None and sys.stdout.isatty():
        raise UsageError("HTML is for a browser: write it to a file with -o FILE.html")
    tiers = tiers_of(tier)
    drawn: _Drawn | None = None
    with opened(source, period, given) as database:
        content = build(database, tiers=tiers, benchmark=benchmark)
        if form is _Form.HTML or plots is not None:
            drawn = _draw(database, content, tiers, benchmark)
    if drawn is not None and plots is not None:
        _write_plots(drawn.charts, plots, plot_format)
    if drawn is not None and form is _Form.HTML:
        _write_page(content, drawn, file)
    else:
        show(content, ReportFormat(form), file)


@dataclass(frozen=True)
class _Drawn:
    """What the HTML has beyond the report."""

    explanation: "Explanation"
    charts: "tuple[Chart, ...]"
    capacities: list[dict[str, Any]]


def _draw(database: "Database", content: "Report", tiers: "Sequence[Tier]", benchmark: str | None) -> _Drawn:
    from otel_agentperf_analyzers.explain import explain
    from otel_agentperf_analyzers.report.charts import charts, converter

    # Rather now than after a minute of queries.
    converter()
    explanation = explain(database, benchmark=benchmark)
    capacities = database.judged("capacity", tiers).to_pylist()
    return _Drawn(
        explanation,
        charts(database, content, explanation, tiers=tiers, benchmark=benchmark),
        [row for row in capacities if benchmark is None or row["benchmark_id"] == benchmark],
    )


def _write_page(content: "Report", drawn: _Drawn, file: Path | None) -> None:
    from otel_agentperf_analyzers.report.html import page

    text = page(content, drawn.explanation, drawn.charts, drawn.capacities, datetime.now(UTC))
    with destination(file) as stream:
        stream.write(text.encode())


def write_html(database: "Database", content: "Report", file: Path, benchmark: str | None = None) -> bool:
    """Write a report that was built for this benchmark as HTML; False where the extra `report` is not installed.

    Raises:
        UsageError: the file cannot be written.
    """
    if find_spec("vl_convert") is None or find_spec("jinja2") is None:
        return False
    _write_page(content, _draw(database, content, (), benchmark), file)
    return True


def _write_plots(charts: "Sequence[Chart]", directory: Path, form: _PlotFormat) -> None:
    from otel_agentperf_analyzers.report.charts import ImageFormat, write_images

    written = sum(1 for _ in write_images(charts, directory, ImageFormat(form)))
    console.print(f"{written} plots in {directory}", soft_wrap=True, markup=False)


def show(content: "Report", form: ReportFormat = ReportFormat.TABLE, file: Path | None = None) -> None:
    """Write a report; on a terminal as wide as it is, elsewhere plain.

    Raises:
        UsageError: the file cannot be written.
    """
    text = (
        msgspec.json.format(msgspec.json.encode(content)) + b"\n" if form is ReportFormat.JSON else _text(content, file)
    )
    with destination(file) as stream:
        stream.write(text)


def _text(content: "Report", file: Path | None) -> bytes:
    from rich.console import Console

    from otel_agentperf_analyzers.report import render

    if file is None and sys.stdout.isatty():
        console = Console(file=sys.stdout, highlight=False)
        with console.capture() as captured:
            render(content, console)
        return captured.get().encode()
    plain = io.StringIO()
    render(content, Console(file=plain, highlight=False, width=_PLAIN_WIDTH))
    return "".join(f"{line.rstrip()}\n" for line in plain.getvalue().splitlines()).encode()
