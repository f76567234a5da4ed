"""Commands that read a source: its relations, SLO verdicts, SQL over it, and the catalogue; `register` adds them."""

from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from otel_agentperf.cli.compare import compare
from otel_agentperf.cli.explain import explain, trajectory
from otel_agentperf.cli.options import Format, Given, Output, Selection, Source, Tiers, grouped
from otel_agentperf.cli.output import emit, emit_record, restrict
from otel_agentperf.cli.report import report
from otel_agentperf.cli.source import opened, tiers_of
from otel_agentperf.errors import ExitCode, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["register"]

_MAIN_COLUMNS: Final = {
    "turns": (
        "trajectory_id",
        "turn_index",
        "status",
        "ttft_s",
        "output_speed_tps",
        "e2e_latency_s",
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "request_model",
        "finish_reason",
        "start_time",
    ),
    "trajectories": (
        "trajectory_id",
        "turns",
        "tool_calls",
        "job_latency_s",
        "llm_time_s",
        "tool_time_s",
        "harness_time_s",
        "human_time_s",
        "output_tokens",
        "max_context_tokens",
        "cache_hit",
        "status",
        "outcome",
        "start_time",
    ),
    "tool_calls": ("trajectory_id", "turn_index", "tool_name", "duration_s", "duration_source", "start_time"),
    "runs": (
        "trajectory_id",
        "run_index",
        "turns",
        "tool_calls",
        "duration_s",
        "llm_time_s",
        "tool_time_s",
        "harness_time_s",
        "output_tokens",
        "status",
        "start_time",
    ),
    "benchmarks": (
        "benchmark_id",
        "request_model",
        "preset",
        "levels",
        "max_level",
        "steady_turns",
        "completed_trajectories",
        "failed_attempts",
        "start_time",
        "end_time",
    ),
    "levels": (
        "benchmark_id",
        "level",
        "turns",
        "completed_trajectories",
        "ttft_p50_s",
        "ttft_p95_s",
        "output_speed_p25_tps",
        "output_speed_p50_tps",
        "error_rate",
        "output_throughput_tps",
        "inflight",
        "active_agents",
        "cache_hit",
        "window_s",
    ),
    "tasks": (
        "dimension",
        "dimension_value",
        "tasks",
        "ended",
        "success_rate",
        "job_latency_p50_s",
        "tasks_per_hour",
        "ended_per_hour",
        "cost_per_task",
        "cost_per_completed_task",
        "tokens",
        "wasted_tokens",
        "tool_errors",
        "loops",
        "benchmark_id",
        "level",
    ),
    "concurrency": (
        "bucket_start",
        "bucket_s",
        "inflight",
        "inflight_max",
        "active_agents",
        "active_agents_max",
        "calls_started",
        "calls_failed",
        "level",
        "benchmark_id",
    ),
    "capacity": (
        "policy",
        "tier",
        "model",
        "method",
        "max_agents",
        "first_fail",
        "statement",
        "agents_per_accelerator",
        "agents_per_mw",
        "agents_per_dollar_hour",
        "headroom_agents",
        "benchmark_id",
    ),
    "capacity_curve": (
        "tier",
        "agents_low",
        "agents_high",
        "verdict",
        "trajectories",
        "turns",
        "error_rate",
        "targets",
        "model",
        "policy",
    ),
    "slo": (
        "policy",
        "tier",
        "model",
        "level",
        "passed",
        "margin",
        "ttft_p95_s",
        "output_speed_p25_tps",
        "error_rate",
        "goodput",
        "turns",
        "valid",
        "benchmark_id",
    ),
}
"""What a table shows of a relation, the most telling first: a narrow terminal leaves out the last."""


def _show(name: str, source: str | None, selection: Selection, output: Output, given: Given = Given()) -> None:
    with opened(source, selection, given) as database:
        table = database.relation(
            name,
            model=selection.model,
            benchmark=selection.benchmark,
            trajectory=selection.trajectory,
            where=output.where,
            limit=output.limit,
        )
        emit(table, output, main_columns=_MAIN_COLUMNS[name])


@grouped
def turns(source: Source = None, *, given: Given, selection: Selection, output: Output) -> None:
    """List LLM calls, one row per turn: times, speeds, tokens, status.

    Example:

        otel-agentperf turns --since 2026-01-01 --where "ttft_s > 0.3" --format csv
    """
    _show("turns", source, selection, output, given)


