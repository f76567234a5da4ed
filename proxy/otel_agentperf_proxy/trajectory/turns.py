"""The place of a call in the trajectory that it was given to: an auxiliary call, another attempt, or the next turn."""

import itertools
import sys
from dataclasses import replace
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy import marks
from otel_agentperf_proxy.facts import ResponseFacts
from otel_agentperf_proxy.trajectory import beside, history, kinship, rules
from otel_agentperf_proxy.trajectory.placement import Placement
from otel_agentperf_proxy.trajectory.records import Argument, Run, Trajectory, Turn
from otel_agentperf_proxy.trajectory.rules import FAILED, Call
from otel_agentperf_proxy.trajectory.runs import Runs, is_compacted, is_new_request
from otel_agentperf_proxy.trajectory.state import MAX_ARGUMENTS, TELLING_CHARS, State
from otel_agentperf_proxy.trajectory.tools import take_results, text_tail

_STORING_DIALECT: Final = "openai.responses"
"""Where a request can name the response that it continues."""


class Turns:
    """Places calls in trajectories, and notes what they brought."""

    def __init__(self, state: State, runs: Runs) -> None:
        self._state = state
        self._runs = runs

    def attach(self, call: Call, link: rules.Link) -> Placement:
        """An auxiliary call of the trajectory."""
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

    def take(self, call: Call, link: rules.Link) -> Placement:
        """The trajectory's next turn, or another attempt of its last one."""
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
        self._state.withdraw(turn)
        self._state.index_failure(turn, failed=False)
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

    def note_response(self, turn: Turn, response: ResponseFacts | None, status: str, end_ns: int) -> None:
        """Remember what later calls are compared with."""
        state, trajectory = self._state, turn.trajectory
        is_latest = turn is trajectory.turn and not trajectory.forgotten
        turn.status = status
        turn.end_ns = max(turn.end_ns, end_ns)
        # The results of an earlier attempt are not what the client goes on from.
        turn.call_ids, turn.message_digest, turn.waiting = (), None, ()
        if is_latest and not trajectory.explicit:
            state.index_failure(turn, failed=status in FAILED)
        if response is None or status == semconv.Status.ERROR:
            return
        turn.message_digest = response.message_digest
        turn.call_ids = tuple([call.id for call in response.tool_calls if call.id])
        if status != semconv.Status.CANCELLED or response.terminal:
            # The arguments' text would be held for as long as the tool runs: marks are enough.
            turn.arguments = _arguments(response)
            turn.waiting = tuple(
                [replace(call, name=sys.intern(call.name), string_arguments=()) for call in response.tool_calls]
            )
        if is_latest and not turn.waiting:
            state.set_said(trajectory, response.lines)
            state.offer(trajectory, None)
        if is_latest and turn.stored and response.id and not trajectory.explicit:
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


def _summarizes(call: Call) -> bool:
    return call.request.summarizes or (call.identity is not None and call.identity.summarizes)


def _arguments(response: ResponseFacts) -> list[Argument]:
    found = (
        Argument(marks.mark(text), position, len(text.strip()) >= TELLING_CHARS)
        for position, call in enumerate(response.tool_calls)
        for text in call.string_arguments
        if text.strip()
    )
    return list(itertools.islice(found, MAX_ARGUMENTS))
