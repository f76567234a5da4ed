"""What users may ask of a database: filters, conditions, SQL; and what they are told when it is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from otel_agentperf import policies
from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers import Database, open_source
from otel_agentperf_analyzers.database import MEMORY

SPANS = """
call t=0  traj=a turn=0 model=x first=0.5 last=1.5 end=2 in=100 out=21
call t=10 traj=a turn=1 model=x first=1 last=2 end=3 in=100 out=21 status=error
call t=20 traj=b turn=0 model=y bench=b1 level=2 first=2 last=3 end=4 in=100 out=21
call t=30 traj="it's" turn=0 model=y end=4 in=100 plain
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, to_lines: Callable[[str], str]) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(to_lines(SPANS))
    with open_source(str(path)) as database:
        yield database


def starts(table: pa.Table) -> list[float]:
    return [time.timestamp() % 60 for time in table.column("start_time").to_pylist()]


def test_filters(database: Database) -> None:
    assert starts(database.relation("turns")) == [0, 10, 20, 30]
    assert starts(database.relation("turns", model="x")) == [0, 10]
    assert starts(database.relation("turns", benchmark="b1")) == [20]
    assert starts(database.relation("turns", trajectory="it's")) == [30]
    assert starts(database.relation("turns", model="y", benchmark="b1", where="ttft_s > 1 OR TRUE")) == [20]
    assert starts(database.relation("turns", model="nobody's")) == []
    assert starts(database.relation("turns", limit=2)) == [0, 10]
    assert starts(database.relation("turns", limit=0)) == []


def test_order_is_by_column_and_null_comes_last(database: Database) -> None:
    assert starts(database.relation("turns", order_by="ttft_s DESC")) == [20, 10, 0, 30]
    assert starts(database.relation("turns", order_by="request_model desc, start_time")) == [20, 30, 0, 10]
    with pytest.raises(UsageError, match="turns has no column 'ttft'; did you mean ttft_s"):
        database.relation("turns", order_by="ttft")
    with pytest.raises(UsageError, match="cannot order by"):
        database.relation("turns", order_by="ttft_s; DROP TABLE turns")


def test_a_relation_that_is_not_there(database: Database) -> None:
    with pytest.raises(UsageError, match=r"no relation 'turn'; did you mean turns\? there are .*spans, "):
        database.relation("turn")
    with pytest.raises(UsageError, match="no relation 'raw_spans'"):
        database.relation("raw_spans")


def test_a_filter_that_a_relation_cannot_have(database: Database) -> None:
    with pytest.raises(UsageError, match="concurrency cannot be filtered by model"):
        database.relation("concurrency", model="x")


def test_a_negative_limit(database: Database) -> None:
    with pytest.raises(UsageError, match="limit"):
        database.relation("turns", limit=-1)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("ttft_s > ", r"condition, line 1, column \d+: syntax error"),
        ("1) OR (1=1", r'condition, line 1, column 2: syntax error at or near "\)"'),
        ("status = 'ok' LIMIT 1", "condition, line 1, column 15: syntax error"),
        ("TRUE; DROP TABLE turns", "one SQL expression"),
        ("", "condition"),
        ("ttft > 1", 'condition, line 1, column 1: .*"ttft" not found'),
        ("status = 'ok'\nAND nope", 'condition, line 2, column 5: .*"nope" not found'),
        ("ttft_s > 'x'", "condition.*: Could not convert string 'x' to DOUBLE"),
        ("'ü' = nope", "condition, line 1, column 7"),
        ("(SELECT count(*) FROM '/etc/passwd') > 0", "condition.*does not exist"),
        ("length((SELECT content FROM read_text('/etc/passwd'))) > 0", "condition.*disabled"),
    ],
)
def test_a_wrong_condition_is_told_with_its_position(database: Database, condition: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        database.relation("turns", model="x", where=condition)
    assert "\n" not in str(caught.value)
    assert database.relation("turns").num_rows == 4


def test_a_condition_may_end_in_a_comment(database: Database) -> None:
    assert starts(database.relation("turns", where="status = 'ok' -- only these", limit=1)) == [0]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "SQL, line 1, column 1: syntax error"),
        ("SELECT\n  nope\nFROM turns", 'SQL, line 2, column 3: .*"nope" not found'),
        ("SELECT * FROM turn", 'SQL, line 1, column 15: .*Did you mean "turns"'),
        ("SELECT 'x'::INT FROM turns", "SQL.*Could not convert"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("", "no SQL"),
        ("-- nothing", "no SQL"),
        ("DROP TABLE turns", "read-only; write a SELECT instead of DROP"),
        ("INSERT INTO turns SELECT * FROM turns", "read-only"),
        ("COPY turns TO 'out.csv'", "read-only"),
        ("ATTACH 'x.db'", "read-only"),
        ("SET threads = 1", "read-only"),
        ("PRAGMA threads = 1", "read-only"),
        ("INSTALL httpfs", "read-only"),
        ("EXPORT DATABASE 'x'", "read-only|MULTI"),
        ("WITH gone AS (DELETE FROM raw_spans RETURNING 1) SELECT * FROM gone", "SQL"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM glob('/etc/*')", "disabled by configuration"),
        ("SELECT * FROM read_json('http://localhost/x')", "SQL"),
        ("SELECT * FROM rows", "does not exist"),
    ],
)
def test_sql_that_is_refused(database: Database, sql: str, message: str) -> None:
    rows = [1]
    with pytest.raises(UsageError, match=message) as caught:
        database.query(sql)
    assert "\n" not in str(caught.value)
    assert rows == [1]
    assert database.relation("turns").num_rows == 4


