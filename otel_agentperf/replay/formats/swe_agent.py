"""Trajectories of SWE-agent (`.traj`) and mini-swe-agent (`.traj.json`): the conversation, and how long tools ran.

SWE-agent: `{history: [{role, content, tool_calls?, tool_call_ids?}], trajectory: [{execution_time?, ...}]}`; a step of
`trajectory` belongs to each answer, in order. mini-swe-agent: the messages as a list, or as `messages` of an object.
There are no times but those of tools, and no token counts of single calls.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.files import FileFormat, decode
from otel_agentperf.replay.formats.texts import Said, turns_of
from otel_agentperf.replay.recording import Pieces, Task
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["MiniSWEAgent", "SWEAgent"]

_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_ids: list[str] | None = None
    tool_call_id: str | None = None
    extra: dict[str, Any] | None = None


class _Step(msgspec.Struct):
    execution_time: _Seconds | None = None


class _Trajectory(msgspec.Struct):
    history: list[_Message]
    trajectory: list[_Step] = []


class _Mini(msgspec.Struct):
    messages: list[_Message]


_trajectory: Final = msgspec.json.Decoder(_Trajectory)
_mini: Final = msgspec.json.Decoder(_Mini | list[_Message])


class SWEAgent(FileFormat):
    """Reads a trajectory, or a directory of them."""

    name = "swe-agent"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def knows(self, name: str, head: bytes) -> bool:
        return name.endswith(".traj")

    def tasks(self, data: bytes, where: str, pieces: Pieces) -> Iterator[Task]:
        read = decode(_trajectory, data, where)
        answers = sum(each.role == "assistant" for each in read.history)
        # A run that was cut off has one step more than answers.
        steps = read.trajectory if len(read.trajectory) >= answers else []
        yield _task(read.history, [step.execution_time for step in steps], where, pieces, self._vocabulary)


class MiniSWEAgent(FileFormat):
    """Reads a trajectory, or a directory of them."""

    name = "mini-swe-agent"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def knows(self, name: str, head: bytes) -> bool:
        return name.endswith(".traj.json")

    def tasks(self, data: bytes, where: str, pieces: Pieces) -> Iterator[Task]:
        read = decode(_mini, data, where)
        yield _task(read if isinstance(read, list) else read.messages, [], where, pieces, self._vocabulary)


def _task(
    history: list[_Message], times_s: list[float | None], where: str, pieces: Pieces, vocabulary: Vocabulary
) -> Task:
    turns = turns_of(_said(history, times_s), pieces, vocabulary)
    if not turns:
        raise SourceError(f"{where}: no answer of a model in it")
    return Task(where.replace("\\", "/").rpartition("/")[2].partition(".traj")[0], None, turns)


def _said(history: list[_Message], times_s: list[float | None]) -> Iterator[Said]:
    delays = iter(times_s)
    for each in history:
        members: dict[str, Any] = {}
        if each.tool_calls:
            members["tool_calls"] = each.tool_calls
        called = each.tool_call_id or next(iter(each.tool_call_ids or ()), None)
        if each.role == "tool" and called:
            members["tool_call_id"] = called
        answer = each.role == "assistant"
        # A tool's result without the call that it answers is refused by every server.
        role = "user" if each.role == "tool" and not called else each.role
        usage = _usage(each.extra) if answer else {}
        yield Said(
            role=role,
            content=_text(each.content),
            members=members,
            delay_s=next(delays, None) if answer else None,
            output_tokens=usage.get("completion_tokens"),
            input_tokens=usage.get("prompt_tokens"),
        )


def _text(content: str | list[dict[str, Any]] | None) -> str | None:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content


def _usage(extra: dict[str, Any] | None) -> dict[str, int]:
    """The usage of the response that mini-swe-agent keeps beside an answer, where it does."""
    response = (extra or {}).get("response")
    usage = response.get("usage") if isinstance(response, dict) else None
    if not isinstance(usage, dict):
        return {}
    return {name: value for name, value in usage.items() if isinstance(value, int) and value >= 0}
