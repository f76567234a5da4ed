"""Calls become turns of runs of trajectories.

An explicit identity (launcher, header, body) names the trajectory; without one the rules of `rules.RULES` look for the
trajectory that the call continues, and when none can tell it is a new root. Within the trajectory the call is another
attempt of the last turn, or the next turn of the open run, or the first turn of a new run, or an auxiliary call that
belongs to the session but is no turn. Under the id of a session that names no agents, sub-agents are told apart by the
same rules.

A run whose turn ended without tool calls has its final answer. It stays open for a moment, because a replay of
recorded history may go on with the recorded tool call whatever the model answered; it closes with the next user
request, or after `close_grace_s`.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy import marks
from otel_agentperf_proxy.facts import Identity, RequestFacts, ResponseFacts
from otel_agentperf_proxy.trajectory import beside, history, kinship, rules
from otel_agentperf_proxy.trajectory.agents import identity_key as key_of
from otel_agentperf_proxy.trajectory.agents import trajectory_key
from otel_agentperf_proxy.trajectory.placement import Placement
from otel_agentperf_proxy.trajectory.rules import Call
from otel_agentperf_proxy.trajectory.runs import Runs, can_continue, is_compacted, is_new_request
from otel_agentperf_proxy.trajectory.state import (
    MAX_ARGUMENTS,
    NEAR_NS,
    TELLING_CHARS,
    Asked,
    Run,
    State,
    Trajectory,
    Turn,
    derived_id,
)
from otel_agentperf_proxy.trajectory.tools import is_assistant, take_results, text_tail

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
            sys.intern(client),
        )

        link = self._link(call, auxiliary)
        closed: list[Run] = []
        if link is None:
            link = self._new_root(call, auxiliary, closed)
        elif link.trajectory.auxiliary:
            link = self._take_over(link, call)
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
        if placement.summarizes and status == semconv.Status.OK and response is not None:
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
        if status == semconv.Status.OK and str(run.tags.get("trajectory.final", "")).lower() == "true":
            # The launcher says that nobody will run the tools of this answer.
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
        for trajectory in tuple(state.beside.values()):
            if trajectory.last_activity_ns + NEAR_NS > now_ns:
                break
            if not trajectory.inflight:
                closed += self._runs.close(trajectory)
        state.expire_openings(now_ns)
        for trajectory in state.idle_before(state.open, now_ns - self._idle_limit_ns):
            closed += self._runs.close(trajectory)
        for trajectory in state.idle_before(state.trajectories, now_ns - self._forget_after_ns):
            state.forget(trajectory)
        return closed

    def close_all(self) -> list[Run]:
        """Close every open run, for the end of the process."""
        state = self._state
        left = (*state.beside.values(), *state.done.values(), *state.open.values())
        return [run for trajectory in left for run in self._runs.close(trajectory)]

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
            "open_runs": len(state.open) + len(state.done) + len(state.beside),
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
            if known is None:
                return None
            if identity.agent_name and (known.agent_name is None or "/" in identity.agent_name):
                known.agent_name = identity.agent_name
            if identity.session_only and not auxiliary:
                inner = self._inside(call, known)
                if call.session is not None:
                    return inner
            return rules.Link(known, identity.source, 1.0)
        for rule in beside.RULES if auxiliary else rules.RULES:
            if link := rule(self._state, call):
                return link
        if not auxiliary and (other := beside.waiting_for_root(self._state, call)):
            return rules.Link(other, semconv.Source.TEXT, 0.8)
        return None

    def _inside(self, call: Call, root: Trajectory) -> rules.Link | None:
        """The sub-agent that the call is of, in a session that names no agents; None when it is a new one.

        `call.session` is None afterwards when the call is the root's.
        """
        call.session = root.key
        if root.nested:
            for rule in rules.RULES:
                if link := rule(self._state, call):
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
        kinship.suspect(trajectory, asked)
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

    # --- The turn --------------------------------------------------------------------------------------------------

    def _attach_auxiliary(self, call: Call, link: rules.Link) -> Placement:
        trajectory = link.trajectory
        run = trajectory.run or trajectory.latest_run
        opened = run is None
        if link.source == semconv.Source.TEXT:
            self._state.set_openings(trajectory, b"")
        finished = []
        if any(message.tool_results for message in call.request.messages):
            # A summary that is wanted in the middle of the work brings the results that the next turn will not.
            finished = take_results(self._state, trajectory, call.request.messages, call.chain, call.t0_ns, ())
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
            summarizes=_summarizes(call),
            trajectory=trajectory,
            turn=None,
            finished_tools=finished,
            opened_run=opened,
        )

    def _take_turn(self, call: Call, link: rules.Link) -> Placement:
        trajectory, last = link.trajectory, link.trajectory.turn
        run = trajectory.run
        if run is not None and last is not None and rules.is_retry(last, call.chain):
            return self._retry(call, last, run, link)

        messages = call.request.messages
        shared = history.shared(trajectory.chain, call.chain)
        waited = bool(trajectory.asking)
        identity = call.identity
        compacted = is_compacted(trajectory, call, link, shared, waited)
        if identity is not None and identity.segment is not None:
            trajectory.segment = identity.segment
        elif compacted:
            trajectory.segment += 1
        told = identity.tool_durations_s if identity is not None else ()
        finished = take_results(self._state, trajectory, messages, call.chain, call.t0_ns, told)
        if trajectory.children:
            kinship.confirm(trajectory, messages[shared:])

        closed: list[Run] = []
        before = trajectory.latest_run
        tools_between = waited or bool(finished)
        if run is not None and is_new_request(trajectory, run, call, shared, tools_between, compacted):
            closed += self._runs.close(trajectory)
            run = None
        if run is None:
            run = self._runs.open(trajectory, call, link)
            if not trajectory.explicit and not beside.may_have_come(self._state, call):
                self._state.set_openings(trajectory, beside.last_text(messages), call.t0_ns)
        else:
            part, run = run, self._runs.go_on(trajectory, run, call)
            if run is not part:
                closed.append(part)

        context = (run.trace_id if call.parent_span_id is None else call.trace_id, call.span_id)
        turn = Turn(
            trajectory=trajectory,
            turn_id=call.span_id.hex(),
            turn_index=trajectory.turns,
            run=run,
            chain_end=history.entry(call.chain, len(messages)),
            message_count=len(messages),
            context=context,
            shared_bytes=sum(message.size for message in messages[:shared]),
            text_tail=text_tail(messages),
            stored=call.request.dialect == _STORING_DIALECT,
        )
        trajectory.turns += 1
        trajectory.compacting = False
        if identity is not None and identity.run_key is not None:
            trajectory.run_key = identity.run_key
        if trajectory.summary and link.source == semconv.Source.SUMMARY:
            self._state.set_summary(trajectory, b"")
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
            summarizes=_summarizes(call),
            trajectory=trajectory,
            turn=turn,
            finished_tools=finished,
            closed_runs=closed,
            opened_run=run is not before,
        )

    def _retry(self, call: Call, turn: Turn, run: Run, link: rules.Link) -> Placement:
        trajectory = link.trajectory
        if turn in trajectory.asking:
            self._state.answered(turn)
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
            summarizes=_summarizes(call),
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
        trajectory, state = turn.trajectory, self._state
        if status != semconv.Status.CANCELLED or response.terminal:
            # The arguments' text would be held for as long as the tool runs: marks are enough.
            turn.arguments = _arguments(response)
            turn.waiting = tuple(replace(call, string_arguments=()) for call in response.tool_calls)
        if trajectory.forgotten or turn is not trajectory.turn:
            return
        if not turn.waiting:
            state.set_said(trajectory, response.lines)
        if turn.stored and response.id and not trajectory.explicit:
            state.index_response(turn, response.id)

    def _remember(self, trajectory: Trajectory, turn: Turn, chain: bytes) -> None:
        indexed = not trajectory.explicit
        if indexed:
            self._state.unindex_end(trajectory)
        trajectory.turn = turn
        if chain:
            trajectory.chain = chain
        if indexed:
            self._state.index_end(trajectory)


_STORING_DIALECT: Final = "openai.responses"
"""Where a request can name the response that it continues."""


def _has_begun(call: Call) -> bool:
    """Whether the conversation did begin before this call, somewhere that we could not tell: the model's words are in
    it, or the server holds it, or it could not be read and may hold such."""
    return (
        call.request.problem is not None
        or semconv.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID in call.request.attributes
        or any(is_assistant(message) for message in call.request.messages)
    )


def _summarizes(call: Call) -> bool:
    return call.request.summarizes or (call.identity is not None and call.identity.summarizes)


def _arguments(response: ResponseFacts) -> tuple[tuple[bytes, int, bool], ...]:
    found = [
        (marks.mark(text), position, len(text.strip()) >= TELLING_CHARS)
        for position, call in enumerate(response.tool_calls)
        for text in call.string_arguments
        if text.strip()
    ]
    return tuple(found[:MAX_ARGUMENTS])
