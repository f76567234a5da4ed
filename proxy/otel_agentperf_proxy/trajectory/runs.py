"""The life of agent runs: when one begins, moves to a new trace, and ends, and with which ids."""

from dataclasses import replace
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy.trajectory import history
from otel_agentperf_proxy.trajectory.records import Run, Trajectory
from otel_agentperf_proxy.trajectory.rules import FAILED, Call, Link
from otel_agentperf_proxy.trajectory.state import State, derived_id
from otel_agentperf_proxy.trajectory.tools import is_assistant, is_text

MAX_TRACE_AGE_NS: Final = 6 * 3600 * 10**9
"""A run older than this goes on in a new trace."""

_SYSTEM_ROLES: Final = frozenset(("system", "developer"))


def can_continue(trajectory: Trajectory) -> bool:
    """Whether any later call could be linked to the trajectory."""
    return trajectory.explicit or (not trajectory.auxiliary and bool(trajectory.chain))


def is_new_request(
    trajectory: Trajectory, run: Run, call: Call, shared: int, tools_between: bool, compacted: bool
) -> bool:
    """Whether a turn begins another agent run while `run` is open.

    Args:
        shared: leading messages that the trajectory's previous request held too.
        tools_between: tool calls waited for results, or the request brings some.
        compacted: the agent goes on with a summary in place of its history.
    """
    if run.turn_count == 0 or trajectory.turns_inflight:
        return False
    told = call.identity.run_key if call.identity is not None else None
    if told is not None and trajectory.run_key is not None:
        return told != trajectory.run_key
    if compacted:
        return trajectory.done_ns is not None
    messages = call.request.messages
    last = next((message for message in reversed(messages) if message.role not in _SYSTEM_ROLES), None)
    if trajectory.done_ns is not None:
        return not tools_between and (last is None or not last.tool_results)
    return last is not None and is_text(last) and not tools_between and shared < len(messages)


def is_compacted(trajectory: Trajectory, call: Call, link: Link, shared: int, waited: bool) -> bool:
    """Whether the agent goes on with a summary in place of its history.

    Either the summary was told (by the request for it, or by the client), and the history is not continued. Or nothing
    is left of a longer history, which is only believed where the agent itself names its session and the call is its
    own: it has tools, and no tool of the previous turn is still running.
    """
    if link.source == semconv.Source.SUMMARY:
        return True
    if trajectory.turns_inflight or not call.request.messages:
        return False
    messages, length = call.request.messages, history.length(trajectory.chain)
    if trajectory.compacting or (call.identity is not None and call.identity.compacted):
        return shared < length or shared == len(messages) or not is_assistant(messages[shared])
    return (
        trajectory.source == semconv.Source.HEADER
        and not waited
        and shared == 0
        and call.request.tool_count > 0
        and len(messages) < length
    )


