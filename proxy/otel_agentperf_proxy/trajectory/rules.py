"""Which trajectory a call without explicit identity continues: small functions, tried in order by `find`.

The first answer counts. A rule answers with a link, or with None when it cannot tell. When no rule can, the call starts
a new root: a wrong link is worse than none. Candidates with other launcher tags than the call, or of another session,
are never considered.

These are for turns; what an auxiliary call belongs to is told in `beside`, who started a sub-agent in `kinship`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from otel_agentperf import semconv
from otel_agentperf_proxy import marks
from otel_agentperf_proxy.facts import Identity, Message, RequestFacts
from otel_agentperf_proxy.trajectory import history
from otel_agentperf_proxy.trajectory.records import Trajectory, Turn
from otel_agentperf_proxy.trajectory.state import State
from otel_agentperf_proxy.trajectory.tools import is_assistant

_T = TypeVar("_T")

FAILED: Final = frozenset((semconv.Status.ERROR, semconv.Status.CANCELLED, semconv.Status.TRUNCATED))
"""Outcomes of an attempt after which the same messages are a retry."""

MAX_CANDIDATES: Final = 256
"""More trajectories with the very same messages are not compared one by one: their tool calls may tell them apart."""

SUMMARY_MESSAGES: Final = 16
"""A summary stands at most so far from the start of the conversation that goes on with it."""


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
    client: str = ""
    """User-Agent and dialect."""
    session: str | None = None
    """Key of the session whose unnamed agents are the candidates."""

    def may_be_of(self, trajectory: Trajectory) -> bool:
        """Whether nothing that the client said speaks against it."""
        return trajectory.scope == self.scope and trajectory.session == self.session


class Link(NamedTuple):
    """The trajectory that a call continues."""

    trajectory: Trajectory
    source: str
    confidence: float


def is_retry(turn: Turn, chain: bytes) -> bool:
    """Whether a request is another attempt of the turn: the same messages after a failure.

    Whether it is streamed does not matter (Claude Code 2.1 sends a dropped stream's request again without), nor do
    reasoning items, which are no messages (Codex 0.169 adds the finished ones).
    """
    return (
        turn.status in FAILED
        and turn.message_count == history.length(chain)
        and turn.chain_end != b""
        and turn.chain_end == history.entry(chain, turn.message_count)
    )


def _failed(state: State, call: Call) -> list[Trajectory]:
    """Trajectories of the same client whose last turn had the very messages of the call, and failed."""
    return [
        candidate
        for candidate in state.failed_with(history.entry(call.chain, history.length(call.chain)))
        if call.may_be_of(candidate)
        and candidate.client == call.client
        and candidate.run is not None
        and candidate.turn is not None
        and is_retry(candidate.turn, call.chain)
    ]


def by_response_id(state: State, call: Call) -> Link | None:
    """The request names the response that it continues, the latest of its trajectory. From an earlier one a fork goes
    off, which is a trajectory of its own."""
    named = call.request.attributes.get(semconv.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID)
    if not isinstance(named, str):
        return None
    found = [turn.trajectory for turn in state.answered_by(call.tenant, named) if call.may_be_of(turn.trajectory)]
    return Link(found[0], semconv.Source.RESPONSE_ID, 1.0) if len(found) == 1 else None


def by_tool_call_id(state: State, call: Call) -> Link | None:
    """The request's last results answer tool calls that a response asked for.

    An id that looks random is enough. One that looks counted (`call_0`) may come from anywhere, so the request must
    also begin with the messages of the turn that asked, and hold all ids that its response emitted.
    """
    ids = last_result_ids(call.request.messages)
    sure: dict[str, Trajectory] = {}
    likely: dict[str, Trajectory] = {}
    for call_id in ids:
        for turn in _few(state.waiting_for(call.tenant, call_id)):
            trajectory = turn.trajectory
            if not call.may_be_of(trajectory):
                continue
            if turn.chain_end and history.entry(call.chain, turn.message_count) == turn.chain_end:
                if _is_random(turn, call_id) or _held_ids(call.request.messages).issuperset(turn.call_ids):
                    sure[trajectory.key] = trajectory
            elif _is_random(turn, call_id):
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
        ends = [one for one in _few(state.ending_with(history.entry(call.chain, count))) if call.may_be_of(one)]
        if ends:
            # The longest match decides, also when it decides nothing: a shorter one would skip a turn.
            return _continued(ends, messages[:count], messages[count:])
    return None


def by_summary(state: State, call: Call) -> Link | None:
    """The request holds the summary that a trajectory was just given of its conversation: its next segment."""
    found: dict[str, Trajectory] = {}
    for message in call.request.messages[:SUMMARY_MESSAGES]:
        near: dict[str, Trajectory] = {}
        for line in marks.split(message.lines):
            for candidate in _few(state.summarized_with(call.tenant, line)):
                near[candidate.key] = candidate
        found |= {
            key: candidate
            for key, candidate in near.items()
            if call.may_be_of(candidate)
            and candidate.client == call.client
            and marks.holds(message.lines, candidate.summary)
        }
    if len(found) != 1:
        return None
    (trajectory,) = found.values()
    return Link(trajectory, semconv.Source.SUMMARY, 0.9 if trajectory.compacting else 0.7)


Rule = Callable[[State, Call], Link | None]

RULES: Final[tuple[Rule, ...]] = (by_response_id, by_tool_call_id, by_prefix, by_summary)
"""The order in which the rules are tried for the next turn of a trajectory."""


def find(state: State, call: Call) -> Link | None:
    """The trajectory whose last turn is tried again, or goes on, with this call; None when it may be either, or one of
    several."""
    if failed := _failed(state, call):
        sure = len(failed) == 1 and not _may_go_on(state, call, failed[0])
        return Link(failed[0], semconv.Source.PREFIX, 0.9) if sure else None
    return next((link for rule in RULES if (link := rule(state, call))), None)


def _may_go_on(state: State, call: Call, tried: Trajectory) -> bool:
    """Whether a call that looks like a retry may as well be the next turn of another trajectory, which got the very
    answer that it goes on from."""
    messages = call.request.messages
    held = _held_ids(messages)
    for count in range(len(messages) - 1, 0, -1):
        ends = state.ending_with(history.entry(call.chain, count))
        if len(ends) > MAX_CANDIDATES:
            return not held
        others = [one.turn for one in ends if one is not tried and call.may_be_of(one) and one.turn is not None]
        if others:
            return any(_echo(turn, messages[count], held) for turn in others)
    return False


def _few(candidates: Collection[_T]) -> Collection[_T]:
    """The candidates when there are not too many of them."""
    return candidates if len(candidates) <= MAX_CANDIDATES else ()


def _continued(ends: Sequence[Trajectory], shared: Sequence[Message], tail: Sequence[Message]) -> Link | None:
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
        if not answered and turn.status not in FAILED and not _drops_answers(turn, shared):
            continue  # a client goes on from the answer that it got
        if echo := _echo(turn, tail[0], held):
            echoes.setdefault(echo, []).append(candidate)
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


def _echo(turn: Turn, answer: Message, held: set[str]) -> int:
    """How well the answer to a turn comes back: 0 not, 1 its text, 2 the ids of its tool calls, 3 both."""
    ids = bool(turn.call_ids) and held.issuperset(turn.call_ids)
    text = turn.message_digest is not None and turn.message_digest == answer.digest
    return 2 * ids + text if ids or (text and not turn.call_ids) else 0


def _drops_answers(turn: Turn, shared: Sequence[Message]) -> bool:
    """Whether the client may have left out the answer that it got: harnesses that want a tool call in each answer do so
    with one that holds none, and say what they want (mini-swe-agent 2.4). Only believed of a conversation that has
    answers in it, which nobody else has."""
    return not turn.call_ids and any(is_assistant(message) for message in shared)


def _answers(messages: Sequence[Message]) -> int:
    """How many model answers the messages hold; neighbours are one answer."""
    count, inside = 0, False
    for message in messages:
        count += is_assistant(message) and not inside
        inside = is_assistant(message)
    return count


def last_result_ids(messages: Sequence[Message]) -> list[str]:
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


def _is_random(turn: Turn, call_id: str) -> bool:
    return looks_random(call_id, next((call.name for call in turn.waiting if call.id == call_id), ""))


def looks_random(call_id: str, name: str) -> bool:
    """Whether nobody else emits the id of a call of this tool: long, and more than words with a counter (`call_0`,
    `functions.bash:12`)."""
    rest = call_id.replace(name, "") if name else call_id
    return len(rest) >= 12 and _COUNTED.fullmatch(rest) is None
