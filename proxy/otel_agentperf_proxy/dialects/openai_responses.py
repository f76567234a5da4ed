"""OpenAI responses: `POST .../responses`, and the questions beside it (compaction, token count)."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import auxiliary, canonical, content, openai_items, sessions
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
from otel_agentperf_proxy.dialects.canonical import Call, MessageCache, Part, Reasoning, Text
from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.openai_messages import error_body, output_type
from otel_agentperf_proxy.dialects.openai_usage import read_responses_usage
from otel_agentperf_proxy.dialects.shallow import JSON_ERRORS, Shallow, decode, fields, integer, number, shallow, string
from otel_agentperf_proxy.facts import RequestFacts

TERMINAL: Final = frozenset(
    ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done")
)
"""Types of the events that end a stream; `response.done` by servers that follow the realtime format."""

_UNFINISHED: Final = frozenset(("queued", "in_progress"))
"""States of a response that goes on in the background; the request for it has its answer all the same."""

MAX_TRIGGER_BYTES: Final = 256
"""An item that asks for a compaction is no longer than this."""


class _Request(Struct):
    model: Shallow = None
    input: Shallow = None
    instructions: Raw = Raw(b"")
    tools: Shallow = None
    stream: Shallow = None
    max_output_tokens: Shallow = None
    temperature: Shallow = None
    top_p: Shallow = None
    reasoning: Shallow = None
    text: Shallow = None
    previous_response_id: Shallow = None
    conversation: Shallow = None
    prompt_cache_key: Shallow = None
    client_metadata: Shallow = None
    metadata: Shallow = None
    session_id: Shallow = None
    litellm_session_id: Shallow = None


class _Trigger(Struct, gc=False):
    type: Shallow = None


class _TurnMetadata(Struct, gc=False):
    request_kind: Shallow = None


class _Event(Struct):
    type: Any = None
    output_index: Any = None
    delta: Any = None
    item: Raw = Raw(b"")
    response: Raw = Raw(b"")
    error: Any = None
    code: Any = None


class _Response(Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    output: Shallow = None
    usage: Any = None
    error: Any = None
    incomplete_details: Any = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_TRIGGER: Final = msgspec.json.Decoder(_Trigger)
_TURN_METADATA: Final = msgspec.json.Decoder(_TurnMetadata)
_EVENT: Final = msgspec.json.Decoder(_Event)
_RESPONSE: Final = msgspec.json.Decoder(_Response)
_JSON: Final = msgspec.json.Encoder()


class OpenAIResponses(JSONDialect):
    """The dialect `openai.responses`."""

    name: ClassVar[str] = "openai.responses"
    operation: ClassVar[str] = semconv.OPERATION_CHAT
    provider: ClassVar[str] = "openai"
    path: ClassVar[re.Pattern[str]] = re.compile("/responses$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        request = decode(_REQUEST, body)
        facts.model = string(request.model)
        facts.stream = request.stream is True
        client_metadata = fields(request.client_metadata)
        facts.session_id = sessions.session_id(
            thread_id=client_metadata.get("thread_id"),
            conversation=request.conversation,
            session_id=request.session_id,
            litellm_session_id=request.litellm_session_id,
            metadata=request.metadata,
            prompt_cache_key=request.prompt_cache_key,
        )
        raws = _items(request.input)
        if raws is None:
            facts.problem = "request messages are no list"
            raws = []
        tools = fill_tools(facts, request.tools)
        fill_system(facts, request.instructions)
        max_tokens = integer(request.max_output_tokens)
        set_attributes(
            facts,
            {
                semconv.GEN_AI_REQUEST_MAX_TOKENS: max_tokens,
                semconv.GEN_AI_REQUEST_TEMPERATURE: number(request.temperature),
                semconv.GEN_AI_REQUEST_TOP_P: number(request.top_p),
                semconv.GEN_AI_REQUEST_REASONING_LEVEL: string(fields(request.reasoning).get("effort")),
                semconv.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID: string(request.previous_response_id),
                semconv.GEN_AI_OUTPUT_TYPE: output_type(fields(request.text).get("format")),
            },
        )
        leading = fill_messages(facts, raws, openai_items.message, cache)
        facts.messages = tuple([message for message in facts.messages if message.role != openai_items.REASONING])
        kind = "compaction" if raws and _is_trigger(raws[-1]) else _request_kind(client_metadata)
        facts.summarizes = facts.summarizes or kind == "compaction"
        facts.auxiliary = facts.auxiliary or kind not in (None, "turn")
        if not facts.auxiliary and not tools and len(raws) > leading:
            system = bytes(raws[0]) if leading else bytes(request.instructions)
            facts.auxiliary = auxiliary.matches(system, bytes(raws[leading]), bytes(raws[-1]), max_tokens)
        if content:
            facts.content = _content_attributes(request.instructions, raws, tools)

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> "OpenAIResponsesParser":
        return OpenAIResponsesParser(request, status, content_type, content=content)

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(status, message)


class OpenAIInputTokens(OpenAIResponses):
    """The dialect `openai.responses.input_tokens`: a question about a prompt, no turn. Its answer is no usage."""

    name: ClassVar[str] = "openai.responses.input_tokens"
    path: ClassVar[re.Pattern[str]] = re.compile("/responses/input_tokens$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        facts.auxiliary = True
        super().read_request(facts, body, content, cache)


class OpenAICompaction(OpenAIResponses):
    """The dialect `openai.responses.compact`: a history for a shorter one, generated and paid for, but no turn."""

    name: ClassVar[str] = "openai.responses.compact"
    path: ClassVar[re.Pattern[str]] = re.compile("/responses/compact$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        facts.auxiliary = True
        super().read_request(facts, body, content, cache)
        facts.summarizes = True


def _items(input: Shallow) -> list[Raw] | None:
    """The items of a request; a string is one message. None when it is neither."""
    match input:
        case list():
            return input
        case str():
            return [Raw(_JSON.encode({"role": "user", "content": input}))]
        case None:
            return []
    return None


def _request_kind(client_metadata: dict[str, Any]) -> str | None:
    """What Codex 0.169.0 (captured) says that the request is for, as it does in its header."""
    told = client_metadata.get("x-codex-turn-metadata")
    if not isinstance(told, str):
        return None
    try:
        return string(decode(_TURN_METADATA, told.encode("utf-8", "replace")).request_kind)
    except JSON_ERRORS:
        return None


def _is_trigger(last: Raw) -> bool:
    """Whether the last item asks for a compaction, as Codex does since 2026 instead of calling `/compact`."""
    if len(last) > MAX_TRIGGER_BYTES:
        return False
    try:
        return decode(_TRIGGER, last).type == "compaction_trigger"
    except JSON_ERRORS:
        return False


def _content_attributes(instructions: Raw, raws: Sequence[Raw], tools: Sequence[Raw]) -> dict[str, str]:
    messages = []
    for raw in raws:
        try:
            role, parts, _ = openai_items.read_item(raw)
        except JSON_ERRORS:
            continue
        messages.append(content.message("assistant" if role == openai_items.REASONING else role, parts))
    result = {semconv.GEN_AI_INPUT_MESSAGES: content.encode(messages)}
    if len(instructions) and isinstance(text := shallow(instructions), str):
        result[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = content.instructions([Text(text)])
    if tools:
        result[semconv.GEN_AI_TOOL_DEFINITIONS] = content.definitions(tools)
    return result


class _OpenItem:
    """An output item while its deltas come."""

    __slots__ = ("parts", "pieces", "role", "shown", "start")

    def __init__(self) -> None:
        self.start: dict[str, Any] = {}
        self.pieces: list[str] = []
        self.shown = False
        """Some of its text came."""
        self.role = "assistant"
        self.parts: list[Part] | None = None
        """What it became; None as long as it is not done."""

    def so_far(self) -> list[Part]:
        """What it became, or would be if it ended here."""
        if self.parts is not None:
            return self.parts
        text = "".join(self.pieces)
        match self.start.get("type"):
            case "function_call" | "custom_tool_call":
                if name := string(self.start.get("name")):
                    begun = string(self.start.get("arguments")) or string(self.start.get("input")) or ""
                    return [Call(string(self.start.get("call_id")), name, canonical.arguments(begun + text))]
                return []
            case "reasoning":
                return [Reasoning(text)]
        return [Text(text)] if text else []


class OpenAIResponsesParser(BodyParser):
    """Reads a response, streamed or not."""

    def __init__(self, request: RequestFacts, status: int, content_type: str, *, content: bool = False) -> None:
        super().__init__(request, status, content_type, content=content)
        self._items: dict[int, _OpenItem] = {}
        self._final: list[tuple[str, list[Part]]] = []
        """Role and parts of the items that the last event told."""

    def on_event(self, time_ns: int, event: Event) -> None:
        found = decode(_EVENT, event[1])
        kind = string(found.type) or event[0].decode("ascii", "replace")
        if kind.endswith(".delta"):
            self._delta(time_ns, kind, found)
        elif kind == "response.output_item.added":
            self._added(time_ns, found)
        elif kind == "response.output_item.done":
            self._item_done(time_ns, found)
        elif kind == "error":
            told = error_type({"error": found.error}) if found.error is not None else string(found.code)
            self.facts.error_type = told or UNNAMED_ERROR
        elif len(found.response):
            self._response(decode(_RESPONSE, found.response), ends=kind in TERMINAL)

    def _open(self, index: Any) -> _OpenItem:
        index = index if isinstance(index, int) else len(self._items)
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _OpenItem()
        return item

    def _delta(self, time_ns: int, kind: str, found: _Event) -> None:
        text = string(found.delta)
        if text is None:
            return
        reasoning = "reasoning" in kind
        self.output(time_ns, text if reasoning else "", "" if reasoning else text)
        item = self._open(found.output_index if found.output_index is not None else 0)
        item.shown = True
        if self.keeping and (self.content or not reasoning):
            item.pieces.append(text)

    def _added(self, time_ns: int, found: _Event) -> None:
        item = self._open(found.output_index)
        start = shallow(found.item)
        item.start = fields(start)
        if item.start.get("type") in ("function_call", "custom_tool_call"):
            # The name of a tool is output; its arguments, when they are told already, come with it.
            asked = string(item.start.get("arguments")) or string(item.start.get("input")) or ""
            self.output(time_ns, "", (string(item.start.get("name")) or "") + asked)
            item.shown = bool(asked)
        else:
            _, parts, _ = openai_items.read_item(found.item)
            item.shown = self._show(time_ns, parts)

    def _item_done(self, time_ns: int, found: _Event) -> None:
        item = self._open(found.output_index)
        item.role, parts, _ = openai_items.read_item(found.item)
        if not item.shown:
            # A server that buffers the item, as some do with tool calls.
            if item.start.get("name"):
                arguments = [Text(part.arguments.decode()) for part in parts if isinstance(part, Call)]
                self._show(time_ns, arguments)
            else:
                self._show(time_ns, parts)
        item.shown = True
        item.pieces.clear()
        item.parts = parts if self.keeping else []

    def _show(self, time_ns: int, parts: Sequence[Part]) -> bool:
        """Count what an item holds as output, and whether it held any."""
        reasoning = "".join([part.text for part in parts if isinstance(part, Reasoning)])
        answer = "".join([part.text for part in parts if isinstance(part, Text)])
        answer += "".join([part.name + part.arguments.decode() for part in parts if isinstance(part, Call)])
        self.output(time_ns, reasoning, answer)
        return bool(reasoning or answer)

    def _response(self, response: _Response, *, ends: bool) -> None:
        """Take over what is told of the whole response, which is all there is when it ends."""
        facts = self.facts
        facts.id = string(response.id) or facts.id
        facts.model = string(response.model) or facts.model
        read_responses_usage(response.usage, facts.usage)
        if response.error is not None:
            facts.error_type = error_type({"error": response.error}) or UNNAMED_ERROR
        if not ends:
            return
        facts.terminal = True
        details = response.incomplete_details
        reason = string(details.get("reason")) if isinstance(details, dict) else None
        reason = reason or string(response.status)
        if reason and reason not in _UNFINISHED:
            facts.finish_reasons = (reason,)
        if response.status == "failed" and facts.error_type is None:
            facts.error_type = UNNAMED_ERROR
        for raw in response.output if isinstance(response.output, list) and self.keeping else ():
            try:
                role, parts, _ = openai_items.read_item(raw)
            except JSON_ERRORS:
                continue
            self._final.append((role, parts))

    def on_stream_end(self) -> None:
        if not self.keeping:
            return
        items = [item for _, item in sorted(self._items.items())]
        if self._final and (not items or any(item.parts is None for item in items)):
            self._answer(self._final)
        else:
            self._answer([(item.role, item.so_far()) for item in items])

    def on_body(self, body: bytes) -> None:
        self._response(decode(_RESPONSE, body), ends=True)
        self._answer(self._final)

    def _answer(self, items: Sequence[tuple[str, list[Part]]]) -> None:
        facts = self.facts
        messages = [parts for _, parts in items if not all(isinstance(part, Reasoning) for part in parts)]
        fill_answer(facts, messages, complete=facts.terminal)
        if self.content:
            reason = facts.finish_reasons[0] if facts.finish_reasons else ""
            told = content.message("assistant", [part for _, parts in items for part in parts], reason)
            facts.content = {semconv.GEN_AI_OUTPUT_MESSAGES: content.encode([told])}
