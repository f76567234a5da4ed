"""ClickHouse executes: the relations in chdb, ClickHouse's own engine, beside those of DuckDB over the same spans."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import backend_shapes as shapes
import golden
import httpx
import msgspec
import peer_clickhouse as peer
import pytest

from otel_agentperf import pricing
from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers import Database, Deployment, Inputs, catalog, open_source, report
from otel_agentperf_analyzers.clickhouse.database import ClickHouseDatabase
from otel_agentperf_analyzers.sources import backend

pytestmark = [
    pytest.mark.peer("clickhouse"),
    pytest.mark.skipif(peer.found() is None, reason=f"chdb is not in ${peer.PEERS}: tests/peers/install.py"),
    pytest.mark.timeout(900),
]

PRICES = """
currency = "USD"

[[price]]
models = ["*"]
input = 3
cached_input = 0.3
output = 15
"""

FEWER_TYPES = frozenset(("events", "links"))
"""Columns of JSON text: the types of attributes in events and links, and the flags of links, are not in the table."""


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[str], str]]:
    """Runs a statement on a server of this module, told by `run("")`."""
    python = peer.found()
    assert python is not None
    with peer.running(python) as address, httpx.Client(base_url=f"http://{address}", timeout=120) as client:

        def run(sql: str) -> str:
            if sql:
                response = client.post("/", content=sql, headers={"connection": "close"})
                assert response.status_code == 200, response.text
            return address

        run("CREATE DATABASE otel")
        yield run


@pytest.fixture(scope="module")
def table(run: Callable[[str], str], traffic: Path) -> str:
    """The URL of the golden traffic."""
    return filled(run, "otel_traces", traffic.read_text())


def filled(run: Callable[[str], str], name: str, lines: str) -> str:
    run(peer.TABLE.format(name=f"otel.{name}"))
    run(f"INSERT INTO otel.{name} FORMAT JSONEachRow\n" + "\n".join(peer.rows(lines)))
    return f"clickhouse+http://{run('')}/otel?table={name}"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    path = tmp_path_factory.mktemp("inputs") / "prices.toml"
    path.write_text(PRICES)
    return Inputs(
        prices=pricing.load(path),
        outcomes={"17-a": "success", "6-a": "failure"},
        deployment=Deployment(accelerators=4, price_per_hour=2.5),
        power=tuple(
            (1_767_225_600_000_000_000 + second * 10**9, 500.0 + second % 7) for second in range(0, 200_000, 5)
        ),
    )


@pytest.fixture(scope="module")
def both(table: str, traffic: Path, inputs: Inputs) -> Iterator[tuple[Database, Database]]:
    """The same spans in ClickHouse and in DuckDB."""
    with ExitStack() as stack:
        ours = stack.enter_context(open_source(table, inputs=inputs))
        assert isinstance(ours, ClickHouseDatabase)
        yield ours, stack.enter_context(open_source(str(traffic), inputs=inputs))


def is_same(found: Any, wanted: Any) -> bool:
    """Equal; figures that are sums of fractions may differ in their last digits."""
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(is_same(found[key], wanted[key]) for key in found)
    if isinstance(found, list | tuple) and isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(is_same, found, wanted))
    return type(found) is type(wanted) and bool(found == wanted)


def differences(found: list[dict[str, Any]], wanted: list[dict[str, Any]], *left_out: str) -> list[dict[str, Any]]:
    """Columns in which rows differ, both sides in the same order."""
    rows = [sorted(side, key=sort_key) for side in (found, wanted)]
    assert len(rows[0]) == len(rows[1])
    return [
        difference
        for one, other in zip(*rows, strict=True)
        if (
            difference := {
                key: (one[key], other[key]) for key in one if key not in left_out and not is_same(one[key], other[key])
            }
        )
    ]


def sort_key(row: dict[str, Any]) -> str:
    """By all but the last digits of fractions, which may differ."""
    return repr(
        [f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items() if key not in FEWER_TYPES]
    )


@pytest.mark.parametrize("relation", [relation.name for relation in catalog.relations()])
def test_every_relation_has_the_rows_that_duckdb_gives(both: tuple[Database, Database], relation: str) -> None:
    ours, wanted = both
    found, expected = ours.relation(relation), wanted.relation(relation)
    assert found.schema.equals(expected.schema)
    assert differences(found.to_pylist(), expected.to_pylist(), *FEWER_TYPES) == []
    assert expected.num_rows > 0


def test_all_rules_that_join_calls_of_several_proxies_are_compared(both: tuple[Database, Database]) -> None:
    sql = """
        SELECT trajectory_source, COUNT(*) AS calls, COUNT(parent_trajectory_id) AS of_sub_agents,
            MAX(segment) AS segments, MAX(run_index) AS runs, MAX(attempt_index) AS attempts
        FROM stitch GROUP BY ALL
    """
    found, expected = (sorted(each.query(sql).to_pylist(), key=repr) for each in both)
    assert found == expected
    assert len(expected) > 5
    for column in ("of_sub_agents", "segments", "runs", "attempts"):
        assert any(row[column] for row in expected), column


@pytest.mark.parametrize("path", sorted(golden.CASES.glob("*.txt")), ids=lambda path: path.stem)
def test_queries_of_the_cases_give_what_duckdb_gives(both: tuple[Database, Database], path: Path) -> None:
    ours, wanted = both
    for query in re.findall(r"^=== query\n(.*?)(?=^=== )", path.read_text(), re.MULTILINE | re.DOTALL):
        found, expected = ours.query(query), wanted.query(query)
        assert found.schema.equals(expected.schema)
        assert differences(found.to_pylist(), expected.to_pylist()) == [], query


def test_the_report_is_the_same(table: str, traffic: Path, inputs: Inputs) -> None:
    with open_source(table, inputs=inputs) as ours, open_source(str(traffic), inputs=inputs) as wanted:
        found, expected = (msgspec.to_builtins(report.build(each)) for each in (ours, wanted))
    assert found.pop("source") != expected.pop("source")
    assert {key: found[key] for key in found if not is_same(found[key], expected[key])} == {}


def test_only_the_period_is_read(run: Callable[[str], str], traffic: Path, tmp_path: Path) -> None:
    days = [json.loads(line) for line in traffic.read_text().splitlines()]
    for at, document in enumerate(days):
        for resource in document["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    for key in ("startTimeUnixNano", "endTimeUnixNano"):
                        span[key] = str(int(span[key]) + at % 10 * 86_400 * 10**9)
    lines = "".join(json.dumps(each) + "\n" for each in days)
    path = tmp_path / "days.jsonl"
    path.write_text(lines)
    url = filled(run, "days", lines)
    bounds = {"since": datetime(2026, 1, 3, 1, 30), "until": datetime(2026, 1, 4, 12)}
    with open_source(url, **bounds) as ours, open_source(str(path), **bounds) as wanted:
        assert isinstance(ours, ClickHouseDatabase)
        found = ours.relation("spans").to_pylist()
        assert differences(found, wanted.relation("spans").to_pylist(), *FEWER_TYPES) == []
        assert 0 < len(found) < len(days) / 3
        [estimate] = ours.estimates()
    with open_source(url) as whole:
        [all_of_it] = whole.estimates()
    assert estimate.table == all_of_it.table == "otel.days"
    assert estimate.parts <= all_of_it.parts / 4
    assert estimate.rows < all_of_it.rows / 3


def test_a_table_of_typed_columns_gives_the_same_rows(run: Callable[[str], str], traffic: Path, table: str) -> None:
    lines = golden.PROXY.read_text().splitlines(keepends=True)
    filled(run, "first", lines[0])
    command = [sys.executable, "-m", "otel_agentperf", "clickhouse", "init", "--print", "--database", "otel"]
    named = ["--table", "first", "--name", "typed"]
    printed = subprocess.run([*command, *named], capture_output=True, text=True, check=True).stdout
    for statement in filter(None, (each.strip() for each in printed.split(";\n"))):
        run(statement)
    run("INSERT INTO otel.first FORMAT JSONEachRow\n" + "\n".join(peer.rows("".join(lines[1:]))))
    url = f"clickhouse+http://{run('')}/otel?table=typed"
    with open_source(url) as ours, open_source(str(golden.PROXY)) as wanted:
        assert isinstance(ours, ClickHouseDatabase)
        for relation in ("spans", "turns", "tool_calls"):
            found, expected = ours.relation(relation).to_pylist(), wanted.relation(relation).to_pylist()
            assert differences(found, expected, *FEWER_TYPES) == []


def test_spans_that_are_there_twice_count_once(run: Callable[[str], str]) -> None:
    once = golden.PROXY.read_text()
    url = filled(run, "doubled", once)
    run("INSERT INTO otel.doubled SELECT * FROM otel.doubled WHERE SpanKind = 'Client'")
    with open_source(url) as ours, open_source(str(golden.PROXY)) as wanted:
        assert ours.skipped.duplicates == 10
        for relation in ("spans", "turns", "trajectories"):
            found, expected = ours.relation(relation).to_pylist(), wanted.relation(relation).to_pylist()
            assert differences(found, expected, *FEWER_TYPES) == []


def test_spans_of_a_service_come_with_their_traces(run: Callable[[str], str]) -> None:
    url = filled(run, "services", golden.PROXY.read_text().replace("otel-agentperf-proxy", "gateway"))
    run("CREATE TABLE otel.others AS otel.services")
    run("INSERT INTO otel.others SELECT * REPLACE ('other' AS ServiceName, 'ff' AS TraceId) FROM otel.services LIMIT 3")
    run("INSERT INTO otel.services SELECT * FROM otel.others")
    with open_source(url) as every, open_source(f"{url}&service=gateway") as ours:
        assert every.query("SELECT COUNT(*) AS n FROM spans").to_pylist() == [{"n": 23}]
        assert ours.query("SELECT COUNT(*) AS n FROM spans").to_pylist() == [{"n": 20}]
    with pytest.raises(SourceError, match="holds no spans of nobody"):
        open_source(f"{url}&service=nobody")


@pytest.mark.parametrize("name", ["nothing", "x%60%20UNION%20ALL%20SELECT%201--"])
def test_a_table_that_is_not_there_is_named(table: str, name: str) -> None:
    with pytest.raises(SourceError, match=r"code 60") as caught:
        open_source(table.replace("otel_traces", name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("writers", [0, 1, 2])
def test_nothing_is_planned_for_link_keys_that_no_two_processes_wrote(
    run: Callable[[str], str], tmp_path: Path, writers: int
) -> None:
    lines = golden.PROXY.read_text()
    if writers:
        lines += golden.of_fleet(tmp_path / "fleet", 1_767_240_000, proxies=writers)
    path = tmp_path / "spans.jsonl"
    path.write_text(lines)
    with open_source(filled(run, f"of_{writers}", lines)) as ours, open_source(str(path)) as wanted:
        found, expected = ours.relation("turns").to_pylist(), wanted.relation("turns").to_pylist()
        assert differences(found, expected) == []
        assert any("stitch" in cost.what for cost in ours.costs) == (writers > 1)


def test_what_a_user_gives_stays_a_value(both: tuple[Database, Database]) -> None:
    ours, _ = both
    for text in ("a' OR 1 = 1 --", "a\\' OR 1 = 1 --", "\\", "`", "%s", "{x:String}"):
        assert ours.relation("turns", trajectory=text).num_rows == 0
        quoted = text.replace("'", "''")
        assert ours.query(f"SELECT '{quoted}' AS told FROM turns LIMIT 1").to_pylist() == [{"told": text}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing FROM turns", 'line 1, column 8: .*"nothing" not found'),
        ("SELECT histogram(ttft_s) FROM turns", "HISTOGRAM cannot be run on ClickHouse"),
        ("SELECT * FROM turns t1 LEFT JOIN turns t2 ON t1.ttft_s < t2.ttft_s", "without an equality"),
        ("DROP TABLE turns", "read-only"),
        ("SUMMARIZE turns", "only a SELECT"),
        ("EXPLAIN FROM turns", "only a SELECT"),
        ("SELECT * FROM url('http://localhost')", "url"),
    ],
)
def test_sql_that_cannot_be_run_there_is_told(both: tuple[Database, Database], sql: str, message: str) -> None:
    ours, _ = both
    with pytest.raises(UsageError, match=message) as caught:
        ours.query(sql)
    assert "\n" not in str(caught.value)


def test_a_query_of_ours_without_an_equal_there_runs_over_relations_from_there(both: tuple[Database, Database]) -> None:
    ours, wanted = both
    sql = """
        SELECT request_model, QUANTILE_CONT(ttft_s, [0.25, 0.5]) AS quarters,
            ARG_MIN({'turn': turn_index, 'ttft_s': ttft_s}, hash(trajectory_id, turn_index), 2) AS sample
        FROM turns WHERE kind = $kind AND ttft_s > 0 GROUP BY request_model
    """
    found, expected = (each.fetch(sql, {"kind": "turn"}) for each in both)
    assert found.schema.equals(expected.schema)
    assert expected.num_rows > 3
    assert differences(found.to_pylist(), expected.to_pylist()) == []
    with pytest.raises(UsageError, match="needs a number"):
        ours.query(sql.replace("$kind", "'turn'"))
    assert wanted.query(sql.replace("$kind", "'turn'")).num_rows == expected.num_rows


def test_attributes_of_type_json_are_read_here(run: Callable[[str], str], table: str) -> None:
    run(
        "CREATE TABLE otel.json_traces ENGINE = MergeTree ORDER BY Timestamp AS "
        "SELECT * REPLACE (CAST(toJSONString(SpanAttributes), 'JSON') AS SpanAttributes) FROM otel.otel_traces LIMIT 0"
    )
    with open_source(f"clickhouse+http://{run('')}/otel?table=json_traces", until=datetime(2026, 1, 1)) as database:
        assert not isinstance(database, ClickHouseDatabase)
        [note] = database.notes
    assert note.startswith("SpanAttributes of `otel`.`json_traces` is no map; its spans are read")


@pytest.fixture(scope="module")
def data(traffic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the table, for servers of their own."""
    python = peer.found()
    assert python is not None
    directory = tmp_path_factory.mktemp("clickhouse") / "data"
    with peer.running(python, directory) as address, httpx.Client(base_url=f"http://{address}", timeout=120) as client:
        for sql in (
            "CREATE DATABASE otel",
            peer.TABLE.format(name="otel.otel_traces"),
            "INSERT INTO otel.otel_traces FORMAT JSONEachRow\n" + "\n".join(peer.rows(golden.PROXY.read_text())),
        ):
            response = client.post("/", content=sql, headers={"connection": "close"})
            assert response.status_code == 200, response.text
    return directory