class Runs:
    """Opens and closes the runs of the trajectories in a state."""

    def __init__(self, state: State, *, max_spans_per_trace: int) -> None:
        self._state = state
        self._max_spans = max_spans_per_trace

    def open(self, trajectory: Trajectory, call: Call, link: Link) -> Run:
        """The trajectory's next run begins with this call."""
        before = trajectory.latest_run
        run_id = derived_id(8, trajectory.id, trajectory.runs).hex()
        run = Run(
            run_id=run_id,
            run_index=trajectory.runs,
            trace_id=_own_trace(trajectory, call, before, run_id, 0),
            root_span_id=derived_id(8, run_id, 0),
            parent_span_id=call.parent_span_id,
            trajectory_id=trajectory.id,
            parent_trajectory_id=trajectory.parent_id,
            agent_name=trajectory.agent_name,
            agent_depth=trajectory.depth,
            source=link.source,
            confidence=link.confidence,
            session_id=trajectory.session_id,
            identity_key=_identity_key(trajectory, call),
            started_ns=call.t0_ns,
            last_activity_ns=call.t0_ns,
            previous_run=(before.trace_id, before.root_span_id) if before else None,
            parent_link=None if before else trajectory.parent_link,
        )
        trajectory.runs += 1
        trajectory.run_key = None
        _enter_trace(trajectory, run, 0, call.t0_ns)
        self._state.open[trajectory.key] = trajectory
        return run

    def go_on(self, trajectory: Trajectory, run: Run, call: Call) -> Run:
        """The open run goes on with this turn: in `run`, or in its next part when its trace is full.

        A trace that the client began is the client's to bound.
        """
        if trajectory.done_ns is not None:
            trajectory.done_ns = None
            self._state.done.pop(trajectory.key, None)
            self._state.open[trajectory.key] = trajectory
        if run.turn_count == 0 and not trajectory.inflight:
            # So far only auxiliary calls, perhaps long before the user's request.
            run.started_ns = call.t0_ns
        is_full = (
            trajectory.spans_in_trace >= self._max_spans or call.t0_ns - trajectory.trace_started_ns > MAX_TRACE_AGE_NS
        )
        if not is_full or run.parent_span_id is not None:
            return run
        part = trajectory.trace_part + 1
        successor = replace(
            run,
            trace_id=_own_trace(trajectory, call, run, run.run_id, part),
            root_span_id=derived_id(8, run.run_id, part),
            started_ns=call.t0_ns,
            turn_count=0,
            tool_call_count=0,
            previous_run=(run.trace_id, run.root_span_id),
            parent_link=None,
        )
        run.status = semconv.Status.OK
        _enter_trace(trajectory, successor, part, call.t0_ns)
        return successor

    def wait_for_root(self, trajectory: Trajectory) -> None:
        """The auxiliary call that is the whole trajectory has ended."""
        self._state.open.pop(trajectory.key, None)
        self._state.beside[trajectory.key] = trajectory

    def answered(self, trajectory: Trajectory, end_ns: int) -> None:
        """The open run gave its final answer."""
        trajectory.done_ns = end_ns
        self._state.open.pop(trajectory.key, None)
        self._state.done[trajectory.key] = trajectory

    def close(self, trajectory: Trajectory) -> list[Run]:
        """End the open run, if there is one; forgets a trajectory that nothing can continue."""
        run = trajectory.run
        if run is None:
            return []
        turn = trajectory.turn
        if trajectory.done_ns is not None or run.turn_count == 0:
            run.status = semconv.Status.OK
        elif turn is not None and turn.status in FAILED:
            cancelled = turn.status == semconv.Status.CANCELLED
            run.status = semconv.Status.CANCELLED if cancelled else semconv.Status.ERROR
        else:
            run.status = semconv.Status.ABANDONED
        trajectory.run = trajectory.done_ns = None
        for table in (self._state.open, self._state.done, self._state.beside):
            table.pop(trajectory.key, None)
        if not can_continue(trajectory):
            self._state.forget(trajectory)
        return [run]


def _identity_key(trajectory: Trajectory, call: Call) -> str | None:
    if trajectory.session is not None:
        return None
    # Mostly they are equal, and then one of them is enough to keep.
    return trajectory.key if call.identity_key == trajectory.key else call.identity_key


def _enter_trace(trajectory: Trajectory, run: Run, part: int, now_ns: int) -> None:
    trajectory.run = trajectory.latest_run = run
    trajectory.trace_part, trajectory.trace_started_ns = part, now_ns
    trajectory.spans_in_trace = 1


def _own_trace(trajectory: Trajectory, call: Call, before: Run | None, run_id: str, part: int) -> bytes:
    """The forwarded trace, so that the call nests in it, unless another run has that one already."""
    taken = trajectory.session is not None or (before is not None and before.trace_id == call.trace_id)
    if call.parent_span_id is not None or not taken:
        return call.trace_id
    return derived_id(16, run_id, part, call.trace_id.hex())
