"""Tool executions, from the gap between the response that asked and the request that brings the result."""

from collections.abc import Sequence
from dataclasses import dataclass

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Message, ToolCall, ToolResult
from otel_agentperf_proxy.trajectory import history
from otel_agentperf_proxy.trajectory.records import Run, Trajectory, Turn
from otel_agentperf_proxy.trajectory.state import State, derived_id

_ASSISTANT_ROLES = frozenset(("assistant", "model"))


@dataclass(slots=True)
class ToolSpan:
    """One tool execution. Times are monotonic nanoseconds.

    `gap`: from the end of the asking response to the head of the request with the result, so it holds what the harness
    does in between, a question to the user included. `client`: as long as the client says, ending with the request.
    """

    run: Run
    """The run of the turn that asked."""
    name: str
    call_id: str | None
    turn_id: str
    """Of the turn that asked."""
    turn_index: int
    start_ns: int
    end_ns: int
    duration_source: str
    is_error: bool
    repeated: bool
    span_id: bytes
    parent_span_id: bytes


def is_assistant(message: Message) -> bool:
    """Whether the model wrote the message."""
    return message.role in _ASSISTANT_ROLES or bool(message.tool_calls)


def is_text(message: Message) -> bool:
    """Whether a user or a harness wrote the message, and it is more than tool results."""
    return not is_assistant(message) and not message.tool_results and message.has_text


def text_tail(messages: Sequence[Message]) -> int:
    """How many messages at the end are text."""
    count = 0
    while count < len(messages) and is_text(messages[-1 - count]):
        count += 1
    return count


def tool_span_id(turn: Turn, position: int) -> bytes:
    """Span id of the tool call at a position of the turn's response: known before the result is."""
    return derived_id(8, turn.run.run_id, turn.turn_id, "tool", position)


def take_results(
    state: State,
    trajectory: Trajectory,
    messages: Sequence[Message],
    chain: bytes,
    t0_ns: int,
    told_s: Sequence[tuple[str, float]],
) -> list[ToolSpan]:
    """Match the tool results that a new turn's request brings with the calls that wait; these wait no more.

    Results are looked for in the messages that the trajectory's previous request did not hold.
    """
    shared = history.shared(trajectory.chain, chain)
    tail = messages[shared:]
    results = {result.call_id: result for message in tail for result in message.tool_results if result.call_id}
    executed: list[tuple[Turn, int, ToolCall, ToolResult]] = []
    asked = trajectory.turn
    for turn in tuple(trajectory.asking):
        brought = [
            (turn, position, call, results[call.id])
            for position, call in enumerate(turn.waiting)
            if call.id and call.id in results
        ]
        executed += brought
        # A request that brings a part of the results, or goes on from this response, brings all there will be.
        # Calls of another branch of the same trajectory go on waiting.
        follows = history.entry(chain, turn.message_count) == turn.chain_end or (
            turn is asked and _goes_on(turn, shared)
        )
        if brought or follows:
            state.answered(turn)
    if not executed and asked is not None and asked.status is not None and _goes_on(asked, shared):
        executed = [(asked, *pair) for pair in _recorded(tail)]
    return _spans(trajectory, executed, t0_ns, told_s)


def _goes_on(asked: Turn, shared: int) -> bool:
    """Whether a request that shares so many messages with the turn's holds all of its history."""
    return shared >= max(asked.message_count - asked.text_tail, min(asked.message_count, 1))


def _recorded(tail: Sequence[Message]) -> list[tuple[int, ToolCall, ToolResult]]:
    """Calls and results as the request itself tells them.

    A replay with recorded history brings other ids, or other tools, than the model just asked for; some dialects have
    no ids at all. Then what the request says was executed counts: its last message with tool calls and the results
    after it.
    """
    last = max((at for at, message in enumerate(tail) if message.tool_calls), default=None)
    if last is None:
        return []
    # Dialects with one item per tool call: the calls of one response are neighbours.
    first = last
    while first > 0 and tail[first - 1].tool_calls:
        first -= 1
    calls = [call for message in tail[first : last + 1] for call in message.tool_calls]
    results = [result for message in tail[last + 1 :] for result in message.tool_results]
    by_id = {result.call_id: result for result in results if result.call_id}
    nameless = [result for result in results if not result.call_id]
    pairs = []
    for position, call in enumerate(calls):
        result = by_id.get(call.id) if call.id else None
        if result is None and position < len(nameless):
            result = nameless[position]
        if result is not None:
            pairs.append((position, call, result))
    return pairs


def _spans(
    trajectory: Trajectory,
    executed: Sequence[tuple[Turn, int, ToolCall, ToolResult]],
    t0_ns: int,
    told_s: Sequence[tuple[str, float]],
) -> list[ToolSpan]:
    told = list(told_s)
    spans = []
    for turn, position, call, result in executed:
        start_ns, source = min(turn.end_ns, t0_ns), semconv.DURATION_GAP
        at = next((at for at, (name, _) in enumerate(told) if name == call.name), None)
        if at is not None:
            start_ns, source = t0_ns - round(told.pop(at)[1] * 1e9), semconv.DURATION_CLIENT
        run = turn.run
        run.tool_call_count += 1
        run.last_activity_ns = max(run.last_activity_ns, t0_ns)
        spans.append(
            ToolSpan(
                run=run,
                name=call.name,
                call_id=call.id,
                turn_id=turn.turn_id,
                turn_index=turn.turn_index,
                start_ns=start_ns,
                end_ns=t0_ns,
                duration_source=source,
                is_error=result.is_error,
                repeated=trajectory.repeats(call),
                span_id=tool_span_id(turn, position),
                parent_span_id=run.root_span_id,
            )
        )
    return spans
