"""The reading commands on a small store: rows, filters, formats, messages and exit codes."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer

from otel_agentperf.cli.main import app

Command = Callable[..., Any]
"""Arguments to the exit code, output and messages of the command; see conftest.py."""

LISTING = (
    "turns",
    "trajectories",
    "runs",
    "tools",
    "benchmarks",
    "levels",
    "tasks",
    "concurrency",
    "slo",
    "capacity",
    "query",
)
READING = (*LISTING, "metrics", "report", "trajectory", "explain", "compare")


def examples() -> list[tuple[str, str]]:
    """Command and example of every reading command's help."""
    group = typer.main.get_command(app)
    found = []
    for name in READING:
        text = group.commands[name].help  # type: ignore[attr-defined]
        found += [(name, line.strip()) for line in text.splitlines() if line.strip().startswith("otel-agentperf ")]
    return found


def test_every_reading_command_has_an_example() -> None:
    assert {name for name, _ in examples()} == set(READING)


@pytest.mark.parametrize(("name", "line"), examples())
def test_the_example_in_the_help_runs(name: str, line: str, process: Command) -> None:
    done = process(line)
    assert (done.code, done.err) == (0, "otel-agentperf: no rows\n" if name in ("benchmarks", "levels") else "")
    assert done.out or " -o " in line


@pytest.mark.parametrize("name", READING)
def test_help_ends_well_and_names_the_example(name: str, otel: Command) -> None:
    done = otel(name, "--help")
    assert done.code == 0
    for line in [line for command, line in examples() if command == name]:
        assert f" {line} " in done.out
    assert done.err == ""


@pytest.mark.parametrize("name", LISTING)
def test_the_shared_options_are_on_every_command(name: str, otel: Command) -> None:
    out = otel(name, "--help").out
    for option in ("--format", "--output", "--since", "--until", "--model", "--benchmark", "--trajectory", "--where"):
        assert option in out
    assert "--limit" in out


def test_turns_are_rows_of_the_documented_columns(otel: Command) -> None:
    done = otel("turns", "--format", "json")
    assert (done.code, done.err) == (0, "")
    assert [(row["trajectory_id"], row["turn_index"], row["status"]) for row in done.rows] == [
        ("anna", 0, "ok"),
        ("anna", 1, "ok"),
        ("anna", 2, "ok"),
        ("bert", 0, "ok"),
        ("bert", 1, "error"),
    ]
    first, last = done.rows[0], done.rows[-1]
    assert first["start_time"] == "2026-07-31T12:00:00Z"
    assert first["ttft_s"] == 0.5
    assert first["output_speed_tps"] == 60.0
    assert (first["input_tokens"], first["cached_input_tokens"], first["output_tokens"]) == (1000, 800, 91)
    assert last["ttft_s"] is None
    assert last["output_tokens"] is None


def test_trajectories_and_tools_follow_from_the_turns(otel: Command) -> None:
    anna, bert = otel("trajectories", "--format", "json").rows
    assert (anna["trajectory_id"], anna["turns"], anna["tool_calls"]) == ("anna", 3, 2)
    assert (anna["job_latency_s"], anna["llm_time_s"], anna["tool_time_s"]) == (8.25, 6.25, 2.0)
    assert bert["turns"] == 2
    assert [(row["tool_name"], row["duration_s"]) for row in otel("tools", "--format", "json").rows] == [
        ("bash", 1.0),
        ("edit", 1.0),
        ("bash", 0.25),
    ]


