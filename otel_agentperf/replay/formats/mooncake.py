"""Mooncake's traces, and AIPerf's variant of them: JSON lines, one per request.

Mooncake: `{timestamp (ms), input_length, output_length, hash_ids}`, blocks of 512 tokens, each line a request of its
own. AIPerf adds `session_id` (lines of one session are its turns), `delay` (ms, before a turn), and words: `messages`,
the whole prompt of a turn, or `text_input`, a user message that continues the session.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.files import FileFormat, decode, encode, lines, object_of
from otel_agentperf.replay.formats.messages import checked, tools_json
from otel_agentperf.replay.formats.shapes import Shape, Weaver
from otel_agentperf.replay.recording import Pieces, Task, Turn
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["Mooncake"]

BLOCK_TOKENS: Final = 512

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Milliseconds = Annotated[float, msgspec.Meta(ge=0)]


class _Line(msgspec.Struct):
    timestamp: float | None = None
    input_length: Annotated[int, msgspec.Meta(gt=0)] | None = None
    output_length: _Count | None = None
    hash_ids: list[int] = []
    session_id: str | None = None
    delay: _Milliseconds | None = None
    text_input: str | None = None
    messages: list[msgspec.Raw] | None = None
    tools: list[msgspec.Raw] | None = None


_decoder: Final = msgspec.json.Decoder(_Line)


@dataclass(frozen=True)
class _Placed:
    at: str
    line: _Line


class Mooncake(FileFormat):
    """Reads a file of JSON lines."""

    name = "mooncake"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def knows(self, name: str, head: bytes) -> bool:
        members = object_of(head).keys()
        if name.endswith(".json") or not members:
            # A first line longer than what was read: the prompts of a session.
            return name.endswith(".jsonl") and b'"session_id"' in head[:4096] and b'"messages"' in head
        return "input_length" in members or ("session_id" in members and not members.isdisjoint(_SESSION))

    def tasks(self, data: bytes, where: str, pieces: Pieces) -> Iterator[Task]:
        sessions: dict[str, list[_Placed]] = {}
        for number, (at, line) in enumerate(lines(data, where)):
            read = decode(_decoder, line, at)
            sessions.setdefault(read.session_id or f"request-{number}", []).append(_Placed(at, read))
        weaver = Weaver(self._vocabulary, BLOCK_TOKENS, "mooncake")
        for session, placed in sessions.items():
            if all(each.line.messages is not None for each in placed):
                yield Task(session, None, tuple(_told(placed, pieces)))
            elif all(each.line.text_input is not None for each in placed):
                yield Task(session, None, tuple(self._continued(placed, pieces)))
            elif all(each.line.input_length is not None for each in placed):
                yield Task(session, None, self._shaped(placed, weaver, session))
            else:
                raise SourceError(
                    f"{placed[0].at}: a request needs messages, text_input or input_length, all of a session the same"
                )

    def _shaped(self, placed: Sequence[_Placed], weaver: Weaver, session: str) -> tuple[Turn, ...]:
        """Turns of given lengths. In a session each length is what a turn adds, when it has no ids of the history."""
        shapes = []
        context = 0
        for index, each in enumerate(placed):
            line = each.line
            tokens = line.input_length or 1
            context = tokens if line.hash_ids or not index else context + tokens
            shapes.append(
                Shape(
                    input_tokens=context,
                    output_tokens=line.output_length,
                    blocks=tuple(line.hash_ids),
                    tool_delay_s=_delay_s(placed, index),
                )
            )
            context += line.output_length or 0
        return weaver.turns(shapes, f"{placed[0].at}/{session}")

    def _continued(self, placed: Sequence[_Placed], pieces: Pieces) -> Iterator[Turn]:
        """Turns whose user messages are told; answers have their length and words of ours."""
        history: list[bytes] = []
        for index, each in enumerate(placed):
            history.append(pieces.share(encode({"role": "user", "content": each.line.text_input}))[0])
            yield Turn(tuple(history), None, each.line.output_length, None, None, _delay_s(placed, index))
            answer = "".join(self._vocabulary.pieces(f"{each.at}/answer", each.line.output_length or 1))
            history.append(pieces.share(encode({"role": "assistant", "content": answer}))[0])


_SESSION: Final = {"messages", "text_input", "delay"}


def _told(placed: Sequence[_Placed], pieces: Pieces) -> Iterator[Turn]:
    """Turns whose prompts are told."""
    for index, each in enumerate(placed):
        messages = tuple(checked(bytes(raw), pieces, each.at) for raw in each.line.messages or ())
        if not messages:
            raise SourceError(f"{each.at}: a turn without messages")
        tools = tools_json([bytes(raw) for raw in each.line.tools or ()], pieces, each.at)
        yield Turn(messages, tools, each.line.output_length, None, None, _delay_s(placed, index))


def _delay_s(placed: Sequence[_Placed], index: int) -> float | None:
    """Before the next turn of the session; between timestamps only, nothing is known."""
    if index + 1 == len(placed):
        return 0.0
    delay = placed[index + 1].line.delay
    return None if delay is None else delay / 1000
