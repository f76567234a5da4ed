"""Levels: phases, stop rules, drain, interruption, figures, and the record of it all."""

import asyncio
import json
from typing import Any

import pytest

from otel_agentperf.errors import EndpointError, UsageError
from otel_agentperf.replay import BenchmarkResult, EndpointFacts, Progress, inspect, manifest, play
from otel_agentperf.replay.settings import DialectName, ToolDelays
from otel_agentperf.replay.tally import quantile

NOW = ToolDelays(fixed_s=0.0)


async def test_requests_are_tagged_with_the_phase_in_which_they_are_sent(
    endpoint: Any, make: Any, patient: Any
) -> None:
    """Warm-up 300 s, window 400 s. The request of the window is held until another agent works in the drain."""
    held = asyncio.Event()

    async def hold_in_the_window(request: Any) -> Any:
        if request.tag("phase") == "steady" and request.tag("agent-index") == "0":
            await held.wait()
        if request.tag("phase") == "drain":
            held.set()
        return make.answer()

    endpoint.script = hold_in_the_window
    recording = make.recording(make.task("one", (100.0,) * 50))
    settings = make.settings(
        endpoint, levels=(2,), warmup_s=300.0, seconds=400.0, trajectories=None, drain_limit_s=900.0
    )
    playing = asyncio.create_task(play(recording, settings, clock=patient))
    await endpoint.arrived(2)
    await patient.wake(300)
    await patient.asleep(400)
    while not any(r.tag("phase") == "steady" and r.tag("agent-index") == "0" for r in endpoint.requests):
        before = len(endpoint.requests)
        await patient.wake(100)
        await endpoint.arrived(before + 1)
    await patient.wake(400)
    await patient.asleep(900)
    await patient.wake(100)
    result = await playing

    phases = [request.tag("phase") for request in endpoint.requests]
    assert phases == sorted(phases, key=["warmup", "steady", "drain"].index)
    assert set(phases) == {"warmup", "steady", "drain"}
    (level,) = result.levels
    assert level.requests == phases.count("steady") == level.answers
    assert level.requests_all_phases == len(phases)
    assert level.cut_requests == 0
    assert level.steady_start_ns is not None
    assert level.steady_end_ns is not None
    assert level.start_ns <= level.steady_start_ns <= level.steady_end_ns <= level.end_ns
    assert level.steady_start_unix_ns is not None
    assert level.steady_start_unix_ns > 10**18


async def test_a_level_ends_when_its_trajectories_are_complete(endpoint: Any, make: Any, impatient: Any) -> None:
    settings = make.settings(endpoint, levels=(3, 1), trajectories=5, tool_delays=NOW)
    result = await play(make.recording(), settings, clock=impatient)
    assert [level.agents for level in result.levels] == [3, 1]
    assert all(level.completed_trajectories >= 5 for level in result.levels)
    assert all(level.stopped is None for level in result.levels)
    assert result.stopped is None
    assert {request.tag("level") for request in endpoint.requests} == {"3", "1"}


async def test_with_both_stop_rules_both_must_be_met(endpoint: Any, make: Any, patient: Any) -> None:
    settings = make.settings(endpoint, seconds=400.0, trajectories=2, tool_delays=NOW)
    playing = asyncio.create_task(play(make.recording(), settings, clock=patient))
    await patient.asleep(400)
    await endpoint.arrived(12)
    assert not playing.done()
    await patient.wake(400)
    (level,) = (await playing).levels
    assert level.completed_trajectories >= 2


async def test_what_outlasts_the_drain_limit_is_cut_off_and_counted(endpoint: Any, make: Any, patient: Any) -> None:
    async def hangs(request: Any) -> Any:
        if request.tag("phase") == "steady":
            await asyncio.get_running_loop().create_future()
        return make.answer()

    endpoint.script = hangs
    settings = make.settings(endpoint, warmup_s=300.0, seconds=400.0, trajectories=None, drain_limit_s=900.0)
    playing = asyncio.create_task(play(make.recording(), settings, clock=patient))
    await endpoint.arrived(1)
    await patient.wake(300)
    await patient.asleep(400)
    await patient.wake(100)
    await endpoint.arrived(2)
    await patient.wake(400)
    await patient.wake(900)
    (level,) = (await playing).levels
    assert (level.requests, level.answers, level.cut_requests) == (1, 0, 1)
    assert level.stopped is None


