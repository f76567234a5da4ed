"""Playing a level: warm-up, steady window and drain.

All agents of a level start at once and work without pause. The steady window opens after the warm-up and closes when
each stop rule has been met, when its limit has passed, or when the level is lost. The drain keeps the load on until the
last request of the steady window has its answer, so that no measured request sees the level thin out; then agents stop
after the request they have in flight.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from otel_agentperf import semconv
from otel_agentperf.replay.benchmark import Benchmark, Level
from otel_agentperf.replay.crew import Crew, cancelled
from otel_agentperf.replay.outlook import EARLIEST_SHARE, Outlook
from otel_agentperf.replay.results import LevelResult

__all__ = ["LevelRun"]

LOOK_INTERVAL_S: Final = 1.0
"""Between two looks at whether the level is lost."""


class LevelRun:
    """The clockwork around the agents of one level."""

    def __init__(self, level: Level, benchmark: Benchmark, crew: Crew, on_phase: Callable[[int], None]) -> None:
        self._level = level
        self._benchmark = benchmark
        self._clock = benchmark.clock
        self._on_phase = on_phase
        self._crew = crew
        self._start_ns = self._end_ns = 0
        self._steady_ns: list[int] = []
        self._steady_unix_ns: list[int] = []
        self.cut_short: str | None = None

    async def play(self) -> None:
        settings, level = self._benchmark.settings, self._level
        self._start_ns = self._clock.now_ns()
        self._on_phase(self._start_ns)
        try:
            self._crew.start()
            if settings.warmup_s:
                await self._until(level.started.wait())
                await self._until(self._clock.sleep(settings.warmup_s))
            if level.stopped is None:
                await self._open()
                await self._until(self._window(settings.window_limit_s))
                await self._close()
            if level.stopped is None:
                await self._drain(settings.drain_limit_s)
        finally:
            await self._halt()
            self._end_ns = self._clock.now_ns()

    async def _window(self, limit_s: float | None) -> None:
        """The steady window: until its stop rules are met, its limit has passed, or the level is lost."""
        settings, level = self._benchmark.settings, self._level
        others: list[asyncio.Task[Any]] = [asyncio.create_task(level.lost.wait())]
        if level.outlook is not None:
            others.append(asyncio.create_task(self._look_out(level.outlook)))
        if limit_s is not None:
            others.append(asyncio.create_task(self._cut(limit_s)))
        rules = asyncio.create_task(self._stop_rules(settings.seconds))
        try:
            await asyncio.wait({rules, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(rules, *others)

    async def _stop_rules(self, seconds: float | None) -> None:
        if seconds is not None:
            await self._clock.sleep(seconds)
        if self._level.wanted is not None:
            await self._level.enough.wait()

    async def _cut(self, limit_s: float) -> None:
        await self._clock.sleep(limit_s)
        level = self._level
        if level.wanted is not None and level.steady_completed < level.wanted:
            self.cut_short = (
                f"{level.steady_completed} of {level.wanted} trajectories were complete after {limit_s:g} s"
            )

    async def _look_out(self, outlook: Outlook) -> None:
        """Abandon the level when it is lost."""
        await self._clock.sleep((self._benchmark.settings.seconds or 0.0) * EARLIEST_SHARE)
        while (reason := outlook.lost(self._level.tally)) is None:
            await self._clock.sleep(LOOK_INTERVAL_S)
        self._level.abandon(reason)

    async def _open(self) -> None:
        """The steady window opens now, before any agent knows: all its requests are inside."""
        self._level.enter(semconv.PHASE_STEADY, self._edge())
        await self._crew.enter(semconv.PHASE_STEADY)

    async def _close(self) -> None:
        """The steady window closes as soon as all agents know."""
        await self._crew.enter(semconv.PHASE_DRAIN)
        self._level.enter(semconv.PHASE_DRAIN, self._edge())

    def _edge(self) -> int:
        """The steady window opens or closes now."""
        now_ns = self._clock.now_ns()
        self._steady_ns.append(now_ns)
        self._steady_unix_ns.append(self._clock.unix_ns())
        self._on_phase(now_ns)
        return now_ns

    async def _drain(self, limit_s: float) -> None:
        """Keep the load on until the steady window's requests have ended, then let go of what is in flight."""
        limit = asyncio.create_task(self._clock.sleep(limit_s))
        try:
            await self._until(_first(self._level.settled.wait(), limit))
            self._level.halted = True
            if not limit.done():
                await self._until(_first(self._crew.finish(), limit))
        finally:
            await cancelled(limit)

    async def _until(self, awaitable: Awaitable[Any]) -> None:
        """Wait for something, but no longer than the level lasts. What ends the crew itself is raised here."""
        waited = asyncio.ensure_future(awaitable)
        over = asyncio.create_task(self._level.over.wait())
        failed = self._crew.failed
        try:
            await asyncio.wait({waited, over, failed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(waited, over)
        if failed.done():
            failed.result()

    async def _halt(self) -> None:
        """No agent sends any more; what is still in flight is cut off."""
        self._level.halted = True
        self._level.tally.cut_requests = await self._crew.halt()

    def result(self) -> LevelResult:
        return self._level.tally.result(
            agents=self._level.agents,
            stopped=self._level.stopped,
            abandoned=self._level.abandoned,
            cut_short=self.cut_short,
            start_ns=self._start_ns,
            end_ns=self._end_ns,
            steady_ns=_pair(self._steady_ns),
            steady_unix_ns=_pair(self._steady_unix_ns),
            spent=self._crew.spent(),
        )


def _pair(values: list[int]) -> tuple[int, int] | tuple[None, None]:
    return (values[0], values[1]) if len(values) == 2 else (None, None)


async def _first(awaitable: Awaitable[Any], other: "asyncio.Future[Any]") -> None:
    """Wait for whichever is first; `other` goes on."""
    waited = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({waited, other}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(waited)
