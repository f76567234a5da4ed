"""The command `report`: the AgentPerf report of a source."""

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from otel_agentperf.cli.options import Given, Period, Source, Tiers, grouped
from otel_agentperf.cli.output import destination
from otel_agentperf.cli.source import opened, tiers_of

if TYPE_CHECKING:
    from otel_agentperf_analyzers.report import Report

__all__ = ["report", "show"]

_PLAIN_WIDTH: Final = 120
"""Columns where there is no terminal to ask."""


class ReportFormat(StrEnum):
    """Ways to write a report."""

    TABLE = "table"
    JSON = "json"


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
        ReportFormat | None,
        typer.Option(
            "--format", "-f", help="Default: by the ending of the output file, else `table`.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE.")] = None,
) -> None:
    """Report what a source holds: benchmarks and their levels, SLO verdicts, where the time of agents went, tools.

    Example:

        otel-agentperf report --format json -o report.json
    """
    from otel_agentperf_analyzers.report import build

    if form is None:
        form = ReportFormat.JSON if out is not None and out.suffix.lower() == ".json" else ReportFormat.TABLE
    with opened(source, period, given) as database:
        content = build(database, tiers=tiers_of(tier), benchmark=benchmark)
    show(content, form, None if out is None or str(out) == "-" else out)


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
