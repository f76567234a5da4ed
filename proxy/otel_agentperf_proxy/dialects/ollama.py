"""Ollama's own format: `POST .../api/chat` and `POST .../api/generate`, streams of one JSON document a line.

Tool calls have ids since 0.12 only, and many clients send none back, so digests leave ids out.
"""

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
    fill_answer,
    fill_messages,
    fill_system,
    fill_tools,
    set_attributes,
)
from otel_agentperf_proxy.dialects.canonical import Call, MessageCache, Other, Part, Reasoning, Text
from otel_agentperf_proxy.dialects.framing import Event, Framing
from otel_agentperf_proxy.dialects.ndjson import NDJSONFraming
from otel_agentperf_proxy.dialects.openai_usage import put_number
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

LINES: Final = frozenset(("application/x-ndjson", "application/ndjson", "application/jsonl"))
"""Content types of a stream of lines."""

_NANOSECONDS: Final = 1_000_000_000


class _Request(Struct):
    model: Shallow = None
    messages: Shallow = None
    prompt: Raw = Raw(b"")
    images: Shallow = None
    system: Raw = Raw(b"")
    tools: Shallow = None
    stream: Shallow = None
    format: Shallow = None
    options: Shallow = None
    think: Shallow = None


class _Function(Struct, gc=False):
    name: Shallow = None
    arguments: Raw = Raw(b"")


class _ToolCall(Struct, gc=False):
    id: Shallow = None
    function: _Function | None = None


class _Message(Struct, gc=False):
    role: Shallow = None
    content: Shallow = None
    thinking: Shallow = None
    images: Shallow = None
    tool_calls: Shallow = None
    tool_call_id: Shallow = None


class _Chunk(Struct):
    model: Any = None
    message: _Message | None = None
    response: Any = None
    thinking: Any = None
    done: Any = None
    done_reason: Any = None
    error: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    load_duration: Any = None
    prompt_eval_duration: Any = None
    eval_duration: Any = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_TOOL_CALL: Final = msgspec.json.Decoder(_ToolCall)
_CHUNK: Final = msgspec.json.Decoder(_Chunk)


def _tool_call(raw: Raw) -> Part:
    try:
        call = decode(_TOOL_CALL, raw)
        if call.function is not None and (name := string(call.function.name)):
            return Call(string(call.id), name, canonical.arguments(_unquoted(call.function.arguments)))
    except JSON_ERRORS:
        pass
    return Other("tool_call", canonical.block(raw))


def _unquoted(arguments: Raw) -> Raw | str:
    """Arguments are an object here; clients of OpenAI's formats write a string that holds one."""
    if bytes(memoryview(arguments)[:1]) == b'"' and isinstance(text := shallow(arguments), str):
        return text
    return arguments


def _parts(message: _Message) -> list[Part]:
    parts: list[Part] = []
    if thinking := string(message.thinking):
        parts.append(Reasoning(thinking))
    if text := string(message.content):
        parts.append(Text(text))
    parts += _images(message.images)
    if isinstance(message.tool_calls, list):
        parts += [_tool_call(raw) for raw in message.tool_calls]
    return parts


def _images(value: Shallow) -> list[Part]:
    return [Other("image", bytes(raw)) for raw in value] if isinstance(value, list) else []


def _read_message(raw: Raw) -> tuple[str, list[Part], tuple[ToolResult, ...]]:
    found = decode(_MESSAGE, raw)
    role, parts = string(found.role) or canonical.UNREADABLE, _parts(found)
    if role == "tool":
        call_id = string(found.tool_call_id)
        return role, [canonical.result(call_id, False, parts)], (ToolResult(call_id, False, len(raw)),)
    return role, parts, ()


def _message(raw: Raw) -> Message:
    role, parts, results = _read_message(raw)
    return canonical.message(role, parts, len(raw), results, with_ids=False)


class OllamaChat(JSONDialect):
    """The dialect `ollama.chat`."""

    name: ClassVar[str] = "ollama.chat"
    operation: ClassVar[str] = semconv.OPERATION_CHAT
    provider: ClassVar[str] = "ollama"
    path: ClassVar[re.Pattern[str]] = re.compile("/api/chat$")

    def begin(self) -> RequestFacts:
        return RequestFacts(self.name, self.operation, self.provider, stream=True)

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        request = decode(_REQUEST, body)
        _read_settings(facts, request)
        raws = request.messages if isinstance(request.messages, list) else []
        if request.messages is not None and not isinstance(request.messages, list):
            facts.problem = "request messages are no list"
        tools = fill_tools(facts, request.tools)
        leading = fill_messages(facts, raws, _message, cache)
        if not raws:
            # Loads the model, or unloads it.
            facts.auxiliary = facts.problem is None
        elif not tools and len(raws) > leading:
            system = bytes(raws[0]) if leading else b""
            limit = facts.attributes.get(semconv.GEN_AI_REQUEST_MAX_TOKENS)
            facts.auxiliary = auxiliary.matches(system, bytes(raws[leading]), bytes(raws[-1]), integer(limit))
        if content:
            facts.content = _content_attributes(raws, tools)

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> "OllamaParser":
        return OllamaParser(request, status, content_type, content=content)

    def error_body(self, status: int, message: str) -> bytes:
        return msgspec.json.encode({"error": message})


