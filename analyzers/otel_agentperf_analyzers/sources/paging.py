"""Paging for backends that only have a limit: a window of time that comes back full is cut in two."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from otel_agentperf.errors import SourceError

MAX_LIMIT = 100_000
"""Traces asked for at once at most, where a window cannot be cut any more."""

_GROWTH = 8


class Page(Protocol):
    """What a window holds, or a part of it when it holds more than was asked for."""

    @property
    def traces(self) -> int:
        """Traces that came."""

    @property
    def starts_ns(self) -> list[int]:
        """When some of them started, to cut the window well; may be empty."""


P = TypeVar("P", bound=Page)


def pages(first_ns: int, last_ns: int, fetch: Callable[[int, int, int], P], *, limit: int, step_ns: int) -> Iterator[P]:
    """All pages of a time range, both ends included; traces that lie across a cut come twice.

    Args:
        fetch: gives the page from, to, limit.
        step_ns: resolution of the backend's times; windows are not cut finer.

    Raises:
        SourceError: more than `MAX_LIMIT` traces within one step.
    """
    windows = [(first_ns, last_ns)]
    while windows:
        lower, upper = windows.pop()
        asked = limit
        page = fetch(lower, upper, asked)
        while page.traces >= asked and upper - lower <= step_ns:
            if asked >= MAX_LIMIT:
                raise SourceError(f"more than {MAX_LIMIT:,} traces within {step_ns / 1e9:g} s; narrow the search")
            asked = min(asked * _GROWTH, MAX_LIMIT)
            page = fetch(lower, upper, asked)
        if page.traces < asked:
            yield page
            continue
        middle = _middle(lower, upper, page.starts_ns, step_ns)
        windows += [(middle, upper), (lower, middle)]


def _middle(lower: int, upper: int, starts: list[int], step_ns: int) -> int:
    """A cut between the bounds: at the median start of what came, so that empty stretches cost little."""
    inside = sorted(start for start in starts if lower + step_ns <= start <= upper - step_ns)
    cut = inside[len(inside) // 2] if inside else (lower + upper) // 2
    return cut - cut % step_ns if lower < cut - cut % step_ns < upper else (lower + upper) // 2
