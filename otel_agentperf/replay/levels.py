"""Playing a benchmark: level after level, each with warm-up, steady window and drain.

All agents of a level start at once and work without pause. The steady window opens after the warm-up and closes when
each stop rule has been met. The drain keeps the load on until the last request of the steady window has its answer, so
that no measured request sees the level thin out; then agents stop after the request they have in flight.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from otel_agentperf import semconv
from otel_agentperf.errors import EndpointError, UsageError
from otel_agentperf.http1 import Client
from otel_agentperf.replay.agents import Agent
from otel_agentperf.replay.benchmark import Benchmark, Level
from otel_agentperf.replay.clock import Clock, SystemClock
from otel_agentperf.replay.recording import Recording
from otel_agentperf.replay.results import BenchmarkResult, LevelResult, Progress
from otel_agentperf.replay.settings import ReplaySettings

__all__ = ["Player", "play"]

PROGRESS_INTERVAL_S: Final = 0.2

OnProgress = Callable[[Progress], None]


async def play(
    recording: Recording,
    settings: ReplaySettings,
    *,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
    clock: Clock | None = None,
) -> BenchmarkResult:
    """Play a recording against an endpoint, at each level of the settings.

    Args:
        on_progress: told a few times a second where the benchmark stands.
        stop: set by the caller to end early; what was done so far comes back, marked `interrupted`.

    A cancellation ends all requests and leaves no task behind. An endpoint that fails throughout ends the benchmark
    with what was done so far, marked `failing`.

    Raises:
        UsageError: the settings cannot work.
        EndpointError: the endpoint cannot be reached, or has not given a single whole answer.
    """
    async with Player(recording, settings, stop=stop, clock=clock or SystemClock()) as player:
        reporter = asyncio.create_task(_report(player, on_progress)) if on_progress is not None else None
        try:
            for agents in settings.levels:
                if (await player.level(agents)).stopped is not None:
                    break
        finally:
            if reporter is not None:
                await _cancel(reporter)
        if on_progress is not None:
            on_progress(player.progress())
        return player.result()


class Player:
    """Plays levels one by one; an asynchronous context manager that owns the connections."""

    def __init__(
        self, recording: Recording, settings: ReplaySettings, *, stop: asyncio.Event | None, clock: Clock
    ) -> None:
        settings.check()
        if settings.limit_turns is not None:
            recording = recording.limited(settings.limit_turns)
        if not recording.turns:
            raise UsageError("nothing to play: the recording has no task left")
        self._settings = settings
        self._clock = clock
        self._stop = stop or asyncio.Event()
        self._client = Client()
        self._benchmark = Benchmark(recording, settings, self._client, clock)
        self._start_unix_ns = clock.unix_ns()
        self._level: Level | None = None
        self._phase_start_ns = clock.now_ns()
        self._results: list[LevelResult] = []

    async def __aenter__(self) -> "Player":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def result(self) -> BenchmarkResult:
        """The levels played so far."""
        return BenchmarkResult(
            benchmark_id=self._settings.benchmark_id,
            start_unix_ns=self._start_unix_ns,
            end_unix_ns=self._clock.unix_ns(),
            stopped=self._results[-1].stopped if self._results else None,
            levels=tuple(self._results),
        )

    async def level(self, agents: int) -> LevelResult:
        """Play one level.

        Raises:
            EndpointError: the endpoint fails, and never gave a whole answer.
        """
        level = self._level = Level(agents, self._benchmark)
        run = _LevelRun(level, self._benchmark, self._on_phase)
        watcher = asyncio.create_task(self._watch(level))
        try:
            await run.play()
        finally:
            await _cancel(watcher)
        if level.fatal is not None and not self._benchmark.answered:
            raise EndpointError(f"the endpoint gave not a single whole answer: {level.fatal.words}")
        result = run.result()
        self._results.append(result)
        return result

    def progress(self) -> Progress:
        """Where the benchmark stands."""
        settings, level = self._settings, self._level
        left_s = self._left_s()
        per_level_s = settings.warmup_s + (settings.seconds or 0.0)
        whole_s = per_level_s * len(settings.levels)
        return Progress(
            agents=level.agents if level is not None else settings.levels[0],
            level_index=settings.levels.index(level.agents) if level is not None else 0,
            level_count=len(settings.levels),
            phase=level.phase if level is not None else semconv.PHASE_WARMUP,
            inflight=level.tally.inflight.total() if level is not None else 0,
            requests=level.tally.requests.total() if level is not None else 0,
            errors=level.tally.failures if level is not None else 0,
            completed_trajectories=len(level.tally.completed) if level is not None else 0,
            left_s=left_s,
            share=1 - left_s / whole_s if left_s is not None and whole_s else None,
        )

    def _left_s(self) -> float | None:
        settings, level = self._settings, self._level
        if settings.trajectories is not None or settings.seconds is None:
            return None
        per_level_s = settings.warmup_s + settings.seconds
        if level is None:
            return per_level_s * len(settings.levels)
        later_s = per_level_s * (len(settings.levels) - settings.levels.index(level.agents) - 1)
        if level.phase == semconv.PHASE_DRAIN:
            return later_s
        passed_s = (self._clock.now_ns() - self._phase_start_ns) / 1e9
        if level.phase == semconv.PHASE_STEADY:
            return later_s + max(settings.seconds - passed_s, 0)
        return later_s + settings.seconds + max(settings.warmup_s - passed_s, 0)

    def _on_phase(self, time_ns: int) -> None:
        self._phase_start_ns = time_ns

    async def _watch(self, level: Level) -> None:
        """End the level when the caller says so."""
        await self._stop.wait()
        level.end("interrupted")


class _LevelRun:
    """The agents of one level and the clockwork around them."""

    def __init__(self, level: Level, benchmark: Benchmark, on_phase: Callable[[int], None]) -> None:
        self._level = level
        self._benchmark = benchmark
        self._clock = benchmark.clock
        self._on_phase = on_phase
        self._agents = [Agent(index, benchmark, level) for index in range(level.agents)]
        self._tasks: list[asyncio.Task[None]] = []
        self._start_ns = self._end_ns = 0
        self._steady_ns: list[int] = []
        self._steady_unix_ns: list[int] = []
        self._cpu_s: list[float] = []

    async def play(self) -> None:
        settings, level = self._benchmark.settings, self._level
        self._start_ns = self._clock.now_ns()
        self._on_phase(self._start_ns)
        self._tasks = [asyncio.create_task(agent.run()) for agent in self._agents]
        try:
            if settings.warmup_s:
                await self._until(self._clock.sleep(settings.warmup_s))
            if level.stopped is None:
                self._edge(semconv.PHASE_STEADY)
                if settings.seconds is not None:
                    await self._until(self._clock.sleep(settings.seconds))
                if settings.trajectories is not None:
                    await self._until(level.enough.wait())
                self._edge(semconv.PHASE_DRAIN)
            if level.stopped is None:
                await self._drain(settings.drain_limit_s)
        finally:
            await self._halt()
            self._end_ns = self._clock.now_ns()

    def _edge(self, phase: str) -> None:
        """The steady window opens or closes now."""
        self._level.enter(phase)
        self._steady_ns.append(self._clock.now_ns())
        self._steady_unix_ns.append(self._clock.unix_ns())
        self._cpu_s.append(time.process_time())
        self._on_phase(self._steady_ns[-1])

    async def _drain(self, limit_s: float) -> None:
        """Keep the load on until the steady window's requests have ended, then let go of what is in flight."""
        limit = asyncio.create_task(self._clock.sleep(limit_s))
        try:
            await self._until(_first(self._level.settled.wait(), limit))
            self._level.halted = True
            working = [task for agent, task in zip(self._agents, self._tasks, strict=True) if agent.in_flight]
            if working and not limit.done():
                await self._until(_first(asyncio.wait(working), limit), watch_agents=False)
        finally:
            await _cancel(limit)

    async def _until(self, awaitable: Awaitable[Any], *, watch_agents: bool = True) -> None:
        """Wait for something, but no longer than the level lasts. An agent's own exception is raised here."""
        waited = asyncio.ensure_future(awaitable)
        over = asyncio.create_task(self._level.over.wait())
        agents = self._tasks if watch_agents else []
        try:
            await asyncio.wait({waited, over, *agents}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(waited, over)
        for task in agents:
            if task.done():
                task.result()

    async def _halt(self) -> None:
        """No agent sends any more; what is still in flight is cut off."""
        level = self._level
        level.halted = True
        level.tally.cut_requests = level.tally.inflight[semconv.PHASE_STEADY]
        await _cancel(*self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.result()

    def result(self) -> LevelResult:
        return self._level.tally.result(
            agents=self._level.agents,
            stopped=self._level.stopped,
            start_ns=self._start_ns,
            end_ns=self._end_ns,
            steady_ns=_pair(self._steady_ns),
            steady_unix_ns=_pair(self._steady_unix_ns),
            cpu_s=self._cpu_s[1] - self._cpu_s[0] if len(self._cpu_s) == 2 else None,
        )


def _pair(values: list[int]) -> tuple[int, int] | tuple[None, None]:
    return (values[0], values[1]) if len(values) == 2 else (None, None)


async def _first(awaitable: Awaitable[Any], other: "asyncio.Future[Any]") -> None:
    """Wait for whichever is first; `other` goes on."""
    waited = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({waited, other}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel(waited)


async def _cancel(*futures: "asyncio.Future[Any]") -> None:
    """Cancel, and wait until all have ended."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


async def _report(player: Player, on_progress: OnProgress) -> None:
    while True:
        on_progress(player.progress())
        await asyncio.sleep(PROGRESS_INTERVAL_S)
