"""Calls become turns of runs of trajectories.

An explicit identity (launcher, header, body) names the trajectory; without one the rules of `rules` look for the
trajectory that the call continues, and when none can tell it is a new root. Within the trajectory the call is another
attempt of the last turn, or the next turn of the open run, or the first turn of a new run, or an auxiliary call that
belongs to the session but is no turn. Under the id of a session that names no agents, sub-agents are told apart by the
same rules.

A run whose turn ended without tool calls has its final answer. It stays open for a moment, because a replay of
recorded history may go on with the recorded tool call whatever the model answered; it closes with the next user
request, or after `close_grace_s`.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Identity, RequestFacts, ResponseFacts
from otel_agentperf_proxy.trajectory import beside, history, kinship, rules
from otel_agentperf_proxy.trajectory.agents import identity_key as key_of
from otel_agentperf_proxy.trajectory.agents import trajectory_key
from otel_agentperf_proxy.trajectory.memos import Clock, Memo, memo, recalled
from otel_agentperf_proxy.trajectory.placement import Placement
from otel_agentperf_proxy.trajectory.records import Asked, Run, Trajectory
from otel_agentperf_proxy.trajectory.rules import Call
from otel_agentperf_proxy.trajectory.runs import Runs, can_continue
from otel_agentperf_proxy.trajectory.state import NEAR_NS, State, derived_id
from otel_agentperf_proxy.trajectory.tools import is_assistant
from otel_agentperf_proxy.trajectory.turns import Turns

_CHANGING_TAGS: Final = frozenset(("phase", "level", "outcome", "trajectory.final"))
"""Launcher tags that may change while one agent works."""


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
        self._turns = Turns(self._state, self._runs)
        self._inflight = 0
        self._changed: dict[str, Trajectory] = {}

    def recall(self, memos: Iterable[Memo], monotonic_ns: Clock) -> list[Run]:
        """Take up what an earlier process knew, before any call; returns the runs that are open.

        Args:
            memos: what was active last at the end.
            monotonic_ns: from Unix nanoseconds.
        """
        state = self._state
        for one in memos:
            trajectory = recalled(one, monotonic_ns)
            if evicted := state.add(trajectory):
                self._runs.close(evicted)
                state.forget(evicted)
            if trajectory.run is not None:
                (state.open if trajectory.done_ns is None else state.done)[trajectory.key] = trajectory
        return [one.run for one in (*state.open.values(), *state.done.values()) if one.run is not None]

    def take_memos(self, unix_ns: Clock) -> list[Memo]:
        """What is to be remembered of the trajectories with explicit ids that changed since the last time.

        Args:
            unix_ns: from monotonic nanoseconds.
        """
        changed, self._changed = self._changed, {}
        return [memo(trajectory, unix_ns) for trajectory in changed.values()]

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
        client: str = "",
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
            client: the User-Agent.
        """
        auxiliary = request.auxiliary or (identity is not None and identity.auxiliary)
        if identity is None and request.session_id:
            identity = Identity(
                source=semconv.Source.BODY,
                trajectory_id=request.session_id,
                parent_id=tags.get("parent.id"),
                agent_name=tags.get("agent.name"),
                session_id=request.session_id,
                session_only=True,
            )
        scope = tuple(sorted((name, value) for name, value in tags.items() if name not in _CHANGING_TAGS))
        chain = history.chain(tenant, request.messages)
        call = Call(
            tenant,
            scope,
            request,
            chain,
            identity,
            tags,
            t0_ns,
            trace_id,
            span_id,
            parent_span_id,
            identity_key,
            sys.intern(f"{client}\0{request.dialect}"),
        )

        link = self._link(call, auxiliary)
        closed: list[Run] = []
        if link is None:
            link = self._new_root(call, auxiliary, closed)
        elif link.trajectory.auxiliary:
            link = self._take_over(link, call)
        placement = self._turns.attach(call, link) if auxiliary else self._turns.take(call, link)
        placement.closed_runs[:0] = closed
        placement.chain, placement.scope = chain, scope
        placement.final = str(tags.get("trajectory.final", "")).lower() == "true" or (
            identity is not None and identity.final
        )

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
        self._note_change(trajectory)
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
            self._turns.note_response(turn, response, status, end_ns)
        if trajectory.forgotten:
            return []
        self._note_change(trajectory)
        self._state.touch(trajectory, end_ns)
        if placement.summarizes and status == semconv.Status.OK and response is not None and not trajectory.auxiliary:
            trajectory.compacting = turn is None
            if not trajectory.explicit:
                self._state.set_summary(trajectory, response.lines)
        if turn is None:
            if trajectory.done_ns is None:
                run.last_activity_ns = max(run.last_activity_ns, end_ns)
            if trajectory.auxiliary:
                self._runs.wait_for_root(trajectory)
                return []
            return [] if can_continue(trajectory) else self._runs.close(trajectory)
        run.last_activity_ns = max(run.last_activity_ns, end_ns)
        if status == semconv.Status.OK and placement.final:
            # Nobody will run the tools of this answer.
            turn.waiting = ()
            for asking in tuple(trajectory.asking):
                self._state.answered(asking)
        if turn.waiting:
            self._state.ask(turn)
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
            self._note_change(trajectory)
        for trajectory in tuple(state.beside.values()):
            if trajectory.last_activity_ns + NEAR_NS > now_ns:
                break
            if not trajectory.inflight:
                closed += self._runs.close(trajectory)
        state.expire_openings(now_ns)
        for trajectory in state.idle_before(state.open, now_ns - self._idle_limit_ns):
            closed += self._runs.close(trajectory)
            self._note_change(trajectory)
        for trajectory in state.idle_before(state.trajectories, now_ns - self._forget_after_ns):
            state.forget(trajectory)
        return closed

    def close_all(self) -> list[Run]:
        """Close every open run, for the end of the process."""
        state = self._state
        left = (*state.beside.values(), *state.done.values(), *state.open.values())
        for trajectory in left:
            self._note_change(trajectory)
        return [run for trajectory in left for run in self._runs.close(trajectory)]

    def stats(self) -> dict[str, int]:
        """Counts for status and metrics.

        `active_trajectories` have an open run without final answer, `open_runs` are all runs not yet handed out;
        `inflight` are calls placed and not finished; `index_entries` is what the rules look things up in; `evictions`
        and `forgotten_tool_calls` count what the bounds of the memory cost since the start.
        """
        state = self._state
        return {
            "trajectories": len(state.trajectories),
            "active_trajectories": len(state.open),
            "open_runs": len(state.open) + len(state.done) + len(state.beside),
            "inflight": self._inflight,
            "indexed_tool_calls": state.indexed_calls(),
            "index_entries": state.index_entries(),
            "evictions": state.evictions,
            "forgotten_tool_calls": state.forgotten_tool_calls,
        }

    def active(self) -> list[Trajectory]:
        """Trajectories with an open run that has not given its final answer."""
        return list(self._state.open.values())

    def _note_change(self, trajectory: Trajectory) -> None:
        if trajectory.explicit:
            self._changed[trajectory.key] = trajectory

    # --- The trajectory --------------------------------------------------------------------------------------------

    def _link(self, call: Call, auxiliary: bool) -> rules.Link | None:
        identity = call.identity
        if identity is not None:
            known = self._state.trajectories.get(key_of(identity, call.tenant))
            if known is None:
                return None
            if identity.agent_name and (known.agent_name is None or "/" in identity.agent_name):
                known.agent_name = identity.agent_name
            if identity.session_only and not auxiliary:
                inner = self._inside(call, known)
                if call.session is not None:
                    return inner
            return rules.Link(known, identity.source, 1.0)
        if auxiliary:
            return beside.find(self._state, call)
        if link := rules.find(self._state, call):
            return link
        if other := beside.waiting_for_root(self._state, call):
            return rules.Link(other, semconv.Source.TEXT, 0.8)
        return None

    def _inside(self, call: Call, root: Trajectory) -> rules.Link | None:
        """The sub-agent that the call is of, in a session that names no agents; None when it is a new one.

        `call.session` is None afterwards when the call is the root's.
        """
        call.session = root.key
        if root.nested and (link := rules.find(self._state, call)):
            return link
        asked = kinship.asked_for(self._state, call)
        if asked is None or not asked.telling:
            call.session = None
        return None

    def _new_root(self, call: Call, auxiliary: bool, closed: list[Run]) -> rules.Link:
        state, identity = self._state, call.identity if call.session is None else None
        parent_id, agent_name, session_id = call.tags.get("parent.id"), call.tags.get("agent.name"), None
        source, confidence = semconv.Source.NEW, 1.0
        if identity is not None:
            key, source = key_of(identity, call.tenant), identity.source
            trajectory_id = state.public_id(identity.trajectory_id, call.tenant)
            parent_id, agent_name, session_id = identity.parent_id, identity.agent_name, identity.session_id
            if parent_id == identity.trajectory_id:
                parent_id = None
        elif call.session is not None:
            key, trajectory_id = self._names_inside(call.session, call)
        else:
            key = trajectory_id = derived_id(16, call.trace_id.hex(), call.span_id.hex()).hex()
            if _has_begun(call):
                confidence = 0.5
        trajectory = Trajectory(
            key=key,
            id=trajectory_id,
            tenant=call.tenant,
            explicit=identity is not None,
            source=source,
            confidence=confidence,
            scope=call.scope,
            client=call.client,
            agent_name=agent_name,
            session_id=session_id,
            session=call.session,
            auxiliary=auxiliary and identity is None,
        )
        if parent_id is not None:
            self._under_parent(trajectory, parent_id)
        elif not auxiliary and source != semconv.Source.LAUNCHER:
            self._look_for_parent(trajectory, call)
        if evicted := state.add(trajectory):
            closed += self._runs.close(evicted)
            state.forget(evicted)
        if trajectory.auxiliary:
            state.set_openings(trajectory, beside.all_texts(call.request.messages), call.t0_ns)
        return rules.Link(trajectory, trajectory.source, trajectory.confidence)

    def _names_inside(self, session: str, call: Call) -> tuple[str, str]:
        """Key and id for a sub-agent that calls under its session's id: they follow from its task."""
        state = self._state
        root = state.trajectories[session]
        root.nested += 1
        task = beside.last_text(call.request.messages).hex()[:8]
        count, name = 1, task
        while f"{session}/{name}" in state.trajectories:
            count += 1
            name = f"{task}-{count}"
        return f"{session}/{name}", f"{root.id}/{name}"

    def _take_over(self, link: rules.Link, call: Call) -> rules.Link:
        """A root is found for an auxiliary call that stood alone: they become one trajectory."""
        trajectory, state = link.trajectory, self._state
        state.set_openings(trajectory, b"")
        state.beside.pop(trajectory.key, None)
        state.open[trajectory.key] = trajectory
        trajectory.auxiliary = False
        if trajectory.parent_id is None and self._look_for_parent(trajectory, call):
            return rules.Link(trajectory, trajectory.source, trajectory.confidence)
        return link

    def _look_for_parent(self, trajectory: Trajectory, call: Call) -> bool:
        """Find the tool call that asked for a new conversation; whether it tells."""
        asked = kinship.asked_for(self._state, call)
        if asked is None:
            return False
        kinship.suspect(self._state, trajectory, asked)
        if asked.telling and not trajectory.explicit:
            trajectory.source, trajectory.confidence = semconv.Source.SUB_AGENT, kinship.LIKELY
        return asked.telling

    def _under_parent(self, trajectory: Trajectory, parent_id: str) -> None:
        parent = self._state.trajectories.get(trajectory_key(trajectory.tenant, parent_id))
        if parent is None:
            trajectory.parent_id, trajectory.depth = parent_id, 1
            return
        waiting = [Asked(turn, position, True) for turn in parent.asking for position, _ in enumerate(turn.waiting)]
        kinship.adopt(trajectory, parent, waiting[0] if len(waiting) == 1 else None)


def _has_begun(call: Call) -> bool:
    """Whether the conversation did begin before this call, somewhere that we could not tell: the model's words are in
    it, or the server holds it, or it could not be read and may hold such."""
    return (
        call.request.problem is not None
        or semconv.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID in call.request.attributes
        or any(is_assistant(message) for message in call.request.messages)
    )
