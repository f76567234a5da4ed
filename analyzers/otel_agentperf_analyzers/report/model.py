"""What an AgentPerf report says, as data: its JSON is this, and renderers read nothing else.

Units are in the names, shares are of one, and None means not defined.
"""

from datetime import datetime

import msgspec

__all__ = [
    "Benchmark",
    "Counts",
    "Figures",
    "Jobs",
    "LiveCapacity",
    "Load",
    "LoadFigure",
    "Report",
    "Target",
    "Tool",
    "Undefined",
    "Unread",
    "Verdict",
    "Work",
]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much the source holds, or the benchmark that was asked for."""

    spans: int
    turns: int
    auxiliary_calls: int
    attempts: int
    runs: int
    trajectories: int
    tool_calls: int
    first_time: datetime | None
    last_time: datetime | None


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """What of the source could not be read, or was there twice."""

    lines: int
    duplicates: int
    examples: tuple[str, ...]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Turns of one level, in its steady window, or of one model in live traffic."""

    model: str | None
    agents: int | None = None
    """Concurrent agents of the level; None for live traffic, as all that needs a steady window."""
    turns: int
    completed_trajectories: int | None = None
    window_s: float | None = None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    output_speed_p25_tps: float | None
    output_speed_p50_tps: float | None
    e2e_latency_p50_s: float | None
    e2e_latency_p95_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cache_hit: float | None
    error_rate: float | None
    output_throughput_tps: float | None = None
    total_throughput_tps: float | None = None
    inflight: float | None = None
    """Calls in flight, weighted by time."""
    active_agents: float | None = None
    """Agents within a run, weighted by time; those that wait for a tool count."""
    pooled_speed_tps: float | None = None
    """Output speed over all turns together, those that return tool calls left out."""
    pooled_e2e_speed_tps: float | None = None
    tool_call_turn_share: float | None = None
    """Share of the turns that are left out of the pooled speed."""
    estimated_turns: int = 0
    """Turns whose tokens are an estimate; they are in no speed."""
    optimal_cache_hit: float | None = None
    hit_efficiency: float | None = None
    cost: float | None = None
    jobs_per_hour_per_user: float | None = None
    jobs_per_hour_per_accelerator: float | None = None
    power_mean_w: float | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One tier at one level."""

    agents: int | None
    """The level; of live traffic the mean number of agents at work."""
    holds: bool | None
    """Targets and error rate hold, whether the level is valid or not; None when it cannot be told."""
    valid: bool
    passed: bool
    margin: float | None
    """How many times better than the tighter target; below 1 it is missed."""
    error_rate: float | None
    goodput: float | None
    reasons: tuple[str, ...]
    """Why the level is not valid."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One tier over all levels of a benchmark, or over live traffic."""

    policy: str
    """Name and version."""
    tier: str
    model: str | None
    requirement: tuple[str, ...]
    """The targets in words."""
    comparable: bool
    """Published results use this tier for this model."""
    verdicts: tuple[Verdict, ...]
    """By rising level; one for live traffic."""
    max_agents: int | None
    """Highest level that passes below the first that misses; None when there is none, and for live traffic."""
    max_agents_if_valid: int | None
    """The same, levels that are not valid included."""
    first_miss: int | None
    """Lowest level that misses; None when none does, and for live traffic."""
    monotone: bool
    """No level above a miss holds."""
    agents_per_accelerator: float | None = None
    """max_agents by the accelerators of the deployment."""
    agents_per_mw: float | None = None
    """max_agents by the mean power at that level."""


class LoadFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that a tier bounds, at one load."""

    metric: str
    percentile: float
    bound: str
    """min or max."""
    wanted: float
    found: float | None
    low: float | None
    """The 95 % interval, resampled over trajectories; None for too little data."""
    high: float | None


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Live turns while so many agents were at work."""

    agents_low: int
    agents_high: int
    agents_mean: float
    turns: int
    failed_turns: int
    trajectories: int
    targets: tuple[LoadFigure, ...]
    error_rate: float | None
    error_rate_low: float | None
    error_rate_high: float | None
    max_error_rate: float | None
    verdict: str
    """holds, fails, unclear (an interval reaches over a target) or too few (trajectories)."""


class LiveCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """How many agents at once live traffic shows a tier to hold for."""

    policy: str
    """Name and version."""
    tier: str
    model: str | None
    comparable: bool
    statement: str
    """What it comes to, in words; says so where the data cannot say."""
    max_agents: int | None
    """The highest load shown to hold below the first shown to fail; a lower bound where nothing failed."""
    first_fail: int | None
    """The lowest load shown to fail."""
    monotone: bool
    agents_now: float | None
    """Mean number of agents at work while any was."""
    headroom_agents: float | None
    """max_agents less agents_now."""
    agents_per_accelerator: float | None
    agents_per_mw: float | None
    agents_per_dollar_hour: float | None
    curve: tuple[Load, ...]
    """By rising load."""


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a replay."""

    benchmark_id: str
    model: str | None
    preset: str | None
    start_time: datetime | None
    end_time: datetime | None
    accelerators: int | None
    levels: tuple[Figures, ...]
    targets: tuple[Target, ...]


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """Trajectories of one level of a benchmark, or of one agent in live traffic."""

    benchmark_id: str | None
    agents: int | None
    agent_name: str | None
    trajectories: int
    completed: int
    turns: int
    tool_calls: int
    job_latency_p50_s: float | None
    """Of the completed ones."""
    job_latency_p95_s: float | None
    llm_time_s: float | None
    tool_time_s: float | None
    harness_time_s: float | None
    human_time_s: float | None
    output_tokens: int | None
    max_context_tokens: int | None
    succeeded: int
    failed: int


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one tool; the name is None where its spans are missing."""

    tool_name: str | None
    calls: int
    duration_p50_s: float | None
    duration_p95_s: float | None
    total_s: float | None
    errors: int
    repeated: int


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of one level of a benchmark or of live traffic, all together or by one dimension: relation `tasks`."""

    benchmark_id: str | None
    level: int | None
    dimension: str
    dimension_value: str | None
    tasks: int
    ended: int
    succeeded: int
    failed: int
    unknown: int
    success_rate: float | None
    tasks_per_hour: float | None
    ended_per_hour: float | None
    tokens: int | None
    tokens_per_completed_task: float | None
    wasted_tokens: int | None
    cost: float | None
    wasted_cost: float | None
    cost_per_task: float | None
    cost_per_completed_task: float | None
    unpriced_calls: int


class Undefined(msgspec.Struct, frozen=True, kw_only=True):
    """Turns or trajectories for which a metric has no value, and why."""

    relation: str
    metric: str
    reason: str
    count: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The AgentPerf report of a source."""

    source: str
    counts: Counts
    unread: Unread
    benchmarks: tuple[Benchmark, ...]
    live: tuple[Figures, ...]
    """Traffic outside benchmarks, by model."""
    live_targets: tuple[Target, ...]
    live_capacity: tuple[LiveCapacity, ...]
    jobs: tuple[Jobs, ...]
    tools: tuple[Tool, ...]
    work: tuple[Work, ...]
    """What got done and at what cost; by agent, model, ... only where outcomes or prices are known."""
    undefined: tuple[Undefined, ...]
