"""Trace sources: what is read, what is skipped and counted, and what a user is told."""

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zstandard

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers import Database, open_source
from otel_agentperf_analyzers.sources import chunks

CALL = "call t=0 turn=0 first=0.5 last=1.5 end=2 in=100 out=21"
OTHER = "call t=10 traj=b turn=0 first=0.5 last=1.5 end=2 in=100 out=21"
START = datetime(2026, 1, 1, tzinfo=UTC)

ToLines = Callable[[str], str]


def turns(database: Database) -> int:
    with database:
        return int(database.query("SELECT count(*) AS n FROM turns").column("n")[0].as_py())


def test_plain_gzip_and_zstd_are_told_apart_by_their_bytes(tmp_path: Path, to_lines: ToLines) -> None:
    plain = to_lines(CALL).encode()
    for name, content in (
        ("a.txt", plain),
        ("b.jsonl", gzip.compress(plain)),
        ("c.gz", zstandard.compress(plain)),
        ("d", zstandard.compress(plain) + zstandard.compress(to_lines(OTHER).encode().replace(b"0001", b"0002"))),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert turns(open_source(str(path))) == (2 if name == "d" else 1), name


def test_a_glob_reads_all_files_and_counts_what_is_broken(tmp_path: Path, to_lines: ToLines) -> None:
    (tmp_path / "a.jsonl").write_text(to_lines(CALL))
    (tmp_path / "b.jsonl").write_text(to_lines(OTHER).replace("0001", "0002") + "nonsense\n")
    database = open_source(str(tmp_path / "*.jsonl"))
    assert database.skipped.lines == 1
    assert database.skipped.examples[0].startswith(f"{tmp_path}/b.jsonl:2: broken JSON")
    assert turns(database) == 2


def test_a_torn_last_line_is_skipped_counted_and_named(tmp_path: Path, to_lines: ToLines) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_text(to_lines(CALL) + "\n\n" + to_lines(OTHER)[:200])
    database = open_source(str(path))
    assert database.skipped.lines == 1
    assert database.skipped.examples[0].startswith(f"{path}:4: broken JSON")
    assert turns(database) == 1


def test_only_the_first_broken_lines_are_named_but_all_are_counted(tmp_path: Path, to_lines: ToLines) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_text(to_lines(CALL) + '{"resourceMetrics": []}\n' * 1000)
    with open_source(str(path)) as database:
        assert database.skipped.lines == 1000
        assert len(database.skipped.examples) == 5
        assert "resourceSpans" in database.skipped.examples[0]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "\xff", "spanId": "b"}]}]}]}',
        b'{"resourceSpans": 7}',
        b"[]",
        b"null",
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "a", "spanId": "b"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId":"a","spanId":"b","startTimeUnixNano":"soon"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId":"a","spanId":"b","startTimeUnixNano":1,'
        b'"attributes":[{"key":"agentperf.level","value":{"intValue":"many"}}]}]}]}]}',
        b"[" * 100_000,
    ],
)
def test_a_broken_line_costs_only_itself(tmp_path: Path, to_lines: ToLines, line: bytes) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_bytes(line + b"\n" + to_lines(CALL).encode())
    database = open_source(str(path))
    assert database.skipped.lines == 1
    assert turns(database) == 1


@pytest.mark.parametrize(
    "value",
    [
        {"intValue": 99999999999999999999},
        {"doubleValue": "NaN"},
        {"doubleValue": 1.5},
        {"doubleValue": "Infinity"},
        {"stringValue": "many"},
        {"boolValue": True},
        {"arrayValue": {"values": [{"intValue": "1"}]}},
        {"kvlistValue": {"values": [{"key": "a", "value": {"stringValue": "b"}}]}},
        {"bytesValue": "AAAA"},
        {},
    ],
)
def test_a_value_of_the_wrong_type_is_left_out_and_the_rest_of_the_span_kept(
    tmp_path: Path, to_lines: ToLines, value: dict[str, object]
) -> None:
    document = json.loads(to_lines(CALL))
    attributes = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]
    attributes[:] = [each for each in attributes if each["key"] != "gen_ai.usage.output_tokens"]
    attributes.append({"key": "gen_ai.usage.output_tokens", "value": value})
    attributes.append({"key": "some.thing", "value": value})
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps(document))
    with open_source(str(path)) as database:
        assert database.query("SELECT output_tokens, ttft_s FROM turns").to_pylist() == [
            {"output_tokens": None, "ttft_s": 0.5}
        ]
        assert not database.skipped


