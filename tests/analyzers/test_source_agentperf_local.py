"""Results of agentperf-local as a source: its own figures come out again."""

import json
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import open_source


def turn(task: str, number: int, **more: Any) -> dict[str, Any]:
    timing = {"e2e_latency_ms": 4000.0, "time_to_first_byte_ms": 900.0, "time_to_first_token_ms": 1000.0}
    return {
        "version": 1,
        "kind": "turn",
        "turn_id": f"{task}:{number:04}",
        "task_id": task,
        "success": True,
        "timing": timing | {"generation_ms": 2000.0} | more.pop("timing", {}),
        "tokens": {"server_prompt_tokens": 100, "server_cached_prompt_tokens": 40, "server_output_tokens": 21}
        | more.pop("tokens", {}),
        "tool_calls": [],
        "response_tool_calls": 0,
        "finish_reason": "stop",
    } | more


def write(directory: Path, *turns: dict[str, Any] | str) -> Path:
    directory.mkdir(exist_ok=True)
    lines = [each if isinstance(each, str) else json.dumps(each) for each in turns]
    (directory / "turns.jsonl").write_text("".join(f"{line}\n" for line in lines))
    config = {"model": "m", "base_url": "http://host:8000/v1"}
    (directory / "summary.json").write_text(
        json.dumps({"version": 1, "run_id": "run-1", "started_at": 1767225600.0, "config": config})
    )
    return directory


TOOL = {"tool_name": "search", "tool_call_id": "c1", "replayed_duration_ms": 500.0, "exception_info": ""}


def test_turns_tools_and_tasks_become_spans(tmp_path: Path) -> None:
    """Task x: a turn with a tool call, then an answer. Pooled speed leaves the first out: 80 / 4 of the second."""
    first = turn("x", 0, tool_calls=[TOOL], response_tool_calls=1, finish_reason="tool_calls")
    second = turn(
        "x", 1, timing={"e2e_latency_ms": 5000.0, "generation_ms": 4000.0}, tokens={"server_output_tokens": 81}
    )
    failed = turn("y", 0, success=False, timing=dict.fromkeys(("e2e_latency_ms", "time_to_first_token_ms")))
    for name in ("out", "out/turns.jsonl"):
        write(tmp_path / "out", first, second, failed)
        with open_source(str(tmp_path / name)) as database:
            turns = database.relation("turns").to_pylist()
            [level] = database.relation("levels").to_pylist()
            [tool] = database.relation("tool_calls").to_pylist()
            trajectories = database.relation("trajectories").to_pylist()
            offsets = database.query("SELECT offset_s FROM timeline WHERE trajectory_id = 'run-1/x' ORDER BY 1")
    assert [(row["ttft_s"], row["output_speed_tps"], row["status"]) for row in turns] == [
        (1.0, 10.0, "ok"),
        (1.0, 20.0, "ok"),
        (None, None, "error"),
    ]
    assert (level["benchmark_id"], level["agents"], level["turns"], level["failed_turns"]) == ("run-1", 1, 3, 1)
    assert level["pooled_speed_tps"] == pytest.approx(20)
    assert level["pooled_e2e_speed_tps"] == pytest.approx(102 / 9)
    assert level["tool_call_turn_share"] == 0.5
    assert (tool["tool_name"], tool["duration_s"], tool["turn_index"], tool["is_error"]) == ("search", 0.5, 0, False)
    assert offsets.column("offset_s").to_pylist() == [0, 4, 4.5]
    assert [(row["task_id"], row["is_completed"], row["turns"]) for row in trajectories] == [
        ("x", True, 2),
        ("y", False, 1),
    ]
    assert {row["deployment"] for row in turns} == {"host:8000"}


def test_a_turn_of_one_output_chunk_has_no_speed_and_local_counts_are_estimates(tmp_path: Path) -> None:
    one = turn("x", 0, timing={"generation_ms": None})
    local = turn("x", 1, tokens={"server_output_tokens": None, "local_output_tokens": 21})
    with open_source(str(write(tmp_path / "out", one, local))) as database:
        rows = database.relation("turns").to_pylist()
        [level] = database.relation("levels").to_pylist()
        reasons = database.query("SELECT reason FROM undefined WHERE metric = 'output_speed'").to_pylist()
    assert [(row["output_speed_tps"], row["usage_source"]) for row in rows] == [(None, "server"), (10.0, "estimated")]
    assert reasons == [{"reason": "zero_window"}]
    assert (level["estimated_turns"], level["pooled_speed_tps"], level["output_speed_p50_tps"]) == (1, None, None)


def test_broken_lines_are_counted_and_a_run_without_turns_is_told(tmp_path: Path) -> None:
    with open_source(str(write(tmp_path / "out", turn("x", 0), "{", '{"turn_id": 1}'))) as database:
        assert database.skipped.lines == 2
        assert "turns.jsonl:2: not a turn of agentperf-local" in database.skipped.examples[0]
        assert database.relation("turns").num_rows == 1
    with pytest.raises(SourceError, match="holds no turns of agentperf-local"):
        open_source(str(write(tmp_path / "empty")))
    (tmp_path / "out" / "summary.json").write_text("[]")
    with pytest.raises(SourceError, match=r"summary\.json is not a summary of agentperf-local"):
        open_source(str(tmp_path / "out"))
