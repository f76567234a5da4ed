"""The search as a user meets it: verdicts from an embedded proxy's spans, exit codes, going on after a stop."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf.cli.bench_judge import StoreJudge, tiers_for
from otel_agentperf.cli.bench_summary import told
from otel_agentperf.cli.bench_watch import describe
from otel_agentperf.cli.embed import simulated_endpoint
from otel_agentperf.errors import UsageError
from otel_agentperf.policies import parse
from otel_agentperf.replay import PRESETS, Progress, Verdict, read_manifest
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source

POLICY = """
[[policy]]
name = "own"
min_trajectories = 1
min_trajectories_per_agent = 0
min_steady_s = 0
min_hold_s = 0
max_error_rate = 1.0

[[policy.tier]]
name = "easy"
max_ttft_s = 1000

[[policy.tier]]
name = "hopeless"
max_ttft_s = 0.000001
"""

SHORT = ("--trajectories", "1", "--warmup", "0", "--tool-delay", "0", "--limit-turns", "2", "--max-lateness", "100")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with simulated_endpoint(SimulateConfig(decode_ms=0.1, prefill_tokens_per_s=1e7)) as url:
        yield url


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(POLICY)
    return path


async def run(*arguments: str) -> tuple[int | None, str, str]:
    env = {name: value for name, value in os.environ.items() if name != "OTEL_AGENTPERF_STORE"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "otel_agentperf", "replay", "mini", "--model", "simulated", *arguments),
        env=env | {"COLUMNS": "200", "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_search_judges_its_levels_by_their_spans_and_goes_on_after_a_stop(
    url: str, policy: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    tiers = ("--tier", f"{policy}:easy", "--tier", f"{policy}:hopeless")
    options = ("--endpoint", url, *SHORT, *tiers, "--store", str(store), "--search", "--max-agents", "4")
    code, out, err = await run(*options, "--benchmark-id", "b1", "--format", "json", "--check")
    assert code == 1, err
    levels = json.loads(out)
    assert [level["agents"] for level in levels] == [2, 4, 1], "the ramp of the one, then the bisection of the other"
    assert levels[0]["passed"] == "own@1:easy"
    verdicts = {verdict["tier"]: verdict for verdict in levels[0]["verdicts"]}
    assert verdicts["own@1:hopeless"]["passed"] is False
    assert "P95 ttft" in verdicts["own@1:hopeless"]["reason"]
    assert "own@1:easy: 4 agents [last pass 4, first fail none]; the search was limited to 4 agents" in err
    assert "own@1:hopeless: 0 agents [last pass none, first fail 1]" in err

    record = read_manifest(store / "b1.json")
    assert [tier["tier"] for tier in record.tiers] == ["easy", "hopeless"]
    assert [outcome.max_agents for outcome in record.outcomes] == [4, 0]

    # As if it had been stopped after the first level, with the spans of that level in the store.
    path = tmp_path / "stopped.json"
    told = json.loads((store / "b1.json").read_text())
    told["levels"] = told["levels"][:1]
    told["levels"][0]["verdicts"] = {}
    path.write_text(json.dumps(told))
    code, out, err = await run(*options, "--resume", str(path), "--format", "json")
    assert code == 0, err
    assert "going on with b1: 1 levels are done" in err
    assert [level["agents"] for level in json.loads(out)] == [2, 4, 1]
    assert [len(level["verdicts"]) for level in json.loads(out)] == [2, 2, 2], "of the first level from its spans"

    code, _, err = await run(*options, "--resume", str(path), "--tool-delay-scale", "3")
    assert code == 2
    assert "cannot go on with b1: it was played with another tool delays" in err


async def test_a_benchmark_of_several_generators_is_judged_recorded_and_taken_up_like_any_other(
    url: str, policy: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    tier = ("--tier", f"{policy}:easy")
    options = ("--endpoint", url, *SHORT, "--warmup", "0.2", *tier, "--store", str(store), "--format", "json")
    code, out, err = await run(*options, "--agents", "3,5", "--generators", "2", "--benchmark-id", "b4", "--check")
    assert code == 0, err
    levels = json.loads(out)
    assert [[each["agents"] for each in level["generators"]] for level in levels] == [[2, 1], [3, 2]]
    assert [level["passed"] for level in levels] == ["own@1:easy", "own@1:easy"]
    assert "3 agents: generators: 2 agents, " in err

    with open_source(str(store)) as database:
        turns = database.relation("turns").to_pylist()
    for level in levels:
        mine = [turn for turn in turns if turn["level"] == level["agents"]]
        assert {turn["agent_index"] for turn in mine} == set(range(level["agents"]))
        assert len({(turn["trajectory_id"], turn["agent_index"]) for turn in mine}) == len(
            {turn["trajectory_id"] for turn in mine}
        ), "no two agents share a trajectory"
        assert sum(turn["phase"] == "steady" for turn in mine) == level["requests"]

    record = json.loads((store / "b4.json").read_text())
    assert record["settings"]["generators"] == 2
    record["levels"] = record["levels"][:1]
    stopped = tmp_path / "stopped.json"
    stopped.write_text(json.dumps(record))
    code, out, err = await run(*options, "--agents", "3,5", "--generators", "3", "--resume", str(stopped))
    assert code == 0, err
    assert [[each["agents"] for each in level["generators"]] for level in json.loads(out)] == [[2, 1], [2, 2, 1]]


async def test_levels_of_the_users_own_are_judged_too(url: str, policy: Path, tmp_path: Path) -> None:
    options = ("--endpoint", url, *SHORT, "--store", str(tmp_path / "store"), "--agents", "1,2", "--check")
    code, out, err = await run(*options, "--tier", f"{policy}:easy")
    assert code == 0, err
    assert "1 agents: own@1:easy passed" in err
    assert out.splitlines()[0].split()[:2] == ["agents", "passed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--search", "--agents", "2"), "give one of the two"),
        (("--search", "--no-proxy"), "name the store"),
        (("--search", "--tier", "nope:x"), "unknown SLO tier"),
        (("--preset", "huge"), "huge"),
        (("--resume", "/no/such.json"), "cannot read /no/such.json"),
        (("--search", "--tolerance", "2"), "tolerance"),
        (("--power", "ipmi"), "write nvidia-smi"),
        (("--seconds", "9", "--window-limit", "5"), "window limit"),
    ],
)
async def test_wrong_usage_is_told_in_words(url: str, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = await run("--endpoint", url, *arguments)
    assert code in (2, 3), err
    assert words in err
    assert out == ""
    assert "Traceback" not in err


def test_without_a_name_a_search_takes_the_tiers_of_the_model() -> None:
    labels = [tier.label for tier in tiers_for(None, "openai/gpt-oss-120b", search=True)]
    assert labels == [f"aa-agentperf@2026-07:gpt-oss-120b#{number}" for number in (1, 2, 3, 4)]
    assert {tier.policy for tier in tiers_for(None, "my-model", search=True)} == {"demo"}
    assert tiers_for(None, "my-model", search=False) == ()
    with pytest.raises(UsageError):
        tiers_for(["nobody"], "my-model", search=True)


async def test_spans_that_never_come_leave_a_level_without_a_verdict(
    endpoint: Any, make: Any, impatient: Any, tmp_path: Path
) -> None:
    from otel_agentperf.cli.bench_judge import record_level
    from otel_agentperf.replay import play

    (level,) = (await play(make.recording(), make.settings(endpoint), clock=impatient)).levels
    tier = PRESETS["smoke"].judged(parse("demo:relaxed"))
    record_level(tmp_path, "b1", level, preset="smoke")
    waits: list[float] = []
    judge = StoreJudge(store=tmp_path, benchmark_id="b1", model="tiny", tiers=[tier], sleep=waits.append)
    verdict = judge(level)[tier.label]
    assert verdict.passed is None
    assert verdict.reason == f"{level.requests} of {level.requests} requests left no span in {tmp_path}"
    assert sum(waits) >= 60


def test_verdicts_and_progress_are_told_in_words() -> None:
    assert told(Verdict(passed=True, margin=1.25)) == "passed, 1.25 times its targets"
    assert told(Verdict(passed=None, reason="too short")) == "cannot be judged: too short"
    progress = Progress(
        agents=8,
        level_index=2,
        level_count=None,
        phase="steady",
        inflight=3,
        requests=40,
        errors=2,
        completed_trajectories=5,
        left_s=None,
        share=None,
        standing="t [4, –]",
        completed_of=(4, 30),
    )
    assert describe(progress) == "level 3 · 8 agents · steady · 40 requests, 2 errors · 4 of 30 trajectories · t [4, –]"