def test_query_returns_arrow_with_plain_integers(database: Database) -> None:
    table = database.query("SELECT status, sum(input_tokens) AS tokens FROM turns GROUP BY ALL ORDER BY 1")
    assert table.to_pylist() == [{"status": "error", "tokens": 100}, {"status": "ok", "tokens": 300}]
    assert table.schema.field("tokens").type == pa.int64()
    huge = database.query("SELECT sum(9223372036854775807) AS n FROM turns")
    assert int(huge.column("n")[0].as_py()) == 4 * (2**63 - 1)


def test_describing_explaining_and_summarising_are_reading(database: Database) -> None:
    assert database.query("DESCRIBE turns").num_rows > 40
    assert database.query("EXPLAIN SELECT * FROM turns").num_rows > 0
    assert database.query("SUMMARIZE turns").num_rows > 40
    assert database.query("FROM turns").num_rows == 4
    assert "turns" in database.query("SHOW TABLES").column(0).to_pylist()


def test_times_are_utc(database: Database) -> None:
    assert (
        str(database.query("SELECT start_time FROM turns").schema.field("start_time").type) == "timestamp[us, tz=UTC]"
    )


def test_fallback_presets_are_only_for_models_without_one(
    open_spans: Callable[[str], Database],
) -> None:
    database = open_spans("""
        call t=0 traj=a model=gpt-oss-120b first=1 last=2 end=2 in=1 out=301
        call t=0 traj=b model=mine first=1 last=2 end=2 in=1 out=301
    """)
    rows = database.slo().to_pylist()
    assert {(row["model"], row["policy"]) for row in rows} == {("gpt-oss-120b", "aa-agentperf"), ("mine", "demo")}
    assert rows == database.relation("slo").to_pylist()
    assert len(database.relation("slo", model="mine").to_pylist()) == 3


def test_slo_for_tiers_that_were_asked_for_judges_every_model(open_spans: Callable[[str], Database]) -> None:
    database = open_spans("""
        call t=0 traj=a model=gpt-oss-120b first=1 last=2 end=2 in=1 out=301
        call t=0 traj=b model=mine first=1 last=2 end=2 in=1 out=301
    """)
    rows = database.slo([policies.parse("aa-agentperf:gpt-oss-120b#1")]).to_pylist()
    assert [(row["model"], row["comparable"], row["margin"]) for row in rows] == [
        ("gpt-oss-120b", True, 3),
        ("mine", False, 3),
    ]


def test_slo_of_other_percentiles_metrics_and_without_tool_call_turns(
    tmp_path: Path, open_spans: Callable[[str], Database]
) -> None:
    """Server ttft 0.5 and 1: P50 is 0.75. Speeds 10 and, of the turn with a tool call, 1000: the second is left out."""
    (tmp_path / "my.toml").write_text("""
        [[policy]]
        name = "mine"
        ttft_metric = "server_ttft"
        ttft_percentile = 50
        speed_percentile = 100
        skip_tool_call_turns = true
        [[policy.tier]]
        name = "chat"
        min_output_speed_tps = 5
        max_ttft_s = 1.5
    """)
    database = open_spans("""
        call t=0 traj=a sent=0.5 first=1 last=2 end=2 in=1 out=11
        call t=0 traj=b sent=1   first=2 last=3 end=3 in=1 out=1001 tools=1
    """)
    [row] = database.slo([policies.parse(f"{tmp_path}/my.toml")]).to_pylist()
    assert [(target["metric"], target["found"]) for target in row["targets"]] == [
        ("output_speed", 10),
        ("server_ttft", 0.75),
    ]
    assert (row["margin"], row["goodput"]) == (2, 1)
    assert row["ttft_p95_s"] == pytest.approx(1.95)
    assert row["output_speed_p25_tps"] == pytest.approx(257.5)


def test_a_database_closes_and_leaves_nothing_behind(
    tmp_path: Path, open_spans: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with open_spans(SPANS) as database:
        assert list((tmp_path / "tmp").iterdir())
        assert database.relation("turns").num_rows == 4
    assert not list((tmp_path / "tmp").iterdir())
    database.close()


def test_what_needs_more_memory_than_there_may_be_is_told(
    open_spans: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEMORY, "50MB")
    database = open_spans("call t=0 traj=a turn=0 model=y end=4 in=100 plain")
    with pytest.raises(SourceError, match=f"does not fit into memory; .*{MEMORY}="):
        database.query("SELECT list(range) FROM range(50_000_000)")
    assert database.query("SELECT count(*) AS n FROM turns").to_pylist() == [{"n": 1}]
