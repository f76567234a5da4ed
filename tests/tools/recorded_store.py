"""Stores of recorded calls with their messages, for the exports."""

import json
from pathlib import Path
from typing import Any
from zlib import crc32

from otel_agentperf import semconv

START_S = 1_800_000_000
"""2027-01-15T08:00:00Z."""

Message = dict[str, Any]


def text(role: str, words: str) -> Message:
    return {"role": role, "parts": [{"type": "text", "content": words}]}


def called(call_id: str | None, name: str, arguments: Any, words: str = "", thought: str = "") -> Message:
    parts: list[dict[str, Any]] = [{"type": "reasoning", "content": thought}] if thought else []
    parts += [{"type": "text", "content": words}] if words else []
    parts.append({"type": "tool_call", "id": call_id, "name": name, "arguments": arguments})
    return {"role": "assistant", "parts": parts}


def result(call_id: str, response: Any) -> Message:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": response}]}


def turn(
    trajectory: str, index: int, start_s: float, messages: list[Message], answer: Message, **more: Any
) -> dict[str, Any]:
    """A turn of two seconds."""
    attributes: dict[str, Any] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
        semconv.GEN_AI_PROVIDER_NAME: "openai",
        semconv.GEN_AI_AGENT_NAME: "coder",
        semconv.GEN_AI_REQUEST_MODEL: "m",
        semconv.GEN_AI_RESPONSE_MODEL: "m-2026",
        semconv.GEN_AI_REQUEST_TEMPERATURE: 0.5,
        semconv.GEN_AI_REQUEST_STREAM: True,
        semconv.TRAJECTORY_ID: trajectory,
        semconv.TURN_ID: f"{trajectory}/{index}",
        semconv.TURN_INDEX: index,
        semconv.TURN_KIND: semconv.KIND_TURN,
        semconv.STATUS: "ok",
        semconv.TIME_FIRST_OUTPUT: 0.5,
        semconv.TIME_END: 2.0,
        semconv.GEN_AI_USAGE_INPUT_TOKENS: 100 * (index + 1),
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 100 * index,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 40,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS: json.dumps([{"type": "text", "content": "be brief"}]),
        semconv.GEN_AI_INPUT_MESSAGES: json.dumps(messages),
        semconv.GEN_AI_OUTPUT_MESSAGES: json.dumps([answer | {"finish_reason": "stop"}]),
        semconv.GEN_AI_TOOL_DEFINITIONS: json.dumps([{"type": "function", "function": {"name": "ls"}}]),
        semconv.GEN_AI_RESPONSE_FINISH_REASONS: ["stop"],
        **more,
    }
    return span(f"chat {trajectory}", start_s, start_s + 2, attributes)


def span(name: str, start_s: float, end_s: float, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "traceId": "0" * 31 + "1",
        "spanId": f"{crc32(f'{name} {start_s}'.encode()):016x}",
        "name": name,
        "startTimeUnixNano": str(round((START_S + start_s) * 10**9)),
        "endTimeUnixNano": str(round((START_S + end_s) * 10**9)),
        "attributes": [{"key": key, "value": _value(given)} for key, given in attributes.items() if given is not None],
    }


def _value(given: Any) -> dict[str, Any]:
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    if isinstance(given, float):
        return {"doubleValue": given}
    if isinstance(given, list):
        return {"arrayValue": {"values": [_value(each) for each in given]}}
    return {"stringValue": given}


def write(path: Path, *spans: dict[str, Any]) -> Path:
    path.mkdir()
    document = {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}
    (path / "spans-a-000000.jsonl").write_text(json.dumps(document) + "\n")
    return path
