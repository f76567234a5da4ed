"""Messages in canonical form: equal meaning, equal digest, whichever way the client wrote it down.

A dialect turns a message into parts; from there on all dialects share one form. The digest is XXH3-128 of the
MessagePack encoding of role and parts, where `cache_control` is gone, neighbouring texts are one text, JSON is written
with sorted keys, and reasoning is left out (clients drop, sign or summarise it at will).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from otel_agentperf_proxy import marks
from otel_agentperf_proxy.dialects.shallow import JSON_ERRORS
from otel_agentperf_proxy.facts import Message, ToolCall, ToolResult


class Text(msgspec.Struct, tag="text", array_like=True, frozen=True, gc=False):
    """Text of a message."""

    text: str


class Reasoning(msgspec.Struct, tag="reasoning", array_like=True, frozen=True, gc=False):
    """Reasoning that the model showed."""

    text: str


class Call(msgspec.Struct, tag="call", array_like=True, frozen=True, gc=False):
    """A tool call by the model."""

    id: str | None
    name: str
    arguments: bytes
    """Canonical JSON, or the text as it came when it is no JSON."""


class Other(msgspec.Struct, tag="other", array_like=True, frozen=True, gc=False):
    """Media, documents, server tools: anything else that a message holds."""

    kind: str
    json: bytes
    """Canonical JSON of the block."""


class Result(msgspec.Struct, tag="result", array_like=True, frozen=True, gc=False):
    """The result of a tool call."""

    call_id: str | None
    is_error: bool
    parts: tuple[Text | Other, ...]


Part = Text | Reasoning | Call | Result | Other


def _float(text: str) -> int | float:
    # Clients in JavaScript write 1.0 back as 1.
    value = float(text)
    return int(value) if abs(value) < 1 << 53 and value.is_integer() else value


_JSON: Final = msgspec.json.Decoder(float_hook=_float)
_SORTED: Final = msgspec.json.Encoder(order="sorted")
_MSGPACK: Final = msgspec.msgpack.Encoder()


def arguments(text: str | bytes | Raw) -> bytes:
    """Canonical JSON of tool arguments. Nothing and null count as `{}`, since clients fill it in."""
    if not len(text):
        return b"{}"
    try:
        value = _JSON.decode(text)
        return b"{}" if value is None else _SORTED.encode(value)
    except JSON_ERRORS:
        return text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)


def is_json(text: bytes) -> bool:
    """Whether the text is a whole JSON value."""
    try:
        _JSON.decode(text)
    except JSON_ERRORS:
        return False
    return True


def block(raw: Raw | bytes) -> bytes:
    """Canonical JSON of a content block, `cache_control` removed at every depth."""
    try:
        return _SORTED.encode(_without_cache_control(_JSON.decode(raw)))
    except JSON_ERRORS:
        return bytes(raw)


def _without_cache_control(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_cache_control(item) for key, item in value.items() if key != "cache_control"}
    if isinstance(value, list):
        return [_without_cache_control(item) for item in value]
    return value


def _merged(parts: Sequence[Part]) -> Sequence[Part]:
    """The parts that count: texts joined to their neighbours, empty texts and reasoning gone."""
    if len(parts) == 1:
        part = parts[0]
        return () if isinstance(part, Reasoning) or (isinstance(part, Text) and not part.text) else parts
    merged: list[Part] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
        elif not isinstance(part, Reasoning):
            if any(texts):
                merged.append(Text("".join(texts)))
            texts = []
            merged.append(part)
    if any(texts):
        merged.append(Text("".join(texts)))
    return merged


def result(call_id: str | None, is_error: bool, parts: Sequence[Part]) -> Result:
    """A tool result; calls and results cannot stand inside one."""
    kept = [part for part in _merged(parts) if isinstance(part, Text | Other)]
    return Result(call_id, is_error, tuple(kept))


def digest(role: str, parts: Sequence[Part], *, with_ids: bool = True) -> bytes:
    """16 bytes; equal for messages of equal role and meaning.

    Without ids for dialects whose servers give tool calls none: clients make some up and send them back.
    """
    merged = _merged(parts)
    return xxh3_128_digest(_MSGPACK.encode((role, merged if with_ids else [_nameless(part) for part in merged])))


def _nameless(part: Part) -> Part:
    match part:
        case Call():
            return Call(None, part.name, part.arguments)
        case Result():
            return Result(None, part.is_error, part.parts)
    return part


def utf8_bytes(text: str) -> int:
    """Size of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def text_bytes(parts: Sequence[Part], *, reasoning: bool = False) -> int:
    """Size of what a model reads or writes as text: texts, tool calls and results; reasoning when asked for, media
    not."""
    size = 0
    for part in parts:
        match part:
            case Text():
                size += utf8_bytes(part.text)
            case Reasoning() if reasoning:
                size += utf8_bytes(part.text)
            case Call():
                size += utf8_bytes(part.name) + len(part.arguments)
            case Result():
                size += text_bytes(part.parts)
    return size


