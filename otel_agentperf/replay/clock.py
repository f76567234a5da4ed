"""The clock of a replay; another one takes its place in tests."""

import asyncio
from time import monotonic_ns, time_ns
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Times in ns: CLOCK_MONOTONIC for durations, wall time for anchors."""

    def now_ns(self) -> int: ...

    def unix_ns(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return monotonic_ns()

    def unix_ns(self) -> int:
        return time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
