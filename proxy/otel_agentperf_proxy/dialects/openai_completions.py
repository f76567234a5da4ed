"""OpenAI completions: `POST .../v1/completions`, as vLLM, SGLang, llama.cpp and others go on speaking it."""

import re
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import canonical, content, sessions
from otel_agentperf_proxy.dialects.base import JSONDialect, fill_answer, fill_messages, set_attributes
from otel_agentperf_proxy.dialects.canonical import MessageCache, Other, Part, Text
from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.openai_choices import ChoicesParser, Head
from otel_agentperf_proxy.dialects.openai_messages import error_body, output_type
from otel_agentperf_proxy.dialects.shallow import Shallow, decode, fields, integer, number, shallow, string, strings
from otel_agentperf_proxy.facts import Message, RequestFacts


class _Request(Struct):
    model: Shallow = None
    prompt: Raw = Raw(b"")
    stream: Shallow = None
    max_tokens: Shallow = None
    temperature: Shallow = None
    top_p: Shallow = None
    top_k: Shallow = None
    seed: Shallow = None
    n: Shallow = None
    stop: Shallow = None
    frequency_penalty: Shallow = None
    presence_penalty: Shallow = None
    response_format: Shallow = None
    metadata: Shallow = None
    session_id: Shallow = None
    litellm_session_id: Shallow = None


class _Choice(Struct, gc=False):
    index: Any = 0
    text: Any = None
    finish_reason: Any = None
    error: Any = None


class _Completion(Head):
    choices: list[_Choice] | None = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_COMPLETION: Final = msgspec.json.Decoder(_Completion)


class OpenAICompletions(JSONDialect):
    """The dialect `openai.completions`. Each prompt of a request is a message of the user's."""

    name: ClassVar[str] = "openai.completions"
    operation: ClassVar[str] = semconv.OPERATION_TEXT_COMPLETION
    provider: ClassVar[str] = "openai"
    # Not any `/completions`: llama.cpp's own format is there.
    path: ClassVar[re.Pattern[str]] = re.compile(r"/(?:v\d+|openai|beta|deployments/[^/]+)/completions$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        request = decode(_REQUEST, body)
        facts.model = string(request.model)
        facts.stream = request.stream is True
        facts.session_id = sessions.session_id(
            session_id=request.session_id, litellm_session_id=request.litellm_session_id, metadata=request.metadata
        )
        choices = integer(request.n)
        set_attributes(
            facts,
            {
                semconv.GEN_AI_REQUEST_MAX_TOKENS: integer(request.max_tokens),
                semconv.GEN_AI_REQUEST_TEMPERATURE: number(request.temperature),
                semconv.GEN_AI_REQUEST_TOP_P: number(request.top_p),
                semconv.GEN_AI_REQUEST_TOP_K: number(request.top_k),
                semconv.GEN_AI_REQUEST_SEED: integer(request.seed),
                semconv.GEN_AI_REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
                semconv.GEN_AI_REQUEST_STOP_SEQUENCES: strings(request.stop),
                semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY: number(request.frequency_penalty),
                semconv.GEN_AI_REQUEST_PRESENCE_PENALTY: number(request.presence_penalty),
                semconv.GEN_AI_OUTPUT_TYPE: output_type(fields(request.response_format)),
            },
        )
        prompts = _prompts(request.prompt)
        fill_messages(facts, prompts, _message, cache)
        if content:
            facts.content = _content_attributes(prompts)

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> "OpenAICompletionsParser":
        prompts = max(len(request.messages), 1)
        return OpenAICompletionsParser(request, status, content_type, content=content, prompts=prompts)

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(status, message)


def _prompts(prompt: Raw) -> list[Raw]:
    """The prompts of a request: a text or a list of token ids is one, a list of either are several."""
    found = shallow(prompt) if len(prompt) else None
    if found is None:
        return []
    if isinstance(found, list) and found and bytes(memoryview(found[0])[:1]) in (b'"', b"["):
        return found
    return [prompt]


def _parts(raw: Raw) -> list[Part]:
    found = shallow(raw)
    return [Text(found) if isinstance(found, str) else Other("tokens", bytes(raw))]


def _message(raw: Raw) -> Message:
    return canonical.message("user", _parts(raw), len(raw))


def _content_attributes(prompts: list[Raw]) -> dict[str, str]:
    return {semconv.GEN_AI_INPUT_MESSAGES: content.encode([content.message("user", _parts(raw)) for raw in prompts])}


class _OpenChoice:
    """A choice while its chunks come."""

    __slots__ = ("finish_reason", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.finish_reason: str | None = None


class OpenAICompletionsParser(ChoicesParser):
    """Reads a completion, streamed or not: its chunks and the whole have one form."""

    def __init__(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False, prompts: int = 1
    ) -> None:
        super().__init__(request, status, content_type, content=content, prompts=prompts)
        self._choices: dict[int, _OpenChoice] = {}

    def on_event(self, time_ns: int, event: Event) -> None:
        self.output(time_ns, "", self._take(event[1]))

    def _take(self, data: bytes) -> str:
        """Take over a chunk; the text that it holds."""
        found = decode(_COMPLETION, data)
        self.take_head(found)
        texts = []
        for item in found.choices or ():
            choice = self._choices.setdefault(item.index if isinstance(item.index, int) else 0, _OpenChoice())
            choice.finish_reason = string(item.finish_reason) or choice.finish_reason
            self.take_error(item.error)
            if text := string(item.text):
                texts.append(text)
                if self.keeping:
                    choice.texts.append(text)
        return "".join(texts)

    def on_stream_end(self) -> None:
        choices = [choice for _, choice in sorted(self._choices.items())]
        reasons = [choice.finish_reason for choice in choices]
        self.end(reasons)
        if self.keeping:
            parts = [[Text("".join(choice.texts))] for choice in choices]
            fill_answer(self.facts, parts, complete=self.facts.terminal)
            self.show(parts, reasons)

    def on_body(self, body: bytes) -> None:
        self._take(body)
        self.facts.terminal = True
        self.on_stream_end()
