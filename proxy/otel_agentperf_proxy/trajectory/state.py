"""What is remembered of trajectories, in bounded memory: the tables that the rules look things up in.

Everything is scoped by tenant. Times are monotonic nanoseconds. Nothing holds message text.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Collection
from typing import Final

import xxhash

from otel_agentperf_proxy import marks
from otel_agentperf_proxy.trajectory.history import entry
from otel_agentperf_proxy.trajectory.index import Index
from otel_agentperf_proxy.trajectory.records import Trajectory, Turn

MAX_WAITING_TURNS: Final = 64
"""Turns of one trajectory whose tool calls wait for results at one time; past it the oldest are forgotten, counted."""

MAX_ARGUMENTS: Final = 64
"""String arguments of one turn's tool calls that a sub-agent is looked for by."""

TELLING_CHARS: Final = 16
"""An argument of fewer characters (`main.py`) may be anybody's first words."""

MIN_ANSWER_BYTES: Final = 3 * marks.MARK_BYTES
"""Marks of an answer that is looked for in other calls: one of fewer lines may be anybody's."""

NEAR_NS: Final = 10 * 10**9
"""An auxiliary call about the user's words and the agent's first call with them are no further apart. (opencode 1.18
takes up to 4 s between the two.)"""


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
        self.beside: OrderedDict[str, Trajectory] = OrderedDict()
        """Auxiliary calls of nobody known, in the order of their ends: a root may still take them over."""
        self._owners: dict[str, str] = {}
        self._ends: Index[bytes, Trajectory] = Index()
        self._nearly: Index[bytes, Trajectory] = Index()
        self._failed: Index[bytes, Trajectory] = Index()
        self._calls: Index[bytes, Turn] = Index()
        self._responses: Index[bytes, Turn] = Index()
        self._arguments: Index[bytes, Turn] = Index()
        self._openings: Index[bytes, Trajectory] = Index()
        self._fresh: deque[tuple[int, bytes, Trajectory]] = deque()
        self._answers: Index[bytes, Trajectory] = Index()
        self._summaries: Index[bytes, Trajectory] = Index()

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
        for table in (self.trajectories, self.open, self.done, self.beside):
            table.pop(trajectory.key, None)
        if self._owners.get(trajectory.id) == trajectory.tenant:
            del self._owners[trajectory.id]
        self.unindex_end(trajectory)
        self.set_openings(trajectory, b"")
        self.set_said(trajectory, b"")
        self.set_summary(trajectory, b"")
        for turn in trajectory.asking:
            self._unindex_calls(turn)
            self.withdraw(turn)
        trajectory.asking.clear()
        self.offer(trajectory, None)
        if trajectory.asked is not None:
            (trajectory.asked.turn.trajectory.children or []).remove(trajectory)
            trajectory.asked = None
        for child in trajectory.children or ():
            child.asked = None
        trajectory.children = None

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

    # By the messages of the latest request.

    def index_end(self, trajectory: Trajectory) -> None:
        """Make the trajectory findable by the messages of its latest request, and by the response to it."""
        turn = trajectory.turn
        if turn is not None and turn.chain_end:
            self._ends.add(turn.chain_end, trajectory)
            if turn.message_count > 2:
                self._nearly.add(entry(trajectory.chain, turn.message_count - 1), trajectory)

    def unindex_end(self, trajectory: Trajectory) -> None:
        """Undo `index_end`, `index_failure` and `index_response`."""
        turn = trajectory.turn
        if turn is not None and turn.chain_end:
            self._ends.discard(turn.chain_end, trajectory)
            self._nearly.discard(entry(trajectory.chain, turn.message_count - 1), trajectory)
            self._failed.discard(turn.chain_end, trajectory)
        if turn is not None and turn.response_id is not None:
            self._responses.discard(_key(trajectory.tenant, turn.response_id), turn)
            turn.response_id = None

    def ending_with(self, chain_end: bytes) -> Collection[Trajectory]:
        """Trajectories whose latest request held exactly these messages."""
        return self._ends.under(chain_end)

    def nearly_ending_with(self, chain_end: bytes) -> Collection[Trajectory]:
        """Trajectories whose latest request held exactly these messages, and one more."""
        return self._nearly.under(chain_end)

    def index_failure(self, turn: Turn, *, failed: bool) -> None:
        """Make the turn's trajectory findable by its messages as one that may try again, or no more."""
        if turn.chain_end:
            (self._failed.add if failed else self._failed.discard)(turn.chain_end, turn.trajectory)

    def failed_with(self, chain_end: bytes) -> Collection[Trajectory]:
        """Trajectories whose latest request held exactly these messages, and failed."""
        return self._failed.under(chain_end)

    def index_response(self, turn: Turn, response_id: str) -> None:
        """Make the turn, its trajectory's latest, findable by the id of its response."""
        turn.response_id = response_id
        self._responses.add(_key(turn.trajectory.tenant, response_id), turn)

    def answered_by(self, tenant: str, response_id: str) -> Collection[Turn]:
        """Latest turns of their trajectories whose response has this id."""
        return self._responses.under(_key(tenant, response_id))

    # By the tool calls that wait.

    def ask(self, turn: Turn) -> None:
        """The turn's response asked for the tools in `turn.waiting`."""
        trajectory = turn.trajectory
        trajectory.asking.append(turn)
        for call in turn.waiting:
            if call.id:
                self._calls.add(_key(trajectory.tenant, call.id), turn)
        for argument in turn.arguments:
            self._arguments.add(_key(trajectory.tenant, argument.mark), turn)
        if len(trajectory.asking) > MAX_WAITING_TURNS:
            self.forgotten_tool_calls += len(trajectory.asking[0].waiting)
            self.answered(trajectory.asking[0])

    def answered(self, turn: Turn) -> None:
        """The turn's calls wait no more. A sub-agent that they started may still begin until the next ones come."""
        trajectory = turn.trajectory
        self._unindex_calls(turn)
        trajectory.asking.remove(turn)
        turn.waiting = ()
        if turn.packed_arguments:
            self.offer(trajectory, turn)

    def offer(self, trajectory: Trajectory, turn: Turn | None) -> None:
        """Keep this turn's arguments findable after its calls were answered, in the place of the one before."""
        if trajectory.offering is not None:
            self.withdraw(trajectory.offering)
        trajectory.offering = turn

    def withdraw(self, turn: Turn, position: int | None = None) -> None:
        """The arguments of one of the turn's calls, or of all, are not to be found any more."""
        arguments = turn.arguments
        kept = [one for one in arguments if position is not None and one.position != position]
        left = {one.mark for one in kept}
        for one in arguments:
            if one.mark not in left:
                self._arguments.discard(_key(turn.trajectory.tenant, one.mark), turn)
        turn.arguments = kept

    def waiting_for(self, tenant: str, call_id: str) -> Collection[Turn]:
        """Turns that wait for a result with this id."""
        return self._calls.under(_key(tenant, call_id))

    def asking_with(self, tenant: str, mark: bytes) -> Collection[Turn]:
        """Turns whose calls have an argument with this mark, and wait, or had their results last."""
        return self._arguments.under(_key(tenant, mark))

    def indexed_calls(self) -> int:
        """Distinct tool-call ids that wait for a result."""
        return len(self._calls)

    def index_entries(self) -> int:
        """Keys of all indexes."""
        by_trajectory = (self._ends, self._nearly, self._failed, self._openings, self._answers, self._summaries)
        by_turn = (self._calls, self._responses, self._arguments)
        return sum(map(len, by_trajectory)) + sum(map(len, by_turn))

    def _unindex_calls(self, turn: Turn) -> None:
        for call in turn.waiting:
            if call.id:
                self._calls.discard(_key(turn.trajectory.tenant, call.id), turn)

    # By texts.

    def set_openings(self, trajectory: Trajectory, texts: bytes, now_ns: int = 0) -> None:
        """Make the trajectory findable by the user's texts, in the place of those before, for `NEAR_NS`."""
        for mark in marks.split(trajectory.openings):
            self._openings.discard(_opening_key(trajectory, mark), trajectory)
        trajectory.openings = texts
        for mark in marks.split(texts):
            self._openings.add(_opening_key(trajectory, mark), trajectory)
        if texts:
            self._fresh.append((now_ns, texts, trajectory))

    def expire_openings(self, now_ns: int) -> None:
        """Take back what `set_openings` did too long ago."""
        while self._fresh and self._fresh[0][0] + NEAR_NS < now_ns:
            _, texts, trajectory = self._fresh.popleft()
            if trajectory.openings is texts:
                self.set_openings(trajectory, b"")

    def opened_with(self, tenant: str, mark: bytes, *, auxiliary: bool) -> Collection[Trajectory]:
        """Trajectories findable by this text: roots, or auxiliary calls of nobody known."""
        return self._openings.under(_key(tenant, mark + bytes([auxiliary])))

    def set_said(self, trajectory: Trajectory, lines: bytes) -> None:
        """Note the latest answer, and make the trajectory findable by its first line when it has some lines."""
        if len(trajectory.said) >= MIN_ANSWER_BYTES:
            self._answers.discard(_key(trajectory.tenant, trajectory.said[: marks.MARK_BYTES]), trajectory)
        trajectory.said = lines
        if len(lines) >= MIN_ANSWER_BYTES:
            self._answers.add(_key(trajectory.tenant, lines[: marks.MARK_BYTES]), trajectory)

    def set_summary(self, trajectory: Trajectory, lines: bytes) -> None:
        """Make the trajectory findable by the lines of a summary, in the place of the one before."""
        for line in marks.split(trajectory.summary):
            self._summaries.discard(_key(trajectory.tenant, line), trajectory)
        trajectory.summary = lines
        for line in marks.split(lines):
            self._summaries.add(_key(trajectory.tenant, line), trajectory)

    def saying(self, tenant: str, line: bytes) -> Collection[Trajectory]:
        """Trajectories whose latest answer begins with this line."""
        return self._answers.under(_key(tenant, line))

    def summarized_with(self, tenant: str, line: bytes) -> Collection[Trajectory]:
        """Trajectories in whose latest summary this line is."""
        return self._summaries.under(_key(tenant, line))

    def idle_before(self, table: OrderedDict[str, Trajectory], limit_ns: int) -> list[Trajectory]:
        """Trajectories of a table in order of activity, nothing in flight, whose last activity is before `limit_ns`."""
        idle = []
        for trajectory in table.values():
            if trajectory.last_activity_ns > limit_ns:
                break
            if not trajectory.inflight:
                idle.append(trajectory)
        return idle


def _opening_key(trajectory: Trajectory, mark: bytes) -> bytes:
    return _key(trajectory.tenant, mark + bytes([trajectory.auxiliary]))


def _key(tenant: str, what: str | bytes) -> bytes:
    data = what if isinstance(what, bytes) else what.encode("utf-8", "replace")
    return xxhash.xxh3_128_digest(b"%b\0%b" % (tenant.encode(), data))


def derived_id(size: int, *parts: object) -> bytes:
    """`size` bytes that follow from `parts` alone, the same in every process, never all zero."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=size).digest()
    return digest if any(digest) else b"\1".rjust(size, b"\0")
