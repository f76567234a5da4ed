"""What a benchmark found, as the client saw it. The figures that count are the analyzers', from spans."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_agentperf.replay.search import Outcome, Verdict

__all__ = ["BenchmarkResult", "GeneratorLoad", "LevelResult", "Progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorLoad:
    """What one generator process had to do in a level's steady window, and whether it kept up."""

    agents: int
    requests: int
    lateness_p99_s: float | None
    cpu_share: float | None
    """In cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelResult:
    """One level. Figures are over requests sent inside the steady window unless they say otherwise; None is unknown.

    Quantiles interpolate linearly. Names with `client_` are measured by the replay itself, connecting included.
    """

    agents: int
    stopped: str | None
    """Why the level ended before its stop rules were met: `interrupted`, `failing`, `stuck` (no trajectory comes to its
    end); None when they were."""
    abandoned: str | None
    """Why the steady window was closed early: no tier that mattered could be held any more."""
    cut_short: str | None
    """Why the steady window was closed before its trajectories were complete: the time limit of the rules."""
    start_ns: int
    """The agents started; monotonic."""
    end_ns: int
    """The last request ended; monotonic."""
    steady_start_ns: int | None
    steady_end_ns: int | None
    steady_start_unix_ns: int | None
    steady_end_unix_ns: int | None
    requests: int
    """HTTP requests, retries included."""
    requests_all_phases: int
    answers: int
    """Requests with a whole answer."""
    errors: dict[str, int]
    """Requests without, by kind: `http_429`, `connect`, `reset`, `timeout`, `truncated`, `stream_error`, ..."""
    error_example: str | None
    """The words of the latest error."""
    retries: int
    cut_requests: int
    """Without an answer when the drain limit had passed, or when the user stopped the benchmark."""
    completed_trajectories: int
    """Whose last answer ended inside the steady window."""
    completed_all_phases: int
    aborted_trajectories: int
    """Given up after a failure that would not pass; all phases."""
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    answers_without_usage: int
    answers_of_other_length: int
    """With output policy `exact`: whose output tokens are not as recorded."""
    answers_without_target: int
    """Whose recorded length is not known, so that it was left to the model."""
    aborted_branches: int
    """Sub-agents given up; their parents went on; all phases."""
    capped_tool_delays: int
    """All phases: cut to the cap."""
    drawn_tool_delays: int
    """All phases: drawn from those of the same tool, because so wanted or none was recorded."""
    capped_retry_waits: int
    """All phases: the server asked for a longer wait before the retry than the replay grants."""
    client_ttft_p50_s: float | None
    client_ttft_p95_s: float | None
    client_output_speed_p25_tps: float | None
    client_output_speed_p50_tps: float | None
    client_e2e_latency_p50_s: float | None
    lateness_p50_s: float | None
    """Of the generator itself: when a request was sent, against when it was due."""
    lateness_p99_s: float | None
    lateness_max_s: float | None
    generator_cpu_share: float | None
    """CPU time of a generator over the length of the steady window, in cores; of the busiest one."""
    generators: tuple[GeneratorLoad, ...] = ()
    """The processes that played the level's agents."""
    doubt: str | None = None
    """Why the level is not judged: the generator itself was too slow."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By tier."""

    @property
    def worst_lateness_p99_s(self) -> float | None:
        """Of the generator that was latest: one that cannot keep up is not hidden by others that can."""
        return max((each.lateness_p99_s for each in self.generators if each.lateness_p99_s is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """All levels that were played, the last one perhaps in part."""

    benchmark_id: str
    start_unix_ns: int
    end_unix_ns: int
    stopped: str | None
    """As of the level that ended the benchmark before its time."""
    levels: tuple[LevelResult, ...] = field(default=())
    outcomes: tuple[Outcome, ...] = field(default=())
    """Of a search, one for each tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a benchmark, for display."""

    agents: int
    level_index: int
    level_count: int | None
    """None while a search cannot tell."""
    phase: str
    inflight: int
    requests: int
    errors: int
    completed_trajectories: int
    """All phases of the level."""
    left_s: float | None
    """Until the last level's steady window ends, by the clock; None when a number of trajectories decides."""
    share: float | None
    """Part of the benchmark that is over, 0 to 1; None likewise."""
    standing: str | None
    """What the levels before say."""
    completed_of: tuple[int, int] | None
    """Trajectories completed in the steady window, and how many are wanted; None when their number ends nothing."""
