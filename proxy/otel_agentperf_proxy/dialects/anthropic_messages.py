"""Anthropic messages: `POST .../v1/messages`, and the token count beside it."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import auxiliary, canonical, content
from otel_agentperf_proxy.dialects.base import (
    UNNAMED_ERROR,
    BodyParser,
    JSONDialect,
    error_type,
    fill_answer,
    fill_messages,
    fill_system,
    fill_tools,
    set_attributes,
)
from otel_agentperf_proxy.dialects.canonical import Call, MessageCache, Other, Part, Reasoning, Text
from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.shallow import (
    JSON_ERRORS,
    Shallow,
    decode,
    fields,
    integer,
    number,
    shallow,
    string,
    strings,
)
from otel_agentperf_proxy.facts import Message, RequestFacts, ToolResult

ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error types by HTTP status; what is not listed is `api_error` (Anthropic API, "Errors")."""

_SESSION: Final = re.compile(r"_session_([0-9a-fA-F-]{8,64})$")
"""`metadata.user_id` of Claude Code before 2.1: `user_<hash>_account_<uuid>_session_<uuid>`."""


class _Request(Struct):
    model: Shallow = None
    messages: Shallow = None
    system: Raw = Raw(b"")
    tools: Shallow = None
    stream: Shallow = None
    max_tokens: Shallow = None
    temperature: Shallow = None
    top_p: Shallow = None
    top_k: Shallow = None
    stop_sequences: Shallow = None
    metadata: Shallow = None
    output_config: Shallow = None


class _Message(Struct, gc=False):
    role: Shallow = None
    content: Shallow = None


class _Block(Struct, gc=False):
    type: Shallow = None
    text: Shallow = None
    thinking: Shallow = None
    id: Shallow = None
    name: Shallow = None
    input: Raw = Raw(b"")
    tool_use_id: Shallow = None
    is_error: Shallow = None
    content: Shallow = None


class _Event(Struct):
    type: Any = None
    index: Any = None
    message: Any = None
    content_block: Any = None
    delta: Any = None
    usage: Any = None
    error: Any = None


class _Answer(Struct):
    id: Any = None
    model: Any = None
    content: Shallow = None
    stop_reason: Any = None
    usage: Any = None
    error: Any = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_BLOCK: Final = msgspec.json.Decoder(_Block)
_EVENT: Final = msgspec.json.Decoder(_Event)
_ANSWER: Final = msgspec.json.Decoder(_Answer)
_JSON: Final = msgspec.json.Encoder()


def _content(value: Shallow) -> tuple[list[Part], list[ToolResult]]:
    """The parts of a `content` field (a string, or a list of blocks), and the tool results among them."""
    if isinstance(value, str):
        return [Text(value)], []
    parts: list[Part] = []
    results: list[ToolResult] = []
    for raw in value if isinstance(value, list) else ():
        try:
            part = _block(raw, decode(_BLOCK, raw))
        except JSON_ERRORS:
            part = Other("unknown", bytes(raw))
        parts.append(part)
        if isinstance(part, canonical.Result):
            results.append(ToolResult(part.call_id, part.is_error, len(raw)))
    return parts, results


def _block(raw: Raw, block: _Block) -> Part:
    match block.type:
        case "text" if isinstance(block.text, str):
            return Text(block.text)
        case "thinking" | "redacted_thinking":
            return Reasoning(block.thinking if isinstance(block.thinking, str) else "")
        case "tool_use" if name := string(block.name):
            return Call(string(block.id), name, canonical.arguments(block.input))
        case "tool_result":
            return canonical.result(string(block.tool_use_id), block.is_error is True, _content(block.content)[0])
    return Other(string(block.type) or "unknown", canonical.block(raw))


def _read_message(raw: Raw) -> tuple[str, list[Part], tuple[ToolResult, ...]]:
    found = decode(_MESSAGE, raw)
    parts, results = _content(found.content)
    return string(found.role) or canonical.UNREADABLE, parts, tuple(results)


def _message(raw: Raw) -> Message:
    role, parts, results = _read_message(raw)
    return canonical.message(role, parts, len(raw), results)


