"""Anthropic messages: recorded messages are converted once, then joined like those of the other dialects."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import msgspec

from otel_agentperf.replay.dialects import anthropic_shape as shape
from otel_agentperf.replay.dialects.base import OutputLimit, Prefix, PreparedTurn, encode, members
from otel_agentperf.replay.dialects.chat import count, error_text
from otel_agentperf.replay.recording import Pieces, Task
from otel_agentperf.replay.settings import Placement
from otel_agentperf.replay.stream import AnswerFacts

__all__ = ["Messages"]

VERSION = b"2023-06-01"
"""Value of `anthropic-version`."""

_USAGE_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Messages:
    """Anthropic messages, streamed. Inference servers take `ignore_eos`; Anthropic itself refuses it."""

    path = "/v1/messages"

    def __init__(self, model: str, extra_body: Mapping[str, Any], placement: Placement) -> None:
        self._head = b"{" + members({"model": model, "stream": True}) + members(extra_body)
        self._placement = placement

    def headers(self, api_key: str | None) -> list[tuple[bytes, bytes]]:
        version = [(b"anthropic-version", VERSION)]
        return [*version, (b"x-api-key", api_key.encode())] if api_key else version

    def prepare(self, task: Task) -> tuple[PreparedTurn, ...]:
        recorded = {each: msgspec.json.decode(each) for turn in task.turns for each in turn.messages}
        pieces = Pieces()
        known: dict[tuple[bytes, ...], bytes] = {}
        prepared = []
        for turn in task.turns:
            messages, roles = [], []
            for role, group in groupby(turn.messages, key=lambda each: shape.group(recorded[each]["role"])):
                if role is None:
                    continue
                parts = tuple(group)
                if parts not in known:
                    known[parts] = encode(shape.message([recorded[part] for part in parts]))
                messages.append(known[parts])
                roles.append(role)
            text = shape.system([recorded[each] for each in turn.messages])
            tools = encode(shape.tools(msgspec.json.decode(turn.tools))) if turn.tools is not None else None
            prepared.append(
                PreparedTurn(
                    tuple(messages),
                    pieces.share(encode(text))[0] if text is not None else None,
                    pieces.share(tools)[0] if tools is not None else None,
                    roles.index("user") if self._placement is Placement.USER and "user" in roles else None,
                )
            )
        return tuple(prepared)

    def body(self, turn: PreparedTurn, limit: OutputLimit, prefix: Prefix | None) -> bytes:
        messages, system = turn.messages, turn.system
        if prefix is not None and self._placement is Placement.SYSTEM:
            system = prefix.on_text(system)
        elif prefix is not None and turn.prefixed is not None:
            at = turn.prefixed
            messages = (*messages[:at], prefix.on_message(messages[at]), *messages[at + 1 :])
        return b'%b"max_tokens":%d,%b%b%b"messages":[%b]}' % (
            self._head,
            limit.max_tokens,
            b'"ignore_eos":true,' if limit.exact else b"",
            b'"system":%b,' % system if system is not None else b"",
            b'"tools":%b,' % turn.tools if turn.tools is not None else b"",
            b",".join(messages),
        )

    def reader(self) -> "MessagesEvents":
        return MessagesEvents()


class MessagesEvents:
    """Events of an Anthropic message."""

    def __init__(self) -> None:
        self.facts = AnswerFacts()

    def terminal(self, data: bytes) -> bool:
        return False

    def event(self, event: dict[str, Any]) -> bool:
        match event.get("type"):
            case "content_block_delta":
                delta = event.get("delta") or {}
                return any(delta.get(name) for name in ("text", "thinking", "partial_json"))
            case "content_block_start":
                block = event.get("content_block") or {}
                return block.get("type") == "tool_use" or any(block.get(name) for name in ("text", "thinking"))
            case "message_start":
                self._take_usage((event.get("message") or {}).get("usage"))
            case "message_delta":
                self._take_usage(event.get("usage"))
            case "message_stop":
                self.facts.complete = True
            case "error":
                self.facts.error = error_text(event.get("error"))
        return False

    def _take_usage(self, usage: Any) -> None:
        """Later counts replace earlier ones. Input is what was fresh, read from the cache, and written to it."""
        if not isinstance(usage, dict):
            return
        output = count(usage.get("output_tokens"))
        if output is not None:
            self.facts.output_tokens = output
        fresh, read, written = (count(usage.get(name)) for name in _USAGE_INPUT)
        if fresh is not None:
            self.facts.input_tokens = fresh + (read or 0) + (written or 0)
        if read is not None:
            self.facts.cached_input_tokens = read
