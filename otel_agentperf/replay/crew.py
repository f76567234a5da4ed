"""Whoever plays the agents of a level: this process, or several others."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from otel_agentperf import semconv
from otel_agentperf.replay.agents import Agent
from otel_agentperf.replay.benchmark import AgentsLevel, Benchmark

__all__ = ["Crew", "LocalCrew", "cancelled", "carry", "cpu_share"]


class Crew(Protocol):
    """The agents of one level."""

    @property
    def failed(self) -> "asyncio.Future[None]":
        """Raises what kept an agent from playing; no failure of the endpoint does."""

    def start(self) -> None:
        """All agents begin."""

    async def enter(self, phase: str) -> None:
        """Have all agents know of a phase: what they send afterwards belongs to it."""

    async def finish(self) -> None:
        """No agent sends any more; wait until those have ended that have a request in flight."""

    async def halt(self) -> int:
        """End all agents; how many requests of the steady window were cut off."""

    def spent(self) -> Sequence[tuple[int, float | None]]:
        """For each process its agents, and the part of a core that it used in the steady window."""


class LocalCrew:
    """Agents of a level, played by this process."""

    def __init__(self, level: AgentsLevel, benchmark: Benchmark, indexes: Iterable[int]) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._level = level
        self._clock = benchmark.clock
        self._agents = [Agent(index, benchmark, level) for index in indexes]
        self._tasks: list[asyncio.Task[None]] = []
        self._marks: list[tuple[int, float]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(agent.run()) for agent in self._agents]
        for task in self._tasks:
            task.add_done_callback(partial(carry, failed=self.failed))

    async def enter(self, phase: str) -> None:
        self._level.phase = phase
        self._marks.append(self.mark())

    def mark(self) -> tuple[int, float]:
        """The time now, in ns, and the CPU time of this process until now, in s."""
        return self._clock.now_ns(), time.process_time()

    async def finish(self) -> None:
        self._level.halted = True
        working = [task for agent, task in zip(self._agents, self._tasks, strict=True) if agent.in_flight]
        if working:
            await asyncio.wait(working)

    async def halt(self) -> int:
        self._level.halted = True
        cut = self._level.inflight[semconv.PHASE_STEADY]
        await cancelled(*self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.result()
        return cut

    def spent(self) -> Sequence[tuple[int, float | None]]:
        return [(len(self._agents), cpu_share(self._marks))]


def carry(ended: "asyncio.Future[None]", failed: "asyncio.Future[None]") -> None:
    """Let the exception of one future be that of the other, unless that has one."""
    exception = None if ended.cancelled() else ended.exception()
    if exception is not None and not failed.done():
        failed.set_exception(exception)
        # Nobody may be waiting any more.
        failed.exception()


def cpu_share(marks: Sequence[tuple[int, float]]) -> float | None:
    """The part of a core that a process used between two marks; None unless there are two."""
    if len(marks) != 2 or marks[1][0] <= marks[0][0]:
        return None
    (start_ns, before_s), (end_ns, after_s) = marks
    return (after_s - before_s) * 1e9 / (end_ns - start_ns)


async def cancelled(*futures: "asyncio.Future[Any]") -> None:
    """Cancel, and wait until all have ended."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
