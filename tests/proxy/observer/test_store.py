"""The embedded store: what stands on the disk, whatever happens to its writers."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from otel_agentperf.errors import StoreError
from otel_agentperf_proxy import segments, store
from otel_agentperf_proxy.otlp_json import encode
from otel_agentperf_proxy.spans import SCOPE, level_span
from otel_agentperf_proxy.store import SegmentWriter, append_spans, prepare

from .conftest import read_lines

RESOURCE = Resource({"service.name": "test"})


def span(number: int, name: str = "chat m") -> ReadableSpan:
    context = SpanContext(0xABC, number, False, TraceFlags(1))
    return ReadableSpan(
        name,
        context=context,
        parent=SpanContext(0xABC, 1, True, TraceFlags(1)),
        resource=RESOURCE,
        attributes={"i": 1 << 62, "f": 1.0, "b": True, "s": "é", "l": ("a", "b")},
        links=[Link(SpanContext(0xDEF, 2, False, TraceFlags(1)))],
        kind=SpanKind.CLIENT,
        start_time=1_800_000_000_000_000_001,
        end_time=1_800_000_000_000_000_002,
        instrumentation_scope=SCOPE,
    )


def names(directory: Path) -> list[str]:
    """Names of the spans in a store, in order; torn lines are skipped."""
    found = []
    for line in read_lines(directory):
        try:
            batch = json.loads(line)
        except ValueError:
            continue
        found += [
            one["name"] for part in batch["resourceSpans"] for scope in part["scopeSpans"] for one in scope["spans"]
        ]
    return found


def files(directory: Path) -> list[str]:
    return sorted(path.suffix for path in directory.glob("spans-*"))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(tmp_path: Path, clock: Clock):
    made: list[SegmentWriter] = []

    def make(**options) -> SegmentWriter:
        prepare(tmp_path)
        made.append(SegmentWriter(tmp_path, clock=clock, wall_clock=clock, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_lines_are_otlp_for_the_official_parser(tmp_path, writer):
    writer().write([span(5)])
    (line,) = read_lines(tmp_path)
    document = json.loads(line)
    (resource_spans,) = document["resourceSpans"]
    (scope_spans,) = resource_spans["scopeSpans"]
    (one,) = scope_spans["spans"]
    assert one["traceId"] == f"{0xABC:032x}"
    assert one["startTimeUnixNano"] == "1800000000000000001"
    assert scope_spans["schemaUrl"] == SCOPE.schema_url
    # The protobuf JSON format has bytes in base64, and takes the hex of ids for such.
    parsed = json_format.Parse(line, TracesData())
    decoded = parsed.resource_spans[0].scope_spans[0].spans[0]
    assert decoded.start_time_unix_nano == 1_800_000_000_000_000_001
    values = {item.key: item.value for item in decoded.attributes}
    assert values["i"].int_value == 1 << 62
    assert values["f"].WhichOneof("value") == "double_value"
    assert values["b"].bool_value is True
    assert values["s"].string_value == "é"
    assert [item.string_value for item in values["l"].array_value.values] == ["a", "b"]
    assert parsed.resource_spans[0].resource.attributes[0].value.string_value == "test"


def test_written_spans_are_on_the_disk_at_once(tmp_path, writer):
    writer().write([span(1), span(2)])
    assert files(tmp_path) == [".jsonl"]
    assert names(tmp_path) == ["chat m"] * 2


def test_long_batches_are_many_lines(tmp_path, writer):
    writer().write([span(number) for number in range(1, 600)])
    assert len(list(read_lines(tmp_path))) == 3


def test_a_segment_is_sealed_by_size(tmp_path, writer):
    one = writer(rotate_bytes=1000)
    for number in range(5):
        one.write([span(number + 1, f"span {number}")])
    one.close()
    assert files(tmp_path) == [".zst"] * 5
    assert names(tmp_path) == [f"span {number}" for number in range(5)]
    assert one.stats()["segments_sealed"] == 5


def test_a_segment_is_sealed_by_age(tmp_path, writer, clock):
    one = writer(rotate_s=60)
    one.write([span(1)])
    one.tick()
    clock.now_s += 61
    one.tick()
    one.close()
    assert files(tmp_path) == [".zst"]


def test_a_writer_without_spans_leaves_no_segment(tmp_path, writer):
    writer().close()
    assert files(tmp_path) == []


def test_two_writers_share_a_directory(tmp_path, writer):
    one, two = writer(), writer()
    one.write([span(1, "one")])
    two.write([span(2, "two")])
    assert files(tmp_path) == [".jsonl", ".jsonl"]
    one.close()
    assert files(tmp_path) == [".jsonl", ".zst"]
    two.write([span(3, "two")])
    two.close()
    assert sorted(names(tmp_path)) == ["one", "two", "two"]


def test_the_segment_of_a_living_writer_is_left_alone(tmp_path, writer):
    one = writer()
    one.write([span(1)])
    writer().close()
    assert files(tmp_path) == [".jsonl"]


def test_the_segment_of_a_dead_writer_is_sealed_as_it_is(tmp_path, writer):
    left = tmp_path / "spans-20260101T000000Z_00000000-000000.jsonl"
    torn = encode([span(1)]) + b'{"resourceSpans": [{"res'
    left.write_bytes(torn)
    writer().close()
    (sealed,) = tmp_path.glob("spans-*")
    assert sealed.name == left.name + ".zst"
    assert zstandard.decompress(sealed.read_bytes()) == torn
    assert names(tmp_path) == ["chat m"]


def test_a_segment_that_was_sealed_when_its_writer_died_is_not_kept_twice(tmp_path, writer):
    line = encode([span(1)])
    left = tmp_path / "spans-20260101T000000Z_00000000-000000.jsonl"
    left.write_bytes(line)
    (tmp_path / f"{left.name}.zst").write_bytes(zstandard.compress(line))
    writer().close()
    assert names(tmp_path) == ["chat m"]


def test_other_files_are_left_alone(tmp_path, writer):
    (tmp_path / "notes.jsonl").write_text("mine")
    writer(max_bytes=1, max_age_s=1).close()
    assert (tmp_path / "notes.jsonl").read_text() == "mine"


def test_the_oldest_sealed_segments_go_when_there_is_too_much(tmp_path, writer):
    one = writer(rotate_bytes=1000, max_bytes=1)
    for number in range(3):
        one.write([span(number + 1)])
    one.tick()
    one.close()
    assert files(tmp_path) == []
    assert one.stats()["segments_deleted"] == 3


def test_sealed_segments_go_when_they_are_too_old(tmp_path, writer, clock):
    one = writer(rotate_bytes=1000, max_age_s=3600)
    one.write([span(1)])
    one.write([span(2)])
    for path in tmp_path.glob("spans-*"):
        os.utime(path, (clock.now_s - 7200, clock.now_s - 7200))
    one._sealer.sweep()
    one.close()
    assert one.stats()["segments_deleted"] == 2


def test_a_removed_directory_is_made_again(tmp_path, writer):
    one = writer()
    one.write([span(1)])
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    one.tick()
    one.write([span(2, "later")])
    assert names(tmp_path) == ["later"]


def test_a_full_disk_costs_the_spans_of_that_time_only(tmp_path, writer, monkeypatch, caplog):
    one = writer()
    one.write([span(1, "before")])
    real_write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) > 20:
            return real_write(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "write", full)
        one.write([span(2, "lost")])
        one.write([span(3, "lost")])
    assert one.stats()["failing"] == "no space left on device"
    one.write([span(4, "after")])
    assert names(tmp_path) == ["before", "after"]
    stats = one.stats()
    assert (stats["spans_written"], stats["spans_lost"], stats["write_errors"]) == (2, 2, 2)
    assert stats["failing"] is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


WRITER = """
import resource, sys
from pathlib import Path
from otel_agentperf_proxy.spans import level_span
from otel_agentperf_proxy.store import SegmentWriter
directory = Path(sys.argv[1])
span = level_span(benchmark_id="b", level=1, start_unix_ns=1, end_unix_ns=2, completed_trajectories=0)
"""

UP_TO_A_LIMIT = """
writer = SegmentWriter(directory)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
for _ in range(8):
    writer.write([span])
