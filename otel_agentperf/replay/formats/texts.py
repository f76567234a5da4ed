"""Turns from whole conversations: every answer of the recording is a turn, asked with all messages before it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_agentperf.replay.formats.files import encode
from otel_agentperf.replay.formats.messages import message
from otel_agentperf.replay.recording import Branch, Pieces, Turn
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["Said", "turns_of"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """One message of a conversation, and what is known of the call that made it, when it is an answer."""

    role: str
    content: str | None
    members: dict[str, Any] = field(default_factory=dict)
    """`tool_calls`, `tool_call_id`, `reasoning_content`: further members of the message."""
    output_tokens: int | None = None
    input_tokens: int | None = None
    delay_s: float | None = None
    """From the end of the answer to the next call."""
    branches: tuple[Branch, ...] = ()


def turns_of(
    conversation: Iterable[Said], pieces: Pieces, vocabulary: Vocabulary, tools: bytes | None = None
) -> tuple[Turn, ...]:
    """The turns of a conversation. Answers whose tokens nobody counted are counted by the vocabulary."""
    history: list[bytes] = []
    turns: list[Turn] = []
    for said in conversation:
        if said.role == "assistant" and history:
            turns.append(
                Turn(
                    tuple(history),
                    tools,
                    said.output_tokens if said.output_tokens is not None else _count(said, vocabulary),
                    None,
                    said.input_tokens,
                    said.delay_s,
                    _called(said.members.get("tool_calls") or ()),
                    said.branches,
                )
            )
        history.append(message(pieces, said.role, said.content, **said.members))
    return tuple(turns)


def _called(calls: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    names = ((call.get("function") or {}).get("name") for call in calls)
    return tuple(name for name in names if isinstance(name, str) and name)


def _count(said: Said, vocabulary: Vocabulary) -> int:
    """Tokens of an answer: its text, its reasoning, its calls."""
    parts = [said.content or "", said.members.get("reasoning_content") or ""]
    parts += [encode(call.get("function") or {}).decode() for call in said.members.get("tool_calls") or ()]
    return max(sum(vocabulary.count(part) for part in parts), 1)
