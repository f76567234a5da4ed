"""A source as a trace for Perfetto (ui.perfetto.dev) and other readers of Chrome's trace event format.

A process for each level of a benchmark and one for live traffic, with its agents at work and open calls as counters; a
track for each trajectory. On it stand agent runs, in them turns with the wait for the first token and the answer, and
tools; what overlaps goes to further tracks, since slices of one track must nest. Arrows lead from the tool that started
a sub-agent to its first call. Times count from the first event, in µs.
"""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any, Final

import msgspec

from otel_agentperf_analyzers.database import Database

__all__ = ["events", "written"]

LIVE: Final = "live traffic"

_ARGS: Final = (
    "run_id",
    "request_id",
    "model",
    "status",
    "error_type",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "ttft_s",
    "output_speed_tps",
    "trace_id",
    "span_id",
    "tool_call_id",
    "turn_index",
    "is_error",
)
"""What is told of a slice, where it is known."""

_BATCH: Final = 10_000
_encode: Final = msgspec.json.Encoder().encode

Event = dict[str, Any]


def written(database: Database) -> Iterator[bytes]:
    """The file, piece by piece."""
    yield b'{"displayTimeUnit":"ms","traceEvents":['
    comma = b"\n"
    for event in events(database):
        yield comma + _encode(event)
        comma = b",\n"
    about = {"source": database.source_name, "started_unix_ns": _origin(database)}
    yield b'\n],"otherData":' + _encode(about) + b"}\n"


def events(database: Database) -> Iterator[Event]:
    """All events: names of tracks, slices, arrows and counters."""
    origin = _origin(database)
    if origin is None:
        return
    processes: dict[tuple[str | None, int | None], int] = {}
    tracks = _Tracks()
    for row in _rows(database, "trajectories"):
        key = row["benchmark_id"], row["level"]
        if key not in processes:
            processes[key] = len(processes) + 1
            yield from _named("process", processes[key], None, _process_name(*key), len(processes))
        yield from tracks.trajectory(row, processes[key])
    for row in _rows(database, "slices"):
        yield from tracks.slice(row, origin)
    yield from tracks.arrows(origin)
    for row in _rows(database, "counters"):
        key = row["benchmark_id"], row["level"]
        if key in processes:
            moment = {"ph": "C", "pid": processes[key], "ts": _us(row["at_ns"] - origin)}
            yield {**moment, "name": "agents at work", "args": {"agents": row["active_agents"]}}
            yield {**moment, "name": "open calls", "args": {"calls": row["inflight"]}}


def _process_name(benchmark: str | None, level: int | None) -> str:
    if benchmark is None:
        return LIVE
    return benchmark if level is None else f"{benchmark}, {level} {'agent' if level == 1 else 'agents'}"


class _Tracks:
    """Places slices on tracks so that those of a track nest."""

    def __init__(self) -> None:
        self._of: dict[str, _Track] = {}
        self._next = 1

    def trajectory(self, row: Event, process: int) -> Iterator[Event]:
        """The first track of a trajectory."""
        name = row["trajectory_id"] if row["agent_name"] is None else f"{row['trajectory_id']} · {row['agent_name']}"
        track = _Track(process, name, row["parent_trajectory_id"], row["start_ns"])
        self._of[row["trajectory_id"]] = track
        yield from self._lane(track)

    def _lane(self, track: "_Track") -> Iterator[Event]:
        number = len(track.lanes)
        track.lanes.append((self._next, []))
        name = track.name if not number else f"{track.name} ({number + 1})"
        yield from _named("thread", track.process, self._next, name, self._next)
        self._next += 1

    def slice(self, row: Event, origin: int) -> Iterator[Event]:
        """A slice with what is inside of it; rows come by trajectory, the earlier and the longer first."""
        track = self._of.get(row["trajectory_id"])
        if track is None:
            return
        start, end = row["start_ns"], max(row["end_ns"], row["start_ns"])
        lane = track.lane(row["run_id"], start, end)
        if lane is None:
            lane = len(track.lanes)
            yield from self._lane(track)
        thread, open_slices = track.lanes[lane]
        open_slices.append((end, row["run_id"] if row["event"] == "run" else None))
        if row["event"] == "tool":
            track.tools.append((start, end, thread))
        place = {"ph": "X", "pid": track.process, "tid": thread}
        args = {name: row[name] for name in _ARGS if row[name] is not None}
        yield {
            **place,
            "cat": row["event"],
            "name": row["name"],
            "ts": _us(start - origin),
            "dur": _us(end - start),
            "args": args,
        }
        first = row["first_ns"]
        if first is not None and start <= first <= end:
            for name, begins, ends in (("first token", start, first), ("answer", first, end)):
                yield {**place, "cat": "phase", "name": name, "ts": _us(begins - origin), "dur": _us(ends - begins)}

    def arrows(self, origin: int) -> Iterator[Event]:
        """From the tool at work when a sub-agent began to the sub-agent's track."""
        number = 0
        for track in self._of.values():
            parent = self._of.get(track.parent or "")
            if parent is None or parent is track:
                continue
            started = [tool for tool in parent.tools if tool[0] <= track.start_ns <= tool[1]]
            if not started:
                continue
            number += 1
            both = {"cat": "sub-agent", "name": "starts", "id": number, "ts": _us(track.start_ns - origin)}
            yield {**both, "ph": "s", "pid": parent.process, "tid": started[-1][2]}
            yield {**both, "ph": "f", "bp": "e", "pid": track.process, "tid": track.lanes[0][0]}


class _Track:
    """Of one trajectory: its lanes, each a thread and what is open on it, as its end and, of a run, the run."""

    __slots__ = ("lanes", "name", "parent", "process", "start_ns", "tools")

    def __init__(self, process: int, name: str, parent: str | None, start_ns: int) -> None:
        self.process, self.name, self.parent, self.start_ns = process, name, parent, start_ns
        self.lanes: list[tuple[int, list[tuple[int, str | None]]]] = []
        self.tools: list[tuple[int, int, int]] = []

    def lane(self, run: str | None, start: int, end: int) -> int | None:
        """Where a slice goes: inside its own run, else where nothing is open; None when there is no such lane."""
        empty = None
        for at, (_, open_slices) in enumerate(self.lanes):
            while open_slices and open_slices[-1][0] <= start:
                open_slices.pop()
            if not open_slices:
                empty = at if empty is None else empty
            elif run is not None and open_slices[-1][1] == run and end <= open_slices[-1][0]:
                return at
        return empty


def _named(kind: str, process: int, thread: int | None, name: str, place: int) -> Iterator[Event]:
    of: Event = {"ph": "M", "pid": process} if thread is None else {"ph": "M", "pid": process, "tid": thread}
    yield {**of, "name": f"{kind}_name", "args": {"name": name}}
    yield {**of, "name": f"{kind}_sort_index", "args": {"sort_index": place}}


def _us(ns: int) -> float:
    return ns / 1000


def _origin(database: Database) -> int | None:
    [row] = _rows(database, "origin")
    start: int | None = row["start_ns"]
    return start


def _rows(database: Database, name: str) -> Iterable[Event]:
    sql = (files(__package__) / "sql" / "perfetto" / f"{name}.sql").read_text("utf-8")
    for batch in database.fetch(sql).to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()
