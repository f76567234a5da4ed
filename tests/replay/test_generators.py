"""Several generator processes that share the agents of a level. Against real sockets, in real time."""

import asyncio
import os
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.errors import UnavailableError, UsageError
from otel_agentperf.replay import BenchmarkResult, GeneratorLoad, Placement, ToolDelays, play
from otel_agentperf.replay.generators import Generators, shares
from otel_agentperf.replay.tally import Tally

NOW = ToolDelays(fixed_s=0.0)


@given(agents=st.integers(1, 300), generators=st.integers(1, 12))
def test_each_agent_is_played_by_one_generator_and_shares_are_even(agents: int, generators: int) -> None:
    found = shares(agents, generators)
    assert sorted(index for share in found for index in share) == list(range(agents))
    assert len(found) == min(agents, generators)
    sizes = [len(share) for share in found]
    assert max(sizes) - min(sizes) <= 1


def played(requests: list[Any]) -> dict[str, list[tuple[str, list[str]]]]:
    """By agent: the texts that it sent, and in which trajectory."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for request in requests:
        found.setdefault(request.tag("agent-index"), []).append((request.tag("trajectory-id"), request.texts))
    return found


async def test_agents_play_the_same_in_any_number_of_processes(endpoint: Any, make: Any) -> None:
    recording = make.recording(make.task("one"), make.task("two", (5.0, 0.0)), make.task("three", (0.0,)))
    runs = []
    for generators in (1, 2, 3):
        endpoint.requests.clear()
        endpoint.most_open.clear()
        settings = make.settings(
            endpoint,
            levels=(5,),
            trajectories_per_agent=4,
            tool_delays=NOW,
            cache_prefix=Placement.SYSTEM,
            warmup_s=0.05,
            generators=generators,
            max_lateness_s=1e9,
        )
        await play(recording, settings)
        assert set(endpoint.most_open.values()) == {1}
        runs.append(played(endpoint.requests))
    first, *others = runs
    assert len(first) == 5
    for other in others:
        assert other.keys() == first.keys()
        for agent, requests in first.items():
            count = min(len(requests), len(other[agent]))
            assert count > 0
            assert other[agent][:count] == requests[:count]


async def test_the_figures_of_a_level_are_those_of_all_generators(endpoint: Any, make: Any) -> None:
    measured: dict[str, set[str]] = {}
    all_measured = {agents: asyncio.Event() for agents in ("3", "1")}
    plain = endpoint.script

    async def wait_for_all(request: Any) -> Any:
        if request.tag("phase") == "steady":
            agents = request.tag("level")
            measured.setdefault(agents, set()).add(request.tag("agent-index"))
            if len(measured[agents]) == int(agents):
                all_measured[agents].set()
            await all_measured[agents].wait()
        return await plain(request)

    endpoint.script = wait_for_all
    moments = []
    settings = make.settings(
        endpoint, levels=(3, 1), trajectories=8, tool_delays=NOW, generators=2, warmup_s=0.2, max_lateness_s=1e9
    )
    result = await play(make.recording(), settings, on_progress=moments.append)
    assert result.stopped is None
    three, one = result.levels
    for level in (three, one):
        sent = [request for request in endpoint.requests if request.tag("level") == str(level.agents)]
        assert level.requests_all_phases == len(sent)
        assert level.requests == sum(request.tag("phase") == "steady" for request in sent) > 0
        assert level.answers == level.requests
        assert level.completed_trajectories >= 8
        assert level.output_tokens == 3 * level.answers
        assert level.requests == sum(each.requests for each in level.generators)
        assert all(each.lateness_p99_s is not None and each.cpu_share is not None for each in level.generators)
        assert level.generator_cpu_share == max(each.cpu_share or 0.0 for each in level.generators)
        phases = [request.tag("phase") for request in sent if request.tag("agent-index") == "0"]
        order = ["warmup", "steady", "drain"]
        assert phases == sorted(phases, key=order.index)
        assert phases[0] == "warmup"
    assert [each.agents for each in three.generators] == [2, 1]
    assert [each.agents for each in one.generators] == [1], "nobody else had anything to do"
    assert moments[-1].requests == one.requests_all_phases
    ids = {(r.tag("trajectory-id"), r.tag("agent-index"), r.tag("level")) for r in endpoint.requests}
    assert len(ids) == len({each[0] for each in ids}), "no two agents share a trajectory"


async def test_without_warm_up_every_request_is_measured_from_the_first_on(endpoint: Any, make: Any) -> None:
    settings = make.settings(endpoint, levels=(4,), trajectories=4, tool_delays=NOW, generators=2)
    await play(make.recording(), settings)
    assert "warmup" not in {request.tag("phase") for request in endpoint.requests}


async def test_a_stop_cuts_what_all_generators_have_in_flight(endpoint: Any, make: Any) -> None:
    async def hang(request: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    endpoint.script = hang
    stop = asyncio.Event()
    settings = make.settings(endpoint, levels=(5, 6), generators=2)
    playing = asyncio.create_task(play(make.recording(), settings, stop=stop))
    await endpoint.arrived(5)
    stop.set()
    result = await playing
    assert result.stopped == "interrupted"
    (level,) = result.levels
    assert (level.cut_requests, level.requests, level.answers) == (5, 5, 0)
    assert len(endpoint.requests) == 5


async def test_an_endpoint_that_fails_ends_the_level_whoever_asks(endpoint: Any, make: Any) -> None:
    async def dies(request: Any) -> Any:
        return make.answer() if len(endpoint.requests) < 20 else make.reply(status=500, chunks=[b"gone"])

    endpoint.script = dies
    settings = make.settings(
        endpoint, levels=(4, 8), tool_delays=NOW, trajectories=None, seconds=1e4, max_retries=0, generators=2
    )
    result = await play(make.recording(), settings)
    assert result.stopped == "failing"
    (level,) = result.levels
    assert level.aborted_trajectories >= 3 * 4
    assert level.errors["http_500"] > 0
    assert "gone" in str(level.error_example)


def test_a_late_generator_is_not_hidden_by_one_that_is_not() -> None:
    tally = Tally()
    for generator, number, late_ns in ((0, 990, 0), (1, 5, 3_000_000_000)):
        for _ in range(number):
            tally.sent("steady", late_ns, generator)
    level = tally.result(
        agents=3,
        stopped=None,
        abandoned=None,
        cut_short=None,
        start_ns=0,
        end_ns=20,
        steady_ns=(5, 15),
        steady_unix_ns=(5, 15),
        spent=[(2, 0.25), (1, 0.5)],
    )
    assert level.lateness_p99_s == 0.0
    assert level.worst_lateness_p99_s == 3.0
    assert level.generator_cpu_share == 0.5
    assert level.generators == (
        GeneratorLoad(agents=2, requests=990, lateness_p99_s=0.0, cpu_share=0.25),
        GeneratorLoad(agents=1, requests=5, lateness_p99_s=3.0, cpu_share=0.5),
    )


async def test_generators_that_were_late_make_a_level_doubtful(endpoint: Any, make: Any) -> None:
    settings = make.settings(endpoint, levels=(2,), tool_delays=NOW, generators=2, max_lateness_s=0.0)
    (level,) = (await play(make.recording(), settings)).levels
    assert level.doubt is not None
    assert f"{level.worst_lateness_p99_s:.2f} s late" in level.doubt


async def test_a_generator_that_dies_ends_the_benchmark_and_leaves_the_levels_before(
    endpoint: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Generators] = []
    start = Generators.start

    async def kept(*arguments: Any) -> Generators:
        started.append(await start(*arguments))
        return started[-1]

    async def kill(request: Any) -> Any:
        if request.tag("level") == "2":
            return make.answer()
        if request.tag("agent-index") == "1":
            os.kill(started[0].pids[1], signal.SIGKILL)
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(Generators, "start", kept)
    endpoint.script = kill
    told: list[BenchmarkResult] = []
    settings = make.settings(endpoint, levels=(2, 3), tool_delays=NOW, generators=2, max_lateness_s=1e9)
    with pytest.raises(UnavailableError, match=r"generator process 2 of 2 ended \(signal SIGKILL\)"):
        await play(make.recording(), settings, on_level=told.append)
    assert [level.agents for level in told[-1].levels] == [2]
    for pid in started[0].pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_several_generators_have_clocks_of_their_own(endpoint: Any, make: Any, impatient: Any) -> None:
    with pytest.raises(UsageError, match="clock"):
        await play(make.recording(), make.settings(endpoint, generators=2), clock=impatient)
    with pytest.raises(UsageError, match="number of generators must be at least 1"):
        await play(make.recording(), make.settings(endpoint, generators=0))
