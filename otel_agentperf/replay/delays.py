"""How long the agents' tools take. Pure.

Delays that are not recorded, or that shall vary, are drawn by tool: from what the recording says of that tool, else of
all tools, else from a distribution like that of AA-AgentPerf (0.1 to 5 s, median 1 s).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from otel_agentperf.replay.recording import Task, Turn
from otel_agentperf.replay.settings import ToolDelays

__all__ = ["Delay", "Delays"]

MEDIAN_S: Final = 1.0
SIGMA: Final = 0.8
"""Standard deviation of the logarithm."""
RANGE_S: Final = (0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Delay:
    """Between an answer and the next turn.

    Attributes:
        capped: it was cut to the cap.
        drawn: it is not the recorded one.
    """

    seconds: float
    capped: bool = False
    drawn: bool = False


class Delays:
    """The tools of a recording."""

    def __init__(self, tasks: Iterable[Task], rules: ToolDelays) -> None:
        self._rules = rules
        self._of_tool: dict[str, list[float]] = defaultdict(list)
        self._all: list[float] = []
        for task in tasks:
            for each in task.family():
                # After the last turn there is no tool.
                for turn in each.turns[:-1]:
                    if turn.tool_delay_s is not None:
                        self._all.append(turn.tool_delay_s)
                        for name in set(turn.tools_called):
                            self._of_tool[name].append(turn.tool_delay_s)

    def after(self, turn: Turn, random: Random) -> Delay:
        """The delay after a turn that is not the last."""
        rules = self._rules
        if rules.fixed_s is not None:
            return Delay(rules.fixed_s)
        recorded = turn.tool_delay_s
        drawn = rules.sampled or recorded is None
        seconds = (self._draw(turn, random) if drawn or recorded is None else recorded) * rules.scale
        if rules.cap_s is not None and seconds > rules.cap_s:
            return Delay(rules.cap_s, True, drawn)
        return Delay(seconds, False, drawn)

    def _draw(self, turn: Turn, random: Random) -> float:
        """Of several tools called at once the slowest counts."""
        drawn = [random.choice(known) for name in turn.tools_called if (known := self._of_tool.get(name))]
        if drawn:
            return max(drawn)
        if self._all:
            return random.choice(self._all)
        low, high = RANGE_S
        return min(max(MEDIAN_S * random.lognormvariate(0.0, SIGMA), low), high)
