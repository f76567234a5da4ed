"""Counts and samples of one level, and the result they make."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

from otel_agentperf import semconv
from otel_agentperf.replay.dialects import OutputLimit
from otel_agentperf.replay.exchange import Exchange, Failure
from otel_agentperf.replay.results import GeneratorLoad, LevelResult

__all__ = ["Tally", "quantile"]


def quantile(samples: Sequence[float], share: float) -> float | None:
    """Linear interpolation at rank (n - 1) * share; None of nothing."""
    if not samples:
        return None
    ordered = sorted(samples)
    rank = (len(ordered) - 1) * share
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


class Tally:
    """What happened in a level so far."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """Sent, by phase."""
        self.inflight: Counter[str] = Counter()
        """In flight now, by the phase in which they were sent."""
        self.errors: Counter[str] = Counter()
        """Failures of requests of the steady window, by kind."""
        self.failures = 0
        """Failures of all phases."""
        self.error_example: str | None = None
        self.failed_in_a_row = 0
        """Requests without an answer since the last whole one."""
        self.retries = 0
        self.cut_requests = 0
        self.completed: list[int] = []
        """Ends of completed trajectories, monotonic ns."""
        self.aborted = 0
        self.aborted_in_a_row = 0
        """Trajectories given up since the last whole answer."""
        self.aborted_since_completed = 0
        """Trajectories given up since the last that was completed."""
        self.answers = 0
        self.answers_without_usage = 0
        self.answers_of_other_length = 0
        self.answers_without_target = 0
        self.aborted_branches = 0
        self.capped_tool_delays = 0
        self.drawn_tool_delays = 0
        self.capped_retry_waits = 0
        self.input_tokens: list[int] = []
        self.cached_input_tokens: list[int] = []
        self.output_tokens: list[int] = []
        self.ttft_s: list[float] = []
        self.output_speed_tps: list[float] = []
        self.e2e_latency_s: list[float] = []
        self.lateness_s: dict[int, list[float]] = defaultdict(list)
        """By the number of the generator."""

    def sent(self, phase: str, late_ns: int, generator: int = 0) -> None:
        """A request of this generator starts, so much later than it was due."""
        self.requests[phase] += 1
        self.inflight[phase] += 1
        if phase == semconv.PHASE_STEADY:
            self.lateness_s[generator].append(max(late_ns, 0) / 1e9)

    def ended(self, phase: str, answer: Exchange, limit: OutputLimit) -> None:
        """A request has an answer, or failed."""
        steady = phase == semconv.PHASE_STEADY
        if answer.failure is not None:
            self._failed(answer.failure, steady)
            return
        self.failed_in_a_row = 0
        self.aborted_in_a_row = 0
        if steady:
            self._answered(answer, limit)

    def _failed(self, failure: Failure, steady: bool) -> None:
        self.failures += 1
        self.failed_in_a_row += 1
        self.error_example = failure.words
        if steady:
            self.errors[failure.kind] += 1

    def _answered(self, answer: Exchange, limit: OutputLimit) -> None:
        facts = answer.facts
        self.answers += 1
        self.answers_without_target += limit.unknown
        self.e2e_latency_s.append((answer.end_ns - answer.start_ns) / 1e9)
        first, last = answer.first_output_ns, answer.last_output_ns
        if first is not None:
            self.ttft_s.append((first - answer.start_ns) / 1e9)
        if facts.input_tokens is not None:
            self.input_tokens.append(facts.input_tokens)
        if facts.cached_input_tokens is not None:
            self.cached_input_tokens.append(facts.cached_input_tokens)
        output = facts.output_tokens
        if output is None:
            self.answers_without_usage += 1
            return
        self.output_tokens.append(output)
        if limit.exact and output != limit.max_tokens:
            self.answers_of_other_length += 1
        if first is not None and last is not None and last > first and output > 1:
            self.output_speed_tps.append((output - 1) * 1e9 / (last - first))

    def result(
        self,
        *,
        agents: int,
        stopped: str | None,
        abandoned: str | None,
        cut_short: str | None,
        start_ns: int,
        end_ns: int,
        steady_ns: tuple[int, int] | tuple[None, None],
        steady_unix_ns: tuple[int, int] | tuple[None, None],
        spent: Sequence[tuple[int, float | None]],
    ) -> LevelResult:
        """The level's result, its window given, and of each generator its agents and its CPU share inside."""
        opened, closed = steady_ns
        completed = 0
        if opened is not None and closed is not None:
            completed = sum(opened <= end <= closed for end in self.completed)
        generators = tuple(
            GeneratorLoad(
                agents=its_agents,
                requests=len(self.lateness_s[number]),
                lateness_p99_s=quantile(self.lateness_s[number], 0.99),
                cpu_share=cpu_share,
            )
            for number, (its_agents, cpu_share) in enumerate(spent)
        )
        lateness_s = list(chain.from_iterable(self.lateness_s.values()))
        return LevelResult(
            agents=agents,
            stopped=stopped,
            abandoned=abandoned,
            cut_short=cut_short,
            start_ns=start_ns,
            end_ns=end_ns,
            steady_start_ns=opened,
            steady_end_ns=closed,
            steady_start_unix_ns=steady_unix_ns[0],
            steady_end_unix_ns=steady_unix_ns[1],
            requests=self.requests[semconv.PHASE_STEADY],
            requests_all_phases=self.requests.total(),
            answers=self.answers,
            errors=dict(self.errors),
            error_example=self.error_example,
            retries=self.retries,
            cut_requests=self.cut_requests,
            completed_trajectories=completed,
            completed_all_phases=len(self.completed),
            aborted_trajectories=self.aborted,
            input_tokens=_sum(self.input_tokens),
            cached_input_tokens=_sum(self.cached_input_tokens),
            output_tokens=_sum(self.output_tokens),
            answers_without_usage=self.answers_without_usage,
            answers_without_target=self.answers_without_target,
            answers_of_other_length=self.answers_of_other_length,
            aborted_branches=self.aborted_branches,
            capped_tool_delays=self.capped_tool_delays,
            drawn_tool_delays=self.drawn_tool_delays,
            capped_retry_waits=self.capped_retry_waits,
            client_ttft_p50_s=quantile(self.ttft_s, 0.5),
            client_ttft_p95_s=quantile(self.ttft_s, 0.95),
            client_output_speed_p25_tps=quantile(self.output_speed_tps, 0.25),
            client_output_speed_p50_tps=quantile(self.output_speed_tps, 0.5),
            client_e2e_latency_p50_s=quantile(self.e2e_latency_s, 0.5),
            lateness_p50_s=quantile(lateness_s, 0.5),
            lateness_p99_s=quantile(lateness_s, 0.99),
            lateness_max_s=max(lateness_s, default=None),
            generator_cpu_share=max((share for _, share in spent if share is not None), default=None),
            generators=generators,
        )


def _sum(counts: list[int]) -> int | None:
    return sum(counts) if counts else None
