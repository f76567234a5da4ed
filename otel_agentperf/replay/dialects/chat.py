"""OpenAI chat completions: messages go out as they were recorded."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from otel_agentperf.replay.dialects.base import OutputLimit, Prefix, PreparedTurn, encode, members
from otel_agentperf.replay.recording import Task
from otel_agentperf.replay.settings import Placement
from otel_agentperf.replay.stream import AnswerFacts

__all__ = ["Chat"]

_ROLES: Final = {Placement.SYSTEM: ("system", "developer"), Placement.USER: ("user",), Placement.NONE: ()}
_OUTPUT_TEXT: Final = ("content", "reasoning_content", "reasoning", "refusal")
_EMPTY_SYSTEM: Final = b'{"role":"system","content":""}'


class _Role(msgspec.Struct):
    role: str


_role_decoder = msgspec.json.Decoder(_Role)


class Chat:
    """OpenAI chat completions, streamed, usage included."""

    path = "/v1/chat/completions"

    def __init__(self, model: str, extra_body: Mapping[str, Any], placement: Placement) -> None:
        fixed = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        self._head = b"{" + members(fixed) + members(extra_body)
        self._placement = placement

    def headers(self, api_key: str | None) -> list[tuple[bytes, bytes]]:
        return [(b"authorization", b"Bearer " + api_key.encode())] if api_key else []

    def prepare(self, task: Task) -> tuple[PreparedTurn, ...]:
        roles = {each: _role_decoder.decode(each).role for turn in task.turns for each in set(turn.messages)}
        wanted = _ROLES[self._placement]
        prepared = []
        for turn in task.turns:
            messages = turn.messages
            index = next((at for at, message in enumerate(messages) if roles[message] in wanted), None)
            if index is None and self._placement is Placement.SYSTEM:
                messages, index = (_EMPTY_SYSTEM, *messages), 0
            prepared.append(PreparedTurn(messages, None, turn.tools, index))
        return tuple(prepared)

    def body(self, turn: PreparedTurn, limit: OutputLimit, prefix: Prefix | None) -> bytes:
        messages = turn.messages
        if prefix is not None and turn.prefixed is not None:
            at = turn.prefixed
            messages = (*messages[:at], prefix.on_message(messages[at]), *messages[at + 1 :])
        return b'%b"max_tokens":%d,%b%b"messages":[%b]}' % (
            self._head,
            limit.max_tokens,
            b'"ignore_eos":true,' if limit.exact else b"",
            b'"tools":%b,' % turn.tools if turn.tools is not None else b"",
            b",".join(messages),
        )

    def reader(self) -> "ChatEvents":
        return ChatEvents()


class ChatEvents:
    """Chunks of a chat completion."""

    def __init__(self) -> None:
        self.facts = AnswerFacts()

    def terminal(self, data: bytes) -> bool:
        return data == b"[DONE]"

    def event(self, event: dict[str, Any]) -> bool:
        facts = self.facts
        if event.get("error"):
            facts.error = error_text(event["error"])
        usage = event.get("usage")
        if isinstance(usage, dict):
            facts.input_tokens = count(usage.get("prompt_tokens"))
            facts.output_tokens = count(usage.get("completion_tokens"))
            details = usage.get("prompt_tokens_details")
            facts.cached_input_tokens = count(details.get("cached_tokens")) if isinstance(details, dict) else None
        output = False
        for choice in event.get("choices") or ():
            if choice.get("finish_reason"):
                facts.complete = True
            delta = choice.get("delta") or {}
            output = output or any(delta.get(name) for name in _OUTPUT_TEXT) or _calls_a_tool(delta)
        return output


def count(value: Any) -> int | None:
    """A token count; None for anything that is none."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def error_text(error: Any) -> str:
    """The words of an error object."""
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else encode(error).decode()


def _calls_a_tool(delta: dict[str, Any]) -> bool:
    calls = [call.get("function") for call in delta.get("tool_calls") or ()] + [delta.get("function_call")]
    return any(call and (call.get("name") or call.get("arguments")) for call in calls)
