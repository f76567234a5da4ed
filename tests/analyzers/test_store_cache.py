"""The cache of a store: what is read once is not read again, what changed is, and nothing depends on it."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard

from otel_agentperf import policies
from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import open_source, relations
from otel_agentperf_analyzers.sources import cache, chunks, store

MakeCall = Callable[..., dict[str, Any]]


@pytest.fixture
def lines(make_call: MakeCall) -> Callable[[int, int], str]:
    """OTLP JSON lines of the calls with these numbers, one each."""

    def lines(first: int, last: int) -> str:
        found = []
        for number in range(first, last):
            call = make_call(number + 1, t=number, traj=f"t{number}", first=0.5, last=1.5, end=2, out=21)
            document = {"resourceSpans": [{"scopeSpans": [{"spans": [call]}]}]}
            found.append(json.dumps(document) + "\n")
        return "".join(found)

    return lines


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[chunks.Chunk]:
    """What was decoded, as it was cut."""
    seen: list[chunks.Chunk] = []
    batches = chunks.batches

    def noted(chunk: chunks.Chunk, skipped: Any) -> Any:
        seen.append(chunk)
        return batches(chunk, skipped)

    monkeypatch.setattr(chunks, "batches", noted)
    return seen


def turns(path: Path, **period: datetime) -> int:
    with open_source(str(path), **period) as database:
        return int(database.query("SELECT count(*) AS n FROM turns").column("n")[0].as_py())


def seal(path: Path) -> None:
    path.with_name(path.name + ".zst").write_bytes(zstandard.compress(path.read_bytes()))
    path.unlink()


def test_a_sealed_segment_is_read_once(tmp_path: Path, lines: Callable[..., str], read: list[chunks.Chunk]) -> None:
    (tmp_path / "spans-a-0.jsonl").write_text(lines(0, 20) + "broken\n")
    seal(tmp_path / "spans-a-0.jsonl")
    assert turns(tmp_path) == 20
    assert len(read) == 1
    (tmp_path / "spans-a-1.jsonl").write_text(lines(20, 30) + '{"torn')
    seal(tmp_path / "spans-a-1.jsonl")
    with open_source(str(tmp_path)) as database:
        assert database.query("FROM turns").num_rows == 30
        first = (database.skipped.lines, database.skipped.examples)
    assert first[0] == 2
    assert len(read) == 2
    with open_source(str(tmp_path)) as database:
        assert database.query("FROM turns").num_rows == 30
        assert (database.skipped.lines, database.skipped.examples) == first
        assert database.skipped.examples[0].startswith(f"{tmp_path}/spans-a-0.jsonl.zst:21: broken JSON")
    assert len(read) == 2


def test_of_a_growing_segment_only_new_lines_are_read(
    tmp_path: Path, lines: Callable[..., str], read: list[chunks.Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_WORTH_A_FILE", 10_000)
    path = tmp_path / "spans-a-0.jsonl"
    path.write_text(lines(0, 20))
    size = path.stat().st_size
    assert size > 10_000
    assert turns(tmp_path) == 20
    assert [(chunk.begin, chunk.end) for chunk in read] == [(0, size)]
    read.clear()
    with path.open("a") as file:
        file.write(lines(20, 21) + '{"resourceSpans":')
    assert turns(tmp_path) == 21
    assert turns(tmp_path) == 21
    assert {chunk.begin for chunk in read} == {size}
    assert {chunk.first_line for chunk in read} == {21}
    read.clear()
    with path.open("a") as file:
        file.write("[]}\n" + lines(21, 60))
    assert turns(tmp_path) == 60
    assert turns(tmp_path) == 60
    assert [chunk.begin for chunk in read] == [size]
    read.clear()
    with path.open("a") as file:
        file.write(lines(60, 61))
    seal(path)
    assert turns(tmp_path) == 61
    assert turns(tmp_path) == 61
    assert [chunk.first_line for chunk in read] == [62]


def test_another_segment_of_the_same_name_is_read_anew(tmp_path: Path, lines: Callable[..., str]) -> None:
    path = tmp_path / "spans-a-0.jsonl.zst"
    path.write_bytes(zstandard.compress(lines(0, 20).encode()))
    assert turns(tmp_path) == 20
    path.write_bytes(zstandard.compress(lines(100, 130).encode()))
    assert turns(tmp_path) == 30
    path.write_bytes(zstandard.compress(lines(100, 105).encode()))
    assert turns(tmp_path) == 5


def test_a_segment_that_retention_took_leaves_the_cache_too(tmp_path: Path, lines: Callable[..., str]) -> None:
    for number in range(2):
        path = tmp_path / f"spans-a-{number}.jsonl"
        path.write_text(lines(number * 10, number * 10 + 10))
        seal(path)
    assert turns(tmp_path) == 20
    (tmp_path / "spans-a-0.jsonl.zst").unlink()
    assert turns(tmp_path) == 10
    assert turns(tmp_path) == 10
    assert len(list((tmp_path / ".cache" / cache.version() / "spans").iterdir())) == 1


@pytest.mark.parametrize("harm", ["index", "index is a list", "part", "part is cut", "all", "results"])
def test_the_cache_can_be_harmed_at_any_time(
    tmp_path: Path, lines: Callable[..., str], harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    (tmp_path / "spans-a-0.jsonl").write_text(lines(0, 20))
    seal(tmp_path / "spans-a-0.jsonl")
    assert turns(tmp_path) == 20
    directory = tmp_path / ".cache" / cache.version()
    [part] = (directory / "spans").iterdir()
    results = [path for path in directory.glob("results/*/*.parquet") if path.name.startswith("turns")]
    assert results
    match harm:
        case "index":
            (directory / "index.json").unlink()
        case "index is a list":
            (directory / "index.json").write_text("[]")
        case "part":
            part.unlink()
        case "part is cut":
            os.truncate(part, part.stat().st_size // 2)
        case "all":
            shutil.rmtree(tmp_path / ".cache")
        case "results":
            os.truncate(results[0], results[0].stat().st_size // 2)
    assert turns(tmp_path) == 20
    assert turns(tmp_path) == 20


def harmed(path: Path, harm: str) -> None:
    """Do something to a file."""
    data = path.read_bytes()
    middle = len(data) // 3
    match harm:
        case "cut":
            path.write_bytes(data[:-30])
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(bytes(byte ^ 255 for byte in data))
        case "flipped":
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
        case "missing":
            path.unlink()


def write_sealed(directory: Path, lines: Callable[..., str]) -> None:
    """Three sealed segments of ten spans."""
    for number in range(3):
        path = directory / f"spans-a-{number}.jsonl"
        path.write_text(lines(number * 10, number * 10 + 10))
        seal(path)


def found(path: Path) -> tuple[list[str], tuple[str, ...]]:
    """What a reader finds, and is told."""
    with open_source(str(path)) as database:
        rows = sorted(map(repr, database.relation("turns").to_pylist()))
        return rows, database.notes


@pytest.mark.parametrize("what", ["spans", "results"])
@pytest.mark.parametrize("harm", ["cut", "empty", "garbage", "flipped", "missing"])
def test_what_is_damaged_is_made_anew(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch, what: str, harm: str
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    write_sealed(tmp_path, lines)
    wanted, notes = found(tmp_path)
    assert len(wanted) == 30
    assert notes == ()
    pattern = "spans/*.parquet" if what == "spans" else "results/*/turns-*.parquet"
    part = sorted((tmp_path / ".cache" / cache.version()).glob(pattern))[0]
    harmed(part, harm)
    rows, notes = found(tmp_path)
    assert rows == wanted
    if (what, harm) == ("results", "missing"):
        assert notes == ()
    else:
        assert notes == (f"1 file of the cache, missing or damaged, is made anew: {part}",)
    assert part.exists()
    assert found(tmp_path) == (wanted, ())


@pytest.mark.parametrize("what", ["spans", "results"])
def test_damage_that_only_reading_shows_is_told_and_removed(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    (tmp_path / "spans-a-0.jsonl").write_text(lines(0, 20))
    seal(tmp_path / "spans-a-0.jsonl")
    wanted, _ = found(tmp_path)
    top = tmp_path / ".cache" / cache.version()
    pattern = "spans/*.parquet" if what == "spans" else "results/*/turns-*.parquet"
    [part] = top.glob(pattern)
    # As a disk loses bytes: neither size nor time of change tell.
    stat = part.stat()
    with part.open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * (stat.st_size // 4))
    os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if what == "spans":
        shutil.rmtree(top / "results")
    with pytest.raises(SourceError, match=f"damaged in the cache, and removed: {part}; try again"):
        found(tmp_path)
    rows, _ = found(tmp_path)
    assert rows == wanted
    assert found(tmp_path) == (wanted, ())


def test_a_copy_that_loses_times_is_as_good(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch, read: list[chunks.Chunk]
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    (tmp_path / "spans-a-0.jsonl").write_text(lines(0, 20))
    seal(tmp_path / "spans-a-0.jsonl")
    wanted, _ = found(tmp_path)
    files = list((tmp_path / ".cache").rglob("*.parquet"))
    inodes = {path: path.stat().st_ino for path in files}
    for path in files:
        os.utime(path, ns=(0, 0))
    read.clear()
    assert found(tmp_path) == (wanted, ())
    assert read == []
    assert {path: path.stat().st_ino for path in files} == inodes


def test_an_index_with_another_digit_is_not_believed(
    tmp_path: Path, lines: Callable[..., str], read: list[chunks.Chunk]
) -> None:
    (tmp_path / "spans-a-0.jsonl").write_text(lines(0, 20))
    seal(tmp_path / "spans-a-0.jsonl")
    wanted, _ = found(tmp_path)
    index = tmp_path / ".cache" / cache.version() / "index.json"
    text = index.read_text()
    assert text.count('"spans":20') == 1
    index.write_text(text.replace('"spans":20', '"spans":21'))
    read.clear()
    assert found(tmp_path) == (wanted, ())
    assert len(read) == 1


@pytest.mark.parametrize("why", ["a file is in its place", "the disk is full"])
def test_without_a_cache_all_is_read_each_time(
    tmp_path: Path,
    lines: Callable[..., str],
    read: list[chunks.Chunk],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "spans-a-0.jsonl"
    path.write_text(lines(0, 20) + "broken\n")
    seal(path)
    if why == "the disk is full":

        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(chunks, "write", full)
    else:
        (tmp_path / ".cache").write_text("not yours")
    for _ in range(2):
        with open_source(str(tmp_path)) as database:
            assert database.query("FROM turns").num_rows == 20
            assert database.skipped.lines == 1
    assert len(read) >= 2


def test_readers_and_writers_at_once(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_WORTH_A_FILE", 5_000)
    written = 0
    stop = threading.Event()
    path = tmp_path / "spans-a-0.jsonl"
    path.write_text(lines(0, 10))

    def write() -> None:
        nonlocal written
        for number in range(1, 40):
            with path.open("a") as file:
                file.write(lines(number * 10, number * 10 + 10))
            if number % 8 == 0:
                older = path.rename(tmp_path / f"spans-a-{number}.jsonl")
                path.write_text("")
                seal(older)
            written = number
        stop.set()

    def count() -> list[int]:
        found = []
        while not stop.is_set():
            before = written
            with open_source(str(tmp_path)) as database:
                assert database.skipped.lines <= 1
                found.append(database.query("FROM spans").num_rows)
            assert found[-1] >= before * 10 - 80
        return found

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(count) for _ in range(3)]
        threads.submit(write).result()
        assert all(reader.result() for reader in readers)
    assert turns(tmp_path) == 400


def test_time_bounds_leave_parts_out_and_keep_no_results(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    write_sealed(tmp_path, lines)
    since, until = datetime(2026, 1, 1, 0, 0, 12, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 15, tzinfo=UTC)
    assert turns(tmp_path, since=since, until=until) == 3
    assert turns(tmp_path) == 30
    assert turns(tmp_path, since=since, until=until) == 3
    assert turns(tmp_path, since=datetime(2100, 1, 1, tzinfo=UTC)) == 0


# --- Results --------------------------------------------------------------------------------------------------------


def test_results_are_kept_while_the_spans_are_the_same(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spans-a-0.jsonl"
    path.write_text(lines(0, 20))
    with open_source(str(tmp_path)) as database:
        wanted = {name: database.relation(name).to_pylist() for name in ("turns", "slo", "trajectories", "undefined")}
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    results = tmp_path / ".cache" / cache.version() / "results"
    for _ in range(2):
        with open_source(str(tmp_path)) as database:
            assert {name: database.relation(name).to_pylist() for name in wanted} == wanted
    [kept] = [each for each in results.iterdir() if any(each.glob("turns-*"))]
    times = {each.name: each.stat().st_mtime_ns for each in kept.glob("*.parquet")}
    assert {"turns", "slo", "trajectories", "undefined", "attempts"} <= {name.partition("-")[0] for name in times}
    assert turns(tmp_path) == 20
    assert {each.name: each.stat().st_mtime_ns for each in kept.glob("*.parquet")} == times
    with path.open("a") as file:
        file.write(lines(20, 21))
    assert turns(tmp_path) == 21
    assert turns(tmp_path) == 21
    assert not kept.exists()


@pytest.mark.parametrize("many", [1, 10**9])
def test_results_follow_what_is_judged_by(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", many)
    (tmp_path / "spans-a-0.jsonl").write_text(lines(0, 20))
    [strict] = policies.select("aa-agentperf:gpt-oss-120b#4")
    [loose] = policies.select("aa-agentperf:gpt-oss-120b#1")
    for _ in range(2):
        with open_source(str(tmp_path)) as database:
            presets = database.slo().to_pylist()
            assert [row["tier"] for row in database.slo([strict]).to_pylist()] == [strict.tier]
            assert [row["tier"] for row in database.slo([loose]).to_pylist()] == [loose.tier]
            assert database.slo().to_pylist() == presets
            assert database.query("SELECT count(*) AS n FROM slo").to_pylist() == [{"n": len(presets)}]


def test_a_relation_is_there_however_it_is_named(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    (tmp_path / "spans-a-0.jsonl").write_text(lines(0, 3))
    for sql in ('FROM "Turns"', "FROM query_table('tu' || 'rns')", "SELECT * FROM main.turns", "TABLE turns"):
        with open_source(str(tmp_path)) as database:
            assert database.query(sql).num_rows == 3, sql
    with open_source(str(tmp_path)) as database:
        assert {"turns", "slo"} <= set(database.query("SHOW TABLES").column("name").to_pylist())
        assert database.query("SUMMARIZE turns").num_rows > 10
    with open_source(str(tmp_path)) as database:
        assert database.connection.sql("SELECT count(*) FROM trajectories").fetchall() == [(3,)]


# --- Several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", ["two", "dead", "none"])
def test_large_sources_are_decoded_by_several_processes(
    tmp_path: Path, lines: Callable[..., str], monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 20_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0} if processes == "none" else {0, 1})
    started: list[chunks._Process] = []
    start = chunks._Process.start

    def noted() -> chunks._Process | None:
        process = start()
        assert process is not None
        started.append(process)
        if processes == "dead":
            process._popen.kill()
        return process

    monkeypatch.setattr(chunks._Process, "start", noted)
    text = lines(0, 100) + "broken\n" + lines(100, 200) + '{"torn'
    path = tmp_path / "spans.jsonl"
    path.write_text(text)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "spans-a-0.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    for source, name in ((path, str(path)), (tmp_path / "store", f"{tmp_path}/store/spans-a-0.jsonl.zst")):
        for _ in range(2):
            with open_source(str(source)) as database:
                assert database.query("FROM turns").num_rows == 200
                assert database.skipped.lines == 2
                assert [each.partition(": broken")[0] for each in database.skipped.examples] == [
                    f"{name}:101",
                    f"{name}:202",
                ]
    assert bool(started) == (processes != "none")
    assert all(process._popen.poll() is not None for process in started)
