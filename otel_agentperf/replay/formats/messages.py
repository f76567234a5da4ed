"""Recorded messages, checked, and shared between turns."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.files import decode, encode
from otel_agentperf.replay.recording import Pieces

__all__ = ["checked", "message", "tool_call", "tools_json"]


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


_message_decoder: Final = msgspec.json.Decoder(_Message)
_tool_decoder: Final = msgspec.json.Decoder(dict[str, Any])


def checked(raw: bytes, pieces: Pieces, at: str) -> bytes:
    """The one copy of a message as it was recorded.

    Raises:
        SourceError: it is no message.
    """
    piece, new = pieces.share(raw)
    if new and not decode(_message_decoder, piece, at).role:
        raise SourceError(f"{at}: a message without a role")
    return piece


def message(pieces: Pieces, role: str, content: str | None, **members: Any) -> bytes:
    """A message written anew."""
    return pieces.share(encode({"role": role, "content": content, **members}))[0]


def tool_call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    """A tool call as OpenAI writes it; arguments that are text already stay."""
    text = arguments if isinstance(arguments, str) else encode(arguments).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def tools_json(definitions: Sequence[bytes], pieces: Pieces, at: str) -> bytes | None:
    """A JSON array of tool definitions; None without any.

    Raises:
        SourceError: one is no JSON object.
    """
    if not definitions:
        return None
    for each in definitions:
        decode(_tool_decoder, each, at)
    return pieces.share(b"[%b]" % b",".join(definitions))[0]
