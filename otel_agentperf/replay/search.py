"""The search for the highest number of agents that an endpoint serves within a tier: which level comes next. Pure.

Levels double from a small one up to the first violation; then the gap between the last pass and the first failure is
halved until it is within the tolerance. Several tiers share their levels: each level is judged for all of them, so none
is played twice. The answer is the highest passing level below the first failure; a pass above a failure is flagged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["FixedLevels", "Outcome", "Plan", "Search", "Verdict"]

START_AGENTS: Final = 2
TOLERANCE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge says of one level by one tier."""

    passed: bool | None
    """None: it cannot be told, for the given reason."""
    reason: str | None = None
    """Why it did not pass."""
    margin: float | None = None
    """How far the worst target was held; below 1 it was missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of one tier. The true value lies from `last_pass` to just below `first_fail`."""

    tier: str
    max_agents: int | None
    """Highest passing level below the first violation, 0 when one agent is too many; None when nothing was judged."""
    last_pass: int | None
    first_fail: int | None
    finished: bool
    """The bracket is within the tolerance, or the search's limit passed."""
    monotone: bool
    """No level passed above one that failed."""
    note: str | None = None
    """What limits the answer."""


class Plan(Protocol):
    """Decides which levels are played."""

    def next_level(self) -> int | None:
        """Agents of the level to play now; None when nothing is left to play."""

    def record(self, agents: int, verdicts: Mapping[str, Verdict]) -> None:
        """A level was played, with verdicts by tier."""

    def stakes(self, agents: int) -> frozenset[str]:
        """Tiers whose outcome depends on this level. When all of them are lost, the rest of it may be left out."""

    def left(self) -> int | None:
        """How many levels are left, the one under way included; None when that cannot be told."""

    def standing(self) -> str | None:
        """The result so far, in a few words."""


class FixedLevels:
    """The levels that the user named, in this order."""

    def __init__(self, levels: Sequence[int]) -> None:
        self._left = list(levels)

    def next_level(self) -> int | None:
        return self._left[0] if self._left else None

    def record(self, agents: int, verdicts: Mapping[str, Verdict]) -> None:
        if agents in self._left:
            self._left.remove(agents)

    def stakes(self, agents: int) -> frozenset[str]:
        return frozenset()

    def left(self) -> int | None:
        return len(self._left)

    def standing(self) -> str | None:
        return None


class Search:
    """Exponential ramp, then bisection, for several tiers at once.

    Args:
        tiers: names of the tiers, at least one.
        start: agents of the first level.
        most: no level has more agents than this.
        tolerance: the search ends when the gap between last pass and first failure is at most this share of the last
            pass, or one agent.
    """

    def __init__(
        self, tiers: Sequence[str], *, most: int, start: int = START_AGENTS, tolerance: float = TOLERANCE
    ) -> None:
        self._start = min(start, most)
        self._most = most
        self._tolerance = tolerance
        self._verdicts: dict[str, dict[int, Verdict]] = {tier: {} for tier in tiers}

    def record(self, agents: int, verdicts: Mapping[str, Verdict]) -> None:
        """Take a level's verdicts; a tier without one is one that cannot be told."""
        for tier, known in self._verdicts.items():
            known[agents] = verdicts.get(tier) or Verdict(passed=None, reason="it was not judged")

    def next_level(self) -> int | None:
        """The ramp first, of all tiers; then the bisections, from below."""
        wanted = {tier: self._wanted(tier) for tier in self._verdicts}
        ramp = [level for tier, level in wanted.items() if level is not None and self._bounds(tier)[1] is None]
        rest = [level for level in wanted.values() if level is not None]
        return min(ramp or rest, default=None)

    def stakes(self, agents: int) -> frozenset[str]:
        """Tiers that have the level inside their bracket."""
        inside = set()
        for tier in self._verdicts:
            low, high = self._bounds(tier)
            if self._wanted(tier) is not None and low < agents and (high is None or agents < high):
                inside.add(tier)
        return frozenset(inside)

    def left(self) -> int | None:
        """Levels of the bisections, when all tiers are that far; those that tiers share are counted for each."""
        count = 0
        for tier in self._verdicts:
            low, high = self._bounds(tier)
            if self._wanted(tier) is None:
                continue
            if high is None:
                return None
            gap = high - low
            while gap > self._within(low):
                gap = (gap + 1) // 2
                count += 1
        return count

    def standing(self) -> str:
        """The brackets so far."""
        words = []
        for tier in self._verdicts:
            low, high = self._bounds(tier)
            words.append(f"{tier} [{low or '–'}, {high or '–'}]")
        return ", ".join(words)

    def outcomes(self) -> tuple[Outcome, ...]:
        """What is known of each tier."""
        return tuple(self._outcome(tier) for tier in self._verdicts)

    def _bounds(self, tier: str) -> tuple[int, int | None]:
        """Highest pass below, and lowest level that did not pass; 0 and None while there is none."""
        known = self._verdicts[tier]
        high = min((agents for agents, verdict in known.items() if verdict.passed is not True), default=None)
        passing = (agents for agents, verdict in known.items() if verdict.passed is True)
        return max((agents for agents in passing if high is None or agents < high), default=0), high

    def _within(self, low: int) -> int:
        """The gap at which a bracket is narrow enough."""
        return max(1, int(self._tolerance * low))

    def _wanted(self, tier: str) -> int | None:
        """The next level that the tier asks for."""
        low, high = self._bounds(tier)
        if high is None:
            if low >= self._most:
                return None
            return min(low * 2, self._most) if low else self._start
        return (low + high) // 2 if high - low > self._within(low) else None

    def _outcome(self, tier: str) -> Outcome:
        known = self._verdicts[tier]
        low, high = self._bounds(tier)
        failed = min((agents for agents, verdict in known.items() if verdict.passed is False), default=None)
        note = None
        if high is not None and known[high].passed is None:
            note = f"{high} agents cannot be judged: {known[high].reason}"
        elif high is None and low == self._most:
            note = f"the search was limited to {self._most} agents"
        return Outcome(
            tier=tier,
            max_agents=low if known else None,
            last_pass=low or None,
            first_fail=failed,
            finished=bool(known) and self._wanted(tier) is None and (high is None or known[high].passed is False),
            monotone=not any(
                verdict.passed is True and failed is not None and agents > failed for agents, verdict in known.items()
            ),
            note=note,
        )
