"""Opt-in content attributes: messages as JSON in the message-parts schema of the GenAI conventions."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from otel_agentperf_proxy.dialects.canonical import Call, Other, Part, Reasoning, Result, Text
from otel_agentperf_proxy.dialects.shallow import JSON_ERRORS


def message(role: str, parts: Sequence[Part], finish_reason: str | None = None) -> dict[str, Any]:
    """One message; `finish_reason` only on output messages."""
    result: dict[str, Any] = {"role": role, "parts": [_part(part) for part in parts]}
    if finish_reason is not None:
        result["finish_reason"] = finish_reason
    return result


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "content": part.text}
        case Reasoning():
            return {"type": "reasoning", "content": part.text}
        case Call():
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": _value(part.arguments)}
        case Result():
            return {"type": "tool_call_response", "id": part.call_id, "response": _response(part)}
        case Other():
            return {"type": part.kind, "content": _value(part.json)}


def _response(part: Result) -> Any:
    if all(isinstance(item, Text) for item in part.parts):
        return "".join(item.text for item in part.parts if isinstance(item, Text))
    return [_part(item) for item in part.parts]


def _value(json: bytes) -> Any:
    try:
        return msgspec.json.decode(json)
    except JSON_ERRORS:
        return json.decode("utf-8", "replace")


def encode(value: Any) -> str:
    """The attribute's value."""
    return msgspec.json.encode(value).decode()


def instructions(parts: Sequence[Part]) -> str:
    """`gen_ai.system_instructions`: parts without a role."""
    return encode([_part(part) for part in parts])


def definitions(tools: Sequence[Raw]) -> str:
    """`gen_ai.tool.definitions`: as the client sent them."""
    return "[" + ",".join([bytes(tool).decode("utf-8", "replace") for tool in tools]) + "]"
