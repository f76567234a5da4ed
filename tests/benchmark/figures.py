"""How benchmarks summarise what they measured."""

import statistics
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """With linear interpolation, as everywhere here: rank (n-1)p."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (at - low)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median [lowest, highest]."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"
