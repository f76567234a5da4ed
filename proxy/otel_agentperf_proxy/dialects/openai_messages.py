"""Messages and usage as OpenAI's chat format writes them, in requests and in responses."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf_proxy.dialects import canonical
from otel_agentperf_proxy.dialects.canonical import Call, Other, Part, Reasoning, Text
from otel_agentperf_proxy.dialects.shallow import JSON_ERRORS, Shallow, decode, fields, integer, string
from otel_agentperf_proxy.facts import Message, ToolResult, Usage


class _Message(Struct, gc=False):
    role: Shallow = None
    content: Shallow = None
    tool_calls: Shallow = None
    tool_call_id: Shallow = None
    function_call: Shallow = None
    refusal: Shallow = None
    reasoning: Shallow = None
    reasoning_content: Shallow = None


class _Block(Struct, gc=False):
    type: Shallow = None
    text: Shallow = None
    refusal: Shallow = None
    thinking: Shallow = None


class _Function(Struct, gc=False):
    name: Shallow = None
    arguments: Shallow = None
    input: Shallow = None


class _ToolCall(Struct, gc=False):
    id: Shallow = None
    function: _Function | None = None
    custom: _Function | None = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_BLOCK: Final = msgspec.json.Decoder(_Block)
_TOOL_CALL: Final = msgspec.json.Decoder(_ToolCall)
_FUNCTION: Final = msgspec.json.Decoder(_Function)
_JSON: Final = msgspec.json.Encoder()


def _block(raw: Raw) -> Part:
    try:
        block = decode(_BLOCK, raw)
    except JSON_ERRORS:
        return Other("unknown", bytes(raw))
    match block.type:
        case "text" | "input_text" | "output_text" if isinstance(block.text, str):
            return Text(block.text)
        case "refusal" if isinstance(block.refusal, str):
            return Text(block.refusal)
        case "thinking" | "reasoning":
            inner = content_parts(block.thinking if block.thinking is not None else block.text)
            return Reasoning("".join([part.text for part in inner if isinstance(part, Text)]))
    return Other(string(block.type) or "unknown", canonical.block(raw))


def content_parts(value: Shallow) -> list[Part]:
    """The parts of a `content` field: a string, or a list of blocks."""
    if isinstance(value, str):
        return [Text(value)]
    if isinstance(value, list):
        return [_block(raw) for raw in value]
    if isinstance(value, dict):
        return [Other("unknown", canonical.block(_JSON.encode(value)))]
    return []


def _call(id: str | None, function: _Function) -> Call | None:
    name = string(function.name)
    if name is None:
        return None
    value = function.arguments if function.arguments is not None else function.input
    if not isinstance(value, str):
        # Some servers write the arguments as an object, not as a string that holds one.
        value = "" if value is None else _JSON.encode(value).decode("utf-8", "replace")
    return Call(id, name, canonical.arguments(value))


def _tool_call(raw: Raw) -> Part:
    try:
        call = decode(_TOOL_CALL, raw)
        function = call.function or call.custom
        if function is not None and (part := _call(string(call.id), function)):
            return part
    except JSON_ERRORS:
        pass
    return Other("tool_call", canonical.block(raw))


def answer_parts(raw: Raw) -> list[Part]:
    """The parts of a response's message. Raises JSON_ERRORS."""
    return _parts(decode(_MESSAGE, raw))


def _parts(message: _Message) -> list[Part]:
    """The parts of a message, of a request or of a response; tool results are made of them, too."""
    content = message.content
    parts: list[Part] = []
    if reasoning := string(message.reasoning_content) or string(message.reasoning):
        parts.append(Reasoning(reasoning))
    parts += [Text(content)] if isinstance(content, str) else content_parts(content)
    if refusal := string(message.refusal):
        parts.append(Text(refusal))
    if isinstance(message.tool_calls, list):
        parts += [_tool_call(raw) for raw in message.tool_calls]
    if isinstance(message.function_call, dict):
        function = msgspec.convert(fields(message.function_call), _Function)
        if call := _call(None, function):
            parts.append(call)
    return parts


def read_message(raw: Raw) -> tuple[str, list[Part], tuple[ToolResult, ...]]:
    """Role, parts and tool results of a request's message. Raises JSON_ERRORS."""
    found = decode(_MESSAGE, raw)
    role = string(found.role) or canonical.UNREADABLE
    parts = _parts(found)
    if role in ("tool", "function"):
        call_id = string(found.tool_call_id)
        return role, [canonical.result(call_id, False, parts)], (ToolResult(call_id, False, len(raw)),)
    return role, parts, ()


def message(raw: Raw) -> Message:
    """The facts of a request's message. Raises JSON_ERRORS."""
    role, parts, results = read_message(raw)
    return canonical.message(role, parts, len(raw), results)


def read_usage(value: Any, usage: Usage) -> None:
    """Take over the counters that a `usage` object has; servers that send several send totals so far."""
    if not isinstance(value, dict):
        return
    prompt = value.get("prompt_tokens_details")
    completion = value.get("completion_tokens_details")
    prompt = prompt if isinstance(prompt, dict) else {}
    completion = completion if isinstance(completion, dict) else {}
    for name, counts in (
        ("input", (value.get("prompt_tokens"),)),
        ("output", (value.get("completion_tokens"),)),
        # The second is DeepSeek's name, the third Moonshot's.
        ("cached", (prompt.get("cached_tokens"), value.get("prompt_cache_hit_tokens"), value.get("cached_tokens"))),
        ("cache_write", (prompt.get("cache_write_tokens"),)),
        ("reasoning", (completion.get("reasoning_tokens"),)),
    ):
        found = next((count for count in map(integer, counts) if count is not None), None)
        if found is not None:
            setattr(usage, name, found)
