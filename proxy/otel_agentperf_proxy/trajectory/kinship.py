"""Who started a sub-agent, when the sub-agent does not say: the agent whose tool call asked for just that.

A new conversation whose user's text equals a string argument of a tool call that waits (or was answered last: the
sub-agent may work on by itself) is a child of that call's trajectory. It is sure when the child's last words, or its
own id, come back to the parent. A short argument tells nothing by itself, so then the child is none before that.
"""

from collections.abc import Sequence
from typing import Final

from otel_agentperf_proxy import marks
from otel_agentperf_proxy.facts import Message
from otel_agentperf_proxy.trajectory.records import Asked, Trajectory, Turn
from otel_agentperf_proxy.trajectory.rules import MAX_CANDIDATES, Call
from otel_agentperf_proxy.trajectory.state import State
from otel_agentperf_proxy.trajectory.tools import is_assistant, tool_span_id

LIKELY: Final = 0.8
"""Confidence in a parent that asked with the child's text."""

CONFIRMED: Final = 0.95
"""The same, when the child's answer or id came back to the parent."""

MAX_CHILDREN: Final = 64
"""Children of one trajectory that wait to be confirmed; past it the oldest stay as they are."""


def asked_for(state: State, call: Call) -> Asked | None:
    """The tool call that asked for what this new conversation is about; None when there is none, or several could."""
    messages = call.request.messages
    if any(is_assistant(message) for message in messages):
        return None
    for message in reversed(messages):
        for mark in reversed(marks.split(message.texts)):
            candidates = state.asking_with(call.tenant, mark)
            if len(candidates) > MAX_CANDIDATES:
                return None
            turns = [turn for turn in candidates if _may_be_parent(turn.trajectory, call)]
            # An agent may start one of another kind; one of its own kind is the better guess.
            turns = [turn for turn in turns if turn.trajectory.client == call.client] or turns
            if turns:
                return _first_free(turns, mark) if len({turn.trajectory.key for turn in turns}) == 1 else None
    return None


def _first_free(turns: Sequence[Turn], mark: bytes) -> Asked | None:
    """Of several calls with the same argument, the first one that has no child yet."""
    for turn in turns:
        for argument in turn.arguments:
            asked = Asked(turn, argument.position, argument.telling)
            if argument.mark == mark and not _is_taken(asked):
                return asked
    return None


def _may_be_parent(trajectory: Trajectory, call: Call) -> bool:
    inside = call.session in (trajectory.key, trajectory.session) if call.session else trajectory.session is None
    return inside and trajectory.scope == call.scope


def _is_taken(asked: Asked) -> bool:
    return any(child.asked == asked for child in asked.turn.trajectory.children or ())


def suspect(state: State, child: Trajectory, asked: Asked) -> None:
    """Note who may have started the child; it is told at once when the argument is telling."""
    parent = asked.turn.trajectory
    child.asked = asked
    if parent.children is None:
        parent.children = []
    parent.children.append(child)
    if len(parent.children) > MAX_CHILDREN:
        parent.children[0].asked = None
        del parent.children[0]
    if asked.telling:
        state.withdraw(asked.turn, asked.position)
        adopt(child, parent, asked)


def adopt(child: Trajectory, parent: Trajectory, asked: Asked | None) -> None:
    """Make one trajectory the other's child, also where its run has begun."""
    child.parent_id, child.depth = parent.id, parent.depth + 1
    if asked is not None:
        child.parent_link = (asked.turn.run.trace_id, tool_span_id(asked.turn, asked.position))
    run = child.run
    if run is not None:
        run.parent_trajectory_id, run.agent_depth = child.parent_id, child.depth
        if run.run_index == 0:
            run.parent_link = child.parent_link


def confirm(parent: Trajectory, tail: Sequence[Message]) -> None:
    """Look for the children's answers and ids in what the parent's new request brings."""
    waiting = parent.children or []
    for child in tuple(waiting):
        if any(_comes_back(child, message.lines) for message in tail if not is_assistant(message)):
            waiting.remove(child)
            if child.parent_id is None:
                adopt(child, parent, child.asked)
            if not child.explicit:
                child.confidence = CONFIRMED
                if child.run is not None:
                    child.run.confidence = CONFIRMED
            child.asked = None


def _comes_back(child: Trajectory, lines: bytes) -> bool:
    if child.explicit and marks.mark(child.id) in marks.split(lines):
        return True
    return marks.holds(lines, child.said)
