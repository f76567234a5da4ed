"""Captured traffic of eight agents, mixed and interleaved in time, through the observer: what comes out as spans.

The captures and what each exchange is: `tests/data/captures`. Told: as the agents sent it. Without headers: what names
the agent or its session is left in bodies only. Anonymous: nothing names anybody.
"""

from functools import cache

import captures
import pytest
from captures import AUXILIARY, EDGE, LINK, Capture, Replayed, Seen

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import Identity
from otel_agentperf_proxy.trajectory import identify

SEEDS = (1, 2)
"""Of the times at which the captures start."""

NAMING = ("claude-code", "codex", "opencode")
"""Agents that name themselves, and each of their agents, in headers."""

REWRITING = "aider"
"""Rewrites its whole history each turn: nothing tells that two turns belong together."""


def told() -> tuple[Capture, ...]:
    return captures.load()


def without_headers() -> tuple[Capture, ...]:
    return tuple(capture.anonymous(body=False) for capture in captures.load())


def anonymous() -> tuple[Capture, ...]:
    return tuple(capture.anonymous() for capture in captures.load())


MODES = {"told": told, "without headers": without_headers, "anonymous": anonymous}


@cache
def replayed(mode: str, seed: int) -> Replayed:
    return captures.play(captures.interleaved(MODES[mode](), seed))


def names(calls: list[Seen]) -> list[str]:
    return [f"{seen.exchange.capture} {seen.exchange.seq}" for seen in calls]


def place(seen: Seen) -> tuple[object, ...]:
    """What a span says of where the call stands in its trajectory."""
    told = seen.attributes
    return (
        told.get(semconv.TURN_INDEX),
        told[semconv.ATTEMPT_INDEX],
        told[semconv.SEGMENT_INDEX],
        told[semconv.RUN_INDEX],
    )


def true_place(seen: Seen) -> tuple[object, ...]:
    truth = seen.exchange.truth
    return truth.turn, truth.retry, truth.segment, truth.run


def identity(seen: Seen) -> Identity | None:
    return identify([(name.lower(), value) for name, value in seen.exchange.headers], {})


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
def test_no_call_is_given_to_a_wrong_trajectory_and_no_link_is_missed(mode, seed):
    scores = captures.score(replayed(mode, seed))
    assert names(scores.mistaken) == []
    links = scores.total(LINK, without=REWRITING)
    assert (links.right, links.true) == (155, 155)


@pytest.mark.parametrize("seed", SEEDS)
def test_agents_that_name_themselves_are_told_apart_completely(seed):
    calls = [seen for seen in replayed("told", seed).calls if seen.true and seen.exchange.agent.startswith(NAMING)]
    assert {seen.source for seen in calls} == {"header"}
    assert [place(seen) for seen in calls] == [true_place(seen) for seen in calls]
    kinds = [seen.attributes[semconv.TURN_KIND] for seen in calls]
    assert kinds == ["auxiliary" if seen.exchange.truth.turn is None else "turn" for seen in calls]
    ids = {seen.true: seen.trajectory for seen in calls}
    assert [seen.trajectory for seen in calls] == [ids[seen.true] for seen in calls]
    assert [seen.trajectory for seen in calls] == [identity(seen).trajectory_id for seen in calls]
    parents = [ids.get(f"{seen.tenant}:{seen.exchange.truth.parent}") for seen in calls]
    assert [seen.attributes.get(semconv.TRAJECTORY_PARENT_ID) for seen in calls] == parents


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
def test_turns_attempts_segments_and_runs_are_counted_also_when_nobody_names_himself(mode, seed):
    calls = [
        seen
        for seen in replayed(mode, seed).calls
        if seen.exchange.truth.turn is not None and not seen.exchange.agent.startswith(REWRITING)
    ]
    wrong = [seen for seen in calls if place(seen) != true_place(seen)]
    assert names(wrong) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
def test_sub_agents_find_their_parents(mode, seed):
    """All but one whose whole task is `x`, when two agents ask for just that at once."""
    edges = captures.score(replayed(mode, seed)).total(EDGE)
    assert edges.true == 8
    assert edges.right >= 7


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
def test_auxiliary_calls_are_known_and_are_attached_where_it_can_be_told(mode, seed):
    """Titles of agents that were given the very same words at once cannot be told apart."""
    calls = [seen for seen in replayed(mode, seed).calls if seen.true and seen.exchange.truth.turn is None]
    assert {seen.attributes[semconv.TURN_KIND] for seen in calls} == {"auxiliary"}
    missed = [seen for seen in captures.score(replayed(mode, seed)).missed if seen in calls]
    unknown = [name for name in names(missed) if not name.startswith(("aider", "opencode"))]
    assert unknown == []
    assert len(calls) - len(missed) >= (16 if mode == "told" else 12)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_failed_on_the_way(mode):
    stats = replayed(mode, SEEDS[0]).stats
    assert (stats["errors"], stats["problems"]) == ({}, {})


def test_two_tenants_with_the_same_ids_stay_apart():
    """Each capture twice, at almost the same time, with the same ids and words."""
    starts = captures.interleaved(told(), seed=4, spread_s=1)
    twice = [*starts, *((start_s + 0.05, capture, "3333cccc4444dddd") for start_s, capture, _ in starts)]
    scores = captures.score(captures.play(twice))
    assert names(scores.mistaken) == []
    links = scores.total(LINK, without=REWRITING)
    assert (links.right, links.true) == (310, 310)


@pytest.mark.parametrize("gap_s", [0.0, 0.01, 1.0])
def test_copies_of_the_same_run_at_once_are_never_confused(gap_s):
    """Three copies of each capture, each with ids of its own, same words, same tenant, nobody named. What nobody can
    tell starts anew: where the server gives tool calls no ids (Gemini), and after a summary that all copies were
    given."""
    starts = []
    for copy in range(3):
        for index, capture in enumerate(anonymous()):
            starts.append((index * 0.01 + copy * gap_s, captures.renamed(capture, copy), captures.TENANT))
    scores = captures.score(captures.play(starts))
    assert names(scores.mistaken) == []
    turns = [seen for seen in scores.missed if seen.exchange.truth.turn and seen.exchange.truth.segment == 0]
    assert [name for name in names(turns) if not name.startswith((REWRITING, "gemini-cli"))] == []


def test_truth_agrees_with_the_ids_that_the_agents_send():
    for capture in told():
        named = [one for one in capture.exchanges if one.truth.trajectory and one.agent.startswith(NAMING)]
        by_id = {}
        for exchange in named:
            who = identify([(name.lower(), value) for name, value in exchange.headers], {})
            by_id.setdefault(who.trajectory_id, set()).add(exchange.truth.trajectory)
        assert all(len(trajectories) == 1 for trajectories in by_id.values())
        assert len(by_id) == len({exchange.truth.trajectory for exchange in named})


def test_scores_count_what_they_say():
    scores = captures.score(replayed("told", SEEDS[0]))
    assert scores.total(AUXILIARY).true == 17
    assert scores.total(LINK).true == 158
    assert scores.total(LINK).precision == 1.0