@grouped
def trajectories(source: Source = None, *, given: Given, selection: Selection, output: Output) -> None:
    """List trajectories, one row per agent and task: job latency, where the time went, tokens, outcome.

    Example:

        otel-agentperf trajectories --where "turns >= 2" --format json
    """
    _show("trajectories", source, selection, output, given)


@grouped
def tools(source: Source = None, *, selection: Selection, output: Output) -> None:
    """List tool calls, one row each: which turn asked for it and how long it took.

    Example:

        otel-agentperf tools --where "duration_s >= 1" --limit 20
    """
    _show("tool_calls", source, selection, output)


@grouped
def runs(source: Source = None, *, given: Given, selection: Selection, output: Output) -> None:
    """List agent runs, one row per user request to its final answer.

    Example:

        otel-agentperf runs --format jsonl
    """
    _show("runs", source, selection, output, given)


@grouped
def benchmarks(source: Source = None, *, selection: Selection, output: Output) -> None:
    """List benchmarks, one row per execution of a replay.

    Example:

        otel-agentperf benchmarks --since 2026-01-01
    """
    _show("benchmarks", source, selection, output)


@grouped
def levels(source: Source = None, *, given: Given, selection: Selection, output: Output) -> None:
    """List the levels of benchmarks, one row per number of concurrent agents.

    Example:

        otel-agentperf levels --format markdown
    """
    _show("levels", source, selection, output, given)


class Dimension(StrEnum):
    """What tasks are grouped by."""

    ALL = "all"
    AGENT = "agent"
    MODEL = "model"
    TOOL_STACK = "tool_stack"
    DEPLOYMENT = "deployment"
    TASK_DOMAIN = "task_domain"


@grouped
def tasks(
    source: Source = None,
    *,
    by: Annotated[
        list[Dimension] | None,
        typer.Option(
            "--by", help="One row for each agent, model, ... (repeatable). Default: all together.", show_default=False
        ),
    ] = None,
    given: Given,
    selection: Selection,
    output: Output,
) -> None:
    """Sum up tasks: how many came to an end or to success, per hour, their time, tokens and cost.

    Example:

        otel-agentperf tasks --by agent --by model
    """
    wanted = [str(dimension) for dimension in by or [Dimension.ALL]]
    with opened(source, selection, given) as database:
        if selection.model is not None or selection.trajectory is not None:
            raise UsageError(
                "tasks are of several models and trajectories; use --by model, or trajectories --model NAME"
            )
        table = database.relation("tasks", benchmark=selection.benchmark)
    emit(
        restrict(_among(table, "dimension", wanted), output.where, output.limit),
        output,
        main_columns=_MAIN_COLUMNS["tasks"],
    )


def _among(table: "pa.Table", column: str, wanted: list[str]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table.column(column), pa.array(wanted)))


@grouped
def concurrency(source: Source = None, *, selection: Selection, output: Output) -> None:
    """List calls in flight and active agents over time, one row per time bucket.

    Example:

        otel-agentperf concurrency --format csv -o concurrency.csv
    """
    _show("concurrency", source, selection, output)


@grouped
def slo(
    source: Source = None,
    *,
    tier: Tiers = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 unless every row shown has passed, and there is one.")
    ] = False,
    selection: Selection,
    output: Output,
) -> None:
    """Judge by SLO tiers, one row per tier, model and level: percentiles, goodput, verdict, margin.

    Example:

        otel-agentperf slo --where "level IS NULL" --format markdown
    """
    with opened(source, selection) as database:
        table = restrict(_selected(database.slo(tiers_of(tier)), selection), output.where, output.limit)
        emit(table, output, main_columns=_MAIN_COLUMNS["slo"])
    if check and (not table.num_rows or not all(table.column("passed").to_pylist())):
        raise typer.Exit(ExitCode.NEGATIVE)


@grouped
def capacity(
    source: Source = None,
    *,
    tier: Tiers = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="Show the figures of live traffic by the number of agents at work.")
    ] = False,
    given: Given,
    selection: Selection,
    output: Output,
) -> None:
    """Say how many concurrent agents an SLO tier holds for, of replays and of live traffic, and per accelerator or MW.

    Live traffic shows a load to hold or to fail when the 95 % interval, resampled over trajectories, says so; where
    nothing failed the answer is a lower bound.

    Example:

        otel-agentperf capacity --accelerators 8 --power-watts 5600
    """
    name = "capacity_curve" if curve else "capacity"
    with opened(source, selection, given) as database:
        table = database.judged(name, tiers_of(tier))
    table = restrict(_selected(table, selection), output.where, output.limit)
    if curve and output.form in (Format.TABLE, Format.MARKDOWN) and output.columns is None:
        table = _unfolded(table)
    emit(table, output, main_columns=_MAIN_COLUMNS[name])


