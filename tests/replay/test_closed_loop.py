"""What agents send, in which order, and what they do when an answer fails. Against real sockets."""

import asyncio
import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from otel_agentperf import semconv
from otel_agentperf.errors import EndpointError
from otel_agentperf.replay import Placement, ToolDelays, play
from otel_agentperf.replay.benchmark import output_limit
from otel_agentperf.replay.schedule import Deck, prefix_text
from otel_agentperf.replay.settings import OUTPUT_GUARD_TOKENS, DialectName, OutputPolicy


def by_agent(requests: list[Any]) -> dict[str, list[Any]]:
    agents: dict[str, list[Any]] = {}
    for request in requests:
        agents.setdefault(request.tag("agent-index"), []).append(request)
    return agents


async def test_an_agent_replays_the_recorded_history_turn_by_turn(endpoint: Any, make: Any, impatient: Any) -> None:
    await play(make.recording(), make.settings(endpoint, trajectories=1), clock=impatient)
    assert [request.texts for request in endpoint.requests[:3]] == [
        ["be brief", "one question 0"],
        ["be brief", "one question 0", "one answer 0", "one question 1"],
        ["be brief", "one question 0", "one answer 0", "one question 1", "one answer 1", "one question 2"],
    ]
    assert {request.path for request in endpoint.requests} == {"/v1/chat/completions"}
    body = endpoint.requests[0].body
    assert (body["model"], body["max_tokens"], body["ignore_eos"], body["stream"]) == ("tiny", 3, True, True)
    assert body["stream_options"] == {"include_usage": True}


