"""What a look at a running proxy's store says, as data. Units are in the names, None means not defined."""

from datetime import datetime

import msgspec

__all__ = ["Agent", "Model", "Now", "Slow", "Standing", "Step"]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Turns of one model in the window, those of benchmarks too; failed ones are in no percentile."""

    model: str | None
    turns: int
    turns_per_min: float
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    output_speed_p25_tps: float | None
    output_speed_p50_tps: float | None
    output_tps: float | None
    """Output tokens by the length of the window."""
    cache_hit: float | None
    error_rate: float | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One SLO tier over the turns of the window, of live traffic or of one level of a benchmark."""

    policy: str
    tier: str
    model: str | None
    benchmark_id: str | None
    level: int | None
    agents: int | None
    holds: bool | None
    margin: float | None
    goodput: float | None
    error_rate: float | None
    found: str
    """What was found, and what is wanted."""


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory with a turn in the window; its figures are those in the window."""

    trajectory_id: str
    agent_name: str | None
    model: str | None
    benchmark_id: str | None
    level: int | None
    turns: int
    tool_calls: int
    last_seen_s: float
    """Since the end of its last turn."""
    ttft_s: float | None
    """Of the last turn that did not fail, as the speed."""
    output_speed_tps: float | None
    max_context_tokens: int | None
    output_tokens: int | None
    llm_time_s: float | None
    tool_time_s: float | None
    failed_turns: int
    retries: int
    is_completed: bool


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """One of the slowest turns of the window."""

    trajectory_id: str
    turn_index: int | None
    model: str | None
    ended_s: float
    """Since its end."""
    status: str
    e2e_latency_s: float
    typical_e2e_latency_s: float | None
    cause: str
    output_tokens: int | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One of the equal parts of the window, by the beginnings of turns."""

    turns: int
    failed_turns: int
    ttft_p95_s: float | None


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What the spans of a window say."""

    source: str
    at: datetime
    window_s: float
    turns: int
    failed_turns: int
    agents: int
    """Trajectories with a turn in the window."""
    agents_last_minute: int
    """Those of them with a turn that ended in the last minute."""
    last_end: datetime | None
    models: tuple[Model, ...]
    standings: tuple[Standing, ...]
    seen: tuple[Agent, ...]
    """Those with the latest ends, at most `build.AGENTS`."""
    slowest: tuple[Slow, ...]
    steps: tuple[Step, ...]
