"""What is remembered of trajectories, in bounded memory: the tables that the rules look things up in.

Everything is scoped by tenant. Times are monotonic nanoseconds. Nothing holds message text.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import xxhash

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import AttributeValue, ToolCall

_Entry = TypeVar("_Entry")

MAX_WAITING_TURNS: Final = 64
"""Turns of one trajectory whose tool calls wait for results at one time; past it the oldest are forgotten, counted."""

MAX_SEEN_CALLS: Final = 1024
"""Tool calls of one trajectory that a later one is compared with; the oldest go first."""


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
    tags: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Launcher tags by tag name, the latest value of each."""
    previous_run: tuple[bytes, bytes] | None = None
    """Trace id and root span id of the run (or of the earlier part of this run) to link."""
    parent_link: tuple[bytes, bytes] | None = None
    """Trace id and span id of the parent trajectory's tool span that started this one; told when exactly one tool call
    was waiting there."""


@dataclass(slots=True)
class Turn:
    """The facts of a turn that later calls are compared with."""

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
    attempts: int = 1
    status: str | None = None
    """None while an attempt is in flight."""
    end_ns: int = 0
    waiting: tuple[ToolCall, ...] = ()
    """Tool calls of the response that wait for results."""
    call_ids: frozenset[str] = frozenset()
    """Ids of all tool calls of the response."""
    message_digest: bytes | None = None


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
    auxiliary: bool = False
    """Holds nothing but one auxiliary call of an unknown agent."""
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
    runs: int = 0
    turns: int = 0
    segment: int = 0
    inflight: int = 0
    """Calls that are placed and not finished, auxiliary ones included."""
    turns_inflight: int = 0
    last_activity_ns: int = 0
    turn: Turn | None = None
    """The latest turn."""
    chain: bytes = b""
    """Prefix chain of the latest turn's request."""
    asking: list[Turn] = field(default_factory=list)
    """Turns with waiting tool calls, oldest first."""
    seen_calls: "array[int]" = field(default_factory=lambda: array("Q"))
    forgotten: bool = False

    def repeats(self, call: ToolCall) -> bool:
        """Whether a call of the same tool with the same arguments came before; remembers the call."""
        mark = xxhash.xxh3_64_intdigest(b"%b\0%b" % (call.name.encode("utf-8", "replace"), call.arguments_digest))
        before = mark in self.seen_calls
        if not before:
            self.seen_calls.append(mark)
            if len(self.seen_calls) > MAX_SEEN_CALLS:
                del self.seen_calls[0]
        return before