class AnthropicMessages(JSONDialect):
    """The dialect `anthropic.messages`."""

    name: ClassVar[str] = "anthropic.messages"
    operation: ClassVar[str] = semconv.OPERATION_CHAT
    provider: ClassVar[str] = "anthropic"
    path: ClassVar[re.Pattern[str]] = re.compile("/v1/messages$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        request = decode(_REQUEST, body)
        facts.model = string(request.model)
        facts.stream = request.stream is True
        facts.session_id = _session_id(fields(request.metadata).get("user_id"))
        raws = request.messages if isinstance(request.messages, list) else []
        if request.messages is not None and not isinstance(request.messages, list):
            facts.problem = "request messages are no list"
        tools = fill_tools(facts, request.tools)
        fill_system(facts, request.system)
        max_tokens = integer(request.max_tokens)
        output = fields(request.output_config)
        output_format = output.get("format")
        set_attributes(
            facts,
            {
                semconv.GEN_AI_REQUEST_MAX_TOKENS: max_tokens,
                semconv.GEN_AI_REQUEST_TEMPERATURE: number(request.temperature),
                semconv.GEN_AI_REQUEST_TOP_P: number(request.top_p),
                semconv.GEN_AI_REQUEST_TOP_K: number(request.top_k),
                semconv.GEN_AI_REQUEST_STOP_SEQUENCES: strings(request.stop_sequences),
                semconv.GEN_AI_REQUEST_REASONING_LEVEL: string(output.get("effort")),
                semconv.GEN_AI_OUTPUT_TYPE: "json" if isinstance(output_format, dict) else None,
            },
        )
        leading = fill_messages(facts, raws, _message, cache)
        if not tools and len(raws) > leading:
            facts.auxiliary = auxiliary.matches(
                bytes(request.system), bytes(raws[leading]), bytes(raws[-1]), max_tokens
            )
        if content:
            facts.content = _content_attributes(request.system, raws, tools)

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> "AnthropicParser":
        return AnthropicParser(request, status, content_type, content=content)

    def error_body(self, status: int, message: str) -> bytes:
        error = {"type": ERROR_TYPES.get(status, "api_error"), "message": message}
        return msgspec.json.encode({"type": "error", "error": error})


class AnthropicCountTokens(AnthropicMessages):
    """The dialect `anthropic.count_tokens`: a question about a prompt, no turn. Its answer is no usage."""

    name: ClassVar[str] = "anthropic.count_tokens"
    path: ClassVar[re.Pattern[str]] = re.compile("/v1/messages/count_tokens$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        facts.auxiliary = True
        super().read_request(facts, body, content, cache)
        facts.auxiliary = True


def _session_id(user_id: Any) -> str | None:
    """Claude Code's session id in `metadata.user_id`: in a JSON object since 2.1, at the end of a name before."""
    if not isinstance(user_id, str):
        return None
    if user_id.startswith("{"):
        try:
            return string(fields(shallow(user_id.encode("utf-8", "replace"))).get("session_id"))
        except JSON_ERRORS:
            return None
    found = _SESSION.search(user_id)
    return found[1] if found else None


def _content_attributes(system: Raw, raws: Sequence[Raw], tools: Sequence[Raw]) -> dict[str, str]:
    messages = []
    for raw in raws:
        try:
            role, parts, _ = _read_message(raw)
        except JSON_ERRORS:
            continue
        messages.append(content.message(role, parts))
    result = {semconv.GEN_AI_INPUT_MESSAGES: content.encode(messages)}
    if len(system):
        result[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = content.instructions(_content(shallow(system))[0])
    if tools:
        result[semconv.GEN_AI_TOOL_DEFINITIONS] = content.definitions(tools)
    return result


class _OpenBlock:
    """A content block while its deltas come."""

    __slots__ = ("pieces", "start")

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.pieces: list[str] = []

    def part(self) -> Part:
        start = self.start
        text = "".join(self.pieces)
        match start.get("type"):
            case "text":
                return Text((string(start.get("text")) or "") + text)
            case "thinking" | "redacted_thinking":
                return Reasoning((string(start.get("thinking")) or "") + text)
            case "tool_use" if name := string(start.get("name")):
                arguments = text or _JSON.encode(start.get("input"))
                return Call(string(start.get("id")), name, canonical.arguments(arguments))
        block = start
        if text:
            key = "input" if "input" in start else "content"
            block = {**start, key: msgspec.Raw(canonical.arguments(text)) if key == "input" else text}
        return Other(string(start.get("type")) or "unknown", canonical.block(_JSON.encode(block)))


class AnthropicParser(BodyParser):
    """Reads a message, streamed or not."""

    def __init__(self, request: RequestFacts, status: int, content_type: str, *, content: bool = False) -> None:
        super().__init__(request, status, content_type, content=content)
        self._blocks: dict[Any, _OpenBlock] = {}
        self._counters: dict[str, int] = {}

    def on_event(self, time_ns: int, event: Event) -> None:
        found = decode(_EVENT, event[1])
        match string(found.type) or event[0].decode("ascii", "replace"):
            case "content_block_delta" if isinstance(found.delta, dict):
                self._delta(time_ns, found.index, found.delta)
            case "content_block_start" if isinstance(found.content_block, dict):
                self._start(time_ns, found.index, found.content_block)
            case "message_start" if isinstance(found.message, dict):
                self.facts.id = string(found.message.get("id"))
                self.facts.model = string(found.message.get("model"))
                # The output count at the start is a placeholder, not what the response will have cost.
                self._usage(found.message.get("usage"), with_output=False)
            case "message_delta":
                self._usage(found.usage, with_output=True)
                if isinstance(found.delta, dict) and (reason := string(found.delta.get("stop_reason"))):
                    self.facts.finish_reasons = (reason,)
            case "message_stop":
                self.facts.terminal = True
            case "error":
                self.facts.error_type = error_type({"error": found.error}) or UNNAMED_ERROR

    def _start(self, time_ns: int, index: Any, block: dict[str, Any]) -> None:
        self._blocks[index if isinstance(index, int) else len(self._blocks)] = _OpenBlock(block)
        match block.get("type"):
            case "text":
                self.output(time_ns, "", string(block.get("text")) or "")
            case "thinking" | "redacted_thinking":
                self.output(time_ns, string(block.get("thinking")) or string(block.get("data")) or "", "")
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                self.output(time_ns, "", string(block.get("name")) or "")

    def _delta(self, time_ns: int, index: Any, delta: dict[str, Any]) -> None:
        match delta.get("type"):
            case "text_delta":
                text, answer = string(delta.get("text")), True
            case "thinking_delta":
                text, answer = string(delta.get("thinking")), False
            case "input_json_delta":
                text, answer = string(delta.get("partial_json")), True
            case "compaction_delta":
                text, answer = string(delta.get("content")), True
            case _:
                # Signatures and citations are no output.
                return
        if text is None:
            return
        self.output(time_ns, "" if answer else text, text if answer else "")
        if self.keeping and (answer or self.content):
            block = self._blocks.get(index) if isinstance(index, int) else None
            if block is not None:
                block.pieces.append(text)

    def _usage(self, value: Any, *, with_output: bool) -> None:
        """Take over counters; those of `message_delta` are totals and replace those of `message_start`."""
        if not isinstance(value, dict):
            return
        counters = self._counters
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            if (count := integer(value.get(name))) is not None:
                counters[name] = count
        usage = self.facts.usage
        usage.cached = counters.get("cache_read_input_tokens")
        usage.cache_write = counters.get("cache_creation_input_tokens")
        if "input_tokens" in counters:
            usage.input = counters["input_tokens"] + (usage.cached or 0) + (usage.cache_write or 0)
        if with_output:
            usage.output = _latest(value.get("output_tokens"), usage.output)
            details = value.get("output_tokens_details")
            if isinstance(details, dict):
                usage.reasoning = _latest(details.get("thinking_tokens"), usage.reasoning)

    def on_stream_end(self) -> None:
        if self.keeping and self._blocks:
            parts = [block.part() for _, block in sorted(self._blocks.items())]
            self._answer(parts)

    def on_body(self, body: bytes) -> None:
        answer = decode(_ANSWER, body)
        facts = self.facts
        facts.terminal = True
        facts.id = string(answer.id)
        facts.model = string(answer.model)
        if reason := string(answer.stop_reason):
            facts.finish_reasons = (reason,)
        self._usage(answer.usage, with_output=True)
        if answer.error is not None:
            facts.error_type = error_type({"error": answer.error}) or UNNAMED_ERROR
        if isinstance(answer.content, list):
            self._answer(_content(answer.content)[0])

    def _answer(self, parts: Sequence[Part]) -> None:
        facts = self.facts
        fill_answer(facts, [parts], complete=facts.terminal)
        if self.content:
            reason = facts.finish_reasons[0] if facts.finish_reasons else ""
            messages = [content.message("assistant", parts, reason)]
            facts.content = {semconv.GEN_AI_OUTPUT_MESSAGES: content.encode(messages)}


def _latest(value: Any, before: int | None) -> int | None:
    count = integer(value)
    return before if count is None else count