@pytest.mark.parametrize(("readonly", "executes"), [(1, False), (2, True)])
def test_a_read_only_user_gets_the_same_rows(data: Path, readonly: int, executes: bool) -> None:
    python = peer.found()
    assert python is not None
    with (
        peer.running(python, data, [f"SET readonly = {readonly}"]) as address,
        open_source(f"clickhouse+http://{address}/otel") as ours,
        open_source(str(golden.PROXY)) as wanted,
    ):
        assert isinstance(ours, ClickHouseDatabase) == executes
        assert bool(ours.notes) != executes
        assert all("no temporary tables" in note and "readonly = 1" in note for note in ours.notes)
        assert differences(ours.relation("turns").to_pylist(), wanted.relation("turns").to_pylist()) == []


USER = """
<clickhouse>
    <profiles><default><readonly>{readonly}</readonly></default></profiles>
    <quotas><default/></quotas>
    <users><default><password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
        {rights}
    </default></users>
</clickhouse>
"""


@contextmanager
def asked_as(data: Path, directory: Path, rights: str, readonly: int = 0) -> Iterator[str]:
    """The URL of the table, on a server whose user has these rights."""
    python = peer.found()
    assert python is not None
    users = directory / "users.xml"
    users.write_text(USER.format(rights=rights, readonly=readonly))
    with peer.running(python, data, users=users) as address:
        yield f"clickhouse+http://{address}/otel"


