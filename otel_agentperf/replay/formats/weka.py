"""Weka's traces of kv-cache-tester: one JSON file per trajectory, token counts and ids of prefix blocks, no words.

`t` is when a request began, in s. A sub-agent's `t` is when it ended (in all traces with sub-agents `t` less its
duration is the end of the answer that started it), and the `t` of its requests count from its own beginning.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.files import FileFormat, decode
from otel_agentperf.replay.formats.shapes import Shape, Weaver
from otel_agentperf.replay.recording import Branch, Pieces, Task
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["Weka"]

JOIN_SLACK_S: Final = 1.5
"""Times are partly in whole seconds."""

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Positive = Annotated[int, msgspec.Meta(gt=0)]


class _Call(msgspec.Struct, tag_field="type", tag="n"):
    t: float
    tokens_in: _Positive = msgspec.field(name="in")
    tokens_out: _Count = msgspec.field(name="out")
    hash_ids: list[int]
    api_time: float | None = None
    think_time: float | None = None


class _StreamedCall(_Call, tag="s"):
    pass


class _SubAgent(msgspec.Struct, tag_field="type", tag="subagent"):
    t: float
    agent_id: str
    requests: list[_Call | _StreamedCall]
    duration_ms: float = 0.0
    subagent_type: str | None = None
    tool_tokens: _Count = 0
    system_tokens: _Count = 0

    @property
    def start(self) -> float:
        return max(self.t - self.duration_ms / 1000, 0.0)


class _Trace(msgspec.Struct):
    id: str
    block_size: _Positive
    requests: list[_Call | _StreamedCall | _SubAgent]
    hash_id_scope: Literal["local", "global"] = "local"
    tool_tokens: _Count = 0
    system_tokens: _Count = 0


_decoder: Final = msgspec.json.Decoder(_Trace)


class Weka(FileFormat):
    """Reads a trace, or a directory of traces."""

    name = "weka"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def knows(self, name: str, head: bytes) -> bool:
        return name.endswith(".json") and b'"hash_id' in head and b'"block_size"' in head

    def tasks(self, data: bytes, where: str, pieces: Pieces) -> Iterator[Task]:
        trace = decode(_decoder, data, where)
        scope = trace.id if trace.hash_id_scope == "local" else "global"
        weaver = Weaver(self._vocabulary, trace.block_size, f"weka/{scope}")
        calls = [entry for entry in trace.requests if not isinstance(entry, _SubAgent)]
        agents = [entry for entry in trace.requests if isinstance(entry, _SubAgent)]
        if not calls:
            raise SourceError(f"{where}: no requests")
        branches: dict[int, list[Branch]] = {}
        joined: dict[int, float] = {}
        for number, agent in enumerate(agents):
            if not agent.requests:
                continue
            starts = max((index for index, call in enumerate(calls) if call.t <= agent.start + JOIN_SLACK_S), default=0)
            joins = next(
                (index for index, call in enumerate(calls) if index > starts and call.t >= agent.t - JOIN_SLACK_S),
                len(calls),
            )
            shapes = _shapes(agent.requests, {}, {})
            turns = weaver.turns(shapes, f"{where}/{agent.agent_id}", agent.tool_tokens + agent.system_tokens)
            task = Task(f"{trace.id}/{agent.agent_id or number}", None, turns, agent.subagent_type)
            delay_s = max(agent.start - _end(calls[starts]), 0.0)
            branches.setdefault(starts, []).append(Branch(task, delay_s, joins))
            joined[joins] = max(joined.get(joins, 0.0), agent.t)
        shapes = _shapes(calls, branches, joined)
        yield Task(trace.id, None, weaver.turns(shapes, where, trace.tool_tokens + trace.system_tokens))


def _end(call: _Call) -> float:
    return call.t + (call.api_time or 0.0)


def _shapes(calls: Sequence[_Call], branches: dict[int, list[Branch]], joined: dict[int, float]) -> list[Shape]:
    """The calls of one agent.

    Args:
        branches: sub-agents by the call that started them.
        joined: when the last sub-agent had ended that a call waited for.
    """
    shapes = []
    for index, call in enumerate(calls):
        shapes.append(
            Shape(
                input_tokens=call.tokens_in,
                output_tokens=call.tokens_out,
                blocks=tuple(call.hash_ids),
                tool_delay_s=_delay(call, calls[index + 1], joined.get(index + 1)) if index + 1 < len(calls) else 0.0,
                branches=tuple(branches.get(index, ())),
            )
        )
    return shapes


def _delay(call: _Call, later: _Call, joined: float | None) -> float:
    """From the end of an answer, and of the sub-agents that were waited for, to the next call."""
    if joined is not None:
        return max(later.t - max(joined, _end(call)), 0.0)
    if call.api_time is not None and later.think_time is not None:
        return max(later.think_time, 0.0)
    # Without the time of the call its end is not known, and the think time was computed as if it took none.
    return max(later.t - _end(call), 0.0)
