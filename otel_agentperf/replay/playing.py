"""Playing a benchmark: level after level, as the plan says, each judged before the next one is chosen."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from otel_agentperf import semconv
from otel_agentperf.errors import EndpointError, UsageError
from otel_agentperf.policies import Tier
from otel_agentperf.replay.agents import Agent
from otel_agentperf.replay.benchmark import GONE, Benchmark, Level
from otel_agentperf.replay.clock import Clock, SystemClock
from otel_agentperf.replay.crew import Crew, LocalCrew, cancelled
from otel_agentperf.replay.exchange import Transport
from otel_agentperf.replay.generators import Generators
from otel_agentperf.replay.levels import LevelRun
from otel_agentperf.replay.outlook import Outlook
from otel_agentperf.replay.recording import Recording
from otel_agentperf.replay.results import BenchmarkResult, LevelResult, Progress
from otel_agentperf.replay.search import FixedLevels, Plan, Search, Verdict
from otel_agentperf.replay.settings import ReplaySettings

__all__ = ["Judge", "Player", "play"]

PROGRESS_INTERVAL_S: Final = 0.2

OnProgress = Callable[[Progress], None]

Judge = Callable[[LevelResult], Mapping[str, Verdict]]
"""Gives a level's verdicts by the labels of tiers. It may take its time: it is called in a thread of its own."""


async def play(
    recording: Recording,
    settings: ReplaySettings,
    *,
    plan: Plan | None = None,
    tiers: Sequence[Tier] = (),
    judge: Judge | None = None,
    earlier: Sequence[LevelResult] = (),
    on_progress: OnProgress | None = None,
    on_level: Callable[[BenchmarkResult], None] | None = None,
    stop: asyncio.Event | None = None,
    clock: Clock | None = None,
    transport: Transport | None = None,
) -> BenchmarkResult:
    """Play a recording against an endpoint.

    Args:
        plan: which levels; those of the settings without.
        tiers: what the plan searches for; a level that has lost all of these that it matters for is abandoned.
        judge: gives each level its verdicts.
        earlier: levels of a benchmark that is taken up again; the plan knows of them.
        on_progress: told a few times a second where the benchmark stands.
        on_level: told after each level, judged, what there is so far.
        stop: set by the caller to end early; what was done so far comes back, marked `interrupted`.
        clock: of the one process that plays; several have the system's.
        transport: carries the requests of the one process; HTTP without.

    A cancellation ends all requests and leaves no task behind. An endpoint that fails throughout ends the benchmark
    with what was done so far, marked `failing`. So does one that lets no trajectory come to its end, where trajectories
    have to be completed, marked `stuck`.

    Raises:
        UsageError: the settings cannot work.
        EndpointError: the endpoint cannot be reached, or has not given a single whole answer.
        UnavailableError: a generator process ended, or does not answer; what `on_level` was told of stands.
    """
    settings.check()
    player = Player(
        recording,
        settings,
        plan=plan or FixedLevels(settings.levels),
        tiers=tiers,
        earlier=earlier,
        stop=stop or asyncio.Event(),
        clock=clock or SystemClock(),
        transport=transport,
    )
    reporter = asyncio.create_task(_report(player, on_progress)) if on_progress is not None else None
    try:
        await player.start_generators()
        while (agents := player.plan.next_level()) is not None:
            result = await player.level(agents, judge)
            if on_level is not None:
                on_level(player.result())
            if result.stopped is not None or player.interrupted:
                break
    finally:
        if reporter is not None:
            await cancelled(reporter)
        await player.aclose()
    if on_progress is not None:
        on_progress(player.progress())
    return player.result()


