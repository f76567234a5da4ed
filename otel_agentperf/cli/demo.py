"""`demo`: a simulated endpoint, a proxy, agents at some levels, and the report; nothing else is needed."""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from otel_agentperf.cli.bench import play_watched, raise_file_limit, record_levels
from otel_agentperf.cli.common import console
from otel_agentperf.cli.report import ReportFormat, show, write_html
from otel_agentperf.errors import ExitCode, StoreError

__all__ = ["register"]

MODEL: Final = "demo-model"
LEVELS: Final = (2, 8, 24)
WARMUP_S: Final = 2.0
DRAIN_LIMIT_S: Final = 5.0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the trace store and the other results go.")] = Path(
        "agentperf-demo"
    ),
    seconds: Annotated[
        float, typer.Option(min=3, metavar="N", help="Length of the measured windows together, in seconds.")
    ] = 24.0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """See it work: a simulated endpoint, the proxy, agents that replay recorded work, and the report; in a minute.

    Nothing is downloaded and no address is needed. The trace store stays in DIR, to be explored with the other
    commands, and beside it the report as `report.html`, where the extra `report` is installed.

    Example:

        otel-agentperf demo
    """
    from otel_agentperf import replay
    from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
    from otel_agentperf.simulate import SimulateConfig
    from otel_agentperf_analyzers import open_source
    from otel_agentperf_analyzers.report import build

    _make(out)
    store, truth = out / "store", out / "truth.jsonl"
    recording = replay.load("mini")
    raise_file_limit(max(LEVELS))
    with ExitStack() as running:
        # A deployment that a few agents find fast, and two dozen find busy.
        deployment = SimulateConfig(model=MODEL, decode_ms=4.0, decode_slope_ms=0.45, prefill_tokens_per_s=60_000.0)
        upstream = running.enter_context(simulated_endpoint(deployment, truth))
        url = running.enter_context(proxy_in_front(upstream, store))
        console.print(f"a simulated endpoint, the proxy in front of it, agents at {len(LEVELS)} levels", soft_wrap=True)
        settings = replay.ReplaySettings(
            endpoint=url,
            model=MODEL,
            levels=LEVELS,
            seconds=seconds / len(LEVELS),
            warmup_s=WARMUP_S,
            drain_limit_s=DRAIN_LIMIT_S,
        )
        result = play_watched(recording, settings)
    record_levels(store, result)
    if result.stopped is not None:
        raise typer.Exit(ExitCode.INTERRUPTED if result.stopped == "interrupted" else ExitCode.UNAVAILABLE)
    with open_source(str(store)) as database:
        content = build(database, benchmark=result.benchmark_id)
        page = out / "report.html"
        has_page = write_html(database, content, page, result.benchmark_id)
    show(content, ReportFormat.JSON if json else ReportFormat.TABLE)
    _suggest(store, page if has_page else None)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(f"cannot make {directory}: {exc.strerror}") from exc


def _suggest(store: Path, page: Path | None) -> None:
    place = shlex.quote(str(store))
    if page is None:
        show_it = f"pip install 'otel-agentperf[report]' && otel-agentperf report {place} -o report.html"
    else:
        show_it = f"open {shlex.quote(str(page))} in a browser"
    console.print("\nTo go on from here:")
    for words, command in (
        ("the report with plots", show_it),
        ("each LLM call", f"otel-agentperf turns {place} --limit 10"),
        ("each agent's work on a task", f"otel-agentperf trajectories {place}"),
        ("where tools cost time", f"otel-agentperf tools {place} --where 'duration_s > 1'"),
        ("any question", f'otel-agentperf query "FROM turns SELECT level, avg(ttft_s) GROUP BY level" {place}'),
        ("your own endpoint", "otel-agentperf proxy --upstream http://127.0.0.1:8000"),
    ):
        console.print(f"  {words + ':':<28} {command}", soft_wrap=True, markup=False)
