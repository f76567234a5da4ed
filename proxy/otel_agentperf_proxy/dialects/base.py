"""What a dialect is, and the course that every request body and response body takes, whatever its dialect.

A dialect is one file: a `JSONDialect` that reads requests, a `BodyParser` that reads responses. Nothing here raises on
bad input: what could not be read becomes the `problem` of the facts.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final, Protocol

import msgspec
from msgspec import Raw

from otel_agentperf_proxy.dialects import auxiliary, canonical
from otel_agentperf_proxy.dialects.canonical import Call, MessageCache, Part
from otel_agentperf_proxy.dialects.framing import Event, Framing
from otel_agentperf_proxy.dialects.shallow import JSON_ERRORS, Shallow, decode, repair, string
from otel_agentperf_proxy.dialects.sse import SSEFraming
from otel_agentperf_proxy.facts import AttributeValue, Message, RequestFacts, ResponseFacts

MAX_RESPONSE_BYTES: Final = 32 * 1024 * 1024
"""A body that has to be read whole is given up above this; of a stream, this much is kept for its message."""

SYSTEM_ROLES: Final = frozenset(("system", "developer"))

UNNAMED_ERROR: Final = "error"
"""Error type of an error that names none."""

EVENT_STREAM: Final = "text/event-stream"

DONE: Final = b"[DONE]"
"""Data of the last event of OpenAI's streams; gateways and older vLLM end streams of other formats with it, too."""

HEAD_BYTES: Final = 6
"""An event stream shows itself with its first field name, the longest of which is `event:`; where it is labelled as
one, the first byte tells that it is none."""

TOO_LARGE: Final = "response too large to read"

GAP: Final = "parts of the response were not seen"


class ResponseParser(Protocol):
    """Reads one response body as it comes. Never raises."""

    def feed(self, time_ns: int, data: bytes) -> None:
        """Body bytes, content coding undone, any split; `time_ns` is when they arrived."""
        ...

    def gap(self) -> None:
        """A part of the body is missing between what was fed and what will be."""
        ...

    def finish(self) -> ResponseFacts:
        """The facts; idempotent."""
        ...


class Dialect(Protocol):
    """A wire format of inference calls."""

    @property
    def name(self) -> str:
        """Value of `agentperf.dialect`."""
        ...

    @property
    def operation(self) -> str:
        """Value of `gen_ai.operation.name`."""
        ...

    @property
    def provider(self) -> str:
        """Value of `gen_ai.provider.name`, unless the configuration names another."""
        ...

    def match(self, method: str, path: str) -> "Dialect | None":
        """The dialect when a request (path without query, whatever base path before it) is of it; else None.

        A dialect whose path says what others say in the body comes back knowing it.
        """
        ...

    def parse_request(self, body: bytes, *, content: bool = False, cache: MessageCache | None = None) -> RequestFacts:
        """The facts of a request body. Never raises. A cache saves reading a history again."""
        ...

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> ResponseParser:
        """A parser for the response to this request."""
        ...

    def error_body(self, status: int, message: str) -> bytes:
        """JSON in the dialect's error shape, for errors of the proxy itself."""
        ...


def plain_error_body(status: int, message: str) -> bytes:
    """JSON for errors of the proxy itself on a path of no dialect."""
    return msgspec.json.encode({"error": {"message": message, "type": "proxy_error", "code": status}})


def status_code_name(status: int) -> str:
    """A machine-readable name of an HTTP status: 502 is `bad_gateway`."""
    try:
        return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    except ValueError:
        return str(status)


_MODEL: Final = re.compile(rb'(?<!\\)"model"\s*:\s*("(?:[^"\\]|\\.){1,256}")')
_STREAM: Final = re.compile(rb'(?<!\\)"stream"\s*:\s*true\b')


class JSONDialect(ABC):
    """A dialect whose requests are one JSON object, recognised by the path."""

    name: ClassVar[str]
    operation: ClassVar[str]
    provider: ClassVar[str]
    path: ClassVar[re.Pattern[str]]
    """Found in the path; anchored at its end, where one trailing slash is gone."""

    def match(self, method: str, path: str) -> Dialect | None:
        if method != "POST" or (found := self.path.search(path.removesuffix("/"))) is None:
            return None
        return self.told(found)

    def told(self, found: re.Match[str]) -> Dialect:
        """The dialect that knows what the path says."""
        return self

    def parse_request(self, body: bytes, *, content: bool = False, cache: MessageCache | None = None) -> RequestFacts:
        facts = self.begin()
        try:
            self.read_request(facts, body, content, cache)
        except Exception as error:  # the observation of a call must not fail with its body
            facts.problem = _problem("request", error)
            self.salvage(facts, body)
        return facts

    def begin(self) -> RequestFacts:
        """The facts as far as they are known without the body."""
        return RequestFacts(self.name, self.operation, self.provider)

    def salvage(self, facts: RequestFacts, body: bytes) -> None:
        """What a body tells that is no JSON, or cut off: an unescaped quote before a key cannot be inside a string."""
        if facts.model is None and (found := _MODEL.search(body)):
            repaired = repair(found[1])
            facts.model = string(msgspec.json.decode(repaired)) if repaired else None
        facts.stream = facts.stream or _STREAM.search(body) is not None

    @abstractmethod
    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        """Fill the facts; may raise whatever hostile JSON causes."""

    @abstractmethod
    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> ResponseParser: ...

    @abstractmethod
    def error_body(self, status: int, message: str) -> bytes: ...