class Player:
    """Plays levels one by one, and keeps what they found."""

    def __init__(
        self,
        recording: Recording,
        settings: ReplaySettings,
        *,
        plan: Plan,
        tiers: Sequence[Tier],
        earlier: Sequence[LevelResult],
        stop: asyncio.Event,
        clock: Clock,
        transport: Transport | None,
    ) -> None:
        if settings.limit_turns is not None:
            recording = recording.limited(settings.limit_turns)
        if not recording.turns:
            raise UsageError("nothing to play: the recording has no task left")
        if settings.generators > 1 and (transport is not None or not isinstance(clock, SystemClock)):
            raise UsageError("several generators have a clock and connections of their own")
        self.plan = plan
        self._recording = recording
        self._settings = settings
        self._generators: Generators | None = None
        self._tiers = {tier.label: tier for tier in tiers}
        self._clock = clock
        self._stop = stop
        self._benchmark = Benchmark(recording, settings, clock, transport)
        self._benchmark.answered = bool(earlier)
        self._start_unix_ns = clock.unix_ns()
        self._level: Level | None = None
        self._phase_start_ns = clock.now_ns()
        self._results = list(earlier)
        self._played = 0

    @property
    def interrupted(self) -> bool:
        """The caller wants the benchmark to end."""
        return self._stop.is_set()

    async def start_generators(self) -> None:
        """Start the processes that agents play in, when it is not this one.

        Raises:
            UnavailableError: they do not start.
        """
        if self._settings.generators > 1:
            self._generators = await Generators.start(self._recording, self._settings)

    async def aclose(self) -> None:
        """End the generators, and close all connections."""
        if self._generators is not None:
            await self._generators.aclose()
        await self._benchmark.transport.aclose()

    def result(self) -> BenchmarkResult:
        """The levels played so far."""
        stopped = self._results[-1].stopped if self._results else None
        if stopped is None and self.interrupted and self.plan.next_level() is not None:
            stopped = "interrupted"
        return BenchmarkResult(
            benchmark_id=self._settings.benchmark_id,
            start_unix_ns=self._start_unix_ns,
            end_unix_ns=self._clock.unix_ns(),
            stopped=stopped,
            levels=tuple(self._results),
            outcomes=self.plan.outcomes() if isinstance(self.plan, Search) else (),
        )

    async def level(self, agents: int, judge: Judge | None) -> LevelResult:
        """Play one level, and have it judged when it came to its end.

        Raises:
            EndpointError: the endpoint fails, and never gave a whole answer.
            UnavailableError: a generator ended.
        """
        stakes = [self._tiers[label] for label in self.plan.stakes(agents) if label in self._tiers]
        level = self._level = Level(agents, self._benchmark, Outlook(tuple(stakes)) if stakes else None)
        crew: Crew = LocalCrew(level, self._benchmark, range(agents))
        if self._generators is not None:
            crew = self._generators.crew(level)
        run = LevelRun(level, self._benchmark, crew, self._on_phase)
        watcher = asyncio.create_task(self._watch(level))
        try:
            await run.play()
        finally:
            await cancelled(watcher)
        if level.fatal is not None and not self._benchmark.answered:
            raise EndpointError(f"the endpoint gave not a single whole answer: {level.fatal.words}")
        if level.stopped is None and level.tally.failed_in_a_row and not await self._serves(level):
            # It was not the level that was too much.
            level.abandoned = None
            level.end("failing")
        result = run.result()
        result = replace(result, doubt=self._doubt(result))
        if result.stopped is None:
            if judge is not None:
                result = replace(result, verdicts=_settled(result, await asyncio.to_thread(judge, result)))
            self.plan.record(agents, result.verdicts)
            self._played += 1
        self._results.append(result)
        return result

    async def _serves(self, level: Level) -> bool:
        """Whether the endpoint still answers, now that it has nothing else to do: a level's first turn, once more."""
        failure = await Agent(0, self._benchmark, level).probe()
        if failure is not None:
            level.tally.error_example = failure.words
        return failure is None or failure.kind not in GONE

    def progress(self) -> Progress:
        """Where the benchmark stands."""
        level, left = self._level, self.plan.left()
        left_s = self._left_s(left)
        count = None if left is None else self._played + left
        whole_s = None if count is None else self._level_s * count
        agents = level.agents if level is not None else self.plan.next_level()
        return Progress(
            agents=agents or 0,
            level_index=self._played,
            level_count=count,
            phase=level.phase if level is not None else semconv.PHASE_WARMUP,
            inflight=level.tally.inflight.total() if level is not None else 0,
            requests=level.tally.requests.total() if level is not None else 0,
            errors=level.tally.failures if level is not None else 0,
            completed_trajectories=len(level.tally.completed) if level is not None else 0,
            left_s=left_s,
            share=1 - left_s / whole_s if left_s is not None and whole_s else None,
            standing=self.plan.standing(),
            completed_of=(level.steady_completed, level.wanted) if level is not None and level.wanted else None,
        )

    @property
    def _level_s(self) -> float:
        """Least length of a level, drain left out."""
        return self._settings.warmup_s + (self._settings.seconds or 0.0)

    def _left_s(self, left: int | None) -> float | None:
        """Time to the end of the last steady window, when the clock alone decides; else None."""
        settings, level = self._settings, self._level
        if left is None or settings.seconds is None or settings.trajectories_of(1) is not None:
            return None
        if level is None or not left:
            return self._level_s * left
        later_s = self._level_s * (left - 1)
        if level.phase == semconv.PHASE_DRAIN:
            return later_s
        passed_s = (self._clock.now_ns() - self._phase_start_ns) / 1e9
        if level.phase == semconv.PHASE_STEADY:
            return later_s + max(settings.seconds - passed_s, 0)
        return later_s + settings.seconds + max(settings.warmup_s - passed_s, 0)

    def _doubt(self, result: LevelResult) -> str | None:
        """Whether the generator itself kept up; of several the worst."""
        settings = self._settings
        late_s, cpu = result.worst_lateness_p99_s, result.generator_cpu_share
        if late_s is not None and late_s > settings.max_lateness_s:
            return (
                f"the generator sent requests {late_s:.2f} s late (99th percentile; at most "
                f"{settings.max_lateness_s:g} s are allowed)"
            )
        if cpu is not None and cpu > settings.max_cpu_share:
            return (
                f"the generator used {cpu:.0%} of a core (at most {settings.max_cpu_share:.0%} are allowed): it may "
                "have been too slow"
            )
        return None

    def _on_phase(self, time_ns: int) -> None:
        self._phase_start_ns = time_ns

    async def _watch(self, level: Level) -> None:
        """End the level when the caller says so."""
        await self._stop.wait()
        level.end("interrupted")


def _settled(result: LevelResult, verdicts: Mapping[str, Verdict]) -> Mapping[str, Verdict]:
    """The judge's verdicts, with what only the replay knows: its own slowness, and that it gave a level up."""
    settled = dict(verdicts)
    for tier, verdict in verdicts.items():
        if result.doubt is not None:
            settled[tier] = replace(verdict, passed=None, reason=result.doubt)
        elif result.abandoned is not None and verdict.passed is not False:
            # The judge sees too little of a level that was left early.
            settled[tier] = replace(verdict, passed=False, reason=result.abandoned)
    return settled


async def _report(player: Player, on_progress: OnProgress) -> None:
    while True:
        on_progress(player.progress())
        await asyncio.sleep(PROGRESS_INTERVAL_S)
