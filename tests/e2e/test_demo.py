"""The demo, as a newcomer runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def start(directory: Path, *options: str) -> subprocess.Popen:
    """Run the demo as a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "otel_agentperf", "demo", "--out", str(directory), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def members(group: int) -> list[int]:
    """Processes of a group that still run."""
    running = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            running.append(int(entry.parent.name))
    return running


def test_the_report_has_levels_and_verdicts_and_the_store_stays(tmp_path, read_store):
    process = start(tmp_path / "demo", "--seconds", "6", "--json")
    stdout, stderr = process.communicate(timeout=110)
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    (benchmark,) = report["benchmarks"]
    assert [level["agents"] for level in benchmark["levels"]] == [2, 8, 24]
    for level in benchmark["levels"]:
        assert level["turns"] > 0
        assert level["ttft_p95_s"] > 0
        assert level["output_speed_p25_tps"] > 0
        assert level["error_rate"] == 0
    assert {target["policy"].partition("@")[0] for target in benchmark["targets"]} == {"demo"}
    assert all(len(target["verdicts"]) == 3 for target in benchmark["targets"])
    assert report["unread"]["lines"] == 0
    assert "otel-agentperf turns" in stderr
    page = tmp_path / "demo" / "report.html"
    assert f"open {page} in a browser" in stderr
    assert benchmark["benchmark_id"] in page.read_text()
    turns = read_store(tmp_path / "demo" / "store", "turns")
    truth = {
        row["request_id"]: row for row in map(json.loads, (tmp_path / "demo" / "truth.jsonl").read_text().splitlines())
    }
    finished = [turn for turn in turns if turn["status"] == "ok"]
    assert len(finished) > 20
    for turn in finished:
        row = truth[turn["request_id"]]
        assert turn["input_tokens"] == row["input_tokens"]
        assert turn["cached_input_tokens"] == row["cached_tokens"]
        assert turn["output_tokens"] == row["output_tokens"]
        assert turn["reasoning_tokens"] == row["reasoning_tokens"]
        assert turn["tool_call_count"] == row["tool_calls"]
    assert not members(process.pid)


@pytest.mark.parametrize("after", ["spawn", "proxy", "traffic"])
def test_ctrl_c_leaves_no_process_behind(tmp_path, after):
    process = start(tmp_path / "demo")
    until = time.monotonic() + 60
    store = tmp_path / "demo" / "store"
    reached = {
        "spawn": lambda: len(members(process.pid)) > 1,
        "proxy": lambda: len(members(process.pid)) > 4,
        "traffic": lambda: any(path.stat().st_size for path in store.glob("spans-*")),
    }[after]
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    while members(process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)
