"""Monotonic times as wall-clock times."""

from collections.abc import Callable
from time import monotonic_ns, time_ns
from typing import Final

ANCHOR_NS: Final = 60 * 10**9
"""How long one anchor serves: the host's wall clock may be set or slewed meanwhile."""

_TRIES: Final = 3


class WallClock:
    """Unix nanoseconds for CLOCK_MONOTONIC nanoseconds, by an anchor between both that is taken anew each minute.

    Durations never come from it: a span's end is its start plus a monotonic duration.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], int] = monotonic_ns,
        wall: Callable[[], int] = time_ns,
        every_ns: int = ANCHOR_NS,
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._every_ns = every_ns
        self._anchor()

    def unix_ns(self, time_ns: int) -> int:
        """The wall-clock time of a monotonic time."""
        return time_ns + self._offset_ns

    def tick(self, now_ns: int) -> None:
        """Take a new anchor when it is time to; `now_ns` is monotonic."""
        if now_ns - self._anchored_ns >= self._every_ns:
            self._anchor()

    def _anchor(self) -> None:
        # Of some readings the tightest one: between two of its lines the process may lose the processor.
        tightest_ns = None
        for _ in range(_TRIES):
            before_ns = self._monotonic()
            wall_ns = self._wall()
            after_ns = self._monotonic()
            if tightest_ns is None or after_ns - before_ns < tightest_ns:
                tightest_ns = after_ns - before_ns
                self._offset_ns = wall_ns - (before_ns + after_ns) // 2
                self._anchored_ns = after_ns