def policy(condition: str) -> str:
    """A row policy, as a right."""
    filtered = f"<filter>{escape(condition)}</filter>"
    return f"<databases><otel><otel_traces>{filtered}</otel_traces></otel></databases>"


@pytest.mark.parametrize(("readonly", "executes"), [(0, True), (1, False), (2, True)])
def test_a_row_policy_leaves_the_rows_that_the_user_may_see(
    data: Path, tmp_path: Path, readonly: int, executes: bool
) -> None:
    spans = shapes.spans_of(golden.PROXY.read_text())
    [*_, latest] = sorted({span.trace_id for span in spans})
    seen = [each for each in spans if each.trace_id < latest]
    assert 0 < len(seen) < len(spans)
    path = tmp_path / "seen.jsonl"
    path.write_text(json.dumps({"resourceSpans": shapes.resource_spans(seen)}) + "\n")
    with (
        asked_as(data, tmp_path, policy(f"TraceId < '{latest}'"), readonly) as url,
        open_source(url) as ours,
        open_source(str(path)) as wanted,
    ):
        assert isinstance(ours, ClickHouseDatabase) == executes
        for relation in ("spans", "turns", "tool_calls", "trajectories", "runs"):
            found, expected = ours.relation(relation).to_pylist(), wanted.relation(relation).to_pylist()
            assert differences(found, expected, *FEWER_TYPES) == []
        assert len(ours.relation("spans")) == len(seen)


