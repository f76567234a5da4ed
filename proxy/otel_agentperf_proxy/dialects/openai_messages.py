"""Messages as OpenAI's chat format writes them, in requests and in responses; and what its formats have in common."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf_proxy.dialects import canonical
from otel_agentperf_proxy.dialects.base import status_code_name
from otel_agentperf_proxy.dialects.canonical import Call, Other, Part, Reasoning, Text
from otel_agentperf_proxy.dialects.shallow import JSON_ERRORS, Shallow, decode, fields, string
from otel_agentperf_proxy.facts import Message, ToolResult


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
        case "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text" if isinstance(block.text, str):
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


def reasoning_text(details: Any) -> str:
    """The text in OpenRouter's `reasoning_details`: its reasoning in full or as a summary; encrypted it has none."""
    texts = []
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            texts.append(string(detail.get("text")) or string(detail.get("summary")) or "")
    return "".join(texts)


def output_type(format: Any) -> str | None:
    """Value of `gen_ai.output.type` for the format of the answer that a request asks for."""
    match format.get("type") if isinstance(format, dict) else None:
        case "json_object" | "json_schema":
            return "json"
        case "text":
            return "text"
    return None


def error_body(status: int, message: str) -> bytes:
    """JSON in OpenAI's error shape."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": status_code_name(status)}
    return msgspec.json.encode({"error": error})