def _problem(what: str, error: Exception) -> str:
    match error:
        case RecursionError():
            return f"{what} nested too deep"
        case UnicodeDecodeError():
            return f"{what} is not UTF-8"
        case msgspec.ValidationError():
            return f"{what} has an unexpected shape"
        case msgspec.DecodeError() if "truncated" in str(error):
            return f"{what} is cut off"
        case msgspec.DecodeError():
            return f"{what} is not JSON"
        case _:
            return f"{what} unreadable: {type(error).__name__}"


def fill_messages(
    facts: RequestFacts, raws: Sequence[Raw], parse: Callable[[Raw], Message], cache: MessageCache | None
) -> int:
    """Put the messages into the facts, system prompts at their start apart. Returns the number of those."""

    def read(raw: Raw) -> Message:
        try:
            return parse(raw)
        except JSON_ERRORS:
            return canonical.unreadable(raw)

    if raws:
        last = bytes(raws[-1])
        facts.summarizes = auxiliary.asks_for_summary(last)
        facts.auxiliary = facts.auxiliary or auxiliary.is_summary(last)
    messages = [read(raw) for raw in raws] if cache is None else cache.read(facts.dialect, raws, read)
    leading = 0
    while leading < len(messages) and messages[leading].role in SYSTEM_ROLES:
        facts.system_bytes += messages[leading].size
        facts.text_bytes += messages[leading].text_bytes
        leading += 1
    facts.messages = tuple(messages[leading:])
    size = 0
    for message in facts.messages:
        size += message.size
        facts.text_bytes += message.text_bytes
        for result in message.tool_results:
            facts.tool_result_bytes += result.size
        if message.role == canonical.UNREADABLE and facts.problem is None:
            facts.problem = "request has an unreadable message"
    facts.message_bytes = size - facts.tool_result_bytes
    return leading


def fill_tools(facts: RequestFacts, tools: Shallow) -> list[Raw]:
    """Put the tool definitions into the facts, and return them; none when it is no list."""
    found = tools if isinstance(tools, list) else []
    facts.tool_count = len(found)
    facts.tools_bytes = sum([len(tool) for tool in found])
    facts.text_bytes += facts.tools_bytes
    return found


def fill_system(facts: RequestFacts, system: Raw) -> None:
    """Put a system prompt that stands beside the messages into the facts."""
    if len(system) and bytes(memoryview(system)[:4]) != b"null":
        facts.system_bytes = len(system)
        facts.text_bytes += len(system)


def set_attributes(facts: RequestFacts, values: dict[str, AttributeValue | None]) -> None:
    """Keep the attributes that have a value."""
    facts.attributes.update({name: value for name, value in values.items() if value is not None})


def fill_answer(
    facts: ResponseFacts, messages: Sequence[Sequence[Part]], *, complete: bool, with_ids: bool = True
) -> None:
    """Put the tool calls of all messages (one per choice, or one per item) and the digest of the first into the facts.

    An answer that broke off has no digest, but its tool calls count, the last one perhaps with half its arguments:
    opencode 1.18 takes such an answer as complete, runs the call and sends its id back. `with_ids` as in
    `canonical.digest`.
    """
    calls = [part for parts in messages for part in parts if isinstance(part, Call)]
    facts.tool_calls = tuple([canonical.tool_call(call, with_strings=True) for call in calls])
    if not facts.streamed:
        facts.output_bytes = sum([canonical.text_bytes(parts, reasoning=True) for parts in messages])
    if complete and messages:
        facts.message_digest = canonical.digest("assistant", messages[0], with_ids=with_ids)
        facts.lines = canonical.answer_lines([part for parts in messages for part in parts])


