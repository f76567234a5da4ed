"""OpenHands' evaluation output: JSON lines, one trajectory each, as a history of events with times.

An action that carries a `model_response` is an answer of the model; the observation that names its `tool_call_id` is
the tool's result. Actions of one response share its id. The time from an answer to the next one, less what the model
took for that, is the tools' and the agent's own.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.files import FileFormat, decode, encode, lines
from otel_agentperf.replay.formats.texts import Said, turns_of
from otel_agentperf.replay.recording import Pieces, Task
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["OpenHands"]


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    message: _Answer


class _Response(msgspec.Struct):
    id: str
    choices: list[_Choice]
    usage: _Usage | None = None


class _Called(msgspec.Struct):
    tool_call_id: str | None = None
    model_response: _Response | None = None


class _Event(msgspec.Struct):
    timestamp: str
    source: str | None = None
    action: str | None = None
    observation: str | None = None
    message: str | None = None
    content: str | None = None
    args: dict[str, Any] | None = None
    tool_call_metadata: _Called | None = None


class _Latency(msgspec.Struct):
    latency: float
    response_id: str


class _Metrics(msgspec.Struct):
    response_latencies: list[_Latency] = []


class _Output(msgspec.Struct):
    instance_id: str
    history: list[_Event]
    metrics: _Metrics | None = None


_decoder: Final = msgspec.json.Decoder(_Output)


class OpenHands(FileFormat):
    """Reads an `output.jsonl`."""

    name = "openhands"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def knows(self, name: str, head: bytes) -> bool:
        return name.endswith(".jsonl") and b'"instance_id"' in head and head.lstrip().startswith(b"{")

    def tasks(self, data: bytes, where: str, pieces: Pieces) -> Iterator[Task]:
        for at, line in lines(data, where):
            output = decode(_decoder, line, at)
            turns = turns_of(_said(output, at), pieces, self._vocabulary, _tools(output, pieces))
            if not turns:
                raise SourceError(f"{at}: no answer of a model in it")
            yield Task(output.instance_id, None, turns, "OpenHands")


def _said(output: _Output, at: str) -> Iterator[Said]:
    latencies = {each.response_id: each.latency for each in (output.metrics or _Metrics()).response_latencies}
    events = output.history
    answered: set[str] = set()
    for index, event in enumerate(events):
        called = event.tool_call_metadata
        response = called.model_response if called is not None else None
        if event.action is not None and response is not None and called is not None:
            if response.id in answered:
                continue
            answered.add(response.id)
            message = response.choices[0].message if response.choices else _Answer()
            usage = response.usage or _Usage()
            yield Said(
                role="assistant",
                content=message.content,
                members={"tool_calls": message.tool_calls} if message.tool_calls else {},
                output_tokens=usage.completion_tokens,
                input_tokens=usage.prompt_tokens,
                delay_s=_delay_s(events, index, answered, latencies, at),
            )
        elif event.observation is not None and called is not None and called.tool_call_id:
            yield Said(role="tool", content=event.content, members={"tool_call_id": called.tool_call_id})
        elif event.action == "system":
            yield Said(role="system", content=str((event.args or {}).get("content") or event.message or ""))
        elif event.action == "message" and event.source == "user":
            yield Said(role="user", content=str((event.args or {}).get("content") or event.message or ""))


def _delay_s(
    events: list[_Event], index: int, answered: set[str], latencies: dict[str, float], at: str
) -> float | None:
    """From an answer to the beginning of the next call: the time of the next answer, less what the model took."""
    for later in events[index + 1 :]:
        called = later.tool_call_metadata
        response = called.model_response if called is not None else None
        if later.action is not None and response is not None and response.id not in answered:
            latency = latencies.get(response.id)
            if latency is None:
                return None
            return max((_time(later, at) - _time(events[index], at)).total_seconds() - latency, 0.0)
    return 0.0


def _time(event: _Event, at: str) -> datetime:
    try:
        return datetime.fromisoformat(event.timestamp)
    except ValueError as exc:
        raise SourceError(f"{at}: not a time: {event.timestamp!r}") from exc


def _tools(output: _Output, pieces: Pieces) -> bytes | None:
    """The tools of the system's event."""
    tools = next(((event.args or {}).get("tools") for event in output.history if event.action == "system"), None)
    return pieces.share(encode(tools))[0] if isinstance(tools, list) and tools else None
