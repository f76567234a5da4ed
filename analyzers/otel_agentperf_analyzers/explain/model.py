"""What an explanation says, as data: its JSON is this.

Units are in the names, shares are of one, and None means not defined.
"""

from datetime import datetime

import msgspec

from otel_agentperf_analyzers.report.model import Work

__all__ = ["CacheUse", "Causes", "Explanation", "SlowTurn", "Times", "Trouble"]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of trajectories went: of one level of a benchmark, or of one model in live traffic."""

    benchmark_id: str | None
    level: int | None
    model: str | None
    trajectories: int
    total_s: float
    decode_s: float
    prefill_s: float
    queue_s: float
    first_token_s: float
    unsplit_s: float
    retries_s: float
    tool_s: float
    harness_s: float
    human_s: float


class Causes(msgspec.Struct, frozen=True, kw_only=True):
    """Why turns took longer than typical for their model."""

    cause: str
    turns: int
    excess_s: float
    """Their time beyond the median of their model, summed up."""


class SlowTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One of the slowest turns."""

    trajectory_id: str
    turn_index: int | None
    model: str | None
    start_time: datetime
    status: str
    e2e_latency_s: float
    typical_e2e_latency_s: float | None
    cause: str
    retries_s: float | None
    first_token_excess_s: float | None
    queue_s: float | None
    long_answer_s: float | None
    slow_decode_s: float | None
    stall_s: float | None
    fresh_input_tokens: int | None
    output_tokens: int | None


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the prefix cache served and could have served, and how contexts grow, by model and deployment."""

    model: str | None
    deployment: str | None
    turns: int
    input_tokens: int | None
    cache_hit: float | None
    optimal_cache_hit: float | None
    hit_efficiency: float | None
    context_growth_tokens: float | None
    max_context_tokens: int | None
    compactions: int
    system_share: float | None
    tools_share: float | None
    history_share: float | None
    tool_results_share: float | None


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Trajectories in which something went wrong, the most wasted first; or all of them together."""

    trajectory_id: str | None
    """None for all together."""
    trajectories: int
    failed_turns: int
    retries: int
    tool_errors: int
    recoveries: int
    repeated_tool_calls: int
    loops: int
    stalls: int | None
    wasted_tokens: int | None
    wasted_cost: float | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why the work of a source took so long and cost so much."""

    source: str
    times: tuple[Times, ...]
    causes: tuple[Causes, ...]
    slowest: tuple[SlowTurn, ...]
    cache: tuple[CacheUse, ...]
    trouble: Trouble | None
    troubled: tuple[Trouble, ...]
    work: tuple[Work, ...]
    """What tasks cost, what of it bought nothing, and how they came out."""
