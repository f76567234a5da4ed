"""Whether a level under way can still hold a tier, judged from what its agents saw so far. Pure.

A tier is lost when the share of requests that miss a target is so far above the share that its percentile allows that
more of the same cannot bring it back: above twice that share, at four standard deviations (Wilson), both over the whole
window and over its later half. A level that starts badly, because all caches are cold, and recovers is not lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

from otel_agentperf.policies import Target, Tier
from otel_agentperf.replay.tally import Tally

__all__ = ["Outlook"]

DEVIATIONS: Final = 4.0
EXCESS: Final = 2.0
LEAST_SAMPLES: Final = 30

EARLIEST_SHARE: Final = 0.1
"""Of the least length of the window: nothing is judged before."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The tiers that a level is played for."""

    tiers: tuple[Tier, ...]

    def lost(self, tally: Tally) -> str | None:
        """Why no tier can be held any more; None while one may."""
        words = None
        for tier in self.tiers:
            words = _lost(tier, tally)
            if words is None:
                return None
        return words


def _lost(tier: Tier, tally: Tally) -> str | None:
    failed = tally.errors.total()
    if _above(failed, failed + tally.answers, tier.max_error_rate):
        return f"{failed} of {failed + tally.answers} requests failed"
    for target in tier.targets:
        samples = _samples(tier, target, tally)
        at_least = target.bound == "min"
        allowed = (target.percentile if at_least else 100 - target.percentile) / 100
        misses = [value < target.value if at_least else value > target.value for value in samples]
        late = misses[len(misses) // 2 :]
        if _above(sum(misses), len(misses), allowed) and _above(sum(late), len(late), allowed):
            return f"{sum(misses)} of {len(misses)} requests miss {target}"
    return None


def _samples(tier: Tier, target: Target, tally: Tally) -> Sequence[float]:
    """What agents measured of a metric; nothing for those that only the proxy measures."""
    if target.metric == "ttft":
        return tally.ttft_s
    if target.metric == "output_speed" and not tier.skip_tool_call_turns:
        return tally.output_speed_tps
    return tally.e2e_latency_s if target.metric == "e2e_latency" else ()


def _above(misses: int, count: int, allowed: float) -> bool:
    """Whether the true share is above `EXCESS` times the allowed one, by the lower end of Wilson's interval."""
    if count < LEAST_SAMPLES:
        return False
    z2 = DEVIATIONS**2
    share = misses / count
    centre = share + z2 / (2 * count)
    half = DEVIATIONS * sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return (centre - half) / (1 + z2 / count) > min(EXCESS * allowed, (1 + allowed) / 2)
