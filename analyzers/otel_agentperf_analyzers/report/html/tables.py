"""Tables of the page: what they show and what they sort by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from otel_agentperf_analyzers.explain import Explanation
from otel_agentperf_analyzers.report.model import Benchmark, Figures, Report, Target
from otel_agentperf_analyzers.report.reasons import REASONS
from otel_agentperf_analyzers.report.text import amount, count, digits, integer, plain, share

__all__ = [
    "ROWS",
    "Cell",
    "Column",
    "Table",
    "cache",
    "capacities",
    "figures",
    "jobs",
    "slowest",
    "times",
    "tools",
    "troubles",
    "undefined",
    "verdicts",
    "work",
]

ROWS: Final = 200
"""Rows of a table that are shown."""


@dataclass(frozen=True)
class Cell:
    """What is shown, and what it sorts by; None sorts last."""

    text: str
    sort: float | str | None
    mood: str = ""
    """good, bad or doubt: how it is coloured."""


@dataclass(frozen=True)
class Column:
    """A column; those without any value are left out unless it is the first."""

    title: str
    value: Callable[[Any], Any]
    show: Callable[[Any], str] | None = None
    """None for text."""
    mood: Callable[[Any], str] = lambda row: ""


@dataclass(frozen=True)
class Table:
    """A table with a caption."""

    caption: str
    titles: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: str = ""
    notes: tuple[str, ...] = field(default=())


def _table(
    caption: str, rows: Sequence[Any], columns: Sequence[Column], *, all_by: str = "", notes: Sequence[str] = ()
) -> Table | None:
    """None without rows.

    Args:
        all_by: the command that prints all rows, where the page shows the first only.
    """
    if not rows:
        return None
    shown = rows[:ROWS]
    kept = [
        column
        for place, column in enumerate(columns)
        if not place or any(column.value(row) is not None for row in shown)
    ]
    return Table(
        caption=caption,
        titles=tuple(column.title for column in kept),
        numeric=tuple(column.show is not None for column in kept),
        rows=tuple(tuple(_cell(column, row) for column in kept) for row in shown),
        left_out=f"The first {ROWS} of {len(rows):,} rows; {all_by} has all." if len(rows) > ROWS else "",
        notes=tuple(notes),
    )


def _cell(column: Column, row: Any) -> Cell:
    value = column.value(row)
    if isinstance(value, datetime):
        return Cell(value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"), value.timestamp(), column.mood(row))
    if column.show is None:
        text = "" if value is None else plain(str(value))
        return Cell(text, text or None, column.mood(row))
    return Cell(column.show(value), None if value is None else float(value), column.mood(row))


def _named(name: str) -> Callable[[Any], Any]:
    return lambda row: getattr(row, name)


def figures(rows: Sequence[Figures], caption: str, *, by_level: bool) -> Table | None:
    """Levels of a benchmark, or models of live traffic."""
    first = (
        Column("agents", _named("agents"), integer)
        if by_level
        else Column("model", lambda row: row.model or "(no model)")
    )
    columns = [
        first,
        Column("turns", _named("turns"), integer),
        Column("jobs done", _named("completed_trajectories"), integer),
        Column("TTFT P50 s", _named("ttft_p50_s"), digits),
        Column("TTFT P95 s", _named("ttft_p95_s"), digits),
        Column("speed P25 tok/s", _named("output_speed_p25_tps"), digits),
        Column("speed P50 tok/s", _named("output_speed_p50_tps"), digits),
        Column("pooled tok/s", _named("pooled_speed_tps"), digits),
        Column("E2E P50 s", _named("e2e_latency_p50_s"), digits),
        Column("E2E P95 s", _named("e2e_latency_p95_s"), digits),
        Column("input tokens", _named("input_tokens"), amount),
        Column("output tokens", _named("output_tokens"), amount),
        Column("cache hit", _named("cache_hit"), share),
        Column("of the optimum", _named("hit_efficiency"), share),
        Column("errors", _named("error_rate"), share, lambda row: "bad" if row.error_rate else ""),
        Column("output tok/s", _named("output_throughput_tps"), digits),
        Column("in flight", _named("inflight"), digits),
        Column("active agents", _named("active_agents"), digits),
        Column("jobs/h per agent", _named("jobs_per_hour_per_user"), digits),
        Column("jobs/h per accelerator", _named("jobs_per_hour_per_accelerator"), digits),
        Column("power W", _named("power_mean_w"), digits),
        Column("cost", _named("cost"), digits),
    ]
    estimated = sum(row.estimated_turns for row in rows)
    notes = [f"{count(estimated, 'turn')} with estimated tokens, in no speed."] if estimated else []
    if any(row.pooled_speed_tps is not None for row in rows):
        notes.append("The pooled speed leaves out turns that return tool calls, since servers often buffer those.")
    return _table(caption, rows, columns, all_by="otel-agentperf report --format json", notes=notes)


@dataclass(frozen=True)
class _Load:
    agents: int | None
    targets: tuple[Target, ...]
    place: int


def verdicts(targets: Sequence[Target], caption: str) -> Table | None:
    """Levels down, tiers across; live traffic has one line."""
    if not targets:
        return None
    loads = [_Load(each.agents, tuple(targets), place) for place, each in enumerate(targets[0].verdicts)]
    columns = [Column("agents", _named("agents"), integer)]
    columns += [_tier(target, number) for number, target in enumerate(targets)]
    notes = [
        f"* {count(verdict.agents, 'agent') if verdict.agents is not None else 'this level'} is no valid level: "
        f"{', '.join(verdict.reasons)}."
        for verdict in targets[0].verdicts
        if verdict.reasons
    ]
    return _table(caption, loads, columns, all_by="otel-agentperf slo", notes=notes)


def _tier(target: Target, number: int) -> Column:
    def verdict(row: _Load) -> Any:
        return row.targets[number].verdicts[row.place]

    def mood(row: _Load) -> str:
        holds = verdict(row).holds
        return "" if holds is None else "good" if holds else "bad"

    def words(row: _Load) -> str:
        each = verdict(row)
        if each.holds is None:
            return "not defined"
        margin = "" if each.margin is None else f" {each.margin:.2f}×"
        if not each.holds and (each.margin is None or each.margin >= 1):
            margin = f" errors {share(each.error_rate)}"
        return f"{'pass' if each.holds else 'miss'}{margin}{'' if each.valid else '*'}"

    return Column(f"{plain(target.tier)}: {', '.join(target.requirement)}", words, mood=mood)


def capacities(rows: Sequence[dict[str, Any]]) -> Table | None:
    """Rows of relation `capacity`."""

    def of(name: str) -> Callable[[Any], Any]:
        return lambda row: row[name]

    columns = [
        Column("of", lambda row: row["benchmark_id"] or "live traffic"),
        Column("model", of("model")),
        Column("policy", lambda row: f"{row['policy']}@{row['version']}"),
        Column("tier", of("tier")),
        Column("agents", of("max_agents"), integer),
        Column("missed at", of("first_fail"), integer),
        Column("now", of("agents_now"), digits),
        Column("headroom", of("headroom_agents"), digits),
        Column("per accelerator", of("agents_per_accelerator"), digits),
        Column("per MW", of("agents_per_mw"), digits),
        Column("per currency/h", of("agents_per_dollar_hour"), digits),
        Column("in words", of("statement")),
    ]
    return _table("How many agents each tier holds for", rows, columns, all_by="otel-agentperf capacity")


def _of(row: Any) -> str:
    level = row.level if hasattr(row, "level") else row.agents
    if row.benchmark_id is None:
        return "live traffic"
    return f"{row.benchmark_id}, {count(level, 'agent') if level is not None else 'no level'}"


def jobs(report: Report) -> Table | None:
    """Trajectories by level or agent."""

    def part(name: str) -> Callable[[Any], Any]:
        def found(row: Any) -> float | None:
            parts = [getattr(row, f"{each}_time_s") for each in ("llm", "tool", "harness", "human")]
            total = sum(each or 0.0 for each in parts)
            value = getattr(row, name)
            return value / total if total and value is not None else None

        return found

    columns = [
        Column("of", _of),
        Column("agent", _named("agent_name")),
        Column("begun", _named("trajectories"), integer),
        Column("done", _named("completed"), integer),
        Column("job P50 s", _named("job_latency_p50_s"), digits),
        Column("job P95 s", _named("job_latency_p95_s"), digits),
        Column("LLM", part("llm_time_s"), share),
        Column("tools", part("tool_time_s"), share),
        Column("harness", part("harness_time_s"), share),
        Column("human", part("human_time_s"), share),
        Column("turns", _named("turns"), integer),
        Column("tool calls", _named("tool_calls"), integer),
        Column("output tokens", _named("output_tokens"), amount),
        Column("longest context", _named("max_context_tokens"), amount),
        Column("succeeded", lambda row: row.succeeded or None, integer),
        Column("failed", lambda row: row.failed or None, integer),
    ]
    caption = "Jobs, with the shares of their time; latencies are over the completed ones"
    return _table(caption, report.jobs, columns, all_by="otel-agentperf trajectories")


def tools(report: Report) -> Table | None:
    """Tool calls by tool."""
    columns = [
        Column("tool", lambda row: row.tool_name or "(unknown)"),
        Column("calls", _named("calls"), integer),
        Column("P50 s", _named("duration_p50_s"), digits),
        Column("P95 s", _named("duration_p95_s"), digits),
        Column("total s", _named("total_s"), digits),
        Column("errors", _named("errors"), integer, lambda row: "bad" if row.errors else ""),
        Column("repeated", _named("repeated"), integer),
    ]
    return _table("Tool calls, the most time first", report.tools, columns, all_by="otel-agentperf tools")


def work(report: Report) -> Table | None:
    """What got done and what it cost; None where neither outcomes nor prices are known."""
    if not any(row.cost is not None or row.success_rate is not None for row in report.work):
        return None

    def by(row: Any) -> str:
        return "all" if row.dimension == "all" else f"{row.dimension.replace('_', ' ')} {row.dimension_value or ''}"

    columns = [
        Column("of", _of),
        Column("by", by),
        Column("tasks", _named("tasks"), integer),
        Column("ended", _named("ended"), integer),
        Column("success", _named("success_rate"), share),
        Column("succeeded", _named("succeeded"), integer),
        Column("failed", _named("failed"), integer),
        Column("not told", _named("unknown"), integer),
        Column("done per h", _named("tasks_per_hour"), digits),
        Column("ended per h", _named("ended_per_hour"), digits),
        Column("tokens", _named("tokens"), amount),
        Column("tokens per success", _named("tokens_per_completed_task"), amount_of_float),
        Column("wasted tokens", lambda row: row.wasted_tokens or None, amount),
        Column("cost", _named("cost"), digits),
        Column("wasted cost", lambda row: row.wasted_cost or None, digits),
        Column("cost per task", _named("cost_per_task"), digits),
        Column("cost per success", _named("cost_per_completed_task"), digits),
    ]
    unpriced = sum(row.unpriced_calls for row in report.work if row.dimension == "all")
    priced = any(row.cost is not None for row in report.work)
    notes = [f"{count(unpriced, 'call')} without a price, left out of the cost."] if unpriced and priced else []
    return _table("What got done, and what it cost", report.work, columns, all_by="otel-agentperf tasks", notes=notes)


def amount_of_float(value: float | None) -> str:
    """Tokens of a mean."""
    return amount(None if value is None else round(value))


def times(explanation: Explanation) -> Table | None:
    """Where the time went, as shares."""

    def part(name: str) -> Callable[[Any], Any]:
        return lambda row: getattr(row, name) / row.total_s if row.total_s and getattr(row, name) else None

    names = {
        "answers": "decode_s",
        "prefill": "prefill_s",
        "queue": "queue_s",
        "first token": "first_token_s",
        "not split": "unsplit_s",
        "retries": "retries_s",
        "tools": "tool_s",
        "harness": "harness_s",
        "human": "human_s",
    }
    columns = [
        Column("of", _of),
        Column("model", _named("model")),
        Column("trajectories", _named("trajectories"), integer),
        Column("total s", _named("total_s"), digits),
        *(Column(title, part(name), share) for title, name in names.items()),
    ]
    caption = "Where the time of trajectories went, as shares"
    return _table(caption, explanation.times, columns, all_by="otel-agentperf explain")


def slowest(explanation: Explanation) -> Table | None:
    """The slowest turns and their causes."""
    columns = [
        Column("trajectory", _named("trajectory_id")),
        Column("turn", _named("turn_index"), integer),
        Column("model", _named("model")),
        Column("began (UTC)", _named("start_time"), str),
        Column("s", _named("e2e_latency_s"), digits),
        Column("usual s", _named("typical_e2e_latency_s"), digits),
        Column("retries s", lambda row: row.retries_s or None, digits),
        Column("first token + s", _named("first_token_excess_s"), digits),
        Column("queue s", _named("queue_s"), digits),
        Column("long answer + s", _named("long_answer_s"), digits),
        Column("slow decode + s", _named("slow_decode_s"), digits),
        Column("stall s", lambda row: row.stall_s or None, digits),
        Column("fresh input", _named("fresh_input_tokens"), amount),
        Column("output", _named("output_tokens"), amount),
        Column("cause", _named("cause")),
        Column("status", _named("status"), mood=lambda row: "" if row.status == "ok" else "bad"),
    ]
    return _table("The slowest turns, and why", explanation.slowest, columns)


def cache(explanation: Explanation) -> Table | None:
    """Cache and context by model and deployment."""
    columns = [
        Column("model", lambda row: row.model or "(no model)"),
        Column("deployment", _named("deployment")),
        Column("turns", _named("turns"), integer),
        Column("input tokens", _named("input_tokens"), amount),
        Column("cache hit", _named("cache_hit"), share),
        Column("optimal", _named("optimal_cache_hit"), share),
        Column("efficiency", _named("hit_efficiency"), share),
        Column("growth per turn", _named("context_growth_tokens"), amount_of_float),
        Column("longest", _named("max_context_tokens"), amount),
        Column("compactions", _named("compactions"), integer),
        Column("system", _named("system_share"), share),
        Column("tools", _named("tools_share"), share),
        Column("history", _named("history_share"), share),
        Column("tool results", _named("tool_results_share"), share),
    ]
    caption = "Cache and context; shares of the context are by bytes"
    return _table(caption, explanation.cache, columns, all_by="otel-agentperf explain")


def troubles(explanation: Explanation) -> Table | None:
    """Trajectories in which something went wrong."""
    if explanation.trouble is None or not explanation.troubled:
        return None
    columns = [
        Column("trajectory", lambda row: row.trajectory_id or f"all {row.trajectories:,}"),
        Column("failed turns", _named("failed_turns"), integer),
        Column("retries", _named("retries"), integer),
        Column("tool errors", _named("tool_errors"), integer),
        Column("recovered", _named("recoveries"), integer),
        Column("repeated calls", _named("repeated_tool_calls"), integer),
        Column("loops", _named("loops"), integer),
        Column("stalls", _named("stalls"), integer),
        Column("wasted tokens", _named("wasted_tokens"), amount),
    ]
    return _table(
        "Where something went wrong, the most wasted first", (*explanation.troubled, explanation.trouble), columns
    )


def undefined(report: Report) -> Table | None:
    """What has no value, and why."""
    columns = [
        Column("metric", _named("metric")),
        Column("of", _named("relation")),
        Column("reason", lambda row: REASONS[row.reason]),
        Column("count", _named("count"), integer),
    ]
    caption = "Figures without a value, which are in no percentile and no mean"
    return _table(caption, report.undefined, columns, all_by="otel-agentperf query 'FROM undefined'")


def benchmarks(report: Report) -> Iterator[tuple[Benchmark, tuple[Table, ...]]]:
    """Each benchmark, the newest first, with its tables."""
    for benchmark in sorted(report.benchmarks, key=lambda each: str(each.start_time), reverse=True):
        made = [figures(benchmark.levels, "Levels, over their steady windows", by_level=True)]
        made += [verdicts(targets, caption) for caption, targets in policies(benchmark.targets)]
        yield benchmark, tuple(table for table in made if table is not None)


def policies(targets: Sequence[Target]) -> Iterator[tuple[str, list[Target]]]:
    """Targets by policy and model, with a caption."""
    for policy, model in dict.fromkeys((target.policy, target.model) for target in targets):
        group = [target for target in targets if (target.policy, target.model) == (policy, model)]
        words = [f"Verdicts by {plain(policy)}", *([plain(model)] if model else [])]
        if not all(target.comparable for target in group):
            words.append("not comparable with published results")
        yield ", ".join(words), group