def test_a_table_without_a_terminal_has_whole_lines(otel: Command) -> None:
    done = otel("turns")
    lines = done.out.splitlines()
    assert len(lines) == 7
    assert lines[0].split()[:3] == ["trajectory_id", "turn_index", "status"]
    assert lines[2].split()[:5] == ["anna", "0", "ok", "0.500", "60"]
    assert lines[6].split()[:5] == ["bert", "1", "error", "–", "–"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--trajectory", "bert"], ["bert", "bert"]),
        (["--model", "gpt-oss-120b", "--limit", "1"], ["anna"]),
        (["--model", "other"], []),
        (["--benchmark", "other"], []),
        (["--where", "ttft_s > 0.6"], ["anna", "bert"]),
        (["--where", "status = 'error' OR turn_index = 1", "--trajectory", "anna"], ["anna"]),
        (["--since", "2026-07-31T12:30:00Z"], ["bert", "bert"]),
        (["--since", "2026-07-31T14:30:00+02:00"], ["bert", "bert"]),
        (["--until", "2026-07-31T12:00:01Z"], ["anna"]),
        (["--since", "2026-07-31T12:00:01", "--until", "2026-07-31T12:30"], ["anna", "anna"]),
        (["--limit", "0"], []),
    ],
)
def test_options_choose_the_rows(options: list[str], expected: list[str], otel: Command) -> None:
    done = otel("turns", "--format", "json", *options)
    assert done.code == 0
    assert [row["trajectory_id"] for row in done.rows] == expected
    assert done.err == ("" if expected else "otel-agentperf: no rows\n")


def test_every_format_holds_the_same_rows(otel: Command, place: Path) -> None:
    rows = otel("turns", "--format", "json").rows
    assert [json.loads(line) for line in otel("turns", "--format", "jsonl").out.splitlines()] == rows
    assert otel("turns", "--format", "csv").out.count("\n") == len(rows) + 1
    assert otel("turns", "--format", "markdown").out.count("\n") == len(rows) + 2
    done = otel("turns", "-o", "turns.parquet")
    assert (done.code, done.out, done.err) == (0, "", "")
    table = pq.read_table(place / "turns.parquet")
    assert table.column_names == list(rows[0])
    assert table.column("ttft_s").to_pylist() == [row["ttft_s"] for row in rows]


