"""Named rules of how levels are played.

`agentperf` are the rules of AA-AgentPerf. The others are shorter, and what they find is not comparable with published
results: their levels are judged by a tier's targets, under validity rules of their own.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from otel_agentperf.errors import UsageError
from otel_agentperf.policies import Tier

__all__ = ["CUSTOM", "PRESETS", "Preset", "preset"]

CUSTOM: Final = "custom"
"""The name of rules that the user gave one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Rules of a level. Times in s."""

    name: str
    comparable: bool
    seconds: float
    """Least length of the steady window."""
    trajectories: int
    """Least number completed in it."""
    trajectories_per_agent: float
    window_limit_s: float
    """The window closes at the latest after this; a level that still lacks trajectories is not judged."""
    warmup_s: float
    """All agents work this long before the window."""

    def judged(self, tier: Tier) -> Tier:
        """The tier with the validity rules of the preset, where these are not the policy's own."""
        if self.comparable:
            return tier
        return msgspec.structs.replace(
            tier,
            min_trajectories=self.trajectories,
            min_trajectories_per_agent=self.trajectories_per_agent,
            min_steady_s=0.0,
            min_hold_s=0.0,
            comparable=False,
        )


PRESETS: Final = {
    each.name: each
    for each in (
        # The window is open after the target concurrency has held for 30 s, as the proxy sees it; the agents see it
        # earlier, by the time that their first requests take to get there.
        Preset(
            name="agentperf",
            comparable=True,
            seconds=600.0,
            trajectories=30,
            trajectories_per_agent=3.0,
            window_limit_s=6 * 3600.0,
            warmup_s=35.0,
        ),
        Preset(
            name="quick",
            comparable=False,
            seconds=60.0,
            trajectories=10,
            trajectories_per_agent=1.0,
            window_limit_s=600.0,
            warmup_s=10.0,
        ),
        Preset(
            name="smoke",
            comparable=False,
            seconds=5.0,
            trajectories=1,
            trajectories_per_agent=0.0,
            window_limit_s=60.0,
            warmup_s=1.0,
        ),
    )
}
"""By name."""


def preset(name: str) -> Preset:
    """The rules of a name.

    Raises:
        UsageError: there are none.
    """
    found = PRESETS.get(name)
    if found is None:
        raise UsageError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return found
