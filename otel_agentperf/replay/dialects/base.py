"""What a dialect is: bodies out, events in. Pure: no I/O and no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from otel_agentperf.replay.recording import Task
from otel_agentperf.replay.settings import Placement
from otel_agentperf.replay.stream import EventReader

__all__ = ["Dialect", "OutputLimit", "Prefix", "PreparedTurn", "encode", "members", "text_of", "with_prefix"]

encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """How long the answer to a turn may be.

    Attributes:
        max_tokens: the limit that is asked for.
        exact: the server is asked to use all of it, whatever the model would do.
        unknown: the recording does not say how long the answer was.
    """

    max_tokens: int
    exact: bool
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class PreparedTurn:
    """A turn as the dialect writes it; all parts are shared between turns."""

    messages: tuple[bytes, ...]
    """JSON objects."""
    system: bytes | None
    """JSON string of a system prompt that stands apart from the messages."""
    tools: bytes | None
    """JSON array."""
    prefixed: int | None
    """Index of the message that takes the random prefix; None when it goes to `system`, or nowhere."""


class Prefix:
    """The random prefix of one trajectory, and the parts that carry it already."""

    __slots__ = ("_carrying", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._carrying: dict[bytes, bytes] = {}

    def on_message(self, message: bytes) -> bytes:
        """A JSON message with the prefix before its text."""
        carrying = self._carrying.get(message)
        if carrying is None:
            carrying = self._carrying[message] = encode(with_prefix(self.text, msgspec.json.decode(message)))
        return carrying

    def on_text(self, text: bytes | None) -> bytes:
        """A JSON string with the prefix before it."""
        key = text or b""
        carrying = self._carrying.get(key)
        if carrying is None:
            carrying = self._carrying[key] = encode(self.text + (msgspec.json.decode(text) if text else ""))
        return carrying


class Dialect(Protocol):
    """One wire format."""

    path: str
    """Path of the requests after the base URL."""

    def __init__(self, model: str, extra_body: Mapping[str, Any], placement: Placement) -> None: ...

    def headers(self, api_key: str | None) -> list[tuple[bytes, bytes]]:
        """Header fields of the dialect, with the credential when there is one."""

    def prepare(self, task: Task) -> tuple[PreparedTurn, ...]:
        """Write the parts of a task's turns as the dialect has them."""

    def body(self, turn: PreparedTurn, limit: OutputLimit, prefix: Prefix | None) -> bytes:
        """The request body."""

    def reader(self) -> EventReader:
        """A reader for the events of one answer."""


def members(values: Mapping[str, Any]) -> bytes:
    """JSON object members with a comma after each, to be put into an object that is written by hand."""
    return b"".join(b"%b:%b," % (encode(name), encode(value)) for name, value in values.items())


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts of which those with text count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return ""


def with_prefix(prefix: str, message: dict[str, Any]) -> dict[str, Any]:
    """A message with text before its content."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": prefix}, *content]}
    return {**message, "content": prefix + (content or "")}