async def test_a_stop_gives_what_was_done_so_far_and_leaves_nothing_behind(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    stop = asyncio.Event()
    before = asyncio.all_tasks()

    async def stops(request: Any) -> Any:
        if endpoint.requests.index(request) >= 9:
            stop.set()
            await asyncio.get_running_loop().create_future()
        return make.answer()

    endpoint.script = stops
    settings = make.settings(endpoint, levels=(2, 4), trajectories=10_000, tool_delays=NOW)
    result = await play(make.recording(), settings, clock=impatient, stop=stop)
    assert result.stopped == "interrupted"
    (level,) = result.levels
    assert level.stopped == "interrupted"
    assert level.cut_requests >= 1
    assert level.steady_end_ns is not None
    assert ours(before) == set()


async def test_a_cancellation_leaves_no_task_and_no_connection(endpoint: Any, make: Any, impatient: Any) -> None:
    async def hangs(request: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    endpoint.script = hangs
    before = asyncio.all_tasks()
    seen: list[Progress] = []
    settings = make.settings(endpoint, levels=(8,))
    playing = asyncio.create_task(play(make.recording(), settings, clock=impatient, on_progress=seen.append))
    await endpoint.arrived(8)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert ours(before) == set()
    async with asyncio.timeout(30):
        while sum(endpoint.open.values()):
            await asyncio.sleep(0)


def ours(before: set["asyncio.Task[Any]"]) -> set["asyncio.Task[Any]"]:
    """Tasks of the replay that are still there; those of the endpoint's connections end by themselves."""
    return {
        task
        for task in asyncio.all_tasks() - before
        if "otel_agentperf" in getattr(task.get_coro(), "cr_code", None).__repr__()
    }


async def test_an_endpoint_that_dies_in_the_middle_leaves_a_partial_result(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    async def dies(request: Any) -> Any:
        if request.tag("level") == "1" or len(endpoint.requests) < 20:
            return make.answer()
        return make.reply(cut=True)

    endpoint.script = dies
    settings = make.settings(endpoint, levels=(1, 2, 3), tool_delays=NOW, trajectories=4, max_retries=1)
    result = await play(make.recording(), settings, clock=impatient)
    assert result.stopped == "failing"
    assert result.levels[0].stopped is None
    assert result.levels[-1].stopped == "failing"
    assert [level.agents for level in result.levels] in ([1, 2], [1])
    assert result.levels[-1].aborted_trajectories >= 3 * result.levels[-1].agents


async def test_the_turn_limit_ends_trajectories_early_and_marks_their_last_turn(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    await play(make.recording(), make.settings(endpoint, limit_turns=2), clock=impatient)
    assert {len(request.texts) for request in endpoint.requests} == {2, 4}
    assert all(
        (len(request.texts) == 4) == (request.tag("trajectory-final") == "true") for request in endpoint.requests
    )


async def test_figures_count_what_the_endpoint_told(endpoint: Any, make: Any, impatient: Any) -> None:
    (level,) = (await play(make.recording(), make.settings(endpoint, tool_delays=NOW), clock=impatient)).levels
    assert level.answers == level.requests > 0
    assert level.output_tokens == 3 * level.answers
    assert level.input_tokens == 10 * level.answers
    assert level.cached_input_tokens is None, "never reported, so not known"
    assert level.answers_without_usage == level.answers_of_other_length == level.retries == 0
    assert level.client_ttft_p50_s is not None
    assert level.client_ttft_p95_s is not None
    assert level.client_e2e_latency_p50_s is not None
    assert 0 <= level.client_ttft_p50_s <= level.client_ttft_p95_s
    assert level.lateness_p50_s is not None
    assert level.lateness_max_s is not None
    assert 0 <= level.lateness_p50_s <= level.lateness_max_s
    assert level.generator_cpu_share is not None


def test_quantiles_interpolate_linearly() -> None:
    assert quantile([], 0.5) is None
    assert quantile([4.0], 0.95) == 4.0
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.25) == 1.75
    assert quantile([1.0, 2.0], 1.0) == 2.0


async def test_progress_is_told_and_its_last_word_is_the_end(endpoint: Any, make: Any, patient: Any) -> None:
    seen: list[Progress] = []
    settings = make.settings(endpoint, warmup_s=300.0, seconds=400.0, trajectories=None, drain_limit_s=900.0)
    playing = asyncio.create_task(play(make.recording(), settings, clock=patient, on_progress=seen.append))
    await endpoint.arrived(1)
    await patient.wake(300)
    await patient.wake(400)
    await playing
    assert seen
    first, last = seen[0], seen[-1]
    assert (first.level_count, first.agents, first.phase) == (1, 1, "warmup")
    assert first.left_s == pytest.approx(700, abs=60)
    assert (last.phase, last.left_s, last.share) == ("drain", 0.0, 1.0)
    assert last.requests >= 1


async def test_progress_knows_no_end_when_trajectories_decide(endpoint: Any, make: Any, impatient: Any) -> None:
    seen: list[Progress] = []
    await play(make.recording(), make.settings(endpoint), clock=impatient, on_progress=seen.append)
    assert {progress.left_s for progress in seen} == {None}


async def test_the_record_names_what_was_played_and_no_secret(endpoint: Any, make: Any, impatient: Any) -> None:
    recording = make.recording()
    settings = make.settings(endpoint, api_key="sk-secret", headers=(("X-Token", "hush"),), tool_delays=NOW, seed=5)
    result = await play(recording, settings, clock=impatient)
    record = manifest(
        recording, settings, result, endpoint="http://real:8000", facts=EndpointFacts("vllm", ("tiny",), 99)
    )
    text = record.to_json().decode()
    assert "sk-secret" not in text
    assert "hush" not in text
    read = json.loads(text)
    assert read["benchmark_id"] == "b1"
    assert read["seed"] == 5
    assert read["recording"] == {"name": "made", "format": "test", "digest": "00", "tasks": ["one"], "turns": 3}
    assert read["endpoint"] == {
        "url": "http://real:8000",
        "dialect": "chat",
        "model": "tiny",
        "server": "vllm",
        "models": ["tiny"],
        "max_context_tokens": 99,
    }
    assert read["settings"]["header_names"] == ["X-Token"]
    assert read["settings"]["tool_delays"]["fixed_s"] == 0.0
    assert read["levels"][0]["steady_start_unix_ns"] == result.levels[0].steady_start_unix_ns
    assert read["start_time"].endswith("Z")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"endpoint": "ftp://x"}, "not an http"),
        ({"levels": ()}, "at least one agent"),
        ({"levels": (0,)}, "at least one agent"),
        ({"levels": (2, 2)}, "twice"),
        ({"trajectories": None}, "needs an end"),
        ({"trajectories": 0}, "trajectories must be at least 1"),
        ({"seconds": -1.0}, "seconds must be at least 0"),
        ({"seconds": float("nan")}, "seconds must be at least 0"),
        ({"warmup_s": -1.0}, "warmup"),
        ({"tool_delays": ToolDelays(scale=-1.0)}, "tool delay scale"),
        ({"request_timeout_s": 0.0}, "request timeout"),
        ({"benchmark_id": "a b"}, "not a benchmark id"),
        ({"benchmark_id": "a\r\nb"}, "not a benchmark id"),
        ({"model": ""}, "model"),
        ({"path": "v1"}, "slash"),
        ({"extra_body": {"stream": False}}, "sets stream itself"),
        ({"headers": (("x", "a\nb"),)}, "not a header field"),
        ({"limit_turns": 0}, "turn limit"),
    ],
)
async def test_settings_that_cannot_work_are_refused(make: Any, changes: dict[str, Any], words: str) -> None:
    values = {"endpoint": "http://127.0.0.1:1"} | changes
    with pytest.raises(UsageError, match=words):
        await play(make.recording(), make.settings(values.pop("endpoint"), **values))