def text_digest(role: str, text: str) -> bytes:
    """The digest of a message that holds just this text, for comparing a text with messages that are no longer kept."""
    return digest(role, (Text(text),))


def tool_call(part: Call, *, with_strings: bool = False) -> ToolCall:
    """The facts of a tool call; `with_strings` keeps the string values of its arguments."""
    strings = _strings(part.arguments) if with_strings else ()
    return ToolCall(part.id, part.name, xxh3_128_digest(part.arguments), strings)


def _strings(json: bytes) -> tuple[str, ...]:
    """All strings among the values of a JSON text, in no particular order."""
    try:
        waiting = [_JSON.decode(json)]
    except JSON_ERRORS:
        return ()
    found = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return tuple(found)


def message(
    role: str, parts: Sequence[Part], size: int, results: tuple[ToolResult, ...] = (), *, with_ids: bool = True
) -> Message:
    """The facts of a request's message. Argument strings are not kept: history needs them no more."""
    calls: list[ToolCall] = []
    texts: list[str] = []
    lines = b""
    has_text = False
    for part in parts:
        if isinstance(part, Text):
            has_text = has_text or part.text != ""
            texts.append(part.text)
        elif isinstance(part, Call):
            calls.append(tool_call(part))
        elif isinstance(part, Other):
            has_text = True
        elif isinstance(part, Result):
            lines += marks.of_result(_text(part.parts))
    return Message(
        role,
        digest(role, parts, with_ids=with_ids),
        size,
        tuple(calls),
        results,
        has_text,
        text_bytes(parts),
        b"" if calls or role in ASSISTANT_ROLES else marks.of_texts(texts),
        lines + marks.of_lines("\n".join(texts)) if texts else lines,
    )


def _text(parts: Sequence[Part]) -> str:
    return "\n".join([part.text for part in parts if isinstance(part, Text)])


def answer_lines(parts: Sequence[Part]) -> bytes:
    """Marks of the lines of an answer's text."""
    return marks.of_lines(_text(parts))


ASSISTANT_ROLES: Final = frozenset(("assistant", "model"))

UNREADABLE: Final = ""
"""Role of a message that could not be read; its digest is that of its bytes."""


def unreadable(raw: Raw) -> Message:
    """A stand-in for a message that is no object of the expected shape."""
    return Message(role=UNREADABLE, digest=xxh3_128_digest(raw), size=len(raw))


class MessageCache:
    """Messages by the hash of their raw bytes: a growing history is parsed once, not once per turn.

    Bounded to two generations of `capacity` messages each; what was not asked for during a whole generation goes.
    The hash is seeded at random, so that nobody can prepare bytes that collide.
    """

    def __init__(self, capacity: int = 32_768) -> None:
        self._capacity = capacity
        self._seed = int.from_bytes(os.urandom(8), "little")
        self._young: dict[bytes, Message] = {}
        self._old: dict[bytes, Message] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def read(self, dialect: str, raws: Sequence[Raw], parse: Callable[[Raw], Message]) -> list[Message]:
        """`parse` of each raw message, or what it gave for the same bytes before."""
        seed = xxh3_64_intdigest(dialect.encode(), self._seed)
        messages = []
        for raw in raws:
            key = xxh3_128_digest(raw, seed)
            found = self._young.get(key)
            if found is None:
                found = self._old.pop(key, None) or parse(raw)
                if len(self._young) >= self._capacity:
                    self._old, self._young = self._young, {}
                self._young[key] = found
            messages.append(found)
        return messages
