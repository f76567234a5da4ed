"""Google's Gemini: `POST .../models/{model}:generateContent`, `:streamGenerateContent` and `:countTokens`.

As the Gemini API and Vertex AI speak it. Tool calls mostly have no ids; clients make some up and send them back, so
digests leave ids out.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
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
    set_attributes,
)
from otel_agentperf_proxy.dialects.canonical import Call, MessageCache, Other, Part, Reasoning, Text
from otel_agentperf_proxy.dialects.framing import Event, Framing
from otel_agentperf_proxy.dialects.json_array import JSONArrayFraming
from otel_agentperf_proxy.dialects.shallow import (
    JSON_ERRORS,
    Shallow,
    decode,
    fields,
    integer,
    number,
    shallow,
    string,
)
from otel_agentperf_proxy.facts import Message, RequestFacts, ToolResult, Usage

STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Google's status names by HTTP status (google.rpc.Code)."""

_MEDIA: Final = frozenset(("inlineData", "fileData"))
"""Kinds of parts that hold media."""

_RUN: Final = "codeExecutionResult"
"""Kind of a part that the server's own tool made: nobody generated it."""

_OUTPUT_TYPES: Final = {"application/json": "json", "text/plain": "text"}


class _Request(Struct):
    """The API takes names in camel case, and as the protocol buffers have them."""

    contents: Shallow = None
    tools: Shallow = None
    system: Raw = msgspec.field(default=Raw(b""), name="systemInstruction")
    snake_system: Raw = msgspec.field(default=Raw(b""), name="system_instruction")
    config: Shallow = msgspec.field(default=None, name="generationConfig")
    snake_config: Shallow = msgspec.field(default=None, name="generation_config")


class _Content(Struct, gc=False):
    role: Shallow = None
    parts: Shallow = None


class _Tool(Struct, gc=False):
    camel: Shallow = msgspec.field(default=None, name="functionDeclarations")
    snake: Shallow = msgspec.field(default=None, name="function_declarations")


class _Function(Struct, gc=False):
    id: Shallow = None
    name: Shallow = None
    args: Raw = Raw(b"")
    response: Raw = Raw(b"")


class _Part(Struct, gc=False):
    text: Shallow = None
    thought: Shallow = None
    call: _Function | None = msgspec.field(default=None, name="functionCall")
    response: _Function | None = msgspec.field(default=None, name="functionResponse")


class _Candidate(Struct):
    content: _Content | None = None
    finish_reason: Any = msgspec.field(default=None, name="finishReason")
    index: Any = None


class _Answer(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: Any = None
    model_version: Any = None
    response_id: Any = None
    prompt_feedback: Any = None
    error: Any = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_CONTENT: Final = msgspec.json.Decoder(_Content)
_TOOL: Final = msgspec.json.Decoder(_Tool)
_PART: Final = msgspec.json.Decoder(_Part)
_ANSWER: Final = msgspec.json.Decoder(_Answer)
_ANSWERS: Final = msgspec.json.Decoder(list[_Answer])
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])
_JSON: Final = msgspec.json.Encoder()


def _parts(value: Shallow) -> tuple[list[Part], list[ToolResult]]:
    """The parts of a content, and the tool results among them."""
    parts: list[Part] = []
    results: list[ToolResult] = []
    for raw in value if isinstance(value, list) else ():
        try:
            part = _part(raw)
        except JSON_ERRORS:
            part = Other("unknown", bytes(raw))
        parts.append(part)
        if isinstance(part, canonical.Result):
            results.append(ToolResult(part.call_id, part.is_error, len(raw)))
    return parts, results


