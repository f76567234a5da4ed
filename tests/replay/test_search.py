"""The search: which levels it plays, what it concludes, and how it goes on when something is in the way."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.errors import SourceError
from otel_agentperf.policies import Target, parse
from otel_agentperf.replay import (
    PRESETS,
    EndpointFacts,
    LevelResult,
    Search,
    ToolDelays,
    Verdict,
    differences,
    manifest,
    play,
    read_manifest,
    write_manifest,
)
from otel_agentperf.replay.outlook import Outlook
from otel_agentperf.replay.tally import Tally

NOW = ToolDelays(fixed_s=0.0)


def searched(capacities: Mapping[str, int], **how: Any) -> tuple[list[int], Search]:
    """Levels in the order of play, of an endpoint that holds each tier up to so many agents."""
    search = Search(list(capacities), **({"most": 10_000} | how))
    levels = []
    while (level := search.next_level()) is not None:
        levels.append(level)
        search.record(level, {tier: Verdict(passed=level <= most) for tier, most in capacities.items()})
    return levels, search


def test_levels_double_to_the_first_failure_and_then_the_gap_is_halved() -> None:
    levels, search = searched({"t": 21})
    assert levels == [2, 4, 8, 16, 32, 24, 20, 22, 21]
    (outcome,) = search.outcomes()
    assert (outcome.max_agents, outcome.last_pass, outcome.first_fail) == (21, 21, 22)
    assert outcome.finished
    assert outcome.monotone


@given(capacity=st.integers(0, 5000), tolerance=st.sampled_from([0.0, 0.02, 0.05, 0.2]))
def test_the_answer_is_within_the_tolerance_of_the_truth(capacity: int, tolerance: float) -> None:
    levels, search = searched({"t": capacity}, tolerance=tolerance)
    (outcome,) = search.outcomes()
    assert outcome.max_agents is not None
    assert 0 <= capacity - outcome.max_agents < max(1, tolerance * outcome.max_agents)
    assert len(set(levels)) == len(levels)
    assert len(levels) <= 28


@given(capacities=st.lists(st.integers(0, 300), min_size=1, max_size=4))
def test_several_tiers_share_their_levels_and_none_is_played_twice(capacities: list[int]) -> None:
    tiers = {f"t{index}": capacity for index, capacity in enumerate(capacities)}
    levels, search = searched(tiers, tolerance=0.0)
    assert len(set(levels)) == len(levels)
    assert [outcome.max_agents for outcome in search.outcomes()] == capacities
    alone = sum(len(searched({tier: capacity}, tolerance=0.0)[0]) for tier, capacity in tiers.items())
    assert len(levels) <= alone


def test_an_endpoint_that_serves_nobody_is_told_so() -> None:
    levels, search = searched({"t": 0})
    assert levels == [2, 1]
    assert search.outcomes()[0].max_agents == 0
    assert search.outcomes()[0].first_fail == 1


def test_the_limit_of_agents_ends_the_ramp() -> None:
    levels, search = searched({"t": 10_000}, most=20)
    assert levels == [2, 4, 8, 16, 20]
    (outcome,) = search.outcomes()
    assert (outcome.max_agents, outcome.first_fail, outcome.finished) == (20, None, True)
    assert outcome.note == "the search was limited to 20 agents"


def test_a_level_that_cannot_be_judged_bounds_the_search_without_being_a_failure() -> None:
    search = Search(["t"], most=100)
    while (level := search.next_level()) is not None:
        search.record(level, {"t": Verdict(passed=True if level < 8 else None, reason="late")})
    (outcome,) = search.outcomes()
    assert (outcome.max_agents, outcome.first_fail, outcome.finished) == (7, None, False)
    assert outcome.note == "8 agents cannot be judged: late"


def test_a_pass_above_a_failure_is_flagged_and_does_not_count() -> None:
    search = Search(["strict", "odd"], most=100, tolerance=0.0)
    odd = {2: True, 4: False, 3: True, 8: True, 16: False}
    while (level := search.next_level()) is not None:
        verdicts = {"strict": Verdict(passed=level < 9), "odd": Verdict(passed=odd.get(level, level < 4))}
        search.record(level, verdicts)
    strict, found = search.outcomes()
    assert strict.monotone
    assert not found.monotone
    assert (found.max_agents, found.first_fail) == (3, 4)


def test_only_tiers_that_a_level_can_decide_are_at_stake() -> None:
    search = Search(["loose", "strict"], most=100)
    assert search.stakes(2) == {"loose", "strict"}
    for level in (2, 4, 8):
        search.record(level, {"loose": Verdict(passed=True), "strict": Verdict(passed=level < 8)})
    assert search.stakes(16) == {"loose"}
    assert search.stakes(6) == {"strict"}
    assert search.left() is None
    search.record(16, {"loose": Verdict(passed=False), "strict": Verdict(passed=False)})
    assert search.left() == 2 + 3
    assert search.standing() == "loose [8, 16], strict [4, 8]"


# --- A level that is lost


def tally_of(ttft_s: Sequence[float] = (), errors: int = 0, answers: int | None = None) -> Tally:
    tally = Tally()
    tally.ttft_s.extend(ttft_s)
    tally.answers = len(ttft_s) if answers is None else answers
    if errors:
        tally.errors["http_429"] = errors
    return tally


TIER = parse("demo:standard")


@pytest.mark.parametrize(
    ("samples", "lost"),
    [
        ([0.1] * 400, False),
        ([0.1] * 360 + [9.0] * 40, False),  # 10 %: twice what is allowed, but not surely more
        ([9.0] * 20, False),  # too few to tell
        ([9.0] * 80, True),
        ([0.1, 9.0] * 100, True),
        ([9.0] * 150 + [0.1] * 150, False),  # it began badly and recovered
    ],
)
def test_a_level_is_lost_when_more_of_the_same_cannot_save_it(samples: list[float], lost: bool) -> None:
    found = Outlook((TIER,)).lost(tally_of(samples))
    assert (found is not None) == lost
    if lost:
        assert found is not None
        assert "requests miss P95 ttft ≤ 1 s" in found


def test_a_level_is_lost_by_its_errors_too() -> None:
    assert Outlook((TIER,)).lost(tally_of(errors=50, answers=100)) == "50 of 150 requests failed"
    assert Outlook((TIER,)).lost(tally_of(errors=1, answers=100)) is None


def test_a_level_is_lost_only_when_it_is_lost_for_every_tier_at_stake() -> None:
    tally = tally_of([1.5] * 100)
    strict, loose = parse("demo:standard"), parse("demo:relaxed")
    assert Outlook((strict,)).lost(tally) is not None
    assert Outlook((strict, loose)).lost(tally) is None


def test_what_agents_cannot_measure_loses_no_level() -> None:
    by_server = replace_targets(TIER, Target(metric="server_ttft", percentile=95, bound="max", value=0.001))
    assert Outlook((by_server,)).lost(tally_of([9.0] * 100)) is None


def replace_targets(tier: Any, *targets: Target) -> Any:
    import msgspec

    return msgspec.structs.replace(tier, targets=targets)


# --- Played against sockets


def capacity_judge(most: int, seen: list[int]) -> Callable[[LevelResult], dict[str, Verdict]]:
    def judge(level: LevelResult) -> dict[str, Verdict]:
        seen.append(level.agents)
        return {TIER.label: Verdict(passed=level.agents <= most)}

    return judge


async def test_a_search_plays_its_levels_and_tells_what_it_found(endpoint: Any, make: Any, impatient: Any) -> None:
    judged: list[int] = []
    so_far: list[int] = []
    result = await play(
        make.recording(),
        make.settings(endpoint, tool_delays=NOW, max_lateness_s=1e9, max_cpu_share=1e9),
        plan=Search([TIER.label], most=50),
        judge=capacity_judge(5, judged),
        on_level=lambda result: so_far.append(len(result.levels)),
        clock=impatient,
    )
    assert judged == [2, 4, 8, 6, 5]
    assert so_far == [1, 2, 3, 4, 5]
    assert [level.agents for level in result.levels] == judged
    assert result.outcomes[0].max_agents == 5
    assert result.stopped is None


async def test_a_generator_that_is_too_slow_has_its_level_not_judged(endpoint: Any, make: Any, impatient: Any) -> None:
    settings = make.settings(endpoint, tool_delays=NOW, max_cpu_share=0.0)
    search = Search([TIER.label], most=50)
    result = await play(make.recording(), settings, plan=search, judge=capacity_judge(5, []), clock=impatient)
    verdict = result.levels[0].verdicts[TIER.label]
    assert verdict.passed is None
    assert verdict.reason is not None
    assert "generator" in verdict.reason
    assert not result.outcomes[0].finished


async def test_a_lost_level_is_left_early_and_counts_as_missed(endpoint: Any, make: Any, impatient: Any) -> None:
    async def storm(request: Any) -> Any:
        if request.tag("level") == "4":
            return make.reply(status=429, chunks=[b'{"error": {"message": "slow down"}}'])
        return make.answer()

    endpoint.script = storm
    tier = parse("demo:relaxed")
    result = await play(
        make.recording(),
        make.settings(endpoint, tool_delays=NOW, max_retries=0, max_lateness_s=1e9, max_cpu_share=1e9),
        plan=Search([tier.label], most=50),
        tiers=[tier],
        judge=lambda level: {tier.label: Verdict(passed=None, reason="nothing to see")},
        clock=impatient,
    )
    level = next((each for each in result.levels if each.agents == 4), None)
    assert result.stopped is None, "the endpoint turns agents away: that is a verdict, not the end"
    if level is not None:
        assert level.abandoned is not None
        assert level.verdicts[tier.label].passed is False


async def test_an_endpoint_that_is_gone_is_no_verdict(endpoint: Any, make: Any, impatient: Any) -> None:
    """A gateway before a dead server says 502, and so may one that is overloaded: without load they differ."""

    async def gone(request: Any) -> Any:
        if int(request.tag("level")) >= 4:
            return make.reply(status=502, chunks=[b"cannot connect"])
        return make.answer()

    endpoint.script = gone
    judged: list[int] = []
    result = await play(
        make.recording(),
        make.settings(endpoint, tool_delays=NOW, max_retries=0, max_lateness_s=1e9, max_cpu_share=1e9),
        plan=Search([TIER.label], most=50),
        tiers=[TIER],
        judge=capacity_judge(50, judged),
        clock=impatient,
    )
    assert (result.stopped, judged) == ("failing", [2])
    assert "cannot connect" in (result.levels[-1].error_example or "")
    (outcome,) = result.outcomes
    assert (outcome.last_pass, outcome.first_fail, outcome.finished) == (2, None, False)
    assert endpoint.requests[-1].tag("trajectory-id") == "b1-4-probe"
    assert endpoint.requests[-1].tag("phase") == "drain"


async def test_an_endpoint_that_only_load_makes_fail_is_judged(endpoint: Any, make: Any, impatient: Any) -> None:
    async def overloaded(request: Any) -> Any:
        if int(request.tag("level")) >= 4 and not request.tag("trajectory-id").endswith("probe"):
            return make.reply(status=503, chunks=[b"too many"])
        return make.answer()

    endpoint.script = overloaded
    result = await play(
        make.recording(),
        make.settings(endpoint, tool_delays=NOW, max_retries=0, max_lateness_s=1e9, max_cpu_share=1e9),
        plan=Search([TIER.label], most=50),
        tiers=[TIER],
        judge=lambda level: {TIER.label: Verdict(passed=True)},
        clock=impatient,
    )
    assert result.stopped is None
    assert (result.outcomes[0].max_agents, result.outcomes[0].first_fail) == (3, 4)


async def test_the_search_goes_on_below_a_level_that_is_turned_away(endpoint: Any, make: Any, impatient: Any) -> None:
    async def storm(request: Any) -> Any:
        if int(request.tag("level")) >= 4:
            return make.reply(status=429, chunks=[b'{"error": {"message": "slow down"}}'])
        return make.answer()

    endpoint.script = storm
    result = await play(
        make.recording(),
        make.settings(endpoint, tool_delays=NOW, max_retries=0, max_lateness_s=1e9, max_cpu_share=1e9),
        plan=Search([TIER.label], most=50),
        tiers=[TIER],
        judge=lambda level: {TIER.label: Verdict(passed=True)},
        clock=impatient,
    )
    assert [level.agents for level in result.levels] == [2, 4, 3]
    assert result.levels[1].abandoned is not None
    assert "slow down" in result.levels[1].abandoned or "requests failed" in result.levels[1].abandoned
    assert (result.outcomes[0].max_agents, result.outcomes[0].first_fail) == (3, 4)


async def test_an_endpoint_that_dies_leaves_a_record_that_the_search_goes_on_from(
    endpoint: Any, make: Any, impatient: Any, tmp_path: Path
) -> None:
    dead = True

    async def dies(request: Any) -> Any:
        return make.reply(cut=True) if dead and request.tag("level") == "8" else make.answer()

    endpoint.script = dies
    recording = make.recording()
    settings = make.settings(endpoint, tool_delays=NOW, max_retries=0, max_lateness_s=1e9, max_cpu_share=1e9)
    path = tmp_path / "record.json"
    judged: list[int] = []

    async def run(settings: Any, plan: Search, earlier: Sequence[LevelResult]) -> Any:
        result = await play(
            recording, settings, plan=plan, judge=capacity_judge(5, judged), earlier=earlier, clock=impatient
        )
        write_manifest(path, manifest(recording, settings, result, endpoint=endpoint.url, facts=EndpointFacts()))
        return result

    result = await run(settings, Search([TIER.label], most=50), ())
    assert result.stopped == "failing"
    assert (result.outcomes[0].max_agents, result.outcomes[0].finished) == (4, False)

    dead = False
    endpoint.requests.clear()
    record = read_manifest(path)
    done = [level for level in record.levels if level.stopped is None]
    assert [level.agents for level in done] == [2, 4]
    search = Search([TIER.label], most=50)
    for level in done:
        search.record(level.agents, level.verdicts)
    again = replace(settings, resumed=record.settings["resumed"] + 1)
    result = await run(again, search, done)
    assert judged == [2, 4, 8, 6, 5]
    assert [level.agents for level in result.levels] == [2, 4, 8, 6, 5]
    assert result.outcomes[0].max_agents == 5
    assert endpoint.requests[0].tag("trajectory-id").startswith("b1-8r1-"), "not taken for those of the first try"


def test_a_record_says_whether_two_results_compare(make: Any) -> None:
    def record(settings: Any, recording: Any = None, preset: str = "custom") -> Any:
        result = PLAYED(settings)
        played = recording or make.recording()
        return manifest(
            played, settings, result, endpoint="http://h:1", facts=EndpointFacts(), preset=preset, tiers=[TIER]
        )

    from otel_agentperf.replay import BenchmarkResult

    def PLAYED(settings: Any) -> BenchmarkResult:
        return BenchmarkResult(benchmark_id=settings.benchmark_id, start_unix_ns=0, end_unix_ns=0, stopped=None)

    base = make.settings("http://h:1")
    one = record(base)
    assert differences(one, record(make.settings("http://elsewhere:2", benchmark_id="b2", levels=(7,)))) == ()
    assert differences(one, record(replace(base, seed=4))) == ("seed: 0, 4",)
    assert differences(one, record(replace(base, warmup_s=3.0))) == ("warmup s: 0.0, 3.0",)
    assert differences(one, record(base, preset="quick")) == ("preset: custom, quick",)
    other = make.recording(make.task("two"))
    assert any(each.startswith("tasks") for each in differences(one, record(base, other)))


@pytest.mark.parametrize(
    ("text", "words"), [(None, "No such file"), ("{", "not the record"), ("{}", "not the record"), ("[]", "not the")]
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "record.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SourceError, match=words):
        read_manifest(path)


def test_presets_that_are_not_comparable_say_so_and_keep_the_targets() -> None:
    tier = parse("aa-agentperf:gpt-oss-120b#1")
    assert PRESETS["agentperf"].judged(tier) == tier
    for name in ("quick", "smoke"):
        judged = PRESETS[name].judged(tier)
        assert judged.targets == tier.targets
        assert judged.label == tier.label
        assert not judged.comparable
        assert judged.min_trajectories == PRESETS[name].trajectories
    rules = PRESETS["agentperf"]
    assert (rules.trajectories, rules.trajectories_per_agent, rules.seconds) == (30, 3.0, 600.0)
    assert rules.warmup_s >= tier.min_hold_s


async def test_the_warm_up_begins_when_the_last_agent_has_begun(endpoint: Any, make: Any, patient: Any) -> None:
    settings = make.settings(endpoint, levels=(3,), warmup_s=300.0, seconds=400.0, trajectories=None)
    playing = asyncio.create_task(play(make.recording(), settings, clock=patient))
    await patient.wake(300)
    assert len({request.tag("agent-index") for request in endpoint.requests}) <= 3
    await endpoint.arrived(3)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing


async def test_each_agent_has_to_complete_its_number_of_trajectories(endpoint: Any, make: Any, impatient: Any) -> None:
    settings = make.settings(endpoint, levels=(4,), trajectories=2, trajectories_per_agent=2.5, tool_delays=NOW)
    (level,) = (await play(make.recording(), settings, clock=impatient)).levels
    assert level.completed_trajectories >= 10


async def test_a_window_that_reaches_its_limit_says_what_lacks(endpoint: Any, make: Any, patient: Any) -> None:
    settings = make.settings(endpoint, trajectories=500, window_limit_s=700.0, drain_limit_s=900.0)
    playing = asyncio.create_task(play(make.recording(), settings, clock=patient))
    await patient.wake(700)
    await patient.wake(100)
    (level,) = (await playing).levels
    assert level.cut_short == "0 of 500 trajectories were complete after 700 s"
