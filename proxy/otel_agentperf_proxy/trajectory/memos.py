"""What outlives the observer's process: enough of a trajectory with an explicit id that it goes on where it was.

Its counters go on, so no run and no turn bears the name of an earlier one; its open run goes on in its trace. What
calls are compared with (messages, tool calls that wait) is not kept: a trajectory that was found by its content begins
anew.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from otel_agentperf_proxy.trajectory.records import Run, Trajectory

Clock = Callable[[int], int]
"""From one clock's nanoseconds to another's."""


class RunMemo(msgspec.Struct, array_like=True, frozen=True):
    """A trajectory's open run, or the one closed last. Times are Unix nanoseconds."""

    is_open: bool
    is_answered: bool
    run_id: str
    run_index: int
    trace_id: bytes
    root_span_id: bytes
    parent_span_id: bytes | None
    agent_name: str | None
    source: str
    confidence: float
    identity_key: str | None
    started_unix_ns: int
    turn_count: int
    tool_call_count: int
    tags: dict[str, str]
    previous_run: tuple[bytes, bytes] | None
    parent_link: tuple[bytes, bytes] | None


class Memo(msgspec.Struct, array_like=True, frozen=True):
    """A trajectory. Times are Unix nanoseconds."""

    key: str
    id: str
    tenant: str
    source: str
    scope: tuple[tuple[str, str], ...]
    agent_name: str | None
    session_id: str | None
    parent_id: str | None
    depth: int
    runs: int
    turns: int
    segment: int
    run_key: str | None
    last_activity_unix_ns: int
    run: RunMemo | None
    """The latest one, open or not."""


def memo(trajectory: Trajectory, unix_ns: Clock) -> Memo:
    """What is to be remembered of a trajectory."""
    return Memo(
        key=trajectory.key,
        id=trajectory.id,
        tenant=trajectory.tenant,
        source=trajectory.source,
        scope=trajectory.scope,
        agent_name=trajectory.agent_name,
        session_id=trajectory.session_id,
        parent_id=trajectory.parent_id,
        depth=trajectory.depth,
        runs=trajectory.runs,
        turns=trajectory.turns,
        segment=trajectory.segment,
        run_key=trajectory.run_key,
        last_activity_unix_ns=unix_ns(trajectory.last_activity_ns),
        run=_run_memo(trajectory, trajectory.latest_run, unix_ns) if trajectory.latest_run is not None else None,
    )


def _run_memo(trajectory: Trajectory, run: Run, unix_ns: Clock) -> RunMemo:
    return RunMemo(
        is_open=trajectory.run is run,
        is_answered=trajectory.done_ns is not None,
        run_id=run.run_id,
        run_index=run.run_index,
        trace_id=run.trace_id,
        root_span_id=run.root_span_id,
        parent_span_id=run.parent_span_id,
        agent_name=run.agent_name,
        source=run.source,
        confidence=run.confidence,
        identity_key=run.identity_key,
        started_unix_ns=unix_ns(run.started_ns),
        turn_count=run.turn_count,
        tool_call_count=run.tool_call_count,
        tags={name: str(value) for name, value in run.tags.items()},
        previous_run=run.previous_run,
        parent_link=run.parent_link,
    )


def recalled(memo: Memo, monotonic_ns: Clock) -> Trajectory:
    """The trajectory that a memo is of."""
    trajectory = Trajectory(
        key=memo.key,
        id=memo.id,
        tenant=memo.tenant,
        explicit=True,
        source=memo.source,
        confidence=EXPLICIT,
        scope=memo.scope,
        agent_name=memo.agent_name,
        session_id=memo.session_id,
        parent_id=memo.parent_id,
        depth=memo.depth,
        runs=memo.runs,
        turns=memo.turns,
        segment=memo.segment,
        run_key=memo.run_key,
        last_activity_ns=monotonic_ns(memo.last_activity_unix_ns),
    )
    if memo.run is not None:
        run = _recalled_run(trajectory, memo.run, monotonic_ns)
        trajectory.latest_run, trajectory.trace_started_ns = run, run.started_ns
        trajectory.spans_in_trace = 1 + run.turn_count + run.tool_call_count
        if memo.run.is_open:
            trajectory.run = run
            trajectory.done_ns = trajectory.last_activity_ns if memo.run.is_answered else None
    return trajectory


def _recalled_run(trajectory: Trajectory, memo: RunMemo, monotonic_ns: Clock) -> Run:
    return Run(
        run_id=memo.run_id,
        run_index=memo.run_index,
        trace_id=memo.trace_id,
        root_span_id=memo.root_span_id,
        parent_span_id=memo.parent_span_id,
        trajectory_id=trajectory.id,
        parent_trajectory_id=trajectory.parent_id,
        agent_name=memo.agent_name,
        agent_depth=trajectory.depth,
        source=memo.source,
        confidence=memo.confidence,
        session_id=trajectory.session_id,
        identity_key=memo.identity_key,
        started_ns=monotonic_ns(memo.started_unix_ns),
        last_activity_ns=trajectory.last_activity_ns,
        turn_count=memo.turn_count,
        tool_call_count=memo.tool_call_count,
        tags=memo.tags,
        previous_run=memo.previous_run,
        parent_link=memo.parent_link,
    )


EXPLICIT: Final = 1.0
"""Confidence in an explicit identity."""
