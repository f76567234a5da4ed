"""Calls become turns of runs of trajectories.

An explicit identity (launcher, header, body) names the trajectory; without one the rules of `rules.RULES` look for the
trajectory that the call continues, and when none can tell it is a new root. Within the trajectory the call is another
attempt of the last turn, or the next turn of the open run, or the first turn of a new run, or an auxiliary call that
belongs to the session but is no turn.

A run whose turn ended without tool calls has its final answer. It stays open for a moment, because a replay of
recorded history may go on with the recorded tool call whatever the model answered; it closes with the next user
request, or after `close_grace_s`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Identity, RequestFacts, ResponseFacts
from otel_agentperf_proxy.trajectory import history, rules
from otel_agentperf_proxy.trajectory.agents import identity_key as key_of
from otel_agentperf_proxy.trajectory.agents import trajectory_key
from otel_agentperf_proxy.trajectory.rules import Call
from otel_agentperf_proxy.trajectory.runs import Runs, can_continue, is_new_request
from otel_agentperf_proxy.trajectory.state import Run, State, Trajectory, Turn, derived_id
from otel_agentperf_proxy.trajectory.tools import ToolSpan, is_assistant, take_results, text_tail, tool_span_id

_CHANGING_TAGS: Final = frozenset(("phase", "level", "outcome", "trajectory.final"))
"""Launcher tags that may change while one agent works."""


@dataclass(slots=True)
class Placement:
    """Where a call belongs."""

    run: Run
    source: str
    """The rule that decided, one of `semconv.Source`."""
    confidence: float
    segment_index: int
    turn_index: int | None
    """None for auxiliary calls."""
    turn_id: str
    kind: str
    attempt_index: int
    first_attempt: tuple[bytes, bytes] | None
    """Trace id and span id of the turn's first attempt, for attempts above 0."""
    shared_prefix_bytes: int | None
    """Bytes of the leading messages that the trajectory's previous turn sent too; None for auxiliary calls."""
    trajectory: Trajectory = field(repr=False)
    turn: Turn | None = field(repr=False)
    finished_tools: list[ToolSpan] = field(default_factory=list)
    closed_runs: list[Run] = field(default_factory=list)
    """Runs (or parts of runs, at a change of trace) that this call ended: their root spans can be written."""
    opened_run: bool = False
    """The call opened its run, or moved it to a new trace."""
    finished: bool = False