class BodyParser(ABC):
    """Reads a response: as events when it is a stream, else whole at its end.

    Subclasses fill `self.facts`; `self.keeping` says whether the text of the stream is still worth keeping.
    """

    ends_with_done: ClassVar[bool] = False
    """`[DONE]` says that the response is complete; where not, it says nothing."""

    def __init__(self, request: RequestFacts, status: int, content_type: str, *, content: bool = False) -> None:
        self.facts = ResponseFacts()
        self.content = content
        self.keeping = True
        self._request = request
        self._status = status
        self._content_type = content_type.partition(";")[0].strip().lower()
        self._framing: Framing | None = None
        self._decided = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._last_ns = 0
        self._lost = False
        self._finished = False

    @abstractmethod
    def on_event(self, time_ns: int, event: Event) -> None:
        """One event of a stream; may raise whatever hostile JSON causes."""

    @abstractmethod
    def on_stream_end(self) -> None:
        """Turn what the events brought into facts."""

    @abstractmethod
    def on_body(self, body: bytes) -> None:
        """The whole body of a successful response that is no stream; may raise."""

    def choose_framing(self, head: bytes) -> Framing | None:
        """How the body is cut into events; None when it is one document.

        `head` is the start of the body without white space, of `HEAD_BYTES` at least where the body has so many;
        empty when the start was not seen. No more of it may decide than its first `HEAD_BYTES`.
        """
        # Servers mislabel streams or do not label them, and documents, too; no JSON document starts like an event.
        if self._content_type == EVENT_STREAM:
            is_stream = not head.startswith((b"{", b"["))
        else:
            is_stream = head.startswith((b"data:", b"event:", b"id:", b":"))
        return SSEFraming() if is_stream else None

    def output(self, time_ns: int, reasoning: str, answer: str, *, media: bool = False) -> None:
        """Note an output chunk with this much text of both kinds; without any, and without media, it is none."""
        text = reasoning + answer
        if not text and not media:
            return
        facts = self.facts
        facts.output_ns.append(time_ns)
        facts.output_bytes += canonical.utf8_bytes(text)
        if (answer or media) and facts.first_answer_ns is None:
            facts.first_answer_ns = time_ns

    def note(self, problem: str) -> None:
        """Keep the first problem."""
        if self.facts.problem is None:
            self.facts.problem = problem

    def feed(self, time_ns: int, data: bytes) -> None:
        if self._finished or self._lost or not data:
            return
        self._last_ns = time_ns
        if not self._decided:
            head = b"".join([*self._pieces, data]).lstrip()
            if len(head) < (1 if self._content_type == EVENT_STREAM else HEAD_BYTES):
                self._collect(data)
                return
            data = b"".join([*self._pieces, data])
            self._decide(head)
        if self._framing is None:
            self._collect(data)
            return
        self._size += len(data)
        if self._size > MAX_RESPONSE_BYTES and self.keeping:
            self.keeping = False
            self.note(TOO_LARGE)
        for event in self._framing.feed(data):
            self._event(time_ns, event)

    def gap(self) -> None:
        """What was said before stands, but for the message and for counts that go on growing; a stream is taken up
        again at its next event, a document is lost."""
        facts = self.facts
        if self._finished or facts.terminal:
            return
        self.note(GAP)
        facts.outputs_at_last_gap = len(facts.output_ns)
        if facts.outputs_before_gap is None:
            facts.outputs_before_gap = facts.outputs_at_last_gap
        self.keeping = False
        facts.usage.output = facts.usage.reasoning = None
        self._pieces.clear()
        if not self._decided:
            self._decide(b"")
        elif self._framing is not None:
            self._framing = self._framing.resumed()
        self._lost = self._framing is None

    def _decide(self, head: bytes) -> None:
        self._decided = True
        self._framing = self.choose_framing(head)
        self.facts.streamed = self._framing is not None and self._status < 400
        self._pieces.clear()
        self._size = 0

    def _collect(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_RESPONSE_BYTES:
            self.note(TOO_LARGE)
            self._pieces.clear()
        else:
            self._pieces.append(data)

    def _event(self, time_ns: int, event: Event) -> None:
        try:
            if event[1] == DONE:
                self.facts.terminal = self.facts.terminal or self.ends_with_done
            else:
                self.on_event(time_ns, event)
        except Exception as error:  # the observation of a call must not fail with its body
            self.note(_problem("event", error))

    def finish(self) -> ResponseFacts:
        if not self._finished:
            self._finished = True
            try:
                self._finish()
            except Exception as error:  # the observation of a call must not fail with its body
                self.note(_problem("response", error))
        return self.facts

    def _finish(self) -> None:
        if self._framing is not None:
            for event in self._framing.finish():
                # A stream cut off inside an event leaves half of one: no problem of the format.
                if event[1] == DONE or canonical.is_json(event[1]):
                    self._event(self._last_ns, event)
            if self._framing.skipped:
                self.note(f"{self._framing.skipped} events too large to read")
            self.on_stream_end()
            return
        body = b"".join(self._pieces)
        self._pieces.clear()
        if self._lost:
            return
        if self._size > MAX_RESPONSE_BYTES or not body.strip():
            return
        if self._status >= 400:
            self._error_body(body)
        else:
            self.on_body(body)

    def _error_body(self, body: bytes) -> None:
        try:
            value = decode(_ANY, body)
        except JSON_ERRORS:
            self.note("error body is not JSON")
            return
        self.facts.terminal = True
        self.facts.error_type = error_type(value)


_ANY: Final = msgspec.json.Decoder()


def error_type(value: Any) -> str | None:
    """The provider's error type in a body or event that tells an error; None when it names none.

    `{"error": {"type": ...}}` by OpenAI and Anthropic, with `status` by Google, with `code` where there is neither;
    `{"object": "error", "type": ...}` by older vLLM; in a list by Google where the answer would be one.
    """
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if error is None and value.get("object") == "error":
        error = value
    if isinstance(error, dict):
        code = error.get("code")
        if found := string(error.get("type")) or string(error.get("status")) or string(code):
            return found
        return str(code) if isinstance(code, int) and not isinstance(code, bool) else None
    return None