def _unfolded(curve: "pa.Table") -> "pa.Table":
    """The curve with its targets as text, for reading."""
    import pyarrow as pa

    def told(target: dict[str, Any]) -> str:
        known = [target[name] for name in ("found", "low", "high")]
        found, low, high = ("–" if value is None else f"{value:.4g}" for value in known)
        return f"P{target['percentile']:g} {target['metric']} {found} [{low}, {high}]"

    texts = [", ".join(told(target) for target in targets) for targets in curve.column("targets").to_pylist()]
    return curve.set_column(curve.column_names.index("targets"), "targets", pa.array(texts, pa.string()))


@grouped
def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL", help="A statement; without one, the relations and their columns.", show_default=False
        ),
    ] = None,
    source: Source = None,
    *,
    given: Given,
    selection: Selection,
    output: Output,
) -> None:
    """Run SQL over the relations of a source (DuckDB's dialect); filters apply to the columns of the result.

    Example:

        otel-agentperf query "FROM turns SELECT status, count(*) GROUP BY ALL"
    """
    if sql is None:
        table = restrict(_relations(), output.where, output.limit)
        emit(table, output, main_columns=("relation", "column", "unit", "description"))
        return
    with opened(source, selection, given) as database:
        table = _selected(database.query(sql), selection)
        emit(restrict(table, output.where, output.limit), output)


def _selected(table: "pa.Table", selection: Selection) -> "pa.Table":
    """Rows of a computed table that belong to the model, benchmark and trajectory asked for.

    Raises:
        UsageError: the table cannot tell.
    """
    filters = (
        ("--model", selection.model, ("model", "request_model")),
        ("--benchmark", selection.benchmark, ("benchmark_id",)),
        ("--trajectory", selection.trajectory, ("trajectory_id",)),
    )
    for option, wanted, columns in filters:
        if wanted is None:
            continue
        column = next((name for name in columns if name in table.column_names), None)
        if column is None:
            raise UsageError(f"{option} needs a column {' or '.join(columns)} in the result; say it in the SQL instead")
        import pyarrow.compute as pc

        table = table.filter(pc.equal(table.column(column), wanted))
    return table


def _relations() -> "pa.Table":
    import pyarrow as pa

    from otel_agentperf_analyzers import catalog

    rows = [
        {"relation": relation.name, "column": column.name, "type": column.type, "unit": column.unit}
        | {"description": column.description}
        for relation in catalog.relations()
        for column in relation.columns
    ]
    return pa.Table.from_pylist(rows)


@grouped
def metrics(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One metric, in full.", show_default=False)] = None,
    *,
    output: Output,
) -> None:
    """Explain the metrics: definition, formula, unit, grain, where each is found and by whom it is defined.

    Example:

        otel-agentperf metrics ttft
    """
    import pyarrow as pa

    from otel_agentperf_analyzers import catalog

    rows: list[dict[str, Any]] = [
        {field: getattr(metric, field) for field in _METRIC_FIELDS} for metric in catalog.metrics()
    ]
    if name is not None:
        names = [row["name"] for row in rows]
        rows = [row for row in rows if row["name"] == name]
        if not rows:
            near = get_close_matches(name, names, 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "`otel-agentperf metrics` lists them"
            raise UsageError(f"no metric {name!r}; {hint}")
    if name is not None and output.form is Format.TABLE:
        emit_record(rows[0], output)
        return
    table = restrict(pa.Table.from_pylist(rows), output.where, output.limit)
    emit(table, output, main_columns=("name", "unit", "grain", "definition"))


_METRIC_FIELDS: Final = ("name", "definition", "formula", "unit", "grain", "requires", "source", "relation", "column")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (
        report,
        turns,
        trajectories,
        runs,
        tools,
        benchmarks,
        levels,
        tasks,
        concurrency,
        slo,
        capacity,
        trajectory,
        explain,
        compare,
        query,
        metrics,
    ):
        app.command()(command)