def _part(raw: Raw) -> Part:
    part = decode(_PART, raw)
    if isinstance(part.text, str):
        return Reasoning(part.text) if part.thought is True else Text(part.text)
    if part.call is not None and (name := string(part.call.name)):
        return Call(string(part.call.id), name, canonical.arguments(part.call.args))
    if part.response is not None:
        response = part.response.response
        # The API's way to say that a tool failed is the key `error` in its response.
        failed = len(response) > 0 and fields(shallow(response)).get("error") is not None
        told = Other("response", canonical.block(response))
        return canonical.result(string(part.response.id), failed, [told])
    # Signatures change or go when a client sends a part back.
    found = {name: value for name, value in decode(_FIELDS, raw).items() if name != "thoughtSignature"}
    if not found:
        return Reasoning("")
    return Other(next(iter(found), "unknown"), canonical.block(_JSON.encode(found)))


def _role(value: Shallow) -> str:
    role = string(value) or "user"
    return "assistant" if role == "model" else role


def _read_message(raw: Raw) -> tuple[str, list[Part], tuple[ToolResult, ...]]:
    found = decode(_CONTENT, raw)
    parts, results = _parts(found.parts)
    return _role(found.role), parts, tuple(results)


def _message(raw: Raw) -> Message:
    role, parts, results = _read_message(raw)
    return canonical.message(role, parts, len(raw), results, with_ids=False)


class GeminiGenerate(JSONDialect):
    """The dialect `gemini.generate`."""

    name: ClassVar[str] = "gemini.generate"
    operation: ClassVar[str] = semconv.OPERATION_GENERATE_CONTENT
    provider: ClassVar[str] = "gcp.gemini"
    path: ClassVar[re.Pattern[str]] = re.compile("/(?:models|tunedModels)/([^/:]+):(stream)?[gG]enerateContent$")

    def __init__(self, model: str | None = None, *, stream: bool = False) -> None:
        self._model = model
        self._stream = stream

    def told(self, found: re.Match[str]) -> "GeminiGenerate":
        return GeminiGenerate(found[1], stream=found[2] is not None)

    def begin(self) -> RequestFacts:
        return RequestFacts(self.name, self.operation, self.provider, self._model, self._stream)

    def salvage(self, facts: RequestFacts, body: bytes) -> None:
        """Nothing: the path has told it."""

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        request = decode(_REQUEST, body)
        system = request.system if len(request.system) else request.snake_system
        config = fields(request.config if request.config is not None else request.snake_config)
        raws = request.contents if isinstance(request.contents, list) else []
        if request.contents is not None and not isinstance(request.contents, list):
            facts.problem = "request messages are no list"
        tools = _fill_tools(facts, request.tools)
        fill_system(facts, system)
        max_tokens = integer(_either(config, "maxOutputTokens", "max_output_tokens"))
        _set_attributes(facts, config, max_tokens)
        leading = fill_messages(facts, raws, _message, cache)
        if not tools and len(raws) > leading:
            facts.auxiliary = auxiliary.asks_for(_schema(config)) or auxiliary.matches(
                bytes(system), bytes(raws[leading]), bytes(raws[-1]), max_tokens
            )
        if content:
            facts.content = _content_attributes(system, raws, tools)

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> "GeminiParser":
        return GeminiParser(request, status, content_type, content=content)

    def error_body(self, status: int, message: str) -> bytes:
        name = STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        return msgspec.json.encode({"error": {"code": status, "message": message, "status": name}})


class GeminiCountTokens(GeminiGenerate):
    """The dialect `gemini.count_tokens`: a question about a prompt, no turn. Its answer is no usage."""

    name: ClassVar[str] = "gemini.count_tokens"
    path: ClassVar[re.Pattern[str]] = re.compile("/(?:models|tunedModels)/([^/:]+):countTokens$")

    def told(self, found: re.Match[str]) -> "GeminiCountTokens":
        return GeminiCountTokens(found[1])

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        facts.auxiliary = True
        whole = decode(_FIELDS, body).get("generateContentRequest")
        super().read_request(facts, body if whole is None else bytes(whole), content, cache)
        facts.auxiliary = True


