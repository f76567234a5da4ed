"""Which trajectory a call without explicit identity continues: small functions, tried in order.

The first answer counts. A rule answers with a link, or with None when it cannot tell. When no rule can, the call starts
a new root: a wrong link is worse than none. Candidates with other launcher tags than the call are never considered.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Identity, Message, RequestFacts
from otel_agentperf_proxy.trajectory import history
from otel_agentperf_proxy.trajectory.state import State, Trajectory, Turn
from otel_agentperf_proxy.trajectory.tools import is_assistant

FAILED: Final = frozenset((semconv.Status.ERROR, semconv.Status.CANCELLED, semconv.Status.TRUNCATED))
"""Outcomes of an attempt after which the same messages are a retry."""


@dataclass(slots=True)
class Call:
    """A call to place; see `Linker.place`."""

    tenant: str
    scope: tuple[tuple[str, str], ...]
    """Launcher tags that do not change while one agent works."""
    request: RequestFacts
    chain: bytes
    identity: Identity | None
    tags: Mapping[str, str]
    t0_ns: int
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    identity_key: str | None


class Link(NamedTuple):
    """The trajectory that a call continues."""

    trajectory: Trajectory
    source: str
    confidence: float


def is_retry(turn: Turn, chain: bytes) -> bool:
    """Whether a request is another attempt of the turn: the same messages after a failure."""
    return (
        turn.status in FAILED
        and turn.message_count == history.length(chain)
        and turn.chain_end != b""
        and turn.chain_end == history.entry(chain, turn.message_count)
    )


def by_retry(state: State, call: Call) -> Link | None:
    """The messages of exactly one open run's last turn, which failed, come again."""
    end = history.entry(call.chain, history.length(call.chain))
    failed = [
        candidate
        for candidate in state.ending_with(end)
        if candidate.scope == call.scope
        and candidate.run is not None
        and candidate.turn is not None
        and is_retry(candidate.turn, call.chain)
    ]
    return Link(failed[0], semconv.Source.PREFIX, 0.9) if len(failed) == 1 else None


def by_tool_call_id(state: State, call: Call) -> Link | None:
    """The request's last results answer tool calls that a response asked for.

    An id that looks random is enough. One that looks counted (`call_0`) may come from anywhere, so the request must
    also begin with the messages of the turn that asked, and hold all ids that its response emitted.
    """
    ids = _last_result_ids(call.request.messages)
    sure: dict[str, Trajectory] = {}
    likely: dict[str, Trajectory] = {}
    for call_id in ids:
        for trajectory, turn in state.waiting_for(call.tenant, call_id):
            if trajectory.scope != call.scope:
                continue
            if turn.chain_end and history.entry(call.chain, turn.message_count) == turn.chain_end:
                if _looks_random(turn, call_id) or turn.call_ids <= _held_ids(call.request.messages):
                    sure[trajectory.key] = trajectory
            elif _looks_random(turn, call_id):
                likely[trajectory.key] = trajectory
    if len(sure) == 1:
        return Link(next(iter(sure.values())), semconv.Source.TOOL_CALL_ID, 0.99)
    if not sure and len(likely) == 1:
        return Link(next(iter(likely.values())), semconv.Source.TOOL_CALL_ID, 0.95)
    return None


def by_prefix(state: State, call: Call) -> Link | None:
    """The request begins with all messages of a trajectory's latest request and goes on from its response."""
    messages = call.request.messages
    for count in range(len(messages) - 1, 0, -1):
        ends = [one for one in state.ending_with(history.entry(call.chain, count)) if one.scope == call.scope]
        if ends:
            # The longest match decides, also when it decides nothing: a shorter one would skip a turn.
            return _continued(ends, messages[count:])
    return None


Rule = Callable[[State, Call], Link | None]

RULES: Final[tuple[Rule, ...]] = (by_retry, by_tool_call_id, by_prefix)
"""The order in which the rules are tried."""


def _continued(ends: Sequence[Trajectory], tail: Sequence[Message]) -> Link | None:
    """Which of the trajectories with the same request got the response that `tail` begins with."""
    answered = is_assistant(tail[0])
    held = _held_ids(tail)
    echoes: dict[int, list[Trajectory]] = {}
    others: list[tuple[Trajectory, Turn]] = []
    for candidate in ends:
        turn = candidate.turn
        if turn is None or turn.status is None:
            continue
        if answered and turn.status == semconv.Status.ERROR:
            continue  # there was no answer to echo
        if not answered and turn.status not in FAILED:
            continue  # a client goes on from the answer that it got
        ids = bool(turn.call_ids) and turn.call_ids <= held
        text = turn.message_digest is not None and turn.message_digest == tail[0].digest
        if ids or (text and not turn.call_ids):
            echoes.setdefault(2 * ids + text, []).append(candidate)
        else:
            others.append((candidate, turn))
    if echoes:
        best = echoes[max(echoes)]
        return Link(best[0], semconv.Source.PREFIX, 0.95) if len(best) == 1 else None
    if len(others) != 1 or _answers(tail) > 1:
        return None
    candidate, turn = others[0]
    if not answered or (turn.message_digest is None and not turn.call_ids):
        return Link(candidate, semconv.Source.PREFIX, 0.7)
    return Link(candidate, semconv.Source.PREFIX_RECORDED, 0.5)


def _answers(messages: Sequence[Message]) -> int:
    """How many model answers the messages hold; neighbours are one answer."""
    count, inside = 0, False
    for message in messages:
        count += is_assistant(message) and not inside
        inside = is_assistant(message)
    return count


def _last_result_ids(messages: Sequence[Message]) -> list[str]:
    """Ids of the tool results after the model's last answer."""
    ids: list[str] = []
    for message in reversed(messages):
        if is_assistant(message):
            break
        ids += [result.call_id for result in message.tool_results if result.call_id]
    return ids


def _held_ids(messages: Sequence[Message]) -> set[str]:
    return {call.id for message in messages for call in message.tool_calls if call.id}


_COUNTED: Final = re.compile(r"\D*\d{0,6}")


def _looks_random(turn: Turn, call_id: str) -> bool:
    """Whether nobody else emits the id: long, and more than words with a counter (`call_0`, `functions.bash:12`)."""
    for call in turn.waiting:
        if call.id == call_id:
            call_id = call_id.replace(call.name, "")
    return len(call_id) >= 12 and _COUNTED.fullmatch(call_id) is None
