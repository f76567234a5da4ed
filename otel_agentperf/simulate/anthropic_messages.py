"""Anthropic messages: the message, its event stream, and the count of a prompt's tokens."""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf.simulate.answers import Answer, Call, Choice, Finish, Tool, compact, render_call
from otel_agentperf.simulate.dialect import (
    Dialect,
    Numbers,
    Problem,
    Reply,
    Request,
    around,
    decode,
    escape,
    render_media,
    render_tool,
)
from otel_agentperf.simulate.tokens import Section, pad, special

__all__ = ["AnthropicMessages"]

ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""Error types by HTTP status; what is not listed is `api_error` (Anthropic API, "Errors")."""

_STOP_REASONS: Final = {Finish.STOP: "end_turn", Finish.LENGTH: "max_tokens", Finish.TOOL_CALLS: "tool_use"}
_SIGNATURE: Final = "c2ltdWxhdGVk"
_END: Final = special("end")


class _Thinking(Struct):
    type: str = "disabled"


class _Request(Struct):
    model: str
    messages: list[Raw]
    max_tokens: int | None = None
    system: Raw = Raw(b"null")
    tools: list[Raw] | None = None
    tool_choice: Any = None
    thinking: _Thinking | None = None
    stream: bool | None = None
    ignore_eos: bool | None = None


class _Message(Struct):
    role: str
    content: str | list[Any]


class _Tool(Struct):
    name: str
    input_schema: Any = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_SYSTEM: Final[msgspec.json.Decoder[str | list[Any] | None]] = msgspec.json.Decoder(str | list[Any] | None)
_TOOL: Final = msgspec.json.Decoder(_Tool)


def _system(raw: Raw) -> bytes:
    """The system prompt as tokens."""
    return special("system") + _content(decode(_SYSTEM, raw)) + _END


def _message(raw: Raw) -> bytes:
    """A message as tokens."""
    message = decode(_MESSAGE, raw)
    return special(message.role) + _content(message.content) + _END


def _content(content: str | list[Any] | None) -> bytes:
    """Content as tokens: a string and the same text in blocks are equal; every other block is padded by itself."""
    if isinstance(content, str):
        return pad(content.encode())
    parts: list[bytes] = []
    text: list[bytes] = []
    for block in content or ():
        match block:
            case {"type": "text", "text": str(words)}:
                text.append(words.encode())
                continue
            case {"type": "thinking", "thinking": str(words)}:
                part = pad(words.encode())
            case {"type": "tool_use", "name": str(name), "input": arguments}:
                part = render_call(name, compact(arguments))
            case {"type": "tool_result", "content": str() | list() as result}:
                part = special("tool_result") + _content(result)
            case {"type": "tool_result"}:
                part = special("tool_result")
            case _:
                part = render_media(block)
        parts += [pad(b"".join(text)), part]
        text = []
    return b"".join([*parts, pad(b"".join(text))])


class AnthropicMessages(Dialect):
    """The wire format of `/v1/messages`."""

    name: ClassVar[str] = "anthropic.messages"
    request_id_header: ClassVar[bytes] = b"request-id"

    def read(self, body: bytes) -> Request:
        request = self._read(body)
        if request.max_tokens is None:
            raise Problem(400, "max_tokens: Field required")
        if request.max_tokens < 1:
            raise Problem(400, f"max_tokens: must be at least 1, not {request.max_tokens}")
        choice, tools, parallel = _choose(request.tool_choice, tuple([_read_tool(raw) for raw in request.tools or ()]))
        return Request(
            model=request.model,
            sections=_sections(request),
            stream=bool(request.stream),
            max_tokens=request.max_tokens,
            ignore_eos=bool(request.ignore_eos),
            tools=tools,
            choice=choice,
            parallel=parallel,
            reasoning=request.thinking is not None and request.thinking.type != "disabled",
        )

    def read_count(self, body: bytes) -> tuple[Section, ...]:
        """The prompt of a request to count tokens. Raises Problem."""
        return _sections(self._read(body))

    def _read(self, body: bytes) -> _Request:
        request = decode(_REQUEST, body)
        if not request.messages:
            raise Problem(400, "messages: at least one message is required")
        return request

    def reply(self, answer: Answer, numbers: Numbers) -> "MessageReply":
        return MessageReply(answer, numbers)

    def too_long(self, prompt_tokens: int, output_tokens: int, limit: int) -> Problem:
        if prompt_tokens >= limit:
            return Problem(400, f"prompt is too long: {prompt_tokens} tokens > {limit - 1} maximum")
        return Problem(
            400,
            f"input length and `max_tokens` exceed context limit: {prompt_tokens} + {output_tokens} > {limit}, "
            "decrease input length or `max_tokens` and try again",
        )

    def error(self, problem: Problem) -> bytes:
        kind = ERROR_TYPES.get(problem.status, "api_error" if problem.status >= 500 else "invalid_request_error")
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": problem.message}})


def _sections(request: _Request) -> tuple[Section, ...]:
    sections: list[Section] = [(render_tool, raw) for raw in request.tools or ()]
    if bytes(request.system) != b"null":
        sections.append((_system, request.system))
    sections += [(_message, raw) for raw in request.messages]
    return tuple(sections)


def _read_tool(raw: Raw) -> Tool:
    tool = decode(_TOOL, raw)
    return Tool(tool.name, tool.input_schema)


def _choose(choice: Any, tools: tuple[Tool, ...]) -> tuple[Choice, tuple[Tool, ...], bool]:
    """What `tool_choice` leaves to the model, and whether it may call several tools."""
    parallel = not (isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True)
    match choice:
        case None | {"type": "auto"}:
            return Choice.AUTO, tools, parallel
        case {"type": "none"}:
            return Choice.NONE, tools, parallel
        case {"type": "any"}:
            return Choice.REQUIRED, tools, parallel
        case {"type": "tool", "name": str(name)}:
            named = tuple([tool for tool in tools if tool.name == name])
            if not named:
                raise Problem(400, f"tool_choice: {name!r} is not among the tools")
            return Choice.REQUIRED, named, parallel
    raise Problem(400, "tool_choice: type must be auto, any, none or tool")


class MessageReply(Reply):
    """A message."""

    @property
    def id(self) -> str:
        return f"msg_{self.numbers.id}"

    @property
    def finish_reason(self) -> str:
        return _STOP_REASONS[self.answer.finish]

    def opening(self) -> bytes:
        message = self._message([], None, 0)
        return _event({"type": "message_start", "message": message}) + _event({"type": "ping"})

    def tokens(self) -> Iterator[bytes]:
        index = 0
        end = b""
        for kind, pieces in (("thinking", self.answer.reasoning), ("text", self.answer.text)):
            if not pieces:
                continue
            block = {"type": kind, kind: ""}
            signed = kind == "thinking"
            start = end + _block_start(index, block | {"signature": ""} if signed else block)
            before, after = around(_block_delta(index, {"type": f"{kind}_delta", kind: "\0"}))
            yield start + before + escape(pieces[0]) + after
            for piece in pieces[1:]:
                yield before + escape(piece) + after
            end = _block_delta(index, {"type": "signature_delta", "signature": _SIGNATURE}) if signed else b""
            end += _block_stop(index)
            index += 1
        for call in self.answer.calls:
            tool = {"type": "tool_use", "id": _call_id(call), "name": call.name, "input": {}}
            yield end + _block_start(index, tool)
            before, after = around(_block_delta(index, {"type": "input_json_delta", "partial_json": "\0"}))
            for piece in call.pieces:
                yield before + escape(piece) + after
            end = _block_stop(index)
            index += 1

    def closing(self) -> bytes:
        answer = self.answer
        blocks = bool(answer.reasoning) + bool(answer.text) + len(answer.calls)
        end = b""
        if answer.reasoning and blocks == 1:
            end = _block_delta(0, {"type": "signature_delta", "signature": _SIGNATURE})
        delta = {"stop_reason": self.finish_reason, "stop_sequence": None}
        usage = self._usage(answer.tokens)
        last = _event({"type": "message_delta", "delta": delta, "usage": usage})
        return end + _block_stop(blocks - 1) + last + _event({"type": "message_stop"})

    def body(self) -> bytes:
        answer = self.answer
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            thinking = b"".join(answer.reasoning).decode()
            content.append({"type": "thinking", "thinking": thinking, "signature": _SIGNATURE})
        if answer.text:
            content.append({"type": "text", "text": b"".join(answer.text).decode()})
        for call in answer.calls:
            # Arguments that the budget cut off are no object any more.
            arguments = msgspec.json.decode(call.arguments) if call.complete else {}
            content.append({"type": "tool_use", "id": _call_id(call), "name": call.name, "input": arguments})
        return msgspec.json.encode(self._message(content, self.finish_reason, answer.tokens))

    def _message(self, content: list[dict[str, Any]], stop_reason: str | None, output_tokens: int) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.numbers.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": self._usage(output_tokens),
        }

    def _usage(self, output_tokens: int) -> dict[str, int]:
        numbers = self.numbers
        return {
            "input_tokens": numbers.prompt_tokens - numbers.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": numbers.cached_tokens,
            "output_tokens": output_tokens,
        }


def _call_id(call: Call) -> str:
    return f"toolu_{call.id}"


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), msgspec.json.encode(data))


def _block_start(index: int, block: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_start", "index": index, "content_block": block})


def _block_delta(index: int, delta: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta})


def _block_stop(index: int) -> bytes:
    return _event({"type": "content_block_stop", "index": index})
