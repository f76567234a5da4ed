"""The commands `trajectory` and `explain`: what happened, and why it took so long."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from otel_agentperf.cli.options import Format, Given, Output, Period, Source, grouped
from otel_agentperf.cli.output import destination, emit, restrict
from otel_agentperf.cli.report import ReportFormat
from otel_agentperf.cli.source import opened

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["explain", "print_text", "trajectory"]

_PLAIN_WIDTH: Final = 140
"""Columns where there is no terminal to ask."""


@grouped
def trajectory(
    trajectory_id: Annotated[
        str, typer.Argument(metavar="ID", help="The trajectory, or a beginning of its id that no other has.")
    ],
    source: Source = None,
    *,
    given: Given,
    period: Period,
    output: Output,
) -> None:
    """Show one trajectory as a waterfall: turns, tools, retries, sub-agents and waits in order, with what is unusual.

    Other formats than `table`, and `--columns`, write its events as rows (relation `timeline`).

    Example:

        otel-agentperf trajectory anna
    """
    from otel_agentperf_analyzers.explain import find_trajectory, waterfall

    with opened(source, period, given) as database:
        found = find_trajectory(database, trajectory_id)
        if output.form is Format.TABLE and (output.columns, output.where, output.limit) == (None, None, None):
            print_text(lambda console: waterfall(database, found, console), output.file)
            return
        events = database.relation("timeline", trajectory=found)
    emit(restrict(events, output.where, output.limit), output, main_columns=_MAIN_COLUMNS)


_MAIN_COLUMNS: Final = (
    "offset_s",
    "event",
    "name",
    "turn_index",
    "duration_s",
    "status",
    "first_token_s",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost",
    "note",
)


@grouped
def explain(
    source: Source = None,
    *,
    benchmark: Annotated[str | None, typer.Option(metavar="ID", help="Only this benchmark.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    slowest: Annotated[int, typer.Option(metavar="N", min=0, help="So many of the slowest turns.")] = 10,
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
    """Say why it took so long and cost so much: where the time went, the slowest turns and their causes, cache use,
    what went wrong, and with prices and outcomes what was spent for what, and what of it bought nothing.

    Example:

        otel-agentperf explain --slowest 5
    """
    from otel_agentperf_analyzers.explain import explain as explained
    from otel_agentperf_analyzers.explain import render

    if form is None:
        form = ReportFormat.JSON if out is not None and out.suffix.lower() == ".json" else ReportFormat.TABLE
    with opened(source, period, given) as database:
        content = explained(database, benchmark=benchmark, model=model, limit=slowest)
    file = None if out is None or str(out) == "-" else out
    if form is ReportFormat.JSON:
        with destination(file) as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        return
    print_text(lambda console: render(content, console), file)


def print_text(draw: "Callable[[Console], None]", file: Path | None) -> None:
    """Write what is drawn; on a terminal as wide as it is, elsewhere plain.

    Raises:
        UsageError: the file cannot be written.
    """
    from rich.console import Console

    if file is None and sys.stdout.isatty():
        console = Console(file=sys.stdout, highlight=False)
        with console.capture() as captured:
            draw(console)
        text = captured.get()
    else:
        plain = io.StringIO()
        draw(Console(file=plain, highlight=False, width=_PLAIN_WIDTH))
        text = "".join(f"{line.rstrip()}\n" for line in plain.getvalue().splitlines())
    with destination(file) as stream:
        stream.write(text.encode())
