"""What is remembered of a trajectory, its runs and its turns. Times are monotonic nanoseconds. No text is held."""

import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

import xxhash

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import AttributeValue, ToolCall

MAX_SEEN_CALLS: Final = 1024
"""Tool calls of one trajectory that a later one is compared with; the oldest go first."""


NO_TAGS: Final[Mapping[str, AttributeValue]] = MappingProxyType({})

MAX_POSITION: Final = 255
"""Tool calls of one response beyond this one start no sub-agents that could be told."""

_PACKED: Final = struct.Struct("8sB?")


@dataclass(slots=True)
class Run:
    """An agent run, as its root span needs it. Past the bounds of one trace it continues in a second `Run` object with
    the same `run_id` and a trace of its own, whose `previous_run` is the first."""

    run_id: str
    run_index: int
    trace_id: bytes
    root_span_id: bytes
    parent_span_id: bytes | None
    """The client's span, when it sent a context with the run's first call."""
    trajectory_id: str
    parent_trajectory_id: str | None
    agent_name: str | None
    agent_depth: int
    source: str
    confidence: float
    session_id: str | None
    identity_key: str | None
    """The relay's key of the first call; None without explicit identity in the head."""
    started_ns: int
    last_activity_ns: int
    turn_count: int = 0
    tool_call_count: int = 0
    status: str = semconv.Status.ABANDONED
    """Final once the run was handed out as closed."""
    tags: Mapping[str, AttributeValue] = field(default_factory=lambda: NO_TAGS)
    """Launcher tags by tag name, the latest value of each."""
    previous_run: tuple[bytes, bytes] | None = None
    """Trace id and root span id of the run (or of the earlier part of this run) to link."""
    parent_link: tuple[bytes, bytes] | None = None
    """Trace id and span id of the parent trajectory's tool span that started this one; told when exactly one tool call
    was waiting there."""


class Argument(NamedTuple):
    """A string argument of a tool call, which may be a sub-agent's task."""

    mark: bytes
    position: int
    """Of the tool call among its response's."""
    telling: bool
    """Long enough to tell by itself."""


class Asked(NamedTuple):
    """The tool call that asked for a sub-agent."""

    turn: "Turn"
    position: int
    telling: bool


@dataclass(slots=True, eq=False)
class Turn:
    """The facts of a turn that later calls are compared with."""

    trajectory: "Trajectory"
    turn_id: str
    turn_index: int
    run: Run
    chain_end: bytes
    """Digest over all messages of its request; empty when the request held none."""
    message_count: int
    context: tuple[bytes, bytes]
    """Trace id and span id of the first attempt's span."""
    shared_bytes: int
    text_tail: int
    """Messages at the end of its request that are mere text; some harnesses say them anew, further down, each turn."""
    stored: bool = False
    """The server may hold the response, for a request that names it."""
    attempts: int = 1
    status: str | None = None
    """None while an attempt is in flight."""
    end_ns: int = 0
    waiting: tuple[ToolCall, ...] = ()
    """Tool calls of the response that wait for results."""
    call_ids: tuple[str, ...] = ()
    """Ids of all tool calls of the response."""
    message_digest: bytes | None = None
    response_id: str | None = None
    """By which a later request can name the response, where the server holds the history."""
    packed_arguments: bytes = b""
    """String arguments of the response's calls: `arguments` in few bytes."""

    @property
    def arguments(self) -> list[Argument]:
        """String arguments of the response's calls that a sub-agent is looked for by."""
        return [Argument(*values) for values in _PACKED.iter_unpack(self.packed_arguments)]

    @arguments.setter
    def arguments(self, arguments: Iterable[Argument]) -> None:
        self.packed_arguments = b"".join([_PACKED.pack(*one) for one in arguments if one.position <= MAX_POSITION])


@dataclass(slots=True, eq=False)
class Trajectory:
    """One agent's work on one task."""

    key: str
    id: str
    tenant: str
    explicit: bool
    source: str
    confidence: float
    scope: tuple[tuple[str, str], ...]
    """Launcher tags that do not change while one agent works: calls that differ in them never belong together."""
    client: str = ""
    """User-Agent and dialect of its first call: texts that two clients have in common tell nothing."""
    auxiliary: bool = False
    """Holds nothing but one auxiliary call of an unknown agent; a root with the same words may take it over."""
    session: str | None = None
    """Key of the session that the trajectory is part of, when a client names the session and not the agents in it."""
    parent_id: str | None = None
    depth: int = 0
    agent_name: str | None = None
    session_id: str | None = None
    parent_link: tuple[bytes, bytes] | None = None
    run: Run | None = None
    """The open run."""
    done_ns: int | None = None
    """The open run gave its final answer then; it is handed out when nothing continues it."""
    latest_run: Run | None = None
    """The open run, or the one closed last."""
    spans_in_trace: int = 0
    trace_started_ns: int = 0
    trace_part: int = 0
    """Traces that the open run went through before this one."""
    run_key: str | None = None
    """What the client calls the latest user request."""
    runs: int = 0
    turns: int = 0
    segment: int = 0
    inflight: int = 0
    """Calls that are placed and not finished, auxiliary ones included."""
    turns_inflight: int = 0
    last_activity_ns: int = 0
    busy_until_ns: int = 0
    """Until when its latest turn is known to go on; kept by who counts the time of agents."""
    model: str = ""
    """What its latest turn asked for, as it stands on metrics."""
    turn: Turn | None = None
    """The latest turn."""
    chain: bytes = b""
    """Prefix chain of the latest turn's request."""
    openings: bytes = b""
    """Marks of the texts by which a root and the auxiliary calls beside it find each other, for some seconds."""
    said: bytes = b""
    """Marks of the lines of the latest answer without tool calls."""
    summary: bytes = b""
    """Marks of the lines of the latest summary of the conversation, until the agent goes on with it."""
    compacting: bool = False
    """A summary of the conversation was made since the latest turn."""
    offering: Turn | None = None
    """The turn whose calls were answered last; a sub-agent that works on by itself may still begin."""
    asked: Asked | None = None
    """The tool call that seems to have started this trajectory, until that is confirmed."""
    children: "list[Trajectory] | None" = None
    """Trajectories that seem to be this one's sub-agents, until that is confirmed."""
    nested: int = 0
    """Sub-agents that call under this trajectory's session."""
    asking: list[Turn] = field(default_factory=list)
    """Turns with waiting tool calls, oldest first."""
    seen_calls: "array[int] | None" = None
    forgotten: bool = False

    def repeats(self, call: ToolCall) -> bool:
        """Whether a call of the same tool with the same arguments came before; remembers the call."""
        mark = xxhash.xxh3_64_intdigest(b"%b\0%b" % (call.name.encode("utf-8", "replace"), call.arguments_digest))
        if self.seen_calls is None:
            self.seen_calls = array("Q")
        before = mark in self.seen_calls
        if not before:
            self.seen_calls.append(mark)
            if len(self.seen_calls) > MAX_SEEN_CALLS:
                del self.seen_calls[0]
        return before
