"""The trace for Perfetto: slices that nest, tracks with names, counters, arrows; and no call is missing."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import busy_store
import pytest
from typer.testing import CliRunner

from otel_agentperf.cli.main import app
from otel_agentperf_analyzers import Database, open_source
from otel_agentperf_analyzers.perfetto import events, written

Event = dict[str, Any]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_source(str(busy_store.write(tmp_path_factory.mktemp("busy"), agents=40, benchmarks=1))) as database:
        yield database


@pytest.fixture(scope="module")
def trace(busy: Database) -> list[Event]:
    document = json.loads(b"".join(written(busy)))
    found = document["traceEvents"]
    assert isinstance(found, list)
    assert document["otherData"]["started_unix_ns"] == busy_store.NOON_NS + min(
        row["start_ns"] - busy_store.NOON_NS for row in busy.query("SELECT start_ns FROM attempts").to_pylist()
    )
    return found


def of_kind(trace: list[Event], ph: str) -> list[Event]:
    return [event for event in trace if event["ph"] == ph]


def ns(us: float) -> int:
    return round(us * 1000)


def test_every_event_has_what_its_kind_asks_for(trace: list[Event]) -> None:
    assert {event["ph"] for event in trace} == {"M", "X", "C", "s", "f"}
    for event in trace:
        assert isinstance(event["pid"], int)
        assert isinstance(event["name"], str)
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
        if event["ph"] in "Xsf":
            assert isinstance(event["tid"], int)


def test_slices_of_a_track_nest(trace: list[Event]) -> None:
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in of_kind(trace, "X"):
        start = ns(event["ts"])
        tracks[event["pid"], event["tid"]].append((start, start + ns(event["dur"])))
    assert len(tracks) > 40
    for slices in tracks.values():
        open_ends: list[int] = []
        for start, end in sorted(slices, key=lambda each: (each[0], -each[1])):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1]
            open_ends.append(end)


def test_every_track_has_a_name_and_none_has_two(trace: list[Event]) -> None:
    names = [event for event in of_kind(trace, "M") if event["name"] == "thread_name"]
    named = [event["tid"] for event in names]
    assert len(named) == len(set(named))
    assert {event["tid"] for event in of_kind(trace, "X")} <= set(named)
    processes = {
        event["args"]["name"]: event["pid"] for event in of_kind(trace, "M") if event["name"] == "process_name"
    }
    levels = [f"bench-1, {level} {'agent' if level == 1 else 'agents'}" for level in (1, 2, 4, 8, 16)]
    assert list(processes) == [*levels, "live traffic"]
    assert {event["args"]["name"] for event in names} >= {"agent-001 · reviewer", "bench-1-2-1-0"}


def test_every_exchange_and_every_tool_is_a_slice(trace: list[Event], busy: Database) -> None:
    slices = of_kind(trace, "X")
    turns = [event for event in slices if event["cat"] == "turn"]
    calls = busy.query("SELECT span_id, start_ns, end_ns, output_tokens FROM attempts").to_pylist()
    assert {(event["args"]["span_id"], ns(event["dur"])) for event in turns} == {
        (call["span_id"], call["end_ns"] - call["start_ns"]) for call in calls
    }
    assert len(turns) == len(calls)
    [(tools,)] = busy.connection.execute("SELECT COUNT(*) FROM tool_calls WHERE NOT is_inferred").fetchall()
    assert sum(event["cat"] == "tool" for event in slices) == tools
    answers = [event for event in slices if event["name"] == "answer"]
    assert len(answers) == sum(call["output_tokens"] is not None for call in calls)


def test_counters_end_at_zero(trace: list[Event]) -> None:
    counters = of_kind(trace, "C")
    last = {(event["pid"], event["name"]): event["args"] for event in counters}
    assert len(last) == 12
    assert all(set(args.values()) == {0} for args in last.values())
    assert max(event["args"].get("agents", 0) for event in counters) > 2


def test_an_arrow_leads_from_the_tool_to_the_sub_agent(tmp_path: Path) -> None:
    call, tool = busy_store.call, busy_store.tool
    spans = [
        call("parent", 0, 0.0, 2.0),
        tool("parent", 0, 2.0, 9.0, "task"),
        call("child", 0, 2.5, 3.0, parent="parent"),
        call("parent", 1, 9.0, 1.0),
        call("orphan", 0, 20.0, 1.0, parent="nobody"),
    ]
    busy_store.write_spans(tmp_path, spans)
    with open_source(str(tmp_path)) as database:
        trace = list(events(database))
    [start], [end] = of_kind(trace, "s"), of_kind(trace, "f")
    assert (start["id"], start["ts"]) == (end["id"], end["ts"])
    of = {event["tid"]: event["args"]["name"] for event in trace if event["name"] == "thread_name"}
    assert (of[start["tid"]], of[end["tid"]]) == ("parent", "child")


def test_what_overlaps_in_a_trajectory_goes_to_further_tracks(tmp_path: Path) -> None:
    call, tool = busy_store.call, busy_store.tool
    spans = [
        call("a", 0, 0.0, 1.0),
        tool("a", 0, 1.0, 3.0, "one"),
        tool("a", 0, 1.0, 2.0, "two"),
        call("a", 1, 3.0, 1.0),
    ]
    busy_store.write_spans(tmp_path, spans)
    with open_source(str(tmp_path)) as database:
        trace = list(events(database))
    tracks = {event["name"]: event["tid"] for event in of_kind(trace, "X")}
    assert tracks["one"] == tracks["turn 0"] == tracks["turn 1"] == tracks["run 0"]
    assert tracks["two"] != tracks["one"]
    names = [event["args"]["name"] for event in trace if event["name"] == "thread_name"]
    assert names == ["a", "a (2)"]


def test_the_command_writes_it_compressed_where_the_name_says_so(tmp_path: Path) -> None:
    store = busy_store.write(tmp_path / "st", agents=3, benchmarks=0)
    for name in ("trace.json", "trace.json.gz"):
        done = CliRunner().invoke(app, ["export", str(store), "--format", "perfetto", "-o", str(tmp_path / name)])
        assert done.exit_code == 0, (done.output, done.exception)
    plain = (tmp_path / "trace.json").read_bytes()
    assert gzip.decompress((tmp_path / "trace.json.gz").read_bytes()) == plain
    assert json.loads(plain)["traceEvents"]


def test_a_source_without_calls_is_an_empty_trace(tmp_path: Path) -> None:
    busy_store.write_spans(tmp_path, [("GET /", 0.0, 1.0, {"http.request.method": "GET"})])
    with open_source(str(tmp_path)) as database:
        assert json.loads(b"".join(written(database)))["traceEvents"] == []
