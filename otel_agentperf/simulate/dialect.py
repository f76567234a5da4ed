"""What the two wire formats have in common: a request as the deployment understands it, and the reply as bytes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import Raw, Struct
from xxhash import xxh3_128_digest

from otel_agentperf.simulate.answers import Answer, Choice, Tool
from otel_agentperf.simulate.tokens import TOKEN_BYTES, Section, pad, special

__all__ = [
    "Dialect",
    "Numbers",
    "Problem",
    "Reply",
    "Request",
    "around",
    "decode",
    "escape",
    "render_media",
    "render_tool",
]

MEDIA_TOKENS: Final = 256
"""Tokens of an image, a sound or a document, whatever its size."""

T = TypeVar("T")

_ANY: Final = msgspec.json.Decoder()


class Problem(Exception):
    """A request that gets an error instead of an answer.

    Args:
        status: HTTP status.
        message: what is wrong, for the client's user.
        code: OpenAI's error code, where there is one.
    """

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class Request(Struct, frozen=True, kw_only=True):
    """A request for an answer, whatever its wire format."""

    model: str
    sections: tuple[Section, ...]
    """The prompt."""
    stream: bool = False
    include_usage: bool = True
    """The stream tells its usage."""
    max_tokens: int | None = None
    ignore_eos: bool = False
    tools: tuple[Tool, ...] = ()
    choice: Choice = Choice.AUTO
    parallel: bool = True
    reasoning: bool = True
    seed: int = 0


class Numbers(Struct, frozen=True, kw_only=True):
    """What a reply says about its request."""

    id: str
    """Unique among replies, without the wire format's prefix."""
    created_s: int
    """Unix time."""
    model: str
    prompt_tokens: int
    cached_tokens: int
    include_usage: bool


class Reply(ABC):
    """An answer in a wire format, as the parts of a stream or as one body."""

    def __init__(self, answer: Answer, numbers: Numbers) -> None:
        self.answer = answer
        self.numbers = numbers

    @property
    @abstractmethod
    def id(self) -> str:
        """As the client sees it."""

    @property
    @abstractmethod
    def finish_reason(self) -> str:
        """As the client sees it."""

    @abstractmethod
    def opening(self) -> bytes:
        """What a stream sends before its first token."""

    @abstractmethod
    def tokens(self) -> Iterator[bytes]:
        """What a stream sends for each token, in order."""

    @abstractmethod
    def closing(self) -> bytes:
        """What a stream sends after its last token."""

    @abstractmethod
    def body(self) -> bytes:
        """The reply that is not streamed."""


class Dialect(ABC):
    """A wire format. Implementations have no state."""

    name: ClassVar[str]
    request_id_header: ClassVar[bytes]

    @abstractmethod
    def read(self, body: bytes) -> Request:
        """Understand a request. Raises Problem, or what `decode` and the rendering of sections raise."""

    @abstractmethod
    def reply(self, answer: Answer, numbers: Numbers) -> Reply:
        """The answer in this format."""

    @abstractmethod
    def too_long(self, prompt_tokens: int, output_tokens: int, limit: int) -> Problem:
        """Prompt and output exceed the model's context; in words by which agents know that they must compact."""

    @abstractmethod
    def error(self, problem: Problem) -> bytes:
        """The body of an error response."""


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | Raw) -> T:
    """Decode JSON that the client sent. Raises Problem, status 400."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as exc:
        raise Problem(400, f"Invalid request: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise Problem(400, f"The body of the request is not valid JSON: {exc}") from exc


def render_tool(raw: Raw) -> bytes:
    """A tool's definition as tokens."""
    return special("tool") + pad(_canonical(decode(_ANY, raw)))


def render_media(block: Any) -> bytes:
    """The tokens of a block that is no text."""
    return xxh3_128_digest(_canonical(block)) * (MEDIA_TOKENS * TOKEN_BYTES // 16)


def _canonical(value: Any) -> bytes:
    """JSON without the cache markers, which move from turn to turn."""
    if isinstance(value, dict) and "cache_control" in value:
        value = {name: member for name, member in value.items() if name != "cache_control"}
    return msgspec.json.encode(value)


def escape(piece: bytes) -> bytes:
    """ASCII text as the inside of a JSON string."""
    return piece.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")


def around(event: bytes) -> tuple[bytes, bytes]:
    """An event, cut where the last of its strings is a NUL: what stands before and after the pieces of a text."""
    before, _, after = event.rpartition(b"\\u0000")
    return before, after
