"""The report: what it says of live traffic and of a benchmark, as data and as text."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from otel_agentperf import policies
from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers import open_source
from otel_agentperf_analyzers.report import Report, build, render

Command = Callable[..., Any]
"""Arguments to the exit code, output and messages of the command; see conftest.py."""


def text(report: Report, width: int) -> list[str]:
    file = io.StringIO()
    render(report, Console(file=file, width=width, highlight=False))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.fixture
def levels(place: Path) -> Report:
    with open_source(str(place / "levels")) as database:
        return build(database)


@pytest.fixture
def live(place: Path) -> Report:
    with open_source(str(place / "agentperf-store")) as database:
        return build(database)


def test_a_benchmark_has_its_levels(levels: Report) -> None:
    [benchmark] = levels.benchmarks
    assert (benchmark.benchmark_id, benchmark.model, benchmark.preset) == ("mini-1", "sim", "smoke")
    two, four = benchmark.levels
    assert (two.agents, two.turns, two.completed_trajectories, two.window_s) == (2, 8, 4, 10.0)
    assert (two.ttft_p50_s, two.ttft_p95_s, two.output_speed_p25_tps, two.e2e_latency_p50_s) == (0.5, 0.5, 60.0, 2.0)
    assert (two.cache_hit, two.error_rate) == (0.8, 0.0)
    assert two.output_throughput_tps == pytest.approx(8 * 91 / 10)
    assert two.inflight == pytest.approx(8 * 2.0 / 10)
    assert (four.agents, four.turns, four.ttft_p95_s, four.output_speed_p25_tps) == (4, 8, 1.5, 20.0)
    assert levels.live == ()


def test_a_tier_has_a_verdict_for_every_level_and_what_it_comes_to(levels: Report) -> None:
    [benchmark] = levels.benchmarks
    by_tier = {target.tier: target for target in benchmark.targets}
    assert set(by_tier) == {"relaxed", "standard", "fast"}
    standard = by_tier["standard"]
    assert standard.requirement == ("P25 ≥ 50 tok/s", "P95 TTFT ≤ 1 s")
    assert [(verdict.agents, verdict.passed, verdict.valid) for verdict in standard.verdicts] == [
        (2, True, True),
        (4, False, True),
    ]
    assert [verdict.margin for verdict in standard.verdicts] == pytest.approx([1.2, 0.4])
    assert (standard.max_agents, standard.first_miss, standard.monotone) == (2, 4, True)
    assert (by_tier["relaxed"].max_agents, by_tier["relaxed"].first_miss) == (4, None)
    assert (by_tier["fast"].max_agents, by_tier["fast"].first_miss) == (None, 2)
    assert not standard.comparable


def test_levels_too_small_for_a_policy_are_told_apart_from_misses(place: Path) -> None:
    with open_source(str(place / "levels")) as database:
        report = build(database, tiers=[policies.parse("aa-agentperf:deepseek-v4-pro#1")])
    [target] = report.benchmarks[0].targets
    two = target.verdicts[0]
    assert (two.holds, two.valid, two.passed) == (True, False, False)
    assert "4 of 30 trajectories completed" in two.reasons
    assert (target.max_agents, target.max_agents_if_valid, target.first_miss) == (None, 4, None)
    shown = text(report, 80)
    assert "deepseek-v4-pro#1: 4 agents, the highest level; not valid as a result*, no lower level is" in " ".join(
        " ".join(shown).split()
    )
    assert any(line.startswith("* not valid at 2 agents: 4 of 30 trajectories completed") for line in shown)


def test_live_traffic_is_told_by_model_and_judged(live: Report) -> None:
    assert live.benchmarks == ()
    [figures] = live.live
    assert (figures.model, figures.turns, figures.error_rate) == ("gpt-oss-120b", 5, 0.2)
    assert figures.ttft_p50_s == 0.625
    assert (figures.agents, figures.inflight) == (None, None)
    assert {target.tier for target in live.live_targets} == {f"gpt-oss-120b#{number}" for number in range(1, 5)}
    assert all(target.max_agents is None for target in live.live_targets)


def test_jobs_say_where_the_time_went(live: Report, levels: Report) -> None:
    [coder] = live.jobs
    assert (coder.agent_name, coder.trajectories, coder.completed, coder.turns, coder.tool_calls) == (
        "coder",
        2,
        1,
        5,
        3,
    )
    assert (coder.job_latency_p50_s, coder.llm_time_s, coder.tool_time_s) == (8.25, 8.5, 2.25)
    assert [(row.agents, row.trajectories, row.job_latency_p50_s) for row in levels.jobs] == [(2, 4, 4.5), (4, 4, 6.5)]


def test_tools_and_missing_values_are_counted(live: Report) -> None:
    assert [(tool.tool_name, tool.calls, tool.total_s) for tool in live.tools] == [("bash", 2, 1.25), ("edit", 1, 1.0)]
    assert ("turns", "ttft", "failed", 1) in [
        (row.relation, row.metric, row.reason, row.count) for row in live.undefined
    ]
    shown = " ".join(text(live, 160))
    assert re.search(r"ttft: 1 turn \(the call failed first: 1\)", shown)


def test_the_text_fits_80_columns_and_uses_more(levels: Report, live: Report) -> None:
    for report in (levels, live):
        narrow, wide = text(report, 80), text(report, 160)
        assert max(map(len, narrow)) <= 80
        assert max(map(len, wide)) > 80
        assert not any("…" in line for line in narrow)


def test_the_text_of_a_benchmark(levels: Report) -> None:
    shown = "\n".join(text(levels, 120))
    assert re.search(r"^Benchmark mini-1 · sim · preset smoke$", shown, re.MULTILINE)
    assert re.search(
        r"^ +2 +8 +4 +0\.500 +0\.500 +60\.0 +60\.0 +2\.00 .* 80\.0% +0\.0% +72\.8 +1\.60", shown, re.MULTILINE
    )
    assert "pass 1.20×" in shown
    assert "miss 0.40×" in shown
    assert "standard: 2 agents, missed at 4" in shown
    assert "relaxed: 4 agents, the highest level" in shown
    assert "fast: no level holds it" in shown
    assert "not comparable with published results" in shown


def test_names_in_spans_do_not_drive_the_terminal(live: Report) -> None:
    [coder] = live.jobs
    hostile = msgspec.structs.replace(
        live,
        source="[bold]x\x1b[2J",
        jobs=(msgspec.structs.replace(coder, agent_name="a\x1b]0;b\x07[red]"),),
        tools=(msgspec.structs.replace(live.tools[0], tool_name="t\r\n[/]"),),
    )
    shown = "\n".join(text(hostile, 160))
    assert "[bold]x\\x1b[2J" in shown
    assert "a\\x1b]0;b\\x07[red]" in shown
    assert "t\\r\\n[/]" in shown
    assert not set(shown) & set("\x1b\x07\r")


def test_many_tools_are_summed_up(live: Report) -> None:
    many = msgspec.structs.replace(live, tools=live.tools[:1] * 18)
    assert "and 3 other tools with 6 calls" in text(many, 80)


def test_one_benchmark_can_be_asked_for(place: Path) -> None:
    everything = place / "everything"
    everything.mkdir()
    for number, store in enumerate(("agentperf-store", "levels")):
        [segment] = (place / store).iterdir()
        (everything / f"spans-{number}.jsonl").write_bytes(segment.read_bytes())
    with open_source(str(everything)) as database:
        both, one = build(database), build(database, benchmark="mini-1")
        with pytest.raises(UsageError, match="no benchmark 'mini-2'; there is mini-1"):
            build(database, benchmark="mini-2")
    assert len(both.benchmarks) == len(both.live) == 1
    assert (one.live, one.live_targets) == ((), ())
    assert {row.benchmark_id for row in one.jobs} == {"mini-1"}
    assert (one.counts.turns, both.counts.turns) == (16, 21)
    assert one.counts.tool_calls == 8


def test_the_command_writes_text_and_json(otel: Command, place: Path) -> None:
    done = otel("report", "levels")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("AgentPerf report of levels\n2026-07-31 12:00:00 UTC to 2026-07-31 12:00:26 UTC\n")
    assert max(map(len, done.out.splitlines())) <= 120
    data = json.loads(otel("report", "levels", "--format", "json").out)
    assert msgspec.convert(data, Report).benchmarks[0].levels[0].agents == 2
    assert otel("report", "levels", "-o", "report.json").out == ""
    assert json.loads((place / "report.json").read_text()) == data
    assert otel("report", "levels", "-o", "report.txt").out == ""
    assert (place / "report.txt").read_text() == done.out


def test_the_command_takes_tiers_a_benchmark_and_times(otel: Command) -> None:
    done = otel("report", "levels", "--format", "json", "--tier", "demo:fast", "--benchmark", "mini-1")
    assert [target["tier"] for target in json.loads(done.out)["benchmarks"][0]["targets"]] == ["fast"]
    done = otel("report", "levels", "--format", "json", "--until", "2026-07-31T12:00:15Z")
    assert [level["agents"] for level in json.loads(done.out)["benchmarks"][0]["levels"]] == [2]
    for arguments, message in [
        (["--tier", "nonsense"], "unknown SLO tier 'nonsense'"),
        (["--benchmark", "mini-2"], "no benchmark 'mini-2'; there is mini-1"),
        (["--format", "pdf"], "pdf"),
    ]:
        done = otel("report", "levels", *arguments)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert done.err.count("\n") == 1


def test_slo_check_says_no_with_exit_code_1(otel: Command) -> None:
    standard = ["slo", "levels", "--tier", "demo:standard", "--check", "--format", "json"]
    done = otel(*standard)
    assert done.code == 1
    assert [(row["level"], row["passed"]) for row in done.rows] == [(2, True), (4, False)]
    assert otel(*standard, "--where", "level = 2").code == 0
    assert otel(*standard, "--where", "level = 99").code == 1
    assert otel("slo", "levels", "--tier", "demo", "--format", "json").code == 0
    assert len(otel("slo", "levels", "--tier", "demo", "--format", "json").rows) == 6
    assert otel("slo", "levels", "--benchmark", "mini-2", "--format", "json").rows == []


def test_a_source_without_turns_has_an_empty_report(otel: Command) -> None:
    done = otel("report", "--since", "2027-01-01")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "AgentPerf report of agentperf-store\n0 trajectories · 0 turns · 0 tool calls · 0 spans\n\n"
        "No turns of agents: nothing to judge.\n"
    )
    assert json.loads(otel("report", "--since", "2027-01-01", "--format", "json").out)["benchmarks"] == []


def test_outcomes_and_prices_that_are_given_are_in_the_report(otel: Command, place: Path) -> None:
    (place / "prices.toml").write_text('[[price]]\nmodels = ["gpt-*"]\ninput = 1000\noutput = 10000\n')
    (place / "outcomes.csv").write_text("trajectory_id,outcome\nanna,success\nbert,failure\n")
    given = ("--prices", "prices.toml", "--outcomes", "outcomes.csv")
    told = json.loads(otel("report", *given, "--format", "json").out)
    everything = told["work"][0]
    assert (everything["dimension"], everything["success_rate"]) == ("all", 0.5)
    assert everything["cost_per_completed_task"] == pytest.approx(7.04)
    assert {row["dimension"] for row in told["work"]} == {"all", "agent", "model", "tool_stack"}
    [live] = told["live"]
    assert live["cost"] == pytest.approx(7.04)
    assert live["tool_call_turn_share"] == 0.75
    assert live["pooled_speed_tps"] == pytest.approx(30)
    text = otel("report", *given).out
    assert "Tasks, outcome and cost" in text
    assert "1 call without a price" in text
    assert "pooled 30.0 tok/s, without the 75.0% of turns that return tool calls" in text
    assert "Tasks, outcome and cost" not in otel("report").out


def test_a_benchmark_is_normalised_by_what_is_given(otel: Command) -> None:
    given = ("--accelerators", "4", "--power-watts", "2000")
    told = json.loads(otel("report", "levels", *given, "--format", "json").out)
    standard = next(target for target in told["benchmarks"][0]["targets"] if target["tier"] == "standard")
    assert (standard["agents_per_accelerator"], standard["agents_per_mw"]) == (0.5, 1000)
    assert "0.500 per accelerator; 1,000 per MW" in otel("report", "levels", *given).out