async def test_no_agent_has_two_requests_in_flight_and_all_work_at_once(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    everybody = asyncio.Event()
    plain = endpoint.script

    async def wait_for_all(request: Any) -> Any:
        if len(endpoint.requests) >= 5:
            everybody.set()
        await everybody.wait()
        return await plain(request)

    endpoint.script = wait_for_all
    recording = make.recording(make.task("one"), make.task("two", (5.0, 0.0)))
    await play(recording, make.settings(endpoint, levels=(5,), trajectories=20), clock=impatient)
    assert len(endpoint.most_open) == 5
    assert set(endpoint.most_open.values()) == {1}
    for requests in by_agent(endpoint.requests).values():
        for before, after in pairwise(requests):
            if before.tag("trajectory-id") == after.tag("trajectory-id"):
                assert after.texts[: len(before.texts)] == before.texts
            else:
                assert before.tag("trajectory-final") == "true", "a trajectory is played to its end"


async def test_the_next_turn_waits_for_the_tool_and_for_nothing_else(endpoint: Any, make: Any, patient: Any) -> None:
    settings = make.settings(endpoint, trajectories=1, warmup_s=500.0, drain_limit_s=900.0)
    playing = asyncio.create_task(play(make.recording(), settings, clock=patient))
    await endpoint.arrived(1)
    await patient.asleep(100)
    assert len(endpoint.requests) == 1
    await patient.wake(100)
    await endpoint.arrived(2)
    await patient.asleep(200)
    assert len(endpoint.requests) == 2
    await patient.wake(200)
    # After the last turn there is no tool to wait for: the next trajectory begins.
    await endpoint.arrived(4)
    assert endpoint.requests[3].tag("trajectory-id") == "b1-1-0-1"
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing


async def test_tool_delays_are_scaled_and_capped_and_the_cuts_counted(endpoint: Any, make: Any, impatient: Any) -> None:
    settings = make.settings(endpoint, trajectories=1, tool_delays=ToolDelays(scale=2.0, cap_s=300.0))
    level = (await play(make.recording(), settings, clock=impatient)).levels[0]
    slept = [each for each in impatient.sleeps if 0 < each < 1000]
    assert slept[:2] == [pytest.approx(200, abs=20), pytest.approx(300, abs=20)]
    assert level.capped_tool_delays >= 1


async def test_a_fixed_tool_delay_replaces_the_recorded_ones(endpoint: Any, make: Any, impatient: Any) -> None:
    settings = make.settings(endpoint, trajectories=1, tool_delays=ToolDelays(fixed_s=700.0))
    level = (await play(make.recording(), settings, clock=impatient)).levels[0]
    slept = [each for each in impatient.sleeps if 0 < each < 1000]
    assert slept[:2] == [pytest.approx(700, abs=20)] * 2
    assert level.capped_tool_delays == 0


async def test_every_request_carries_its_place_in_the_benchmark(endpoint: Any, make: Any, impatient: Any) -> None:
    settings = make.settings(endpoint, levels=(2,), trajectories=4, agent_name="coder")
    await play(make.recording(make.task("täsk")), settings, clock=impatient)
    known = {f"x-agentperf-{name.replace('.', '-')}" for name in semconv.LAUNCHER_TAGS}
    for request in endpoint.requests:
        assert {name for name in request.headers if name.startswith("x-agentperf-")} <= known
        assert request.tag("benchmark-id") == "b1"
        assert request.tag("level") == "2"
        assert request.tag("agent-name") == "coder"
        assert request.tag("task-id") == "täsk"
        assert request.tag("task-domain") == "family of täsk"
        assert request.tag("trajectory-id").startswith(f"b1-2-{request.tag('agent-index')}-")
        assert (request.tag("trajectory-final") == "true") == (len(request.texts) == 6)
    ids = [request.headers["x-request-id"] for request in endpoint.requests]
    assert len(set(ids)) == len(ids)
    assert ids[0].startswith(endpoint.requests[0].tag("trajectory-id"))
    assert set(by_agent(endpoint.requests)) == {"0", "1"}


async def test_tasks_are_dealt_evenly_and_by_the_seed(endpoint: Any, make: Any, impatient: Any) -> None:
    recording = make.recording(*(make.task(name, (0.0,)) for name in ("a", "b", "c")))

    async def first_tasks(seed: int) -> list[str]:
        endpoint.requests.clear()
        await play(recording, make.settings(endpoint, levels=(3,), trajectories=30, seed=seed), clock=impatient)
        dealt = {request.tag("trajectory-id"): request.tag("task-id") for request in endpoint.requests}
        return [dealt[f"b1-3-{agent}-{number}"] for number in range(2) for agent in range(3)]

    first = await first_tasks(1)
    assert Counter(first) == {"a": 2, "b": 2, "c": 2}
    assert await first_tasks(1) == first
    assert first not in [await first_tasks(seed) for seed in range(2, 6)]


def test_the_deck_holds_every_task_once_in_each_round() -> None:
    deck = Deck(range(5), seed=7)
    cards = [deck.card(index) for index in range(50)]
    assert all(sorted(cards[at : at + 5]) == [0, 1, 2, 3, 4] for at in range(0, 50, 5))
    assert cards == [Deck(range(5), seed=7).card(index) for index in range(50)]


async def test_the_random_prefix_is_the_trajectorys_own(endpoint: Any, make: Any, impatient: Any) -> None:
    settings = make.settings(endpoint, levels=(2,), trajectories=6, cache_prefix=Placement.SYSTEM, seed=3)
    await play(make.recording(), settings, clock=impatient)
    prefixes: dict[str, set[str]] = {}
    for request in endpoint.requests:
        text = request.texts[0]
        assert text.endswith("be brief")
        prefixes.setdefault(request.tag("trajectory-id"), set()).add(text.removesuffix("be brief"))
    assert all(len(texts) == 1 for texts in prefixes.values()), "all turns of a trajectory share it"
    assert len(set.union(*prefixes.values())) == len(prefixes), "no two trajectories share one"
    assert prefixes["b1-2-0-0"] == {prefix_text(3, "b1-2-0-0")}
    assert prefix_text(4, "b1-2-0-0") != prefix_text(3, "b1-2-0-0")


@pytest.mark.parametrize(
    ("policy", "target", "limit", "expected"),
    [
        (OutputPolicy.EXACT, 7, 100, (7, True, False)),
        (OutputPolicy.EXACT, 0, 100, (1, True, False)),
        (OutputPolicy.EXACT, None, 100, (100, False, True)),
        (OutputPolicy.RECORDED, 7, 100, (7, False, False)),
        (OutputPolicy.RECORDED, None, None, (OUTPUT_GUARD_TOKENS, False, True)),
        (OutputPolicy.NATURAL, 7, 100, (100, False, False)),
        (OutputPolicy.NATURAL, 7, None, (OUTPUT_GUARD_TOKENS, False, False)),
    ],
)
def test_the_length_of_answers_follows_the_policy(
    make: Any, policy: OutputPolicy, target: int | None, limit: int | None, expected: tuple[int, bool, bool]
) -> None:
    turn = make.task("t", (0.0,), target).turns[0]
    object.__setattr__(turn, "max_output_tokens", limit)
    found = output_limit(turn, policy)
    assert (found.max_tokens, found.exact, found.unknown) == expected


async def test_answers_of_another_length_than_asked_for_are_counted(endpoint: Any, make: Any, impatient: Any) -> None:
    async def shorter(request: Any) -> Any:
        return make.answer(request.body["max_tokens"] - 1)

    endpoint.script = shorter
    level = (await play(make.recording(), make.settings(endpoint), clock=impatient)).levels[0]
    assert level.answers_of_other_length == level.answers > 0


async def test_a_failure_that_may_pass_is_tried_again_with_backoff(endpoint: Any, make: Any, impatient: Any) -> None:
    async def every_first_attempt_fails(request: Any) -> Any:
        if request.headers["x-request-id"].endswith(".0"):
            return make.reply(status=503, headers={"content-type": "application/json"}, chunks=[b"busy"])
        return make.answer()

    endpoint.script = every_first_attempt_fails
    level = (await play(make.recording(), make.settings(endpoint), clock=impatient)).levels[0]
    assert level.completed_trajectories >= 2
    assert level.aborted_trajectories == 0
    assert set(level.errors) == {"http_503"}
    assert level.errors["http_503"] >= 6
    assert level.retries >= 6
    assert level.error_example == "status 503: busy"
    waits = [each for each in impatient.sleeps if 0 < each < 1]
    assert waits, "a wait before each retry"
    first, second = endpoint.requests[:2]
    assert (first.texts, first.tag("trajectory-id")) == (second.texts, second.tag("trajectory-id"))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_a_server_that_asks_for_patience_gets_it_up_to_a_limit(endpoint: Any, make: Any, impatient: Any) -> None:
    async def limited(request: Any) -> Any:
        attempt = request.headers["x-request-id"].rpartition(".")[2]
        if attempt == "2":
            return make.answer()
        return make.reply(status=429, headers={"retry-after": "40" if attempt == "0" else "7200"}, chunks=[b"{}"])

    endpoint.script = limited
    settings = make.settings(endpoint, trajectories=1, tool_delays=ToolDelays(fixed_s=0.0))
    level = (await play(make.recording(), settings, clock=impatient)).levels[0]
    waits = [each for each in impatient.sleeps if 0 < each < 1000]
    assert waits[:2] == [pytest.approx(40, abs=5), pytest.approx(60, abs=5)]
    assert level.capped_retry_waits >= 3
    assert level.errors["http_429"] >= 6


async def test_attempts_are_bounded_and_then_the_trajectory_is_given_up(
    endpoint: Any, make: Any, impatient: Any
) -> None:
    broken: set[str] = set()

    async def second_turns_of_one_fail(request: Any) -> Any:
        if request.texts[-1] == "one question 1":
            broken.add(request.tag("trajectory-id"))
            return make.reply(chunks=make.answer().chunks[:2], cut=True)
        return make.answer()

    endpoint.script = second_turns_of_one_fail
    recording = make.recording(make.task("one"), make.task("two"))
    level = (await play(recording, make.settings(endpoint, max_retries=3), clock=impatient)).levels[0]
    assert level.completed_trajectories >= 2
    assert level.aborted_trajectories >= 1
    assert set(level.errors) == {"reset"}
    attempts = Counter(request.tag("trajectory-id") for request in endpoint.requests)
    most = max(attempts[trajectory] for trajectory in broken)
    assert most == 1 + 4, "one turn well, then one attempt and three retries"
    finished = [request for request in endpoint.requests if request.tag("trajectory-final")]
    assert {request.tag("task-id") for request in finished} == {"two"}


async def test_a_failure_that_will_not_pass_is_not_tried_again(endpoint: Any, make: Any, impatient: Any) -> None:
    async def refuses_two(request: Any) -> Any:
        if request.tag("task-id") == "two":
            return make.reply(status=400, chunks=[json.dumps({"error": {"message": "too  long"}}).encode()])
        return make.answer()

    endpoint.script = refuses_two
    recording = make.recording(make.task("one"), make.task("two"))
    level = (await play(recording, make.settings(endpoint, trajectories=6), clock=impatient)).levels[0]
    assert level.error_example == "status 400: too long"
    assert level.aborted_trajectories >= 1
    assert level.retries == 0
    attempts = Counter(r.tag("trajectory-id") for r in endpoint.requests if r.tag("task-id") == "two")
    assert set(attempts.values()) == {1}


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ([b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'], "truncated"),
        ([b'data: {"error":{"message":"boom"}}\n\n'], "stream_error"),
        ([], "truncated"),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error(
    endpoint: Any, make: Any, impatient: Any, chunks: list[bytes], kind: str
) -> None:
    async def every_first_attempt_fails(request: Any) -> Any:
        first = request.headers["x-request-id"].endswith(".0")
        return make.reply(chunks=chunks) if first else make.answer()

    endpoint.script = every_first_attempt_fails
    level = (await play(make.recording(), make.settings(endpoint), clock=impatient)).levels[0]
    assert set(level.errors) == {kind}
    assert level.completed_trajectories >= 2


async def test_an_answer_that_takes_too_long_has_failed(endpoint: Any, make: Any, impatient: Any) -> None:
    async def hangs_once(request: Any) -> Any:
        if request.headers["x-request-id"].endswith(".0") and len(endpoint.requests) == 1:
            await asyncio.get_running_loop().create_future()
        return make.answer()

    endpoint.script = hangs_once
    settings = make.settings(endpoint, request_timeout_s=0.2, max_retries=50)
    level = (await play(make.recording(), settings, clock=impatient)).levels[0]
    assert level.errors["timeout"] >= 1
    assert level.completed_trajectories >= 2


@pytest.mark.parametrize("dialect", list(DialectName))
async def test_the_key_and_further_fields_go_where_the_dialect_has_them(
    endpoint: Any, make: Any, impatient: Any, dialect: DialectName
) -> None:
    async def anthropic(request: Any) -> Any:
        event = {"type": "content_block_delta", "delta": {"text": "a"}}
        chunks = [b"data: %b\n\n" % json.dumps(each).encode() for each in (event, {"type": "message_stop"})]
        return make.reply(chunks=chunks)

    if dialect is DialectName.MESSAGES:
        endpoint.script = anthropic
    settings = make.settings(
        f"{endpoint.url}/base/v1/",
        dialect=dialect,
        api_key="sk-1",
        headers=(("X-Team", "blue"),),
        extra_body={"temperature": 0.5},
    )
    assert "sk-1" not in repr(settings)
    assert "blue" not in repr(settings)
    level = (await play(make.recording(), settings, clock=impatient)).levels[0]
    assert level.errors == {}
    request = endpoint.requests[0]
    assert request.headers["x-team"] == "blue"
    assert request.body["temperature"] == 0.5
    if dialect is DialectName.CHAT:
        assert request.path == "/base/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer sk-1"
    else:
        assert request.path == "/base/v1/messages"
        assert request.headers["x-api-key"] == "sk-1"
        assert request.headers["anthropic-version"] == "2023-06-01"
        assert request.body["system"] == "be brief"


async def test_a_path_of_the_users_own_replaces_the_dialects(endpoint: Any, make: Any, impatient: Any) -> None:
    await play(make.recording(), make.settings(endpoint, path="/v4/chat"), clock=impatient)
    assert {request.path for request in endpoint.requests} == {"/v4/chat"}


async def test_an_endpoint_that_is_not_there_ends_the_benchmark_at_once(make: Any, impatient: Any) -> None:
    with pytest.raises(EndpointError, match=r"cannot connect to http://127\.0\.0\.1:1"):
        await play(make.recording(), make.settings("http://127.0.0.1:1"), clock=impatient)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_wrong_key_or_model_ends_the_benchmark_at_once(
    endpoint: Any, make: Any, impatient: Any, status: int
) -> None:
    async def refuses(request: Any) -> Any:
        return make.reply(status=status, chunks=[b'{"error": {"message": "no such model"}}'])

    endpoint.script = refuses
    with pytest.raises(EndpointError, match=f"status {status}: no such model"):
        await play(make.recording(), make.settings(endpoint), clock=impatient)
    assert len(endpoint.requests) == 1


async def test_an_endpoint_that_does_not_stream_is_refused(endpoint: Any, make: Any, impatient: Any) -> None:
    async def whole(request: Any) -> Any:
        return make.reply(headers={"content-type": "application/json"}, chunks=[b'{"choices": []}'])

    endpoint.script = whole
    with pytest.raises(EndpointError, match="does not stream"):
        await play(make.recording(), make.settings(endpoint), clock=impatient)


async def test_a_level_whose_trajectories_never_end_is_given_up(endpoint: Any, make: Any, impatient: Any) -> None:
    """A context that gets too long for the model: each trajectory begins well, and none can be completed."""

    async def refuses_the_third_turn(request: Any) -> Any:
        if len(request.texts) > 4:
            error = b'{"error": {"message": "maximum context length exceeded"}}'
            return make.reply(status=400, headers={"content-type": "application/json"}, chunks=[error])
        return make.answer(request.body["max_tokens"])

    endpoint.script = refuses_the_third_turn
    tasks = [make.task(name) for name in ("one", "two", "three", "four")]
    result = await play(make.recording(*tasks), make.settings(endpoint), clock=impatient)
    assert result.stopped == "stuck"
    (level,) = result.levels
    assert level.aborted_trajectories == 8, "every task twice"
    assert level.errors == {"http_400": 8}
    assert "maximum context length" in (level.error_example or "")


async def test_a_task_that_never_ends_does_not_end_the_others(endpoint: Any, make: Any, impatient: Any) -> None:
    async def refuses_one(request: Any) -> Any:
        if "one" in request.texts[1]:
            return make.reply(status=400, chunks=[b"no"])
        return make.answer(request.body["max_tokens"])

    endpoint.script = refuses_one
    recording = make.recording(make.task("one"), make.task("two"))
    result = await play(recording, make.settings(endpoint, trajectories=20), clock=impatient)
    assert result.stopped is None
    assert result.levels[0].completed_trajectories == 20


async def test_an_endpoint_that_only_fails_is_given_up(endpoint: Any, make: Any, impatient: Any) -> None:
    async def fails(request: Any) -> Any:
        return make.reply(status=500, chunks=[b"no"])

    endpoint.script = fails
    with pytest.raises(EndpointError, match="not a single whole answer: status 500: no"):
        await play(make.recording(), make.settings(endpoint, levels=(2, 3)), clock=impatient)
    assert {request.tag("level") for request in endpoint.requests} == {"2"}
