"""Formats: what each makes of every type, where it is written, and what is refused."""

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from otel_agentperf.cli.options import Format, Output
from otel_agentperf.cli.output import destination, emit, restrict
from otel_agentperf.errors import UsageError

MOMENT = datetime(2026, 7, 31, 14, 0, 1, 5000, tzinfo=UTC)
TYPES = pa.table(
    {
        "start_time": pa.array([MOMENT, None], pa.timestamp("ns", "Europe/Paris")),
        "local": pa.array([MOMENT.replace(tzinfo=None), None], pa.timestamp("us")),
        "ttft_s": [0.25, float("nan")],
        "sum": pa.array([Decimal(2**70), None], pa.decimal128(38, 0)),
        "stream": [True, None],
        "text": ['a "b", |c|\nd', ""],
        "list": [["x", None], []],
        "tags": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "gap": pa.array([timedelta(seconds=90), None], pa.duration("us")),
        "model": pa.array(["m", "m"]).dictionary_encode(),
    }
)


def written(form: Format, table: pa.Table, capsysbinary: pytest.CaptureFixture[bytes], **more: object) -> bytes:
    emit(table, Output(format=form, **more))  # type: ignore[arg-type]
    return capsysbinary.readouterr().out


def test_json_is_an_array_of_objects_with_utc_times_and_nulls(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    first, second = json.loads(written(Format.JSON, TYPES, capsysbinary))
    assert first == {
        "start_time": "2026-07-31T14:00:01.005000Z",
        "local": "2026-07-31T14:00:01.005000",
        "ttft_s": 0.25,
        "sum": 2**70,
        "stream": True,
        "text": 'a "b", |c|\nd',
        "list": ["x", None],
        "tags": {"k": 1},
        "gap": "PT90S",
        "model": "m",
    }
    assert {name for name, value in second.items() if value is None} == set(TYPES.column_names) - {
        "text",
        "list",
        "model",
    }


def test_jsonl_has_one_object_a_line(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = written(Format.JSONL, TYPES, capsysbinary).splitlines()
    assert [json.loads(line)["ttft_s"] for line in lines] == [0.25, None]


def test_csv_quotes_what_needs_it_and_leaves_null_empty(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    table = TYPES.select(["start_time", "ttft_s", "sum", "stream", "text", "list"])
    assert written(Format.CSV, table, capsysbinary).decode() == (
        "start_time,ttft_s,sum,stream,text,list\n"
        '2026-07-31T14:00:01.005000Z,0.25,1180591620717411303424,true,"a ""b"", |c|\nd","[""x"",null]"\n'
        ",,,,,[]\n"
    )


def test_markdown_escapes_its_own_signs(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    table = TYPES.select(["text", "sum"])
    assert written(Format.MARKDOWN, table, capsysbinary).decode() == (
        '| text | sum |\n| --- | ---: |\n| a "b", \\|c\\|\\\\nd | 1,180,591,620,717,411,303,424 |\n|  | – |\n'
    )


def test_parquet_reads_back(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    back = pq.read_table(io.BytesIO(written(Format.PARQUET, TYPES, capsysbinary)))
    assert back.column_names == TYPES.column_names
    assert back.schema.field("start_time").type == pa.timestamp("us", "UTC")
    assert back.column("sum").to_pylist() == [Decimal(2**70), None]
    assert back.column("start_time").to_pylist() == [MOMENT, None]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Format.JSON, b"[]\n"),
        (Format.JSONL, b""),
        (Format.CSV, b"ttft_s\n"),
        (Format.MARKDOWN, b"| ttft_s |\n| --- |\n"),
        (Format.TABLE, "ttft_s\n──────\n".encode()),
    ],
)
def test_no_rows_are_an_empty_result_and_a_note(
    form: Format, expected: bytes, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    emit(TYPES.select(["ttft_s"]).slice(0, 0), Output(format=form))
    out, err = capsysbinary.readouterr()
    assert out == expected
    assert err == b"otel-agentperf: no rows\n"


def test_columns_are_the_main_ones_for_people_and_all_for_programs(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    table = pa.table({"a": [1], "b": [2], "c": [3]})
    for asked, form, names in [
        (None, Format.TABLE, ["c", "a"]),
        (None, Format.MARKDOWN, ["c", "a"]),
        (None, Format.CSV, ["a", "b", "c"]),
        ("all", Format.TABLE, ["a", "b", "c"]),
        ("b, a", Format.TABLE, ["b", "a"]),
        ("b,a", Format.CSV, ["b", "a"]),
    ]:
        emit(table, Output(format=form, columns=asked), main_columns=("c", "absent", "a"))
        header = capsysbinary.readouterr().out.decode().splitlines()[0]
        assert header.replace("|", " ").replace(",", " ").split() == names


def test_a_column_that_is_not_there_is_refused_with_near_ones() -> None:
    with pytest.raises(UsageError, match="--columns: no column 'ttft'; there is ttft_s"):
        emit(TYPES, Output(columns="ttft"))
    with pytest.raises(UsageError, match="--columns: names no column"):
        emit(TYPES, Output(columns=" , "))


def test_columns_of_one_name_are_told_apart(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    assert json.loads(written(Format.JSON, table, capsysbinary)) == [{"n": 1, "n_": 2}]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "rows.json"
    target.write_text("old")
    emit(pa.table({"a": [1]}), Output(out=target))
    assert json.loads(target.read_text()) == [{"a": 1}]

    def fail_halfway() -> None:
        with destination(target) as file:
            file.write(b"[")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    assert json.loads(target.read_text()) == [{"a": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


@pytest.mark.parametrize(("target", "reason"), [("gone/rows.csv", "No such file or directory"), (".", "directory")])
def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path, target: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"cannot write .*: .*{reason}"):
        emit(pa.table({"a": [1]}), Output(out=tmp_path / target))


def test_a_condition_and_a_limit_restrict_a_computed_table() -> None:
    table = pa.table({"a": [1, 2, 3, None]})
    assert restrict(table, "a >= 2 -- comment", None).column("a").to_pylist() == [2, 3]
    assert restrict(table, None, 2).num_rows == 2
    assert restrict(table, None, 0).num_rows == 0
    with pytest.raises(UsageError, match=r"condition.*nothing"):
        restrict(table, "nothing > 1", None)
    with pytest.raises(UsageError, match="condition"):
        restrict(table, "a >", None)


def test_an_interval_is_an_iso_duration(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    table = pa.table({"gap": pa.array([(1, 2, 1_500_000_000), None], pa.month_day_nano_interval())})
    assert written(Format.CSV, table, capsysbinary) == b'gap\nP1M2DT1.5S\n""\n'


def test_a_value_that_a_format_cannot_hold_is_refused_with_what_to_do() -> None:
    endless = pa.table({"t": pa.array([2**63 - 1], pa.timestamp("us", "UTC"))})
    with pytest.raises(UsageError, match=r"cannot write this as json: .*; cast the column to VARCHAR in the SQL"):
        emit(endless, Output(format=Format.JSON))
    union = pa.table({"u": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])})
    with pytest.raises(UsageError, match=r"cannot write this as parquet: .*; cast the column to VARCHAR in the SQL"):
        emit(union, Output(format=Format.PARQUET))