def test_the_source_is_an_argument_a_variable_or_the_default(
    otel: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = otel("turns", "--format", "json").rows
    (place / "agentperf-store").rename(place / "moved")
    assert otel("turns", "moved", "--format", "json").rows == rows
    assert otel("turns", "moved/*.jsonl", "--format", "json").rows == rows
    monkeypatch.setenv("OTEL_AGENTPERF_STORE", str(place / "moved"))
    assert otel("turns", "--format", "json").rows == rows


def test_standard_input_is_a_source(process: Command) -> None:
    done = process("cat agentperf-store/*.jsonl | otel-agentperf turns - --format json")
    assert (done.code, done.err, len(done.rows)) == (0, "", 5)


def test_a_missing_store_is_one_line_that_says_what_to_do(otel: Command, place: Path) -> None:
    (place / "agentperf-store").rename(place / "moved")
    done = otel("turns")
    assert (done.code, done.out) == (3, "")
    assert re.fullmatch(r"otel-agentperf: no trace store at .*agentperf-store.* otel-agentperf demo\n", done.err)
    done = otel("turns", "nowhere")
    assert (done.code, done.out) == (3, "")
    assert re.fullmatch(r"otel-agentperf: no such file or directory: nowhere; .*\n", done.err)


def test_garbage_is_one_line(otel: Command, place: Path) -> None:
    (place / "garbage.bin").write_bytes(bytes(range(256)) * 10)
    done = otel("turns", "garbage.bin")
    assert (done.code, done.out) == (3, "")
    assert done.err.count("\n") == 1
    assert "garbage.bin" in done.err


def test_broken_lines_are_skipped_and_told(otel: Command, place: Path) -> None:
    segment = place / "agentperf-store" / "spans-test-0.jsonl"
    with segment.open("a") as file:
        file.write('{"resourceSpans": [\n{"resourceSpa')
    done = otel("turns", "--format", "json")
    assert (done.code, len(done.rows)) == (0, 5)
    assert re.fullmatch(
        r"otel-agentperf: skipped 2 unreadable lines, the first is .*spans-test-0\.jsonl:9: .+\n", done.err
    ), done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["turns", "--where", "nonsense = 1"], "nonsense"),
        (["turns", "--where", "ttft_s >"], "condition, line 1"),
        (["turns", "--columns", "ttft"], "--columns: no column 'ttft'; there is ttft_s"),
        (["turns", "--since", "yesterday"], "--since: not a time: 'yesterday'"),
        (["turns", "--since", "1h", "--until", "2h"], "nothing lies between"),
        (["turns", "-o", "gone/turns.csv"], "cannot write"),
        (["query", "SELEC 1"], "SELEC"),
        (["query", "SELECT nonsense FROM turns"], "nonsense"),
        (["query", "SELECT * FROM nonsense"], "nonsense"),
        (["query", "SELECT 1 AS one", "--trajectory", "x"], "--trajectory needs a column trajectory_id"),
        (["slo", "--tier", "nonsense"], "nonsense"),
        (["slo", "--tier", "nonsense:1"], "nonsense"),
        (["turns", "--limit", "-1"], "--limit"),
        (["turns", "--format", "xml"], "xml"),
        (["turns", "--nonsense"], "--nonsense"),
        (["turns", "one", "two"], "two"),
        (["turnz"], "turnz"),
        (["concurrency", "--model", "x"], "cannot be filtered by model"),
        (["metrics", "tffts"], "no metric 'tffts'; did you mean"),
        (["metrics", "xyzzy"], "no metric 'xyzzy'; `otel-agentperf metrics` lists them"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], message: str, otel: Command) -> None:
    done = otel(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("otel-agentperf: ")
    assert done.err.count("\n") == 1, done.err
    assert message in done.err


def test_query_runs_sql_over_the_relations(otel: Command) -> None:
    done = otel(
        "query",
        "SELECT trajectory_id, count(*) AS n, sum(output_tokens) AS tokens, min(start_time) AS first_time "
        "FROM turns GROUP BY ALL ORDER BY n DESC",
        "--format",
        "json",
    )
    assert done.rows == [
        {"trajectory_id": "anna", "n": 3, "tokens": 253, "first_time": "2026-07-31T12:00:00Z"},
        {"trajectory_id": "bert", "n": 2, "tokens": 51, "first_time": "2026-07-31T13:00:00Z"},
    ]


def test_filters_apply_to_the_result_of_a_query(otel: Command) -> None:
    sql = "SELECT trajectory_id, request_model, turn_index FROM turns"
    done = otel("query", sql, "--trajectory", "anna", "--where", "turn_index > 1", "--format", "csv")
    assert done.out == "trajectory_id,request_model,turn_index\nanna,gpt-oss-120b,2\n"
    assert otel("query", sql, "--model", "other", "--format", "json").rows == []
    assert len(otel("query", sql, "--limit", "2", "--format", "json").rows) == 2


def test_query_without_sql_lists_the_relations(otel: Command) -> None:
    rows = otel("query", "--format", "json").rows
    assert {"spans", "turns", "attempts", "tool_calls", "trajectories", "runs"} <= {row["relation"] for row in rows}
    assert {"relation": "turns", "column": "ttft_s", "unit": "s"}.items() <= next(
        row for row in rows if row["relation"] == "turns" and row["column"] == "ttft_s"
    ).items()


def test_metrics_explains_one_metric_and_lists_all(otel: Command) -> None:
    rows = otel("metrics", "--format", "json").rows
    assert {"ttft", "output_speed", "job_latency"} <= {row["name"] for row in rows}
    assert all(row[key] for row in rows for key in ("definition", "formula", "unit", "grain", "source", "relation"))
    assert otel("metrics", "ttft", "--format", "json").rows == [row for row in rows if row["name"] == "ttft"]
    text = otel("metrics", "ttft").out
    assert re.search(r"^name +ttft$", text, re.MULTILINE)
    assert re.search(r"^formula +\S", text, re.MULTILINE)


def test_the_reader_may_leave(process: Command) -> None:
    done = process(
        'set -o pipefail; otel-agentperf query "SELECT range AS number FROM range(200000)" --format jsonl | head -n 1'
    )
    assert (done.code, done.out, done.err) == (0, '{"number":0}\n', "")


def on_a_terminal(place: Path, *arguments: str, columns: int = 80) -> str:
    """What the command shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = dict(os.environ, COLUMNS=str(columns), TERM="xterm", NO_COLOR="1")
    with subprocess.Popen(
        [sys.executable, "-m", "otel_agentperf", *arguments],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as child:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        os.close(ours)
        assert child.stderr is not None
        shown += child.stderr.read()
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_gets_the_columns_that_fit_and_is_told_of_the_others(place: Path) -> None:
    shown = on_a_terminal(place, "turns")
    table, _, message = shown.rpartition("otel-agentperf: ")
    assert max(map(len, table.splitlines())) <= 80
    assert "more columns do not fit here" in message
    assert "start_time" in message


def test_parquet_is_not_written_to_a_terminal(place: Path) -> None:
    assert on_a_terminal(place, "turns", "--format", "parquet") == (
        "otel-agentperf: Parquet is binary: write it to a file with -o FILE\n"
    )


def test_tasks_are_grouped_and_priced_by_what_is_given(otel: Command, place: Path) -> None:
    (place / "prices.toml").write_text('[[price]]\nmodels = ["gpt-*"]\ninput = 1000\noutput = 10000\n')
    (place / "outcomes.csv").write_text("trajectory_id,outcome\nanna,success\nbert,failure\n")
    given = ("--prices", "prices.toml", "--outcomes", "outcomes.csv", "--format", "json")
    [together] = otel("tasks", *given).rows
    assert (together["tasks"], together["success_rate"]) == (2, 0.5)
    # 4 turns of 1,000 input tokens at 0.001, and 91 + 101 + 61 + 51 output tokens at 0.01.
    assert together["cost"] == pytest.approx(4 + 3.04)
    assert together["cost_per_completed_task"] == pytest.approx(7.04)
    assert together["unpriced_calls"] == 1
    rows = otel("tasks", "--by", "model", "--by", "agent", *given).rows
    assert {(row["dimension"], row["dimension_value"]) for row in rows} == {
        ("model", "gpt-oss-120b"),
        ("agent", "coder"),
    }
    [anna] = otel("trajectories", "--trajectory", "anna", *given).rows
    assert (anna["cost"], anna["outcome"]) == (pytest.approx(3 + 2.53), "success")
    assert otel("tasks", "--by", "mood").code == 2
    assert otel("tasks", "--model", "gpt-oss-120b").code == 2
    assert "No such file" in otel("tasks", "--prices", "none.toml").err


def test_power_and_price_of_accelerators_are_shared_by_the_calls(otel: Command, place: Path) -> None:
    noon = 1_785_499_200
    (place / "power.csv").write_text("time,watts\n" + "".join(f"{noon + at},100\n" for at in range(0, 31, 5)))
    rows = otel("levels", "levels", "--power", "power.csv", "--accelerators", "4", "--format", "json").rows
    assert [(row["power_mean_w"], row["power_source"], row["accelerators"]) for row in rows] == [
        (100.0, "samples", 4)
    ] * 2
    [anna] = otel(
        "trajectories", "--trajectory", "anna", "--accelerators", "1", "--price-per-hour", "3600", "--format", "json"
    ).rows
    assert anna["cost"] == pytest.approx(anna["llm_time_s"])
    done = otel("levels", "levels", "--price-per-hour", "1")
    assert (done.code, "needs the number of accelerators" in done.err) == (2, True)


def test_capacity_of_a_replay_is_normalised_by_what_is_given(otel: Command) -> None:
    given = ("--accelerators", "4", "--power-watts", "2000", "--price-per-hour", "0.5")
    rows = otel("capacity", "levels", "--tier", "demo", *given, "--format", "json").rows
    standard = next(row for row in rows if row["tier"] == "standard")
    assert (standard["method"], standard["max_agents"], standard["first_fail"]) == ("replay", 2, 4)
    assert standard["statement"] == "2 agents; missed at 4"
    assert (standard["agents_per_accelerator"], standard["agents_per_mw"]) == (0.5, 1000)
    assert standard["agents_per_dollar_hour"] == 1
    text = otel("capacity", "levels", "--tier", "demo:standard").out
    assert "missed at 4" in text


def test_capacity_of_live_traffic_says_what_the_data_cannot_say(otel: Command) -> None:
    [row] = otel("capacity", "--tier", "demo:standard", "--format", "json").rows
    assert (row["method"], row["max_agents"]) == ("live", None)
    assert row["statement"] == "the data cannot say: no load was met by enough trajectories"
    [load] = otel("capacity", "--curve", "--tier", "demo:standard", "--format", "json").rows
    assert (load["agents_low"], load["trajectories"], load["verdict"]) == (1, 2, "too few")
    assert {target["metric"] for target in load["targets"]} == {"ttft", "output_speed"}
    assert "P95 ttft" in otel("capacity", "--curve", "--tier", "demo:standard").out
