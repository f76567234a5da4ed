"""The command `compare`: two benchmarks, or two times of live traffic."""

from pathlib import Path
from typing import Annotated, Final

import typer

from otel_agentperf.cli.options import Given, Output, Period, grouped
from otel_agentperf.cli.output import emit, note, restrict
from otel_agentperf.cli.source import opened
from otel_agentperf.errors import ExitCode, UsageError

__all__ = ["compare"]

_SIDE: Final = "SOURCE, SOURCE#BENCHMARK, or #BENCHMARK of the default source."

_MAIN_COLUMNS: Final = (
    "level",
    "metric",
    "unit",
    "a",
    "b",
    "change",
    "change_low",
    "change_high",
    "relative",
    "verdict",
    "regressed",
)


@grouped
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=f"What was: {_SIDE}")],
    b: Annotated[str, typer.Argument(metavar="B", help=f"What is: {_SIDE}")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a metric that is shown regressed.")] = False,
    threshold: Annotated[
        str, typer.Option(metavar="SHARE", help="Worse by more than this is a regression: `0.05` or `5%`.")
    ] = "5%",
    given: Given,
    period: Period,
    output: Output,
) -> None:
    """Compare two benchmarks, or two times of live traffic: differences with 95 % intervals over trajectories.

    Sides that played the same tasks are compared task by task. A difference whose interval holds 0 is `not shown`,
    one of a figure that a side lacks is `undefined`.

    Example:

        otel-agentperf compare agentperf-store agentperf-store --check
    """
    from otel_agentperf_analyzers.compare import compare as compared
    from otel_agentperf_analyzers.compare import regressions

    limit = _share(threshold)
    (source_a, benchmark_a), (source_b, benchmark_b) = _side(a), _side(b)
    with opened(source_a, period, given) as database_a, opened(source_b, period, given) as database_b:
        table = compared(database_a, database_b, benchmarks=(benchmark_a, benchmark_b), threshold=limit)
    table = restrict(table, output.where, output.limit)
    emit(table, output, main_columns=_MAIN_COLUMNS)
    found = list(regressions(table))
    if check and found:
        note(f"regressed: {'; '.join(found)}")
        raise typer.Exit(ExitCode.NEGATIVE)


def _side(name: str) -> tuple[str | None, str | None]:
    """Source and benchmark; a file whose name has a # wins."""
    source, sign, benchmark = name.rpartition("#")
    if not sign or Path(name).exists():
        return name, None
    if not benchmark:
        raise UsageError(f"{name!r} names no benchmark after the #")
    return source or None, benchmark


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"--threshold: {text!r} is no share; write 0.05 or 5%")
    return value