@pytest.mark.parametrize("readonly", [0, 1])
def test_a_user_who_may_see_no_row_is_told_so(data: Path, tmp_path: Path, readonly: int) -> None:
    with (
        asked_as(data, tmp_path, policy("0"), readonly) as url,
        pytest.raises(SourceError, match="holds no spans") as caught,
    ):
        open_source(url)
    assert "\n" not in str(caught.value)


SELECT = "<query>GRANT SELECT ON otel.otel_traces</query>"
TEMPORARY = "<query>GRANT CREATE TEMPORARY TABLE ON *.*</query>"


@pytest.mark.parametrize(("grants", "executes"), [(SELECT + TEMPORARY, True), (SELECT, False)])
def test_no_other_right_is_needed_than_those_that_are_documented(
    data: Path, tmp_path: Path, grants: str, executes: bool
) -> None:
    with (
        asked_as(data, tmp_path, f"<grants>{grants}</grants>") as url,
        open_source(url) as ours,
        open_source(str(golden.PROXY)) as wanted,
    ):
        assert isinstance(ours, ClickHouseDatabase) == executes
        assert [note for note in ours.notes if "no temporary tables" in note] == list(ours.notes)
        assert bool(ours.notes) != executes
        assert differences(ours.relation("turns").to_pylist(), wanted.relation("turns").to_pylist()) == []


