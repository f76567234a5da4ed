"""Auxiliary calls: which trajectory a title, a router's question or a summary belongs to, when nobody says so.

One that holds the agent's conversation is found by that. One that holds nothing but the user's words belongs to the
agent that is given the same words at about the same time, whichever of the two calls comes first.
"""

import itertools
from collections.abc import Sequence
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy import marks
from otel_agentperf_proxy.facts import Message
from otel_agentperf_proxy.trajectory import history, rules
from otel_agentperf_proxy.trajectory.records import Trajectory
from otel_agentperf_proxy.trajectory.rules import Call, Link, Rule
from otel_agentperf_proxy.trajectory.state import NEAR_NS, State
from otel_agentperf_proxy.trajectory.tools import is_assistant

AFTER_NS: Final = 2 * 10**9
"""An auxiliary call that comes after the agent's first call with the same words is sent beside it, no later."""

_ALL_BYTES: Final = 8 * marks.MARK_BYTES
_SYSTEM_ROLES: Final = frozenset(("system", "developer"))


def last_text(messages: Sequence[Message]) -> bytes:
    """Mark of the last text that is the user's; empty when there is none."""
    for message in reversed(messages):
        if message.texts and message.role not in _SYSTEM_ROLES:
            return message.texts[-marks.MARK_BYTES :]
    return b""


def all_texts(messages: Sequence[Message]) -> bytes:
    """Marks of the texts of an auxiliary call that may be the user's, the last ones first."""
    return b"".join([message.texts for message in reversed(messages) if message.role not in _SYSTEM_ROLES])[:_ALL_BYTES]


def by_almost_all(state: State, call: Call) -> Link | None:
    """The request holds all messages of a trajectory's latest request but the last one, which it says in another way
    (Claude Code 2.1 adds what it wants to the last message)."""
    for count in range(len(call.request.messages) - 1, 1, -1):
        found = [one for one in state.nearly_ending_with(history.entry(call.chain, count)) if call.may_be_of(one)]
        if found:
            return Link(found[0], semconv.Source.PREFIX, 0.8) if len(found) == 1 else None
    return None


def by_opening(state: State, call: Call) -> Link | None:
    """The request holds the text that an agent was just given, and that no other auxiliary call has held."""
    found: dict[str, Trajectory] = {}
    for mark in marks.split(all_texts(call.request.messages)):
        for candidate in state.opened_with(call.tenant, mark, auxiliary=False):
            if _is_near(candidate, call, AFTER_NS):
                found[candidate.key] = candidate
                if len(found) > 1:
                    return None
    return Link(next(iter(found.values())), semconv.Source.TEXT, 0.8) if found else None


def by_answer(state: State, call: Call) -> Link | None:
    """The request quotes the latest answer of a trajectory (aider 0.86 asks for the commit message of its edits)."""
    found: dict[str, Trajectory] = {}
    for message in call.request.messages:
        for line in marks.split(message.lines):
            for candidate in state.saying(call.tenant, line):
                alike = call.may_be_of(candidate) and candidate.client == call.client
                if alike and marks.holds(message.lines, candidate.said):
                    found[candidate.key] = candidate
                    if len(found) > 1:
                        return None
    return Link(next(iter(found.values())), semconv.Source.TEXT, 0.7) if found else None


RULES: Final[tuple[Rule, ...]] = (rules.by_tool_call_id, rules.by_prefix, by_almost_all, by_opening, by_answer)
"""The order in which the rules are tried for auxiliary calls."""


def find(state: State, call: Call) -> Link | None:
    """The trajectory that an auxiliary call belongs to, by the first rule that can tell."""
    return next((link for rule in RULES if (link := rule(state, call))), None)


def waiting_for_root(state: State, call: Call) -> Trajectory | None:
    """The auxiliary call of nobody known that came just before this root and held its text; None when several did."""
    found = _before(state, call)
    return found[0] if len(found) == 1 else None


def may_have_come(state: State, call: Call) -> bool:
    """Whether the auxiliary call that belongs to this root may be among those that came before it: then a later one
    with the same text is of another root."""
    return bool(_before(state, call))


def _before(state: State, call: Call) -> list[Trajectory]:
    """At most two auxiliary calls of nobody known that came just before this new conversation and held its text."""
    opening = last_text(call.request.messages)
    if not opening or any(is_assistant(message) for message in call.request.messages):
        return []
    near = (one for one in state.opened_with(call.tenant, opening, auxiliary=True) if _is_near(one, call, NEAR_NS))
    return list(itertools.islice(near, 2))


def _is_near(trajectory: Trajectory, call: Call, distance_ns: int) -> bool:
    """Whether the trajectory's latest run began just before the call, and both are of the same client."""
    run = trajectory.latest_run
    return (
        run is not None
        and call.t0_ns - run.started_ns <= distance_ns
        and call.may_be_of(trajectory)
        and trajectory.client == call.client
    )
