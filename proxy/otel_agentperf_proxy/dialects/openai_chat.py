"""OpenAI chat completions: `POST .../chat/completions`, as OpenAI, vLLM, SGLang, OpenRouter and others speak it."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import auxiliary, canonical, content, sessions
from otel_agentperf_proxy.dialects.base import (
    JSONDialect,
    fill_answer,
    fill_messages,
    fill_tools,
    set_attributes,
)
from otel_agentperf_proxy.dialects.canonical import Call, MessageCache, Part, Reasoning, Text
from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.openai_choices import ChoicesParser, Head
from otel_agentperf_proxy.dialects.openai_messages import (
    answer_parts,
    content_parts,
    error_body,
    message,
    output_type,
    read_message,
    reasoning_text,
)
from otel_agentperf_proxy.dialects.openai_usage import read_usage
from otel_agentperf_proxy.dialects.shallow import JSON_ERRORS, Shallow, decode, fields, integer, number, string, strings
from otel_agentperf_proxy.facts import RequestFacts


class _Request(Struct):
    model: Shallow = None
    messages: Shallow = None
    tools: Shallow = None
    functions: Shallow = None
    stream: Shallow = None
    max_tokens: Shallow = None
    max_completion_tokens: Shallow = None
    temperature: Shallow = None
    top_p: Shallow = None
    top_k: Shallow = None
    seed: Shallow = None
    n: Shallow = None
    stop: Shallow = None
    frequency_penalty: Shallow = None
    presence_penalty: Shallow = None
    reasoning_effort: Shallow = None
    reasoning: Shallow = None
    response_format: Shallow = None
    prompt_cache_key: Shallow = None
    metadata: Shallow = None
    session_id: Shallow = None
    litellm_session_id: Shallow = None


MAX_FORCED_CHARS: Final = 16_384
"""Arguments up to which it is looked whether they are whole, where each fragment might begin another call."""

_REQUEST: Final = msgspec.json.Decoder(_Request)
_JSON: Final = msgspec.json.Encoder()


class OpenAIChat(JSONDialect):
    """The dialect `openai.chat`."""

    name: ClassVar = "openai.chat"
    operation: ClassVar = semconv.OPERATION_CHAT
    provider: ClassVar = "openai"
    path: ClassVar = re.compile("/chat/completions$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        request = decode(_REQUEST, body)
        facts.model = string(request.model)
        facts.stream = request.stream is True
        facts.session_id = sessions.session_id(
            session_id=request.session_id,
            litellm_session_id=request.litellm_session_id,
            metadata=request.metadata,
            prompt_cache_key=request.prompt_cache_key,
        )
        raws = request.messages if isinstance(request.messages, list) else []
        if request.messages is not None and not isinstance(request.messages, list):
            facts.problem = "request messages are no list"
        tools = fill_tools(facts, request.tools if isinstance(request.tools, list) else request.functions)
        max_tokens = integer(request.max_completion_tokens)
        max_tokens = integer(request.max_tokens) if max_tokens is None else max_tokens
        choices = integer(request.n)
        set_attributes(
            facts,
            {
                semconv.GEN_AI_REQUEST_MAX_TOKENS: max_tokens,
                semconv.GEN_AI_REQUEST_TEMPERATURE: number(request.temperature),
                semconv.GEN_AI_REQUEST_TOP_P: number(request.top_p),
                semconv.GEN_AI_REQUEST_TOP_K: number(request.top_k),
                semconv.GEN_AI_REQUEST_SEED: integer(request.seed),
                semconv.GEN_AI_REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
                semconv.GEN_AI_REQUEST_STOP_SEQUENCES: strings(request.stop),
                semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY: number(request.frequency_penalty),
                semconv.GEN_AI_REQUEST_PRESENCE_PENALTY: number(request.presence_penalty),
                semconv.GEN_AI_REQUEST_REASONING_LEVEL: string(request.reasoning_effort)
                or string(fields(request.reasoning).get("effort")),
                semconv.GEN_AI_OUTPUT_TYPE: output_type(fields(request.response_format)),
            },
        )
        leading = fill_messages(facts, raws, message, cache)
        if not tools and len(raws) > leading:
            system = bytes(raws[0]) if leading else b""
            facts.auxiliary = auxiliary.matches(system, bytes(raws[leading]), bytes(raws[-1]), max_tokens)
        if content:
            facts.content = _content_attributes(raws, tools)

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> "OpenAIChatParser":
        return OpenAIChatParser(request, status, content_type, content=content)

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(status, message)


def _content_attributes(raws: Sequence[Raw], tools: Sequence[Raw]) -> dict[str, str]:
    messages = []
    for raw in raws:
        try:
            role, parts, _ = read_message(raw)
        except JSON_ERRORS:
            continue
        messages.append(content.message(role, parts))
    result = {semconv.GEN_AI_INPUT_MESSAGES: content.encode(messages)}
    if tools:
        result[semconv.GEN_AI_TOOL_DEFINITIONS] = content.definitions(tools)
    return result


class _Delta(Struct, gc=False):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    tool_calls: Any = None
    refusal: Any = None
    function_call: Any = None
    audio: Any = None
    images: Any = None


class _ChunkChoice(Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: Any = None
    usage: Any = None
    error: Any = None


class _Chunk(Head):
    choices: list[_ChunkChoice] | None = None


class _Choice(Struct):
    index: Any = 0
    message: Raw = Raw(b"{}")
    finish_reason: Any = None
    error: Any = None


class _Completion(Head):
    choices: list[_Choice] | None = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_COMPLETION: Final = msgspec.json.Decoder(_Completion)


def _transcript(audio: Any) -> str:
    """The text that a fragment of OpenAI's audio comes with. It is no part of the message: clients send an id back."""
    return (string(audio.get("transcript")) or "") if isinstance(audio, dict) else ""