def test_integers_come_as_text_or_numbers_and_ids_as_hex_or_base64(tmp_path: Path, to_lines: ToLines) -> None:
    document = json.loads(to_lines(CALL))
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span |= {"traceId": "AAAAAAAAAAAAAAAAAAAAAQ==", "spanId": "AAAAAAAAAAI=", "kind": "SPAN_KIND_CLIENT"}
    span |= {"startTimeUnixNano": int(span["startTimeUnixNano"]), "status": {"code": "STATUS_CODE_ERROR"}}
    for each in span["attributes"]:
        if "intValue" in each["value"]:
            each["value"]["intValue"] = int(each["value"]["intValue"])
        if each["key"] == "gen_ai.request.stream":
            each["value"] = {"stringValue": "true"}
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps(document))
    with open_source(str(path)) as database:
        assert database.query("SELECT trace_id, span_id, kind, status_code, start_time FROM spans").to_pylist() == [
            {"trace_id": f"{1:032x}", "span_id": f"{2:016x}", "kind": "client", "status_code": "error"}
            | {"start_time": START}
        ]
        assert database.query("SELECT output_tokens, stream FROM turns").to_pylist() == [
            {"output_tokens": 21, "stream": True}
        ]


def test_attributes_without_a_column_are_kept_as_text(tmp_path: Path, to_lines: ToLines) -> None:
    document = json.loads(to_lines(CALL))
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["attributes"] += [
        {"key": "my.list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}},
        {"key": "my.map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"doubleValue": 0.5}}]}}},
        {"key": "my.flag", "value": {"boolValue": True}},
    ]
    span["links"] = [{"traceId": "00", "spanId": "11"}]
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps(document))
    with open_source(str(path)) as database:
        row = database.query("SELECT attributes, resource_attributes, links, service_name FROM spans").to_pylist()[0]
    assert dict(row["attributes"]) == {"my.list": '[1,"b"]', "my.map": '{"k":0.5}', "my.flag": "true"}
    assert json.loads(row["links"]) == span["links"]
    assert row["service_name"] == "otel-agentperf"


def test_of_a_key_that_is_there_twice_the_last_value_counts(tmp_path: Path, to_lines: ToLines) -> None:
    document = json.loads(to_lines(CALL))
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    twice = [{"key": "my.key", "value": {"stringValue": text}} for text in ("a", "b")]
    span["attributes"] += [*twice, {"key": "gen_ai.request.model", "value": {"stringValue": "last"}}]
    document["resourceSpans"][0]["resource"]["attributes"] += twice
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps(document))
    with open_source(str(path)) as database:
        [row] = database.query(
            'SELECT attributes, resource_attributes, "gen_ai.request.model" AS m FROM spans'
        ).to_pylist()
    assert (dict(row["attributes"]), dict(row["resource_attributes"]), row["m"]) == (
        {"my.key": "b"},
        {"my.key": "b"},
        "last",
    )


def test_several_spans_resources_and_scopes_in_a_line(open_many: Callable[..., Database], make_call) -> None:  # type: ignore[no-untyped-def]
    database = open_many(make_call(n, t=n, traj=f"t{n}", end=1) for n in range(1, 20_001))
    assert database.query("SELECT count(*) AS n, count(DISTINCT trajectory_id) AS t FROM turns").to_pylist() == [
        {"n": 20_000, "t": 20_000}
    ]


def test_a_span_that_is_there_twice_counts_once_and_the_complete_copy_is_kept(
    tmp_path: Path, to_lines: ToLines
) -> None:
    whole = to_lines(CALL)
    partial = to_lines(CALL + " status=partial")
    path = tmp_path / "spans.jsonl"
    path.write_text(partial + whole + whole)
    with open_source(str(path)) as database:
        assert database.skipped.duplicates == 2
        assert database.skipped
        assert database.query("SELECT status, attempt_count FROM turns").to_pylist() == [
            {"status": "ok", "attempt_count": 1}
        ]


def test_standard_input(monkeypatch: pytest.MonkeyPatch, to_lines: ToLines) -> None:
    class Stdin:
        buffer = io.BytesIO(gzip.compress(to_lines(CALL).encode()))

    monkeypatch.setattr("sys.stdin", Stdin)
    assert turns(open_source("-")) == 1
    Stdin.buffer = io.BytesIO()
    with pytest.raises(SourceError, match="standard input is empty"):
        open_source("-")


# --- The store ------------------------------------------------------------------------------------------------------


def test_a_store_is_read_segment_by_segment_and_other_files_are_ignored(tmp_path: Path, to_lines: ToLines) -> None:
    (tmp_path / "store.json").write_text("{}")
    (tmp_path / "spans-a-000001.jsonl.zst").write_bytes(zstandard.compress(to_lines(CALL).encode()))
    (tmp_path / "spans-a-000002.jsonl").write_text(to_lines(OTHER).replace("0001", "0002") + '{"resourceSp')
    (tmp_path / "spans-a-000003.jsonl.tmp").write_text("nothing to see")
    (tmp_path / "notes.txt").write_text("hello")
    database = open_source(str(tmp_path))
    assert database.skipped.lines == 1
    assert turns(database) == 2


def test_a_segment_that_is_being_sealed_is_read_once(tmp_path: Path, to_lines: ToLines) -> None:
    (tmp_path / "spans-a-1.jsonl").write_text(to_lines(CALL))
    (tmp_path / "spans-a-1.jsonl.zst").write_bytes(zstandard.compress(to_lines(CALL).encode()))
    database = open_source(str(tmp_path))
    assert not database.skipped
    assert turns(database) == 1


