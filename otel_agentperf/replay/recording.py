"""What is replayed: recorded tasks, turn by turn, with their messages already written as JSON.

A turn repeats the history of the turn before, so a recording is quadratic in its length as text. Here each distinct
message is one bytes object that all turns refer to, and a request body is joined from these pieces without decoding.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = ["Pieces", "Recording", "Task", "Turn"]


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
    tool_delay_s: float
    """From the end of the answer to the next turn of the recording."""


@dataclass(frozen=True, slots=True)
class Task:
    """One recorded trajectory: an agent's turns on one task."""

    id: str
    domain: str | None
    turns: tuple[Turn, ...]

    @property
    def context_tokens(self) -> int | None:
        """Largest context that a turn needs, output included; None unless the recording counts both for some turn."""
        needs = [
            turn.input_tokens + turn.target_output_tokens
            for turn in self.turns
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
        """Turns of all tasks."""
        return sum(len(task.turns) for task in self.tasks)

    def limited(self, turns: int) -> "Recording":
        """The recording with at most the first `turns` turns of each task."""
        return replace(self, tasks=tuple(replace(task, turns=task.turns[:turns]) for task in self.tasks))

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
