"""Calls of several relays that wait for their place, so that they are placed in the order in which they came.

Each relay gathers frames for some milliseconds, and on a busy machine for longer. A call may continue one whose end is
on its way from another relay: it waits until all relays that have calls open were heard of later than it came.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from otel_agentperf_proxy.calls import Call

LEAST_NS: Final = 20_000_000
"""How long a call waits in any case: a relay of which no open call is known may have told of one in the meantime."""

MOST_NS: Final = 500_000_000
"""How long at most: a relay whose calls all wait for the first token tells nothing."""


class Waiting:
    """The calls that wait, in the order in which their requests were complete."""

    def __init__(self) -> None:
        self._calls: list[tuple[int, int, Call]] = []
        self._count = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, time_ns: int, call: Call) -> None:
        """The call's request was complete then."""
        heapq.heappush(self._calls, (time_ns, next(self._count), call))

    def ready(self, now_ns: int | None, heard: Callable[[int], bool]) -> Iterator[Call]:
        """Take out the calls that need not wait any more; all of them when `now_ns` is None.

        Args:
            heard: whether all that happened until a time has been told.
        """
        while self._calls:
            time_ns, _, call = self._calls[0]
            if now_ns is not None:
                waited_ns = now_ns - time_ns
                if waited_ns < LEAST_NS or (waited_ns < MOST_NS and not heard(time_ns)):
                    return
            heapq.heappop(self._calls)
            yield call