def test_a_segment_sealed_or_removed_after_the_directory_was_listed(
    tmp_path: Path, to_lines: ToLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spans-a-1.jsonl").write_text(to_lines(CALL))
    (tmp_path / "spans-a-2.jsonl").write_text(to_lines(OTHER))
    glob = Path.glob

    def glob_then_change(self: Path, pattern: str) -> list[Path]:
        listed = list(glob(self, pattern))
        for entry in listed:
            entry.unlink()
        (tmp_path / "spans-a-1.jsonl.zst").write_bytes(zstandard.compress(to_lines(CALL).encode()))
        return listed

    monkeypatch.setattr(Path, "glob", glob_then_change)
    assert turns(open_source(str(tmp_path))) == 1


def test_the_default_source(tmp_path: Path, to_lines: ToLines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTEL_AGENTPERF_STORE", raising=False)
    with pytest.raises(SourceError, match=r"no trace store at \./agentperf-store; name a SOURCE, set OTEL_"):
        open_source()
    (tmp_path / "agentperf-store").mkdir()
    (tmp_path / "agentperf-store" / "spans-a-1.jsonl").write_text(to_lines(CALL))
    assert turns(open_source()) == 1
    (tmp_path / "other.jsonl").write_text(to_lines(CALL + "\n" + OTHER))
    monkeypatch.setenv("OTEL_AGENTPERF_STORE", "other.jsonl")
    assert turns(open_source()) == 2


# --- What cannot be read --------------------------------------------------------------------------------------------


def test_missing_unreadable_and_empty_sources_end_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "nothing.jsonl").write_text('{"resourceSpans":[]}\n')
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "page.html").write_text("<html>\n" * 10)
    (tmp_path / "store").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "traces.jsonl").write_text("{}")
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    monkeypatch.chdir(tmp_path)
    for source, message in (
        ("missing.jsonl", "no such file or directory: missing.jsonl; name a store directory"),
        ("*.nothing", r"no file matches \*\.nothing"),
        ("empty.jsonl", "empty.jsonl is empty"),
        ("nothing.jsonl", "nothing.jsonl holds no spans"),
        ("binary", r"binary holds no OTLP JSON lines \(binary:1: broken JSON"),
        ("page.html", "page.html holds no OTLP JSON lines"),
        ("torn.gz", "torn.gz:1: damaged archive"),
        ("store", "store is empty; send traffic through the proxy first"),
        ("foreign", r"foreign is empty; name the files of another program by a glob: 'foreign/\*\.jsonl'"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            open_source(source)
        assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text("{}")

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match=r"cannot read .*secret\.jsonl: Permission denied"):
        open_source(str(path))


@pytest.mark.parametrize("source", ["zipkin+http://localhost:9411", "ftp://host/key", ""])
def test_kinds_of_sources_that_cannot_be_read_name_those_that_can(source: str) -> None:
    with pytest.raises(UsageError, match="a store directory, a file or glob of OTLP JSON lines"):
        open_source(source)


def test_a_parquet_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "spans.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(SourceError, match=r"cannot read .*spans\.parquet: not a Parquet file that can be read"):
        open_source(str(tmp_path / "spans.parquet"))


def test_the_rest_of_a_damaged_archive_is_lost_and_counted(tmp_path: Path, to_lines: ToLines) -> None:
    path = tmp_path / "spans.jsonl.gz"
    path.write_bytes(gzip.compress(to_lines(CALL).encode()) + b"\x1f\x8b\x08\x00 and no more")
    database = open_source(str(path))
    assert database.skipped.lines == 1
    assert "damaged archive, the rest is lost" in database.skipped.examples[0]
    assert turns(database) == 1


def test_a_line_longer_than_the_limit_is_skipped(
    tmp_path: Path, to_lines: ToLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MAX_LINE", 2**20)
    path = tmp_path / "spans.jsonl"
    path.write_text("x" * (5 * 2**20) + "\n" + to_lines(CALL) + "y" * (2 * 2**20))
    database = open_source(str(path))
    assert database.skipped.examples == (f"{path}:1: longer than 1 MiB", f"{path}:3: longer than 1 MiB")
    assert turns(database) == 1


# --- Time bounds ----------------------------------------------------------------------------------------------------


def test_since_and_until_bound_the_start_of_spans(tmp_path: Path, to_lines: ToLines) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_text(to_lines(CALL + "\n" + OTHER))
    for since, until, expected in (
        (None, None, 2),
        (START, None, 2),
        (START + timedelta(microseconds=1), None, 1),
        (None, START + timedelta(seconds=10), 1),
        (datetime(2026, 1, 1, 0, 0, 5), None, 1),
        (START + timedelta(days=1), None, 0),
    ):
        assert turns(open_source(str(path), since=since, until=until)) == expected
