"""ATIF 1.x, the Agent Trajectory Interchange Format (version 1.8): one JSON file per trajectory, or a list of them.

Steps of source `system`, `user` and `agent`; an agent's step is an answer with its tool calls, its observation holds
their results, its metrics the tokens. Sub-agents are trajectories inside, referred to by the result that they gave.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.files import FileFormat, decode
from otel_agentperf.replay.formats.messages import tool_call
from otel_agentperf.replay.formats.texts import Said, turns_of
from otel_agentperf.replay.recording import Branch, Pieces, Task
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["ATIF"]


class _Call(msgspec.Struct):
    tool_call_id: str
    function_name: str
    arguments: Any = None


class _Reference(msgspec.Struct):
    session_id: str | None = None
    trajectory_id: str | None = None


class _Result(msgspec.Struct):
    source_call_id: str | None = None
    content: str | list[dict[str, Any]] | None = None
    subagent_trajectory_ref: list[_Reference] | None = None


class _Observation(msgspec.Struct):
    results: list[_Result] = []


class _Metrics(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Step(msgspec.Struct):
    source: str
    message: str | list[dict[str, Any]] | None = None
    timestamp: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    observation: _Observation | None = None
    metrics: _Metrics | None = None
    is_copied_context: bool | None = None


class _Agent(msgspec.Struct):
    name: str | None = None
    tool_definitions: list[msgspec.Raw] | None = None


class _Trajectory(msgspec.Struct):
    schema_version: str
    steps: list[_Step]
    session_id: str | None = None
    trajectory_id: str | None = None
    agent: _Agent = msgspec.field(default_factory=_Agent)
    subagent_trajectories: list["_Trajectory"] | None = None


_decoder: Final = msgspec.json.Decoder(_Trajectory | list[_Trajectory])


class ATIF(FileFormat):
    """Reads a trajectory, a list of them, or a directory."""

    name = "atif"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def knows(self, name: str, head: bytes) -> bool:
        return name.endswith(".json") and b'"schema_version"' in head and b"ATIF" in head

    def tasks(self, data: bytes, where: str, pieces: Pieces) -> Iterator[Task]:
        read = decode(_decoder, data, where)
        for trajectory in read if isinstance(read, list) else [read]:
            if not trajectory.schema_version.startswith("ATIF-v1."):
                raise SourceError(
                    f"{where}: version {trajectory.schema_version} of the format is not known, only ATIF-v1"
                )
            yield self._task(trajectory, where, pieces)

    def _task(self, trajectory: _Trajectory, where: str, pieces: Pieces) -> Task:
        tools = trajectory.agent.tool_definitions
        turns = turns_of(
            self._said(trajectory, where, pieces),
            pieces,
            self._vocabulary,
            pieces.share(b"[%b]" % b",".join(bytes(tool) for tool in tools))[0] if tools else None,
        )
        if not turns:
            raise SourceError(f"{where}: no answer of a model in it")
        identity = trajectory.trajectory_id or trajectory.session_id or where.rpartition("/")[2].partition(".")[0]
        return Task(identity, None, turns, trajectory.agent.name)

    def _said(self, trajectory: _Trajectory, where: str, pieces: Pieces) -> Iterator[Said]:
        inner = {
            key: each
            for each in trajectory.subagent_trajectories or ()
            for key in (each.trajectory_id, each.session_id)
            if key is not None
        }
        answers = 0
        for step in trajectory.steps:
            content = _text(step.message)
            if step.source != "agent":
                yield Said(role="system" if step.source == "system" else "user", content=content)
                continue
            calls = [
                tool_call(call.tool_call_id, call.function_name, call.arguments or {}) for call in step.tool_calls or ()
            ]
            members: dict[str, Any] = {"tool_calls": calls} if calls else {}
            if step.reasoning_content:
                members["reasoning_content"] = step.reasoning_content
            results = step.observation.results if step.observation is not None else []
            metrics = step.metrics or _Metrics()
            answers += 1
            yield Said(
                role="assistant",
                content=content,
                members=members,
                output_tokens=metrics.completion_tokens,
                input_tokens=metrics.prompt_tokens,
                # A step has one time, that of its answer: how long the tools took before the next is not told.
                delay_s=None,
                branches=tuple(
                    Branch(self._task(inner[key], where, pieces), 0.0, answers)
                    for result in results
                    for reference in result.subagent_trajectory_ref or ()
                    if (key := reference.trajectory_id or reference.session_id or "") in inner
                ),
            )
            called = {call.tool_call_id for call in step.tool_calls or ()}
            for result in results:
                text = _text(result.content) or ""
                if result.source_call_id in called:
                    yield Said(role="tool", content=text, members={"tool_call_id": result.source_call_id})
                else:
                    yield Said(role="user", content=text)


def _text(content: str | list[dict[str, Any]] | None) -> str | None:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content
