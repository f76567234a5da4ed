"""OpenAI chat completions, as vLLM and SGLang serve them: with `ignore_eos`, reasoning, cached tokens in the usage."""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf.simulate.answers import Answer, Call, Choice, Tool, compact, render_call
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

__all__ = ["OpenAIChat"]

_END: Final = special("end")


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Request(Struct):
    model: str
    messages: list[Raw]
    tools: list[Raw] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    ignore_eos: bool | None = None
    n: int | None = None
    seed: int | None = None
    reasoning_effort: str | None = None


class _Function(Struct):
    name: str
    arguments: str | dict[str, Any] = ""


class _Call(Struct):
    function: _Function | None = None


class _Message(Struct):
    role: str
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _ToolFunction(Struct):
    name: str
    parameters: Any = None


class _Tool(Struct):
    function: _ToolFunction


_REQUEST: Final = msgspec.json.Decoder(_Request)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_TOOL: Final = msgspec.json.Decoder(_Tool)


def _message(raw: Raw) -> bytes:
    """A message as tokens; the order of its parts is the one in which the model makes them."""
    message = decode(_MESSAGE, raw)
    parts = [special(message.role), pad((message.reasoning_content or "").encode()), _content(message.content)]
    for call in message.tool_calls or ():
        if call.function is not None:
            arguments = call.function.arguments
            text = arguments.encode() if isinstance(arguments, str) else compact(arguments)
            parts.append(render_call(call.function.name, text))
    parts.append(_END)
    return b"".join(parts)


def _content(content: str | list[Any] | None) -> bytes:
    """Text as tokens: a string and the same text in blocks are equal."""
    if isinstance(content, str):
        return pad(content.encode())
    parts = []
    for block in content or ():
        text = block.get("text") if isinstance(block, dict) else block
        parts.append(text.encode() if isinstance(text, str) else render_media(block))
    return pad(b"".join(parts))


class OpenAIChat(Dialect):
    """The wire format of `/v1/chat/completions`."""

    name: ClassVar[str] = "openai.chat"
    request_id_header: ClassVar[bytes] = b"x-request-id"

    def read(self, body: bytes) -> Request:
        request = decode(_REQUEST, body)
        if not request.messages:
            raise Problem(400, "messages must hold at least one message")
        if request.n is not None and request.n != 1:
            raise Problem(400, f"n must be 1, not {request.n}: this server makes one choice per request")
        limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
        if limit is not None and limit < 1:
            raise Problem(400, f"max_tokens must be at least 1, not {limit}")
        options = request.stream_options
        if options is not None and not request.stream:
            raise Problem(400, "stream_options are only allowed with stream: true")
        raws = request.tools or []
        choice, tools = _choose(request.tool_choice, tuple([_read_tool(raw) for raw in raws]))
        sections: list[Section] = [(render_tool, raw) for raw in raws]
        sections += [(_message, raw) for raw in request.messages]
        return Request(
            model=request.model,
            sections=tuple(sections),
            stream=bool(request.stream),
            include_usage=bool(options and options.include_usage),
            max_tokens=limit,
            ignore_eos=bool(request.ignore_eos),
            tools=tools,
            choice=choice,
            parallel=request.parallel_tool_calls is not False,
            reasoning=request.reasoning_effort not in ("none", "minimal"),
            seed=request.seed or 0,
        )

    def reply(self, answer: Answer, numbers: Numbers) -> "ChatReply":
        return ChatReply(answer, numbers)

    def too_long(self, prompt_tokens: int, output_tokens: int, limit: int) -> Problem:
        message = (
            f"This model's maximum context length is {limit} tokens. However, you requested "
            f"{prompt_tokens + output_tokens} tokens ({prompt_tokens} in the messages, {output_tokens} in the "
            "completion). Please reduce the length of the messages or completion."
        )
        return Problem(400, message, "context_length_exceeded")

    def error(self, problem: Problem) -> bytes:
        kind = "server_error" if problem.status >= 500 else "invalid_request_error"
        error = {"message": problem.message, "type": kind, "param": None, "code": problem.code}
        return msgspec.json.encode({"error": error})


def _read_tool(raw: Raw) -> Tool:
    function = decode(_TOOL, raw).function
    return Tool(function.name, function.parameters)


def _choose(choice: Any, tools: tuple[Tool, ...]) -> tuple[Choice, tuple[Tool, ...]]:
    """What `tool_choice` leaves to the model."""
    match choice:
        case None | "auto":
            return Choice.AUTO, tools
        case "none":
            return Choice.NONE, tools
        case "required":
            return Choice.REQUIRED, tools
        case {"type": "function", "function": {"name": str(name)}}:
            named = tuple([tool for tool in tools if tool.name == name])
            if not named:
                raise Problem(400, f"tool_choice names {name!r}, which is not among the tools")
            return Choice.REQUIRED, named
    raise Problem(400, "tool_choice must be none, auto, required or name a function")


class ChatReply(Reply):
    """A chat completion."""

    @property
    def id(self) -> str:
        return f"chatcmpl-{self.numbers.id}"

    @property
    def finish_reason(self) -> str:
        return self.answer.finish.value

    def opening(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def tokens(self) -> Iterator[bytes]:
        for field, pieces in (("reasoning_content", self.answer.reasoning), ("content", self.answer.text)):
            before, after = around(self._chunk({field: "\0"}))
            for piece in pieces:
                yield before + escape(piece) + after
        for index, call in enumerate(self.answer.calls):
            function = {"name": call.name, "arguments": ""}
            start = {"index": index, "id": _call_id(call), "type": "function", "function": function}
            yield self._chunk({"tool_calls": [start]})
            more = {"index": index, "function": {"arguments": "\0"}}
            before, after = around(self._chunk({"tool_calls": [more]}))
            for piece in call.pieces:
                yield before + escape(piece) + after

    def closing(self) -> bytes:
        parts = [self._chunk({}, self.finish_reason)]
        if self.numbers.include_usage:
            parts.append(_event(self._head("chat.completion.chunk") | {"choices": [], "usage": self._usage()}))
        parts.append(b"data: [DONE]\n\n")
        return b"".join(parts)

    def body(self) -> bytes:
        answer = self.answer
        message: dict[str, Any] = {"role": "assistant", "content": b"".join(answer.text).decode() or None}
        if answer.reasoning:
            message["reasoning_content"] = b"".join(answer.reasoning).decode()
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": _call_id(call),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments.decode()},
                }
                for call in answer.calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return msgspec.json.encode(self._head("chat.completion") | {"choices": [choice], "usage": self._usage()})

    def _head(self, kind: str) -> dict[str, Any]:
        numbers = self.numbers
        return {"id": self.id, "object": kind, "created": numbers.created_s, "model": numbers.model}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = self._head("chat.completion.chunk") | {"choices": [choice]}
        # As OpenAI does: a null in every chunk but the one with the usage.
        return _event(chunk | {"usage": None} if self.numbers.include_usage else chunk)

    def _usage(self) -> dict[str, Any]:
        numbers, answer = self.numbers, self.answer
        return {
            "prompt_tokens": numbers.prompt_tokens,
            "completion_tokens": answer.tokens,
            "total_tokens": numbers.prompt_tokens + answer.tokens,
            "prompt_tokens_details": {"cached_tokens": numbers.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": len(answer.reasoning)},
        }


def _call_id(call: Call) -> str:
    return f"call_{call.id}"


def _event(data: Any) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