class OllamaGenerate(OllamaChat):
    """The dialect `ollama.generate`. The prompt is a message of the user's."""

    name: ClassVar[str] = "ollama.generate"
    operation: ClassVar[str] = semconv.OPERATION_TEXT_COMPLETION
    path: ClassVar[re.Pattern[str]] = re.compile("/api/generate$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        request = decode(_REQUEST, body)
        _read_settings(facts, request)
        fill_system(facts, request.system)
        parts = _images(request.images)
        if len(request.prompt) and isinstance(prompt := shallow(request.prompt), str) and prompt:
            parts.insert(0, Text(prompt))
        if parts:
            message = canonical.message("user", parts, len(request.prompt))
            facts.messages = (message,)
            facts.message_bytes = message.size
            facts.text_bytes += message.text_bytes
        else:
            facts.auxiliary = True
        if content:
            facts.content = _prompt_attributes(parts, request.system)


def _read_settings(facts: RequestFacts, request: _Request) -> None:
    facts.model = string(request.model)
    facts.stream = request.stream is not False
    options = fields(request.options)
    stop = options.get("stop")
    wants_json = request.format == "json" or isinstance(request.format, dict)
    set_attributes(
        facts,
        {
            semconv.GEN_AI_REQUEST_MAX_TOKENS: integer(options.get("num_predict")),
            semconv.GEN_AI_REQUEST_TEMPERATURE: number(options.get("temperature")),
            semconv.GEN_AI_REQUEST_TOP_P: number(options.get("top_p")),
            semconv.GEN_AI_REQUEST_TOP_K: number(options.get("top_k")),
            semconv.GEN_AI_REQUEST_SEED: integer(options.get("seed")),
            semconv.GEN_AI_REQUEST_STOP_SEQUENCES: [text for text in stop if isinstance(text, str)]
            if isinstance(stop, list)
            else strings(string(stop)),
            semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY: number(options.get("frequency_penalty")),
            semconv.GEN_AI_REQUEST_PRESENCE_PENALTY: number(options.get("presence_penalty")),
            semconv.GEN_AI_REQUEST_REASONING_LEVEL: string(request.think),
            semconv.GEN_AI_OUTPUT_TYPE: "json" if wants_json else None,
        },
    )


def _content_attributes(raws: Sequence[Raw], tools: Sequence[Raw]) -> dict[str, str]:
    messages = []
    for raw in raws:
        try:
            role, parts, _ = _read_message(raw)
        except JSON_ERRORS:
            continue
        messages.append(content.message(role, parts))
    result = {semconv.GEN_AI_INPUT_MESSAGES: content.encode(messages)}
    if tools:
        result[semconv.GEN_AI_TOOL_DEFINITIONS] = content.definitions(tools)
    return result


def _prompt_attributes(parts: Sequence[Part], system: Raw) -> dict[str, str]:
    result = {semconv.GEN_AI_INPUT_MESSAGES: content.encode([content.message("user", parts)] if parts else [])}
    if len(system) and isinstance(text := shallow(system), str):
        result[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = content.instructions([Text(text)])
    return result


class OllamaParser(BodyParser):
    """Reads a response, streamed or not: its lines and the whole have one form."""

    def __init__(self, request: RequestFacts, status: int, content_type: str, *, content: bool = False) -> None:
        super().__init__(request, status, content_type, content=content)
        self._parts: list[Part] = []

    def choose_framing(self, head: bytes) -> Framing | None:
        unlabelled = self._request.stream and self._content_type != "application/json" and head.startswith(b"{")
        if self._status < 400 and (self._content_type in LINES or unlabelled):
            return NDJSONFraming()
        return super().choose_framing(head)

    def on_event(self, time_ns: int, event: Event) -> None:
        reasoning, answer = self._take(decode(_CHUNK, event[1]))
        self.output(time_ns, reasoning, answer)

    def _take(self, chunk: _Chunk) -> tuple[str, str]:
        """Take over a line; the reasoning that it holds, and the other output."""
        facts = self.facts
        facts.model = facts.model or string(chunk.model)
        if chunk.error is not None:
            # An error is a sentence here, and has no type.
            facts.error_type = UNNAMED_ERROR
        parts = _parts(chunk.message) if chunk.message is not None else []
        if thinking := string(chunk.thinking):
            parts.append(Reasoning(thinking))
        if text := string(chunk.response):
            parts.append(Text(text))
        if chunk.done is True:
            facts.terminal = True
            facts.finish_reasons = (string(chunk.done_reason) or "stop",)
            facts.usage.input = integer(chunk.prompt_eval_count)
            facts.usage.output = integer(chunk.eval_count)
            put_number(facts, semconv.SERVER_LOAD_S, chunk.load_duration, per_s=_NANOSECONDS)
            put_number(facts, semconv.SERVER_PREFILL_S, chunk.prompt_eval_duration, per_s=_NANOSECONDS)
            put_number(facts, semconv.SERVER_DECODE_S, chunk.eval_duration, per_s=_NANOSECONDS)
        reasoning = "".join([part.text for part in parts if isinstance(part, Reasoning)])
        answer = [part.text for part in parts if isinstance(part, Text)]
        answer += [part.name + part.arguments.decode("utf-8", "replace") for part in parts if isinstance(part, Call)]
        if self.keeping:
            self._parts += parts if self.content else [part for part in parts if not isinstance(part, Reasoning)]
        return reasoning, "".join(answer)

    def on_stream_end(self) -> None:
        if self.keeping:
            self._answer()

    def on_body(self, body: bytes) -> None:
        self._take(decode(_CHUNK, body))
        self.facts.terminal = True
        self._answer()

    def _answer(self) -> None:
        facts = self.facts
        if not self._parts:
            return
        fill_answer(facts, [self._parts], complete=facts.terminal, with_ids=False)
        if self.content:
            reason = facts.finish_reasons[0] if facts.finish_reasons else ""
            told = content.message("assistant", self._parts, reason)
            facts.content = {semconv.GEN_AI_OUTPUT_MESSAGES: content.encode([told])}