async def test_an_empty_recording_is_refused(make: Any) -> None:
    with pytest.raises(UsageError, match="nothing to play"):
        await play(make.recording().only([]), make.settings("http://127.0.0.1:1"))


async def test_an_endpoint_is_asked_for_its_models(make: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        models = [{"id": "other"}, {"id": "tiny", "max_model_len": 4096}, {"odd": 1}]
        body = json.dumps({"data": models}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nserver: engine\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        assert await inspect(make.settings(url)) == EndpointFacts("engine", ("other", "tiny"), 4096)


async def test_an_endpoint_without_a_list_of_models_is_there_all_the_same(endpoint: Any, make: Any) -> None:
    assert await inspect(make.settings(endpoint)) == EndpointFacts()


async def test_an_endpoint_that_is_not_there_is_named(make: Any) -> None:
    with pytest.raises(EndpointError, match=r"no endpoint at http://127\.0\.0\.1:1: cannot connect"):
        await inspect(make.settings("http://127.0.0.1:1"))


@pytest.mark.parametrize("dialect", list(DialectName))
async def test_the_simulated_endpoint_answers_with_the_recorded_lengths(make: Any, dialect: DialectName) -> None:
    import socket

    from otel_agentperf.replay import load
    from otel_agentperf.simulate import SimulateConfig, serve

    sock = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    config = SimulateConfig(decode_ms=0.1, prefill_tokens_per_s=1e6)
    serving = asyncio.create_task(serve(config, sock, None, stop))
    settings = make.settings(
        f"http://127.0.0.1:{sock.getsockname()[1]}",
        dialect=dialect,
        levels=(4,),
        trajectories=4,
        tool_delays=NOW,
        cache_prefix="system",
    )
    try:
        result: BenchmarkResult = await play(load("mini").limited(3), settings)
    finally:
        stop.set()
        await serving
    (level,) = result.levels
    assert level.errors == {}
    assert level.answers_of_other_length == 0
    assert level.answers_without_usage == 0
    assert level.completed_trajectories >= 4
    assert level.cached_input_tokens is not None
    assert level.cached_input_tokens > 0, "later turns find the history of earlier ones in the cache"
