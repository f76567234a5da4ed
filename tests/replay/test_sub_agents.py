"""Sub-agents fan out and join; tool delays are drawn by tool. Against real sockets."""

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from otel_agentperf.replay import Branch, Placement, ToolDelays, play
from otel_agentperf.replay.delays import MEDIAN_S, RANGE_S, Delays

NOW = ToolDelays(fixed_s=0.0)


def with_branches(make: Any, *branches: Branch) -> Any:
    """Task `parent` of three turns whose first answer starts these sub-agents."""
    task = make.task("parent")
    return replace(task, turns=(replace(task.turns[0], branches=branches), *task.turns[1:]))


def branch(make: Any, name: str, joins: int, turns: int = 2, delay_s: float = 0.0) -> Branch:
    return Branch(replace(make.task(name, (0.0,) * turns), agent="scout"), delay_s, joins)


async def test_sub_agents_work_beside_each_other_and_their_parent_waits_for_them(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    both = asyncio.Event()
    children: set[str] = set()

    async def meets(request: Any) -> Any:
        if request.tag("task-id") in ("one", "two"):
            children.add(request.tag("task-id"))
            if len(children) == 2:
                both.set()
            await both.wait()
        return make.answer()

    endpoint.script = meets
    task = with_branches(make, branch(make, "one", 1), branch(make, "two", 1))
    await play(make.recording(task), make.settings(endpoint, trajectories=1, tool_delays=NOW), clock=impatient)
    first = [request for request in endpoint.requests if (request.tag("trajectory-id") or "").startswith("b1-1-0-0")]
    order = [request.tag("task-id") for request in first]
    assert order[0] == "parent"
    assert sorted(order[1:5]) == ["one", "one", "two", "two"], "the parent's second turn comes after all of theirs"
    assert order[5:7] == ["parent", "parent"]
    child = first[1]
    assert child.tag("parent-id") == "b1-1-0-0"
    assert child.tag("trajectory-id") in ("b1-1-0-0-s0.0", "b1-1-0-0-s0.1")
    assert child.tag("agent-name") == "scout"
    assert first[0].tag("agent-name") == "replay"
    assert first[0].tag("parent-id") is None
    finals = [request.tag("task-id") for request in first if request.tag("trajectory-final")]
    assert sorted(finals) == ["one", "parent", "two"]


async def test_a_turn_that_does_not_wait_goes_on_and_the_trajectory_waits(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    parent_done = asyncio.Event()

    async def slow_child(request: Any) -> Any:
        if request.tag("task-id") == "child":
            await parent_done.wait()
        elif len(request.texts) == 6:
            parent_done.set()
        return make.answer()

    endpoint.script = slow_child
    task = with_branches(make, branch(make, "child", 3, turns=1))
    result = await play(make.recording(task), make.settings(endpoint, trajectories=1, tool_delays=NOW), clock=impatient)
    assert result.levels[0].completed_trajectories >= 1
    ids = [request.tag("trajectory-id") for request in endpoint.requests]
    assert ids.index("b1-1-0-0-s0.0") < ids.index("b1-1-0-1"), "the next trajectory begins when the child has ended"


async def test_a_sub_agent_that_fails_is_counted_and_its_parent_goes_on(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    async def child_fails(request: Any) -> Any:
        return make.reply(status=400, chunks=[b"no"]) if request.tag("task-id") == "child" else make.answer()

    endpoint.script = child_fails
    task = with_branches(make, branch(make, "child", 1))
    result = await play(make.recording(task), make.settings(endpoint, tool_delays=NOW), clock=impatient)
    (level,) = result.levels
    assert level.completed_trajectories >= 2
    assert level.aborted_branches >= 2
    assert level.aborted_trajectories == 0


async def test_a_sub_agent_has_the_prefix_of_its_parent(endpoint: Any, make: Any, impatient: Any) -> None:
    task = with_branches(make, branch(make, "child", 1))
    settings = make.settings(endpoint, trajectories=1, tool_delays=NOW, cache_prefix=Placement.SYSTEM)
    await play(make.recording(task), settings, clock=impatient)
    texts = {request.texts[0] for request in endpoint.requests if request.tag("trajectory-id").startswith("b1-1-0-0")}
    assert len(texts) == 1


async def test_a_stop_in_the_midst_of_sub_agents_leaves_nothing_behind(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    stop = asyncio.Event()

    async def stops(request: Any) -> Any:
        if request.tag("task-id") == "child":
            stop.set()
            await asyncio.get_running_loop().create_future()
        return make.answer()

    endpoint.script = stops
    task = with_branches(make, branch(make, "child", 1))
    before = asyncio.all_tasks()
    result = await play(make.recording(task), make.settings(endpoint, tool_delays=NOW), clock=impatient, stop=stop)
    assert result.stopped == "interrupted"
    left = asyncio.all_tasks() - before
    assert not [each for each in left if "otel_agentperf" in repr(getattr(each.get_coro(), "cr_code", None))]


# --- Tool delays


def timed(make: Any, *steps: tuple[str, float | None]) -> Any:
    """A task whose turns called one tool each, and how long that took; a last turn without tools."""
    task = make.task("t", tuple(0.0 for _ in range(len(steps) + 1)))
    named = [
        replace(turn, tool_delay_s=delay_s, tools_called=(name,) if name else ())
        for turn, (name, delay_s) in zip(task.turns, steps, strict=False)
    ]
    return replace(task, turns=(*named, task.turns[-1]))


def test_recorded_delays_stay_as_they_are_unless_they_shall_vary(make: Any) -> None:
    task = timed(make, ("ls", 0.2), ("make", 60.0), ("ls", 0.4))
    delay = Delays([task], ToolDelays()).after(task.turns[1], Random(1))
    assert (delay.seconds, delay.drawn, delay.capped) == (60.0, False, False)
    drawn = {Delays([task], ToolDelays(sampled=True)).after(task.turns[0], Random(seed)).seconds for seed in range(40)}
    assert drawn == {0.2, 0.4}, "of the same tool"


def test_unknown_delays_are_drawn_from_the_same_tool_then_from_all_then_from_the_benchmarks(make: Any) -> None:
    task = timed(make, ("ls", 0.2), ("ls", None), ("odd", None))
    delays = Delays([task], ToolDelays())
    assert delays.after(task.turns[1], Random(1)).seconds == 0.2
    assert delays.after(task.turns[2], Random(1)).seconds == 0.2
    assert delays.after(task.turns[1], Random(1)).drawn
    bare = timed(make, ("ls", None), ("", None))
    found = sorted(Delays([bare], ToolDelays()).after(bare.turns[0], Random(seed)).seconds for seed in range(999))
    assert RANGE_S[0] <= found[0]
    assert found[-1] <= RANGE_S[1]
    assert found[499] == pytest.approx(MEDIAN_S, rel=0.1)


def test_drawn_delays_are_scaled_and_capped_too(make: Any) -> None:
    task = timed(make, ("ls", 4.0), ("ls", None))
    delay = Delays([task], ToolDelays(scale=10.0, cap_s=30.0)).after(task.turns[1], Random(1))
    assert (delay.seconds, delay.capped, delay.drawn) == (30.0, True, True)


def test_of_several_tools_the_slowest_counts(make: Any) -> None:
    task = timed(make, ("ls", 0.2), ("make", 60.0))
    both = replace(task.turns[0], tools_called=("ls", "make"), tool_delay_s=None)
    assert Delays([task], ToolDelays()).after(both, Random(1)).seconds == 60.0


async def test_drawn_delays_are_counted(endpoint: Any, make: Any, impatient: Any) -> None:
    task = timed(make, ("ls", 0.0), ("ls", None))
    settings = make.settings(endpoint, trajectories=1)
    (level,) = (await play(make.recording(task), settings, clock=impatient)).levels
    assert level.drawn_tool_delays >= 1
