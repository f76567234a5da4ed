"""An explanation for a terminal."""

from collections.abc import Iterable
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from otel_agentperf_analyzers.explain.model import CacheUse, Explanation, SlowTurn, Times, Trouble
from otel_agentperf_analyzers.report.model import Work
from otel_agentperf_analyzers.report.text import (
    amount,
    count,
    digits,
    heading,
    integer,
    money,
    plain,
    plain_table,
    share,
)

__all__ = ["render"]

_PARTS: Final = (
    ("answers", "decode_s"),
    ("prefill", "prefill_s"),
    ("queue", "queue_s"),
    ("first\ntoken", "first_token_s"),
    ("not\nsplit", "unsplit_s"),
    ("retries", "retries_s"),
    ("tools", "tool_s"),
    ("harness", "harness_s"),
    ("human", "human_s"),
)


def render(explanation: Explanation, console: Console) -> None:
    """Print the explanation."""
    console.print(Text.assemble(("What took the time", "bold"), f" of {plain(explanation.source)}"))
    if not explanation.times:
        console.print("\nNo turns of agents: nothing to explain.")
        return
    for parts in (
        _times(explanation.times),
        _slow(explanation),
        _cache(explanation.cache),
        _trouble(explanation.trouble, explanation.troubled),
        _work(explanation.work),
    ):
        for part in parts:
            console.print(part)


def _times(rows: Iterable[Times]) -> Iterable[RenderableType]:
    yield heading("Where the time went", "shares of the trajectories' time")
    table = plain_table(roomy=True)
    table.add_column("of", overflow="fold")
    for name in ("trajec-\ntories", "total s", *(name for name, _ in _PARTS)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        of = (
            plain(row.model or "(no model)")
            if row.benchmark_id is None
            else f"{plain(row.benchmark_id)}, {row.level} agents"
        )
        shares = [share(getattr(row, key) / row.total_s if row.total_s else None) for _, key in _PARTS]
        table.add_row(Text(of), integer(row.trajectories), digits(row.total_s), *shares)
    yield table


def _slow(explanation: Explanation) -> Iterable[RenderableType]:
    if explanation.causes:
        yield heading("Why turns took longer than the median of their model")
        lost = sum(max(row.excess_s, 0.0) for row in explanation.causes)
        parts = [f"{row.cause} {digits(row.excess_s)} s in {count(row.turns, 'turn')}" for row in explanation.causes]
        yield Text(f"{digits(lost)} s in all: {', '.join(parts)}")
    if not explanation.slowest:
        return
    yield heading("Slowest turns")
    table = plain_table(roomy=True)
    table.add_column("trajectory", overflow="fold")
    for name in (
        "turn",
        "s",
        "usual",
        "retries",
        "first\ntoken +",
        "long\nanswer +",
        "slow\ndecode +",
        "fresh\ninput",
        "output",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cause", no_wrap=True)
    for row in explanation.slowest:
        table.add_row(Text(plain(row.trajectory_id)), *_slow_cells(row), row.cause)
    yield table


def _slow_cells(row: SlowTurn) -> Iterable[str]:
    yield integer(row.turn_index)
    yield digits(row.e2e_latency_s)
    yield digits(row.typical_e2e_latency_s)
    for part in (row.retries_s, row.first_token_excess_s, row.long_answer_s, row.slow_decode_s):
        yield digits(part) if part else ""
    yield amount(row.fresh_input_tokens)
    yield amount(row.output_tokens)


def _cache(rows: Iterable[CacheUse]) -> Iterable[RenderableType]:
    yield heading("Cache and context")
    table = plain_table(roomy=True)
    table.add_column("model", overflow="fold")
    table.add_column("deployment", overflow="fold")
    names = ("input\ntokens", "cache\nhit", "optimal", "effi-\nciency", "growth\nper turn", "longest", "compac-\ntions")
    for name in (*names, "system", "tools", "history", "tool\nresults"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(plain(row.model or "(none)")),
            Text(plain(row.deployment or "")),
            amount(row.input_tokens),
            share(row.cache_hit),
            share(row.optimal_cache_hit),
            share(row.hit_efficiency),
            digits(row.context_growth_tokens),
            amount(row.max_context_tokens),
            integer(row.compactions),
            share(row.system_share),
            share(row.tools_share),
            share(row.history_share),
            share(row.tool_results_share),
        )
    yield table


def _trouble(together: Trouble | None, rows: tuple[Trouble, ...]) -> Iterable[RenderableType]:
    if together is None or not rows:
        return
    yield heading("Trouble", f"in {count(together.trajectories, 'trajectory')}")
    table = plain_table(roomy=True)
    table.add_column("trajectory", overflow="fold")
    names = (
        "failed\nturns",
        "retries",
        "tool\nerrors",
        "recov-\nered",
        "repeated\ncalls",
        "loops",
        "stalls",
        "wasted\ntokens",
        "wasted\ncost",
    )
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in (*rows, together):
        table.add_row(
            Text(plain(row.trajectory_id or "all")),
            integer(row.failed_turns),
            integer(row.retries),
            integer(row.tool_errors),
            integer(row.recoveries),
            integer(row.repeated_tool_calls),
            integer(row.loops),
            integer(row.stalls),
            amount(row.wasted_tokens),
            money(row.wasted_cost),
        )
    yield table


def _work(rows: tuple[Work, ...]) -> Iterable[RenderableType]:
    """What was spent, for what."""
    if not any(row.cost is not None or row.success_rate is not None for row in rows):
        return
    yield heading("Cost and outcome")
    table = plain_table(roomy=True)
    table.add_column("of", overflow="fold")
    names = ("tasks", "success", "un-\nknown", "cost", "cost per\ntask", "cost per\nsuccess", "tokens per\nsuccess")
    for name in (*names, "wasted\ntokens", "wasted\ncost", "of the\ncost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        of = "live traffic" if row.benchmark_id is None else f"{plain(row.benchmark_id)}, {row.level} agents"
        if row.dimension != "all":
            of = f"  {row.dimension.replace('_', ' ')} {plain(row.dimension_value or '')}"
        wasted = row.wasted_cost / row.cost if row.wasted_cost is not None and row.cost else None
        table.add_row(
            Text(of),
            integer(row.tasks),
            share(row.success_rate),
            integer(row.unknown),
            money(row.cost),
            money(row.cost_per_task),
            money(row.cost_per_completed_task),
            digits(row.tokens_per_completed_task),
            amount(row.wasted_tokens),
            money(row.wasted_cost),
            share(wasted),
        )
    yield table
    unpriced = sum(row.unpriced_calls for row in rows if row.dimension == "all")
    if unpriced and any(row.cost is not None for row in rows):
        yield Text(f"{count(unpriced, 'call')} without a price, in no cost", "yellow")