def _holds_media(delta: _Delta) -> bool:
    """Whether it holds audio, or OpenRouter's images."""
    audio = delta.audio
    heard = isinstance(audio, dict) and string(audio.get("data")) is not None
    return heard or (isinstance(delta.images, list) and bool(delta.images))


class _OpenCall:
    """A tool call while its fragments come."""

    __slots__ = ("arguments", "id", "name", "size")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments: list[str] = []
        self.size = 0

    def is_whole(self, next_name: str) -> bool:
        """Whether a fragment with another id, and this name, begins the next call.

        Servers that leave the index out, or send 0 always, start each call so. Others make up an id for every fragment:
        Poolside, which names the tool in the first one, and TensorRT-LLM until 1.0, which names it in each where the
        request says which tool to call.
        """
        if next_name != self.name or self.size > MAX_FORCED_CHARS:
            return True
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        self.arguments = ["".join(self.arguments)]
        return canonical.is_json(self.arguments[0].encode("utf-8", "replace"))


class _OpenChoice:
    """A choice while its chunks come."""

    __slots__ = ("calls", "calls_by_index", "finish_reason", "reasoning", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[_OpenCall] = []
        self.calls_by_index: dict[Any, _OpenCall] = {}
        self.finish_reason: str | None = None

    def parts(self) -> list[Part]:
        parts: list[Part] = []
        if self.reasoning:
            parts.append(Reasoning("".join(self.reasoning)))
        parts.append(Text("".join(self.texts)))
        parts += [
            Call(call.id, call.name, canonical.arguments("".join(call.arguments))) for call in self.calls if call.name
        ]
        return parts


class OpenAIChatParser(ChoicesParser):
    """Reads a chat completion, streamed or not."""

    def __init__(self, request: RequestFacts, status: int, content_type: str, *, content: bool = False) -> None:
        super().__init__(request, status, content_type, content=content)
        self._choices: dict[int, _OpenChoice] = {}

    def on_event(self, time_ns: int, event: Event) -> None:
        chunk = decode(_CHUNK, event[1])
        self.take_head(chunk)
        if not chunk.choices:
            return
        reasoning = answer = ""
        media = False
        for item in chunk.choices:
            index = item.index if isinstance(item.index, int) else 0
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _OpenChoice()
            if item.usage is not None:
                # Moonshot puts the usage into the last choice.
                read_usage(item.usage, self.facts)
            if isinstance(item.finish_reason, str):
                choice.finish_reason = item.finish_reason
            if item.error is not None:
                self.take_error(item.error)
            if item.delta is not None:
                thought, said = self._delta(choice, item.delta)
                reasoning += thought
                answer += said
                if item.delta.audio is not None or item.delta.images:
                    answer += _transcript(item.delta.audio)
                    media = media or _holds_media(item.delta)
        self.output(time_ns, reasoning, answer, media=media)

    def _delta(self, choice: _OpenChoice, delta: _Delta) -> tuple[str, str]:
        """The reasoning that the delta holds, and the other output."""
        reasoning = answer = ""
        if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
            # vLLM sends the same text under both names for a while, OpenRouter in its details, too: one of them counts.
            told = string(delta.reasoning_content) or string(delta.reasoning)
            reasoning = told or reasoning_text(delta.reasoning_details)
        text = delta.content
        if text:
            if isinstance(text, list):
                # Mistral streams reasoning as blocks of the content.
                parts = content_parts([Raw(_JSON.encode(block)) for block in text])
                reasoning = "".join([part.text for part in parts if isinstance(part, Reasoning)]) or reasoning
                text = "".join([part.text for part in parts if isinstance(part, Text)])
            if isinstance(text, str):
                answer = text
        if delta.refusal is not None:
            answer += string(delta.refusal) or ""
        if self.keeping:
            if answer:
                choice.texts.append(answer)
            if reasoning and self.content:
                choice.reasoning.append(reasoning)
        if isinstance(delta.tool_calls, list):
            for fragment in delta.tool_calls:
                if isinstance(fragment, dict):
                    answer += self._fragment(choice, fragment)
        if isinstance(delta.function_call, dict):
            answer += self._fragment(choice, {"index": "function_call", "function": delta.function_call})
        return reasoning, answer

    def _fragment(self, choice: _OpenChoice, fragment: dict[str, Any]) -> str:
        """Take a fragment of a tool call; the name and arguments that it holds."""
        function = fragment.get("function") or fragment.get("custom")
        function = function if isinstance(function, dict) else {}
        name = string(function.get("name"))
        arguments = function.get("arguments", function.get("input"))
        if isinstance(arguments, dict):
            arguments = _JSON.encode(arguments).decode()
        arguments = string(arguments)
        id = string(fragment.get("id"))
        index = fragment.get("index")
        index = index if isinstance(index, int | str) else None
        call = choice.calls_by_index.get(index)
        if call is None or (name and id is not None and call.id is not None and id != call.id and call.is_whole(name)):
            call = choice.calls_by_index[index] = _OpenCall()
            choice.calls.append(call)
        call.id = call.id or id
        if name and name != call.name:
            # Some servers repeat the whole name in every fragment.
            call.name += name
        if arguments and self.keeping:
            call.arguments.append(arguments)
            call.size += len(arguments)
        return (name or "") + (arguments or "")

    def on_stream_end(self) -> None:
        choices = [choice for _, choice in sorted(self._choices.items())]
        reasons = [choice.finish_reason for choice in choices]
        self.end(reasons)
        if self.keeping:
            parts = [choice.parts() for choice in choices]
            fill_answer(self.facts, parts, complete=self.facts.terminal)
            self.show(parts, reasons)

    def on_body(self, body: bytes) -> None:
        completion = decode(_COMPLETION, body)
        self.facts.terminal = True
        self.take_head(completion)
        choices = completion.choices or []
        for choice in choices:
            self.take_error(choice.error)
        reasons = [string(choice.finish_reason) for choice in choices]
        self.end(reasons)
        parts = [answer_parts(choice.message) if bytes(choice.message) != b"null" else [] for choice in choices]
        fill_answer(self.facts, parts, complete=self.facts.terminal)
        self.show(parts, reasons)