def _either(values: dict[str, Any], camel: str, snake: str) -> Any:
    found = values.get(camel)
    return values.get(snake) if found is None else found


def _fill_tools(facts: RequestFacts, value: Shallow) -> list[Raw]:
    """Put the tool definitions into the facts: the functions of all tools, and tools that are none."""
    tools = value if isinstance(value, list) else []
    for raw in tools:
        facts.tools_bytes += len(raw)
        try:
            tool = decode(_TOOL, raw)
        except JSON_ERRORS:
            continue
        functions = tool.camel or tool.snake
        facts.tool_count += len(functions) if isinstance(functions, list) else 1
    facts.text_bytes += facts.tools_bytes
    return tools


def _set_attributes(facts: RequestFacts, config: dict[str, Any], max_tokens: int | None) -> None:
    thinking = _either(config, "thinkingConfig", "thinking_config")
    thinking = thinking if isinstance(thinking, dict) else {}
    stop = _either(config, "stopSequences", "stop_sequences")
    choices = integer(_either(config, "candidateCount", "candidate_count"))
    mime = _either(config, "responseMimeType", "response_mime_type")
    set_attributes(
        facts,
        {
            semconv.GEN_AI_REQUEST_MAX_TOKENS: max_tokens,
            semconv.GEN_AI_REQUEST_TEMPERATURE: number(config.get("temperature")),
            semconv.GEN_AI_REQUEST_TOP_P: number(_either(config, "topP", "top_p")),
            semconv.GEN_AI_REQUEST_TOP_K: number(_either(config, "topK", "top_k")),
            semconv.GEN_AI_REQUEST_SEED: integer(config.get("seed")),
            semconv.GEN_AI_REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
            semconv.GEN_AI_REQUEST_STOP_SEQUENCES: [text for text in stop if isinstance(text, str)]
            if isinstance(stop, list)
            else None,
            semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY: number(_either(config, "frequencyPenalty", "frequency_penalty")),
            semconv.GEN_AI_REQUEST_PRESENCE_PENALTY: number(_either(config, "presencePenalty", "presence_penalty")),
            semconv.GEN_AI_REQUEST_REASONING_LEVEL: string(_either(thinking, "thinkingLevel", "thinking_level")),
            semconv.GEN_AI_OUTPUT_TYPE: _OUTPUT_TYPES.get(mime) if isinstance(mime, str) else None,
        },
    )


