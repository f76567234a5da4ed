"""What is replayed: recorded tasks, turn by turn, with their messages already written as JSON.

A turn repeats the history of the turn before, so a recording is quadratic in its length as text. Here each distinct
message is one bytes object that all turns refer to, and a request body is joined from these pieces without decoding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import msgspec

__all__ = ["Branch", "Pieces", "Recording", "Task", "Turn", "called_tools"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One LLM call of a recording, and what followed it."""

    messages: tuple[bytes, ...]
    """JSON objects in the shape of OpenAI chat completions, as recorded; shared between turns."""
    tools: bytes | None
    """JSON array of tool definitions; None when the turn offered none."""
    target_output_tokens: int | None
    """Output tokens of the recorded answer; None when the recording does not say."""
    max_output_tokens: int | None
    """Limit that the recorded request asked for."""
    input_tokens: int | None
    """Prompt tokens as the recorded server counted them."""
    tool_delay_s: float | None
    """From the end of the answer, and of the sub-agents that the next turn waits for, to that turn; None when the
    recording does not say."""
    tools_called: tuple[str, ...] = ()
    """Names of the tools that the answer called, as far as they are known."""
    branches: tuple["Branch", ...] = ()
    """Sub-agents that the answer started."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A sub-agent: a trajectory of its own, beside the one that started it."""

    task: "Task"
    delay_s: float
    """From the end of the answer that started it to its first request."""
    joins: int
    """Index of the turn of the parent that waits for its end; the number of turns when none does."""


@dataclass(frozen=True, slots=True)
class Task:
    """One recorded trajectory: an agent's turns on one task."""

    id: str
    domain: str | None
    turns: tuple[Turn, ...]
    agent: str | None = None
    """Name of the agent that did it, when the recording says."""

    def family(self) -> Iterator["Task"]:
        """The task and those of all its sub-agents."""
        yield self
        for turn in self.turns:
            for branch in turn.branches:
                yield from branch.task.family()

    def limited(self, turns: int) -> "Task":
        """The task with at most its first turns; so are its sub-agents."""
        kept = tuple(
            replace(
                turn,
                branches=tuple(
                    replace(branch, task=branch.task.limited(turns), joins=min(branch.joins, turns))
                    for branch in turn.branches
                ),
            )
            if turn.branches
            else turn
            for turn in self.turns[:turns]
        )
        return replace(self, turns=kept)

    @property
    def context_tokens(self) -> int | None:
        """Largest context that a turn needs, output included; None unless the recording counts both for some turn."""
        needs = [
            turn.input_tokens + turn.target_output_tokens
            for task in self.family()
            for turn in task.turns
            if turn.input_tokens is not None and turn.target_output_tokens is not None
        ]
        return max(needs, default=None)


@dataclass(frozen=True, slots=True)
class Recording:
    """A named set of tasks.

    Attributes:
        name: as the user can ask for it.
        format: the format that it was read from.
        digest: sha256 over what is played, in order; the same for every copy of the same data.
        source: where it was read from.
    """

    name: str
    format: str
    digest: str
    source: str
    tasks: tuple[Task, ...]

    @property
    def turns(self) -> int:
        """Turns of all tasks and their sub-agents."""
        return sum(len(each.turns) for task in self.tasks for each in task.family())

    def limited(self, turns: int) -> "Recording":
        """The recording with at most the first `turns` turns of each task."""
        return replace(self, tasks=tuple(task.limited(turns) for task in self.tasks))

    def only(self, tasks: Iterable[str]) -> "Recording":
        """The recording with the tasks of these ids, in its own order."""
        wanted = set(tasks)
        return replace(self, tasks=tuple(task for task in self.tasks if task.id in wanted))


class Pieces:
    """Keeps one copy of each distinct bytes value."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def share(self, value: bytes) -> tuple[bytes, bool]:
        """The kept copy of a value, and whether it is new."""
        kept = self._known.setdefault(value, value)
        return kept, kept is value


class _Function(msgspec.Struct):
    name: str = ""


class _Call(msgspec.Struct):
    function: _Function | None = None


class _Answer(msgspec.Struct):
    role: str
    tool_calls: list[_Call] | None = None


_answer = msgspec.json.Decoder(_Answer)


def called_tools(before: tuple[bytes, ...], after: tuple[bytes, ...]) -> tuple[str, ...]:
    """Names of the tools that the answer to a turn called, read from the messages of the next turn."""
    for message in after[len(before) :]:
        answer = _answer.decode(message)
        if answer.role == "assistant":
            names = [call.function.name for call in answer.tool_calls or () if call.function is not None]
            return tuple(name for name in names if name)
    return ()