class Linker:
    """All live trajectories of a proxy. Not thread-safe; no clock: times come with the calls.

    Args:
        idle_limit_s: an open run without activity for so long is abandoned.
        max_trajectories: bound of the memory; past it the least recently active one is forgotten, counted as eviction.
        max_spans_per_trace: a run with more spans goes on in a new trace.
        close_grace_s: how long a run with its final answer waits for a request that continues it after all.
        forget_after_s: a trajectory without activity for so long is forgotten; it can be continued until then.
    """

    def __init__(
        self,
        *,
        idle_limit_s: float = 600.0,
        max_trajectories: int = 100_000,
        max_spans_per_trace: int = 1000,
        close_grace_s: float = 2.0,
        forget_after_s: float = 172_800.0,
    ) -> None:
        self._idle_limit_ns = round(idle_limit_s * 1e9)
        self._grace_ns = round(close_grace_s * 1e9)
        self._forget_after_ns = round(max(forget_after_s, idle_limit_s) * 1e9)
        self._state = State(max_trajectories=max_trajectories)
        self._runs = Runs(self._state, max_spans_per_trace=max_spans_per_trace)
        self._inflight = 0

    def place(
        self,
        *,
        tenant: str,
        identity: Identity | None,
        request: RequestFacts,
        tags: Mapping[str, str],
        t0_ns: int,
        trace_id: bytes,
        span_id: bytes,
        parent_span_id: bytes | None,
        identity_key: str | None,
    ) -> Placement:
        """Place a call whose request was read. Every placement must be given to `finish` once.

        Args:
            identity: what `agents.identify` told for the call's head.
            tags: launcher tags by tag name.
            t0_ns: request head received.
            trace_id: of the forwarded context.
            span_id: of the call's own span.
            parent_span_id: the client's span, when the client sent a context.
            identity_key: the key under which the relay chose `trace_id`.
        """
        auxiliary = request.auxiliary or (identity is not None and identity.auxiliary)
        if identity is None and request.session_id:
            identity = Identity(
                source=semconv.Source.BODY,
                trajectory_id=request.session_id,
                parent_id=tags.get("parent.id"),
                agent_name=tags.get("agent.name"),
                session_id=request.session_id,
            )
        scope = tuple(sorted((name, value) for name, value in tags.items() if name not in _CHANGING_TAGS))
        chain = b"" if auxiliary else history.chain(tenant, request.messages)
        call = Call(
            tenant, scope, request, chain, identity, tags, t0_ns, trace_id, span_id, parent_span_id, identity_key
        )

        link = self._link(call, auxiliary)
        closed: list[Run] = []
        if link is None:
            link = self._new_root(call, auxiliary, closed)
        placement = self._attach_auxiliary(call, link) if auxiliary else self._take_turn(call, link)
        placement.closed_runs[:0] = closed

        trajectory = link.trajectory
        trajectory.inflight += 1
        trajectory.turns_inflight += placement.turn is not None
        trajectory.spans_in_trace += 1 + len(placement.finished_tools)
        self._inflight += 1
        self._state.touch(trajectory, t0_ns)
        run = placement.run
        if trajectory.done_ns is None:
            run.last_activity_ns = max(run.last_activity_ns, t0_ns)
        if tags and run.tags != tags:
            run.tags = {**run.tags, **tags}
        return placement

    def finish(self, placement: Placement, response: ResponseFacts | None, status: str, end_ns: int) -> list[Run]:
        """Note how a placed call ended; returns the runs that closed. `status` is one of `semconv.Status`."""
        if placement.finished:
            return []
        placement.finished = True
        self._inflight -= 1
        trajectory, turn, run = placement.trajectory, placement.turn, placement.run
        trajectory.inflight -= 1
        trajectory.turns_inflight -= turn is not None
        if turn is not None:
            self._note_response(turn, response, status, end_ns)
        if trajectory.forgotten:
            return []
        self._state.touch(trajectory, end_ns)
        if turn is None:
            if trajectory.done_ns is None:
                run.last_activity_ns = max(run.last_activity_ns, end_ns)
            return [] if can_continue(trajectory) else self._runs.close(trajectory)
        run.last_activity_ns = max(run.last_activity_ns, end_ns)
        if status == semconv.Status.OK and str(run.tags.get("trajectory.final", "")).lower() == "true":
            # The launcher says that nobody will run the tools of this answer.
            turn.waiting = ()
            for asking in tuple(trajectory.asking):
                self._state.answered(trajectory, asking)
        if turn.waiting:
            self._state.ask(trajectory, turn)
        elif (
            status == semconv.Status.OK
            and not trajectory.asking
            and not trajectory.turns_inflight
            and trajectory.run is not None
        ):
            self._runs.answered(trajectory, end_ns)
        return [] if can_continue(trajectory) or trajectory.inflight else self._runs.close(trajectory)

    def expire(self, now_ns: int) -> list[Run]:
        """Close runs that nothing continued, forget idle trajectories; returns the runs that closed."""
        state = self._state
        closed: list[Run] = []
        for trajectory in tuple(state.done.values()):
            if trajectory.done_ns is None or trajectory.done_ns + self._grace_ns > now_ns:
                break
            closed += self._runs.close(trajectory)
        for trajectory in state.idle_before(state.open, now_ns - self._idle_limit_ns):
            closed += self._runs.close(trajectory)
        for trajectory in state.idle_before(state.trajectories, now_ns - self._forget_after_ns):
            state.forget(trajectory)
        return closed

    def close_all(self) -> list[Run]:
        """Close every open run, for the end of the process."""
        state = self._state
        return [
            run for trajectory in (*state.done.values(), *state.open.values()) for run in self._runs.close(trajectory)
        ]

    def stats(self) -> dict[str, int]:
        """Counts for status and metrics.

        `active_trajectories` have an open run without final answer, `open_runs` are all runs not yet handed out;
        `inflight` are calls placed and not finished; `evictions` and `forgotten_tool_calls` count what the bounds of
        the memory cost since the start.
        """
        state = self._state
        return {
            "trajectories": len(state.trajectories),
            "active_trajectories": len(state.open),
            "open_runs": len(state.open) + len(state.done),
            "inflight": self._inflight,
            "indexed_tool_calls": state.indexed_calls(),
            "evictions": state.evictions,
            "forgotten_tool_calls": state.forgotten_tool_calls,
        }

    # --- The trajectory --------------------------------------------------------------------------------------------

    def _link(self, call: Call, auxiliary: bool) -> rules.Link | None:
        identity = call.identity
        if identity is not None:
            known = self._state.trajectories.get(key_of(identity, call.tenant))
            if known is not None and identity.agent_name:
                known.agent_name = identity.agent_name
            return rules.Link(known, identity.source, 1.0) if known is not None else None
        if auxiliary:
            return None
        for rule in rules.RULES:
            if link := rule(self._state, call):
                return link
        return None

    def _new_root(self, call: Call, auxiliary: bool, closed: list[Run]) -> rules.Link:
        identity, state = call.identity, self._state
        if identity is not None:
            key, source, confidence = key_of(identity, call.tenant), identity.source, 1.0
            trajectory_id = state.public_id(identity.trajectory_id, call.tenant)
            parent_id, agent_name, session_id = identity.parent_id, identity.agent_name, identity.session_id
            if parent_id == identity.trajectory_id:
                parent_id = None
        else:
            # With the model's words in it, the conversation did begin somewhere that we could not tell; a request that
            # could not be read may have held such.
            begun = call.request.problem is not None or any(is_assistant(message) for message in call.request.messages)
            source, confidence = semconv.Source.NEW, 0.5 if begun else 1.0
            key = trajectory_id = derived_id(16, call.trace_id.hex(), call.span_id.hex()).hex()
            parent_id, agent_name, session_id = call.tags.get("parent.id"), call.tags.get("agent.name"), None
        trajectory = Trajectory(
            key=key,
            id=trajectory_id,
            tenant=call.tenant,
            explicit=identity is not None,
            source=source,
            confidence=confidence,
            scope=call.scope,
            agent_name=agent_name,
            session_id=session_id,
            auxiliary=auxiliary and identity is None,
        )
        if parent_id is not None:
            self._under_parent(trajectory, parent_id)
        if evicted := state.add(trajectory):
            closed += self._runs.close(evicted)
            state.forget(evicted)
        return rules.Link(trajectory, source, confidence)

    def _under_parent(self, trajectory: Trajectory, parent_id: str) -> None:
        parent = self._state.trajectories.get(trajectory_key(trajectory.tenant, parent_id))
        if parent is None:
            trajectory.parent_id, trajectory.depth = parent_id, 1
            return
        trajectory.parent_id, trajectory.depth = parent.id, parent.depth + 1
        waiting = [(turn, position) for turn in parent.asking for position, _ in enumerate(turn.waiting)]
        if len(waiting) == 1:
            turn, position = waiting[0]
            trajectory.parent_link = (turn.run.trace_id, tool_span_id(turn, position))

    # --- The turn --------------------------------------------------------------------------------------------------

    def _attach_auxiliary(self, call: Call, link: rules.Link) -> Placement:
        trajectory = link.trajectory
        run = trajectory.run or trajectory.latest_run
        opened = run is None
        return Placement(
            run=run or self._runs.open(trajectory, call, link),
            source=link.source,
            confidence=link.confidence,
            segment_index=trajectory.segment,
            turn_index=None,
            turn_id=call.span_id.hex(),
            kind=semconv.KIND_AUXILIARY,
            attempt_index=0,
            first_attempt=None,
            shared_prefix_bytes=None,
            trajectory=trajectory,
            turn=None,
            opened_run=opened,
        )

    def _take_turn(self, call: Call, link: rules.Link) -> Placement:
        trajectory, last = link.trajectory, link.trajectory.turn
        run = trajectory.run
        if run is not None and last is not None and rules.is_retry(last, call.chain):
            return self._retry(trajectory, last, run, link)

        messages = call.request.messages
        shared = history.shared(trajectory.chain, call.chain)
        waited = bool(trajectory.asking)
        told = call.identity.tool_durations_s if call.identity is not None else ()
        if not waited and self._is_compacted(trajectory, call, shared):
            trajectory.segment += 1
        finished = take_results(self._state, trajectory, messages, call.chain, call.t0_ns, told)

        closed: list[Run] = []
        before = trajectory.latest_run
        if run is not None and is_new_request(trajectory, run, messages, shared, waited or bool(finished)):
            closed += self._runs.close(trajectory)
            run = None
        if run is None:
            run = self._runs.open(trajectory, call, link)
        else:
            part, run = run, self._runs.go_on(trajectory, run, call)
            if run is not part:
                closed.append(part)

        context = (run.trace_id if call.parent_span_id is None else call.trace_id, call.span_id)
        turn = Turn(
            turn_id=call.span_id.hex(),
            turn_index=trajectory.turns,
            run=run,
            chain_end=history.entry(call.chain, len(messages)),
            message_count=len(messages),
            context=context,
            shared_bytes=sum(message.size for message in messages[:shared]),
            text_tail=text_tail(messages),
        )
        trajectory.turns += 1
        run.turn_count += 1
        self._remember(trajectory, turn, call.chain)
        return Placement(
            run=run,
            source=link.source,
            confidence=link.confidence,
            segment_index=trajectory.segment,
            turn_index=turn.turn_index,
            turn_id=turn.turn_id,
            kind=semconv.KIND_TURN,
            attempt_index=0,
            first_attempt=None,
            shared_prefix_bytes=turn.shared_bytes,
            trajectory=trajectory,
            turn=turn,
            finished_tools=finished,
            closed_runs=closed,
            opened_run=run is not before,
        )

    def _retry(self, trajectory: Trajectory, turn: Turn, run: Run, link: rules.Link) -> Placement:
        if turn in trajectory.asking:
            self._state.answered(trajectory, turn)
        turn.status = None
        turn.attempts += 1
        return Placement(
            run=run,
            source=link.source,
            confidence=link.confidence,
            segment_index=trajectory.segment,
            turn_index=turn.turn_index,
            turn_id=turn.turn_id,
            kind=semconv.KIND_TURN,
            attempt_index=turn.attempts - 1,
            first_attempt=turn.context,
            shared_prefix_bytes=turn.shared_bytes,
            trajectory=trajectory,
            turn=turn,
        )

    def _note_response(self, turn: Turn, response: ResponseFacts | None, status: str, end_ns: int) -> None:
        turn.status = status
        turn.end_ns = max(turn.end_ns, end_ns)
        # The results of an earlier attempt are not what the client goes on from.
        turn.call_ids, turn.message_digest, turn.waiting = frozenset(), None, ()
        if response is None or status == semconv.Status.ERROR:
            return
        turn.message_digest = response.message_digest
        turn.call_ids = frozenset(call.id for call in response.tool_calls if call.id)
        if status != semconv.Status.CANCELLED or response.terminal:
            # The arguments' text would be held for as long as the tool runs, and nothing here reads it.
            turn.waiting = tuple(replace(call, string_arguments=()) for call in response.tool_calls)

    def _remember(self, trajectory: Trajectory, turn: Turn, chain: bytes) -> None:
        indexed = not trajectory.explicit
        if indexed:
            self._state.unindex_end(trajectory)
        trajectory.turn = turn
        if chain:
            trajectory.chain = chain
        if indexed:
            self._state.index_end(trajectory)

    def _is_compacted(self, trajectory: Trajectory, call: Call, shared: int) -> bool:
        """Whether the agent goes on with a summary in place of its history.

        Only told where the agent itself names its session and the call is its own (it has tools, and no tool of the
        previous turn is still running): then nothing is left of a longer history.
        """
        return (
            trajectory.source == semconv.Source.HEADER
            and not trajectory.turns_inflight
            and shared == 0
            and call.request.tool_count > 0
            and 0 < len(call.request.messages) < history.length(trajectory.chain)
        )