def _schema(config: dict[str, Any]) -> Any:
    """The schema of the answer that a request asks for."""
    return _either(config, "responseJsonSchema", "response_json_schema") or _either(
        config, "responseSchema", "response_schema"
    )


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
        with suppress(*JSON_ERRORS):
            result[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = content.instructions(_read_message(system)[1])
    if tools:
        result[semconv.GEN_AI_TOOL_DEFINITIONS] = content.definitions(tools)
    return result


class _OpenCandidate:
    """A candidate while its chunks come."""

    __slots__ = ("finish_reason", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.finish_reason: str | None = None


class GeminiParser(BodyParser):
    """Reads a response, streamed (events, or the elements of an array) or not."""

    def __init__(self, request: RequestFacts, status: int, content_type: str, *, content: bool = False) -> None:
        super().__init__(request, status, content_type, content=content)
        self._candidates: dict[int, _OpenCandidate] = {}
        expected = request.attributes.get(semconv.GEN_AI_REQUEST_CHOICE_COUNT, 1)
        self._expected = expected if isinstance(expected, int) else 1
        self._blocked: str | None = None
        self._counters: dict[str, int] = {}

    def choose_framing(self, head: bytes) -> Framing | None:
        if self._status < 400 and head.startswith(b"["):
            return JSONArrayFraming()
        return super().choose_framing(head)

    def on_event(self, time_ns: int, event: Event) -> None:
        reasoning, answer, media = self._take(decode(_ANSWER, event[1]))
        self.output(time_ns, reasoning, answer, media=media)

    def _take(self, answer: _Answer) -> tuple[str, str, bool]:
        """Take over a part of the response; the reasoning that it holds, the other text, and whether it holds media."""
        facts = self.facts
        facts.id = facts.id or string(answer.response_id)
        facts.model = facts.model or string(answer.model_version)
        if answer.error is not None:
            facts.error_type = error_type({"error": answer.error}) or UNNAMED_ERROR
        if isinstance(answer.usage_metadata, dict):
            _read_usage(answer.usage_metadata, self._counters, facts.usage)
        if isinstance(answer.prompt_feedback, dict):
            self._blocked = string(answer.prompt_feedback.get("blockReason")) or self._blocked
        thought: list[str] = []
        said: list[str] = []
        media = False
        for position, item in enumerate(answer.candidates or ()):
            index = item.index if isinstance(item.index, int) else position
            candidate = self._candidates.setdefault(index, _OpenCandidate())
            candidate.finish_reason = string(item.finish_reason) or candidate.finish_reason
            parts = _parts(item.content.parts)[0] if item.content is not None else []
            for part in parts:
                (thought if isinstance(part, Reasoning) else said).append(_output(part))
                media = media or (isinstance(part, Other) and part.kind in _MEDIA)
            if self.keeping:
                candidate.parts += parts
        return "".join(thought), "".join(said), media

    def _end(self) -> None:
        facts = self.facts
        candidates = [candidate for _, candidate in sorted(self._candidates.items())]
        reasons = [candidate.finish_reason for candidate in candidates]
        finished = len(candidates) >= self._expected and all(reason is not None for reason in reasons)
        facts.terminal = facts.terminal or finished or self._blocked is not None
        facts.finish_reasons = tuple([reason for reason in reasons if reason is not None])
        if self._blocked is not None and not facts.finish_reasons:
            facts.finish_reasons = (self._blocked,)
        if not self.keeping or not candidates:
            return
        parts = [candidate.parts for candidate in candidates]
        fill_answer(facts, parts, complete=facts.terminal, with_ids=False)
        if self.content:
            messages = [
                content.message("assistant", part, reason or "") for part, reason in zip(parts, reasons, strict=True)
            ]
            facts.content = {semconv.GEN_AI_OUTPUT_MESSAGES: content.encode(messages)}

    def on_stream_end(self) -> None:
        self._end()

    def on_body(self, body: bytes) -> None:
        answers = decode(_ANSWERS, body) if body.lstrip().startswith(b"[") else [decode(_ANSWER, body)]
        for answer in answers:
            self._take(answer)
        self.facts.terminal = True
        self._end()


def _output(part: Part) -> str:
    """What of a part is generated text; code that the server runs counts by its JSON."""
    match part:
        case Text() | Reasoning():
            return part.text
        case Call():
            return part.name + part.arguments.decode("utf-8", "replace")
        case Other() if part.kind != _RUN and part.kind not in _MEDIA:
            return part.json.decode("utf-8", "replace")
    return ""


def _read_usage(value: dict[str, Any], counters: dict[str, int], usage: Usage) -> None:
    """Take over counters; each chunk of a stream tells the totals so far.

    Google counts the prompts that tools make, and thoughts, apart from the prompt and from the candidates.
    """
    for name in (
        "promptTokenCount",
        "toolUsePromptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "cachedContentTokenCount",
    ):
        if (count := integer(value.get(name))) is not None:
            counters[name] = count
    usage.cached = counters.get("cachedContentTokenCount")
    usage.reasoning = counters.get("thoughtsTokenCount")
    if "promptTokenCount" in counters:
        usage.input = counters["promptTokenCount"] + counters.get("toolUsePromptTokenCount", 0)
    if "candidatesTokenCount" in counters or usage.reasoning is not None:
        usage.output = counters.get("candidatesTokenCount", 0) + (usage.reasoning or 0)
