"""Items of OpenAI's responses format, in requests and in responses: each is a message of its own.

Reasoning items are no messages: a client that repeats a request may send them along or not (Codex adds the finished
ones when it resends a request whose stream broke off).
"""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf_proxy.dialects import canonical
from otel_agentperf_proxy.dialects.canonical import Call, Other, Part, Reasoning
from otel_agentperf_proxy.dialects.openai_messages import content_parts
from otel_agentperf_proxy.dialects.shallow import Shallow, decode, string
from otel_agentperf_proxy.facts import Message, ToolResult

REASONING: Final = "reasoning"
"""Role of an item that holds nothing but reasoning."""

_ASSISTANT: Final = "assistant"

_CLIENT_CALLS: Final = {
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
    "computer_call": "computer",
}
"""Calls of built-in tools that the client runs, and the tools' names. What is asked for is not called arguments."""

_ASKED: Final = ("action", "actions", "operation")
"""Where these calls say what is asked for."""

_NOT_MEANT: Final = frozenset(("id", "status", "created_by", "phase"))
"""Fields of an item that clients leave out or change when they send it back."""

_REASONING_IDS: Final = "rs_"
"""Ids of reasoning items begin so: a reference to one is reasoning as well."""


class _Item(Struct, gc=False):
    type: Shallow = None
    role: Shallow = None
    content: Shallow = None
    summary: Shallow = None
    id: Shallow = None
    call_id: Shallow = None
    name: Shallow = None
    arguments: Shallow = None
    input: Shallow = None
    output: Shallow = None
    status: Shallow = None
    error: Shallow = None


_ITEM: Final = msgspec.json.Decoder(_Item)
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_JSON: Final = msgspec.json.Encoder()


def read_item(raw: Raw) -> tuple[str, list[Part], tuple[ToolResult, ...]]:
    """Role, parts and tool results of an item. Raises JSON_ERRORS."""
    item = decode(_ITEM, raw)
    kind = string(item.type) or "message"
    match kind:
        case "message":
            return string(item.role) or canonical.UNREADABLE, content_parts(item.content), ()
        case "reasoning":
            return REASONING, [Reasoning(_reasoning(item))], ()
        case "item_reference" if (string(item.id) or "").startswith(_REASONING_IDS):
            return REASONING, [Reasoning("")], ()
        case "function_call" | "custom_tool_call" if name := string(item.name):
            asked = item.arguments if item.arguments is not None else item.input
            return _ASSISTANT, [Call(string(item.call_id), name, canonical.arguments(_text(asked)))], ()
    if name := _CLIENT_CALLS.get(kind):
        call_id = string(item.call_id) or string(item.id)
        return _ASSISTANT, [Call(call_id, name, canonical.block(_asked(raw)))], ()
    if kind.endswith("_output"):
        return _result(item, raw)
    # Web searches, code interpreters, calls of remote MCP servers, compactions, references to stored items.
    return _ASSISTANT, [Other(kind, canonical.block(_meant(raw)))], ()


def message(raw: Raw) -> Message:
    """The facts of a request's item. Raises JSON_ERRORS."""
    role, parts, results = read_item(raw)
    return canonical.message(role, parts, len(raw), results)


def _result(item: _Item, raw: Raw) -> tuple[str, list[Part], tuple[ToolResult, ...]]:
    # `local_shell_call_output` repeats the call's id under `id`.
    call_id = string(item.call_id) or string(item.id)
    failed = item.status == "failed" or item.error is not None
    result = canonical.result(call_id, failed, content_parts(item.output))
    return "tool", [result], (ToolResult(call_id, failed, len(raw)),)


def _reasoning(item: _Item) -> str:
    """The reasoning's text, else its summary; empty when it is encrypted."""
    for value in (item.content, item.summary):
        texts = [part.text for part in content_parts(value) if isinstance(part, canonical.Text | Reasoning)]
        if any(texts):
            return "".join(texts)
    return ""


def _text(value: Shallow) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _JSON.encode(value).decode("utf-8", "replace")


def _asked(raw: Raw) -> bytes:
    found = decode(_FIELDS, raw)
    return next((bytes(found[name]) for name in _ASKED if name in found), b"{}")


def _meant(raw: Raw) -> bytes:
    found = decode(_FIELDS, raw)
    return _JSON.encode({name: value for name, value in found.items() if name not in _NOT_MEANT})