class State:
    """The tables. All lookups cost O(1) in the number of trajectories."""

    def __init__(self, *, max_trajectories: int) -> None:
        self.max_trajectories = max_trajectories
        self.trajectories: OrderedDict[str, Trajectory] = OrderedDict()
        """By key, least recently active first."""
        self.open: OrderedDict[str, Trajectory] = OrderedDict()
        """Those with an open run that has not given its final answer, least recently active first."""
        self.done: OrderedDict[str, Trajectory] = OrderedDict()
        """Those whose open run gave its final answer, in the order of these answers."""
        self.evictions = 0
        self.forgotten_tool_calls = 0
        self._owners: dict[str, str] = {}
        self._ends: dict[bytes, tuple[Trajectory, ...]] = {}
        self._calls: dict[bytes, tuple[tuple[Trajectory, Turn], ...]] = {}

    def add(self, trajectory: Trajectory) -> Trajectory | None:
        """Remember a trajectory; returns the one that had to go for it."""
        self._owners.setdefault(trajectory.id, trajectory.tenant)
        self.trajectories[trajectory.key] = trajectory
        if len(self.trajectories) <= self.max_trajectories:
            return None
        evicted = next(iter(self.trajectories.values()))
        self.evictions += 1
        return evicted

    def forget(self, trajectory: Trajectory) -> None:
        """Drop a trajectory from all tables."""
        trajectory.forgotten = True
        for table in (self.trajectories, self.open, self.done):
            table.pop(trajectory.key, None)
        if self._owners.get(trajectory.id) == trajectory.tenant:
            del self._owners[trajectory.id]
        self.unindex_end(trajectory)
        for turn in trajectory.asking:
            self._unindex_calls(trajectory, turn)
        trajectory.asking.clear()

    def public_id(self, verbatim: str, tenant: str) -> str:
        """The id as the client sent it, or with the tenant's mark while another tenant's trajectory bears it."""
        owner = self._owners.get(verbatim, tenant)
        return verbatim if owner == tenant else f"{verbatim}@{tenant[:8]}"

    def touch(self, trajectory: Trajectory, now_ns: int) -> None:
        """Note activity."""
        trajectory.last_activity_ns = max(trajectory.last_activity_ns, now_ns)
        for table in (self.trajectories, self.open):
            if trajectory.key in table:
                table.move_to_end(trajectory.key)

    def index_end(self, trajectory: Trajectory) -> None:
        """Make the trajectory findable by the chain of its latest turn."""
        if trajectory.turn is not None and (end := trajectory.turn.chain_end):
            self._ends[end] = (*self._ends.get(end, ()), trajectory)

    def unindex_end(self, trajectory: Trajectory) -> None:
        """Undo `index_end`."""
        if trajectory.turn is not None:
            end = trajectory.turn.chain_end
            rest = tuple(other for other in self._ends.get(end, ()) if other is not trajectory)
            _put(self._ends, end, rest)

    def ending_with(self, chain_end: bytes) -> tuple[Trajectory, ...]:
        """Trajectories whose latest request held exactly these messages."""
        return self._ends.get(chain_end, ())

    def ask(self, trajectory: Trajectory, turn: Turn) -> None:
        """The turn's response asked for the tools in `turn.waiting`."""
        trajectory.asking.append(turn)
        for call in turn.waiting:
            if call.id:
                key = _call_key(trajectory.tenant, call.id)
                self._calls[key] = (*self._calls.get(key, ()), (trajectory, turn))
        if len(trajectory.asking) > MAX_WAITING_TURNS:
            self.forgotten_tool_calls += len(trajectory.asking[0].waiting)
            self.answered(trajectory, trajectory.asking[0])

    def answered(self, trajectory: Trajectory, turn: Turn) -> None:
        """The turn's calls wait no more."""
        self._unindex_calls(trajectory, turn)
        trajectory.asking.remove(turn)
        turn.waiting = ()

    def waiting_for(self, tenant: str, call_id: str) -> tuple[tuple[Trajectory, Turn], ...]:
        """Trajectories and turns that wait for a result with this id."""
        return self._calls.get(_call_key(tenant, call_id), ())

    def indexed_calls(self) -> int:
        """Distinct tool-call ids that wait for a result."""
        return len(self._calls)

    def idle_before(self, table: OrderedDict[str, Trajectory], limit_ns: int) -> list[Trajectory]:
        """Trajectories of a table in order of activity, nothing in flight, whose last activity is before `limit_ns`."""
        idle = []
        for trajectory in table.values():
            if trajectory.last_activity_ns > limit_ns:
                break
            if not trajectory.inflight:
                idle.append(trajectory)
        return idle

    def _unindex_calls(self, trajectory: Trajectory, turn: Turn) -> None:
        for call in turn.waiting:
            if call.id:
                key = _call_key(trajectory.tenant, call.id)
                _put(self._calls, key, tuple(pair for pair in self._calls.get(key, ()) if pair[1] is not turn))


def _put(table: dict[bytes, tuple[_Entry, ...]], key: bytes, rest: tuple[_Entry, ...]) -> None:
    if rest:
        table[key] = rest
    else:
        table.pop(key, None)


def _call_key(tenant: str, call_id: str) -> bytes:
    return xxhash.xxh3_128_digest(f"{tenant}\0{call_id}".encode("utf-8", "replace"))


def derived_id(size: int, *parts: object) -> bytes:
    """`size` bytes that follow from `parts` alone, the same in every process, never all zero."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=size).digest()
    return digest if any(digest) else b"\1".rjust(size, b"\0")
