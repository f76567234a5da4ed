"""From OpenAI's messages and tools to Anthropic's: pure, on decoded JSON.

System messages become one system prompt, tool calls `tool_use` blocks, tool results `tool_result` blocks. All results
of one answer stand in one user message together with the user text that follows them, because Anthropic wants them in
the message right after the answer and roles that alternate.
"""

from typing import Any

import msgspec

__all__ = ["group", "message", "system", "tools"]

JSON = dict[str, Any]


def group(role: str) -> str | None:
    """The role that a recorded role has here; None for a system message, which is no message here."""
    if role in ("system", "developer"):
        return None
    return "assistant" if role == "assistant" else "user"


def system(messages: list[JSON]) -> str | None:
    """The system prompt of a conversation; None without."""
    texts = [_text(each.get("content")) for each in messages if group(each["role"]) is None]
    return "\n\n".join(text for text in texts if text) or None


def message(parts: list[JSON]) -> JSON:
    """One message out of consecutive recorded messages of the same group."""
    role = group(parts[0]["role"])
    blocks = [block for part in parts for block in _blocks(part)]
    # A message must not be empty, and an answer of the recording may be.
    return {"role": role, "content": blocks or [{"type": "text", "text": "(empty)"}]}


def tools(definitions: list[JSON]) -> list[JSON]:
    """Tool definitions."""
    converted = []
    for definition in definitions:
        function = definition.get("function") or definition
        tool = {
            "name": function.get("name", ""),
            "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
        }
        if function.get("description"):
            tool["description"] = function["description"]
        converted.append(tool)
    return converted


def _blocks(part: JSON) -> list[JSON]:
    if part["role"] == "tool":
        result: JSON = {"type": "tool_result", "tool_use_id": part.get("tool_call_id") or ""}
        content = _text(part.get("content"))
        if content:
            result["content"] = content
        return [result]
    blocks = _content(part.get("content"))
    for call in part.get("tool_calls") or ():
        function = call.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id") or "",
                "name": function.get("name") or "",
                "input": _arguments(function.get("arguments")),
            }
        )
    return blocks


def _content(content: Any) -> list[JSON]:
    if isinstance(content, list):
        return [block for part in content if (block := _part(part)) is not None]
    return [{"type": "text", "text": content}] if content else []


def _part(part: JSON) -> JSON | None:
    """A content part: text, or an image by URL or inline."""
    if part.get("type") == "image_url":
        url = (part.get("image_url") or {}).get("url", "")
        media, comma, data = url.removeprefix("data:").partition(";base64,")
        if url.startswith("data:") and comma:
            return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}
        return {"type": "image", "source": {"type": "url", "url": url}}
    text = part.get("text")
    return {"type": "text", "text": text} if text else None


def _text(content: Any) -> str:
    return "".join(block.get("text", "") for block in _content(content))


def _arguments(arguments: Any) -> JSON:
    """Tool arguments, which OpenAI writes as a string of JSON; what is no JSON object is kept under `arguments`."""
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except msgspec.DecodeError:
            return {"arguments": arguments}
    return arguments if isinstance(arguments, dict) else {} if arguments is None else {"arguments": arguments}