def test_a_user_who_may_not_read_the_table_is_told_so(data: Path, tmp_path: Path) -> None:
    with (
        asked_as(data, tmp_path, f"<grants>{TEMPORARY}</grants>") as url,
        pytest.raises(SourceError, match=r"code 497.*grant .* ON otel.otel_traces") as caught,
    ):
        open_source(url)
    assert "\n" not in str(caught.value)


def test_a_limit_of_the_server_is_told_with_what_helps(data: Path) -> None:
    python = peer.found()
    assert python is not None
    with (
        peer.running(python, data, ["SET max_rows_to_read = 5"]) as address,
        pytest.raises(SourceError, match=r"code 158.*narrow it with --since and --until") as caught,
    ):
        open_source(f"clickhouse+http://{address}/otel")
    assert "\n" not in str(caught.value)


def test_the_cost_of_a_command_is_told_beside_its_rows(data: Path) -> None:
    python = peer.found()
    assert python is not None
    with peer.running(python, data) as address:
        command = [sys.executable, "-m", "otel_agentperf", "turns", f"clickhouse+http://{address}/otel"]
        told = subprocess.run([*command, "--explain", "--format", "json"], capture_output=True, text=True, check=True)
        plain = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == json.loads(plain.stdout)
    assert len(json.loads(told.stdout)) == 10
    assert plain.stderr == ""
    assert "otel.otel_traces: 20 rows in" in told.stderr
    assert re.search(r"^otel-agentperf: rows: read [\d,]+ rows, [\d.]+ MiB in [\d.]+ s", told.stderr, re.MULTILINE)


def test_a_user_who_is_not_known_is_told_what_to_set() -> None:
    def answer(request: shapes.Request) -> shapes.Response:
        said = b"Code: 516. DB::Exception: reader: Authentication failed"
        return shapes.Response(said, 403, {"X-ClickHouse-Exception-Code": "516"})

    with shapes.serving(answer) as server:
        with pytest.raises(SourceError, match=r"code 516.*Authentication failed; set OTEL_AGENTPERF_SOURCE_USER"):
            open_source(f"clickhouse+http://{server.base}/otel")
        assert len(server.requests) == 1


def test_what_stands_between_is_asked_again() -> None:
    with shapes.serving(lambda request: shapes.Response(b"no", 503)) as server:
        with pytest.raises(SourceError, match="503 Service Unavailable"):
            open_source(f"clickhouse+http://{server.base}/otel")
        assert len(server.requests) == backend.ATTEMPTS
