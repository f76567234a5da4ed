"""What the observer knows of a call, whatever its wire format: where dialects, trajectories and spans meet.

Pure data. Times are CLOCK_MONOTONIC nanoseconds; None means "not known" or "did not happen". Sizes are bytes.
No field holds prompt or completion text unless the recorder was asked for it (`content`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

AttributeValue = str | bool | int | float | Sequence[str]
"""What an OpenTelemetry attribute can hold, as far as we use it."""

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields in wire order, names in lower case, duplicates kept."""


@dataclass(slots=True, frozen=True)
class ToolCall:
    """One tool call that a model asked for."""

    id: str | None
    name: str
    arguments_digest: bytes
    """Digest of the canonical arguments (parsed JSON, keys sorted; the raw text when it does not parse)."""
    string_arguments: tuple[str, ...] = ()
    """String values of the arguments; only in responses, and nothing keeps them longer than the response's facts."""


@dataclass(slots=True, frozen=True)
class ToolResult:
    """One tool result that a request carries."""

    call_id: str | None
    is_error: bool
    size: int


@dataclass(slots=True, frozen=True)
class Message:
    """One message of a request in canonical form.

    `digest` is equal for equal meaning: `cache_control` removed, a plain string equal to one text block, JSON compared
    parsed with sorted keys, reasoning blocks left out.
    """

    role: str
    digest: bytes
    size: int
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    has_text: bool = True
    """Holds text or media beyond tool calls and tool results."""
    text_bytes: int = 0
    """Of its texts, tool calls and tool results as the model reads them; media and reasoning not."""
    texts: bytes = b""
    """Marks of its texts, each as a whole (`marks`); not of what the model said, nor of tool results."""
    lines: bytes = b""
    """Marks of the lines of its texts and tool results."""


@dataclass(slots=True)
class RequestFacts:
    """What a request body says."""

    dialect: str
    operation: str
    provider: str
    model: str | None = None
    stream: bool = False
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    """Further `gen_ai.request.*` attributes, by semconv name."""
    messages: tuple[Message, ...] = ()
    """Without system prompts."""
    system_bytes: int = 0
    tools_bytes: int = 0
    tool_count: int = 0
    tool_result_bytes: int = 0
    message_bytes: int = 0
    text_bytes: int = 0
    """Of all that the model reads as text: system prompt, tool definitions, messages. For estimates of tokens."""
    session_id: str | None = None
    """A conversation or session id that the body names (`metadata.user_id`, `conversation`, ...)."""
    auxiliary: bool = False
    """The request by itself is no turn: a title, a summary, a router prompt, a token count."""
    summarizes: bool = False
    """It seems to ask for a summary of the conversation that it holds; `auxiliary` too where that is known."""
    content: Mapping[str, str] | None = None
    """Opt-in content attributes by semconv name; None unless capture is on."""
    problem: str | None = None
    """Why the body could not be read, in a few words; the other fields are then what could be told without it."""


@dataclass(slots=True)
class Usage:
    """Token counts that a server reported; None = not reported. `input` includes cached and cache-written tokens,
    `output` includes reasoning."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    estimated: bool = False
    """The server reported nothing: `input` and `output` are estimates."""


@dataclass(slots=True)
class ResponseFacts:
    """What a response body says, with the times its parts arrived."""

    id: str | None = None
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    """What else the server tells of the call (its own times, the cost), by semconv name."""
    finish_reasons: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    message_digest: bytes | None = None
    """Canonical digest of the assistant message, comparable with `Message.digest` of the request that echoes it. Where
    an answer is a list of items that come back as messages of their own: of the first that is not reasoning."""
    lines: bytes = b""
    """Marks of the lines of the answer's text (`marks`)."""
    terminal: bool = False
    """The response is complete by its own format: the terminal event came, or the whole JSON body parsed."""
    error_type: str | None = None
    """The provider's error type, from an error body or an error event in the stream."""
    output_ns: list[int] = field(default_factory=list)
    """Arrival of each output chunk (content, reasoning, tool name/arguments); empty unless streamed."""
    first_answer_ns: int | None = None
    """Arrival of the first output chunk that is not reasoning; streams only."""
    output_bytes: int = 0
    """Of all generated text: content, reasoning, tool names and arguments."""
    streamed: bool = False
    outputs_before_gap: int | None = None
    """Output chunks seen before the first part of the body that the observer missed; None when it missed none."""
    outputs_at_last_gap: int = 0
    """Output chunks seen before the last part that it missed."""
    gaps_ns: list[int] | None = None
    """Between output chunks, in ascending order; None until `timing.output_gaps` was asked for them."""
    content: Mapping[str, str] | None = None
    problem: str | None = None
    """Why the body could not be read, in a few words."""


@dataclass(slots=True, frozen=True)
class Identity:
    """An explicit identity: who the client says it is."""

    source: str
    """`semconv.Source.LAUNCHER`, `HEADER` or `BODY`."""
    trajectory_id: str
    parent_id: str | None = None
    agent_name: str | None = None
    session_id: str | None = None
    """The id as the client sent it, for `gen_ai.conversation.id`."""
    auxiliary: bool = False
    """The client says that this call is no turn (`request_kind` and the like)."""
    tool_durations_s: tuple[tuple[str, float], ...] = ()
    """Durations of the previous turn's tools, told by the client: (tool name, seconds) in order."""
    session_only: bool = False
    """The session is named and no agent in it: sub-agents may call under the same id."""
    segment: int | None = None
    """Compactions so far, when the client counts them."""
    summarizes: bool = False
    """The client says that this call asks for a summary of the conversation, to go on with in its place."""
    compacted: bool = False
    """The client says that the conversation was compacted since its last call."""
    run_key: str | None = None
    """The user request that this call works on, when the client names it."""
    final: bool = False
    """The client says that this call is the last of its session."""
