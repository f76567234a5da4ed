"""`trajectory` and `explain` on a small store."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def test_a_trajectory_is_drawn_as_a_waterfall(otel: Command) -> None:
    done = otel("trajectory", "anna")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("Trajectory anna · coder · gpt-oss-120b")
    assert "3 turns · 2 tool calls · status ok · outcome unknown" in done.out
    assert "8.25 s: first token 1.75 s (21.2%), answers 4.50 s (54.5%), tools 2.00 s (24.2%)" in done.out
    events = lines[lines.index(next(line for line in lines if line.startswith("──"))) + 1 : -1]
    assert [line.split("█")[0].split("░")[0].split("▒")[0].split() for line in events] == [
        ["0.000", "turn", "0"],
        ["2.00", "tool", "bash"],
        ["3.00", "turn", "1"],
        ["4.25", "tool", "edit"],
        ["5.25", "turn", "2"],
    ]
    assert "░█" in events[0]
    assert "▒" in events[1]


def test_a_trajectory_is_rows_in_other_formats(otel: Command) -> None:
    rows = otel("trajectory", "ann", "--format", "json").rows
    assert [(row["event"], row["offset_s"], row["duration_s"]) for row in rows] == [
        ("turn", 0.0, 2.0),
        ("tool", 2.0, 1.0),
        ("turn", 3.0, 1.25),
        ("tool", 4.25, 1.0),
        ("turn", 5.25, 3.0),
    ]
    assert otel("trajectory", "anna", "--where", "event = 'tool'", "--format", "json").rows[0]["name"] == "bash"
    table = otel("trajectory", "anna", "--columns", "event,duration_s").out
    assert table.splitlines()[0].split() == ["event", "duration_s"]


@pytest.mark.parametrize(
    ("name", "store", "message"),
    [
        ("nobody", "agentperf-store", "no trajectory 'nobody'"),
        ("", "agentperf-store", "no trajectory ''"),
        ("mini-1.", "levels", "'mini-1.' begins several trajectories: mini-1.2.0.0, "),
    ],
)
def test_an_id_that_names_no_single_trajectory_is_refused(otel: Command, name: str, store: str, message: str) -> None:
    done = otel("trajectory", name, store)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_explain_says_where_time_went_and_why(otel: Command) -> None:
    done = otel("explain", "--format", "json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    [times] = told["times"]
    assert (times["model"], times["trajectories"]) == ("gpt-oss-120b", 2)
    parts = (
        "decode_s",
        "prefill_s",
        "queue_s",
        "first_token_s",
        "unsplit_s",
        "retries_s",
        "tool_s",
        "harness_s",
        "human_s",
    )
    assert sum(times[part] for part in parts) == pytest.approx(times["total_s"])
    assert times["retries_s"] == 0.5
    assert [turn["e2e_latency_s"] for turn in told["slowest"]] == [3.0, 2.0, 1.75, 1.25, 0.5]
    assert told["slowest"][0]["cause"] in ("slow decode", "first token")
    assert told["trouble"]["failed_turns"] == 1
    assert [row["trajectory_id"] for row in told["troubled"]] == ["bert"]
    assert len(json.loads(otel("explain", "--slowest", "1", "--format", "json").out)["slowest"]) == 1


def test_explain_as_text_has_its_sections(otel: Command, place: Path) -> None:
    text = otel("explain").out
    for title in ("Where the time went", "Slowest turns", "Cache and context", "Trouble"):
        assert title in text
    assert otel("explain", "--model", "nobody").out.rstrip().endswith("nothing to explain.")
    assert "mini-1, 2 agents" in otel("explain", "levels", "--benchmark", "mini-1").out
    assert otel("explain", "-o", "why.json").out == ""
    assert json.loads((place / "why.json").read_text())["times"]


def test_explain_says_what_was_spent_for_what(otel: Command, place: Path) -> None:
    (place / "prices.toml").write_text('[[price]]\nmodels = ["gpt-*"]\ninput = 1000\noutput = 10000\n')
    (place / "outcomes.csv").write_text("trajectory_id,outcome\nanna,success\nbert,failure\n")
    given = ("--prices", "prices.toml", "--outcomes", "outcomes.csv")
    told = json.loads(otel("explain", *given, "--format", "json").out)
    everything = told["work"][0]
    assert (everything["dimension"], everything["tasks"], everything["success_rate"]) == ("all", 2, 0.5)
    assert everything["cost_per_completed_task"] == pytest.approx(7.04)
    assert everything["wasted_cost"] == 0
    text = otel("explain", *given).out
    assert "Cost and outcome" in text
    assert "1 call without a price" in text
    of_model = json.loads(otel("explain", *given, "--model", "gpt-oss-120b", "--format", "json").out)["work"]
    assert [row["dimension"] for row in of_model] == ["model"]
    assert "Cost and outcome" not in otel("explain").out


def test_compare_of_a_source_with_itself_shows_no_difference(otel: Command) -> None:
    done = otel("compare", "levels#mini-1", "levels", "--check", "--format", "json")
    assert (done.code, done.err) == (0, "")
    assert {row["level"] for row in done.rows} == {2, 4}
    assert {row["change"] for row in done.rows} == {0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("levels#nope", "levels"), "no benchmark 'nope' in levels; there is mini-1"),
        (("levels#", "levels"), "names no benchmark after the #"),
        (("levels", "levels", "--threshold", "much"), "'much' is no share; write 0.05 or 5%"),
        (("levels", "levels", "--threshold", "-1"), "is no share"),
    ],
)
def test_a_wrong_comparison_is_told(otel: Command, arguments: tuple[str, ...], message: str) -> None:
    done = otel("compare", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_regression_ends_the_check_with_1_and_says_what(otel: Command, place: Path) -> None:
    lines = (place / "agentperf-store" / "spans-test-0.jsonl").read_text().splitlines()
    for name, wait in (("before", 0.5), ("after", 0.75)):
        (place / name).mkdir()
        copies = []
        for number in range(8):
            text = lines[0].replace("anna", f"anna{number}").replace('"doubleValue": 0.5', f'"doubleValue": {wait}')
            copies.append(text.replace(f"{1:016x}", f"{number + 1:016x}"))
        (place / name / "spans-test-0.jsonl").write_text("".join(f"{line}\n" for line in copies))
    done = otel("compare", "before", "after", "--check", "--where", "metric = 'ttft_p50'", "--format", "json")
    [row] = done.rows
    assert (row["a"], row["b"], row["verdict"], row["regressed"]) == (0.5, 0.75, "worse", True)
    assert done.code == 1
    assert done.err == "otel-agentperf: regressed: ttft_p50: 0.5 to 0.75 s (+50.0%)\n"
    assert otel("compare", "before", "after", "--check", "--threshold", "0.6").code == 0
    assert otel("compare", "after", "before", "--check", "--where", "metric = 'ttft_p50'").code == 0
    assert otel("compare", "before", "after").code == 0