stats = writer.stats()
assert stats["spans_lost"] and stats["spans_written"], stats
print(stats["spans_written"])
"""

UNTIL_KILLED = """
writer = SegmentWriter(directory, rotate_bytes=20_000)
while True:
    writer.write([span])
    if writer.stats()["spans_written"] == 50:
        print("ready", flush=True)
"""

MAKES_A_STORE = """
from otel_agentperf_proxy.store import prepare
print(prepare(directory).salt_hex)
"""


def start(code: str, directory: Path) -> subprocess.Popen[str]:
    """A writer in a process of its own."""
    command = [sys.executable, "-c", WRITER + code, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_limit_of_the_file_size_costs_the_spans_past_it(tmp_path):
    """A real refusal by the kernel."""
    with start(UP_TO_A_LIMIT, tmp_path) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert names(tmp_path) == ["benchmark_level"] * int(output)
    assert errors.count("cannot write the trace store") == 1


def test_kill_nine_of_a_writer(tmp_path, writer):
    with start(UNTIL_KILLED, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
    before = len(names(tmp_path))
    assert before >= 50
    writer().close()
    assert set(files(tmp_path)) == {".zst"}
    # A segment that was being sealed at that moment is not there twice any more.
    assert 50 <= len(names(tmp_path)) <= before


def test_the_key_is_made_once(tmp_path):
    first = prepare(tmp_path / "new" / "store")
    again = prepare(tmp_path / "new" / "store")
    assert first == again
    assert len(bytes.fromhex(first.salt_hex)) == 32
    info = tmp_path / "new" / "store" / "store.json"
    assert stat.S_IMODE(info.stat().st_mode) == 0o600
    assert json.loads(info.read_text()) == {"format": 1, "salt": first.salt_hex}
    assert [path.name for path in info.parent.iterdir()] == ["store.json"]


def test_processes_that_make_a_store_at_once_have_one_key(tmp_path):
    processes = [start(MAKES_A_STORE, tmp_path / "store") for _ in range(4)]
    keys = {process.communicate()[0] for process in processes}
    assert len(keys) == 1
    assert keys.pop().strip() == prepare(tmp_path / "store").salt_hex


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(store.os, "link", no_links)
    assert prepare(tmp_path / "a") == prepare(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format": 1, "salt": "xyz"}', '{"format": 1, "salt": "00"}'])
def test_a_damaged_store_is_one_clear_line(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json is damaged.*remove it") as caught:
        prepare(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_store_of_another_format(tmp_path):
    (tmp_path / "store.json").write_text(json.dumps({"format": 2, "salt": "00" * 32}))
    with pytest.raises(StoreError, match="is of format 2"):
        prepare(tmp_path)


def unwritable_file(tmp_path: Path) -> Path:
    (tmp_path / "store").write_text("a file")
    return tmp_path / "store"


def below_a_file(tmp_path: Path) -> Path:
    return unwritable_file(tmp_path) / "deeper"


def in_proc(_: Path) -> Path:
    return Path("/proc/store")


@pytest.mark.parametrize("place", [unwritable_file, below_a_file, in_proc])
def test_a_store_that_cannot_be_written_is_one_clear_line(tmp_path, place: Callable[[Path], Path]):
    with pytest.raises(StoreError, match=r"cannot write the trace store .*--store DIR") as caught:
        prepare(place(tmp_path))
    assert "\n" not in str(caught.value)


def test_spans_can_be_added_to_a_store(tmp_path):
    level = level_span(
        benchmark_id="b1",
        level=8,
        start_unix_ns=1_800_000_000_000_000_000,
        end_unix_ns=1_800_000_060_000_000_000,
        completed_trajectories=30,
        preset="quick",
        accelerator_count=8,
        power_mean_w=5600.5,
    )
    append_spans(tmp_path / "store", [level])
    append_spans(tmp_path / "store", [level])
    assert names(tmp_path / "store") == ["benchmark_level"] * 2
    assert files(tmp_path / "store") == [".zst", ".zst"]
    assert dict(level.attributes) == {
        "agentperf.benchmark.id": "b1",
        "agentperf.level": 8,
        "agentperf.benchmark.completed_trajectories": 30,
        "agentperf.benchmark.preset": "quick",
        "agentperf.accelerator.count": 8,
        "agentperf.power.mean_w": 5600.5,
    }


def test_spans_that_cannot_be_added_raise(tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments.os, "write", full)
    with pytest.raises(StoreError, match="1 of 1 spans could not be written"):
        append_spans(tmp_path, [span(1)])


def test_a_span_that_cannot_be_encoded_costs_itself_only(tmp_path, writer, caplog):
    bad = span(2, "bad")
    bad._kind = "no kind"
    one = writer()
    one.write([span(1, "good"), bad, span(3, "good")])
    assert names(tmp_path) == ["good", "good"]
    assert one.stats()["spans_lost"] == 1
