"""The spans of ClickHouse read and computed here: the collector's table, with maps and with the type JSON."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import backend_shapes as shapes
import golden
import httpx
import peer_clickhouse as peer
import pytest

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import Database, open_source

pytestmark = [
    pytest.mark.peer("clickhouse"),
    pytest.mark.skipif(peer.found() is None, reason=f"chdb is not in ${peer.PEERS}: tests/peers/install.py"),
]


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spans of a proxy, and of several that share the calls of agents."""
    directory = tmp_path_factory.mktemp("traffic")
    path = directory / "spans.jsonl"
    path.write_text(golden.PROXY.read_text() + golden.of_fleet(directory / "stores", 1_767_225_600))
    return path


@pytest.fixture(scope="module")
def server(traffic: Path) -> Iterator[str]:
    """ClickHouse with the golden spans in `otel.otel_traces` (maps) and `otel.json_traces` (JSON)."""
    python = peer.found()
    assert python is not None
    rows = shapes.clickhouse_rows(shapes.spans_of(traffic.read_text()))
    rows.append({**rows[0], "TraceId": "f" * 32, "SpanId": "f" * 16, "ServiceName": "other"})
    with peer.running(python) as address, httpx.Client(base_url=f"http://{address}", timeout=60) as client:

        def run(sql: str) -> None:
            response = client.post("/", content=sql)
            assert response.status_code == 200, response.text

        run("CREATE DATABASE otel")
        for table, kind in (("otel_traces", "Map(LowCardinality(String), String)"), ("json_traces", "JSON")):
            run(shapes.CLICKHOUSE_TABLE.format(name=f"otel.{table}", attributes=kind))
            run(f"INSERT INTO otel.{table} FORMAT JSONEachRow\n" + "\n".join(map(json.dumps, rows)))
        yield address


def contents(database: Database) -> list[dict[str, str]]:
    sql = "SELECT content FROM spans WHERE cardinality(content) > 0 ORDER BY trace_id, span_id"
    return [dict(row["content"]) for row in database.query(sql).to_pylist()]


@pytest.mark.parametrize("table", ["otel_traces", "json_traces"])
def test_the_rows_are_those_of_the_file(server: str, traffic: Path, table: str) -> None:
    columns = "* EXCLUDE (attributes, resource_attributes, content, links)"
    sql = f"SELECT {columns}, json_extract_string(links, '$[*].spanId') AS links FROM spans ORDER BY trace_id, span_id"
    joined = "SELECT * FROM stitch ORDER BY trace_id, span_id"
    service = "otel-agentperf-proxy"
    with open_source(f"clickhouse+http://{server}/otel?table={table}&service={service}&compute=here") as ours:
        found = ours.query(sql).to_pylist()
        content = contents(ours)
        turns = ours.relation("turns").to_pylist()
        stitched = ours.query(joined).to_pylist()
    with open_source(str(traffic)) as wanted:
        for row, other in zip(found, wanted.query(sql).to_pylist(), strict=True):
            assert {name: (row[name], other[name]) for name in row if row[name] != other[name]} == {}
        assert content == contents(wanted)
        assert turns == wanted.relation("turns").to_pylist()
        assert stitched == wanted.query(joined).to_pylist()
        assert len(stitched) > 300


def test_without_a_service_all_spans_are_read(server: str) -> None:
    with open_source(f"clickhouse+http://{server}/otel?compute=here") as database:
        services = database.query("SELECT DISTINCT service_name FROM spans ORDER BY ALL").column("service_name")
        assert services.to_pylist() == ["otel-agentperf-proxy", "other"]


@pytest.mark.parametrize("service", ["", "&service=otel-agentperf-proxy"])
def test_time_bounds_reach_the_table(server: str, traffic: Path, service: str) -> None:
    starts = sorted({span.start_ns // 1000 for span in shapes.spans_of(traffic.read_text())})
    since, until = (datetime.fromtimestamp(starts[at] / 1e6, UTC) for at in (4, 10))
    url = f"clickhouse+http://{server}/otel?table=otel_traces&compute=here{service}"
    with (
        open_source(url, since=since, until=until) as ours,
        open_source(str(traffic), since=since, until=until) as wanted,
    ):
        ids = "SELECT DISTINCT span_id FROM spans WHERE service_name <> 'other' ORDER BY ALL"
        assert ours.query(ids).to_pylist() == wanted.query(ids).to_pylist()


def test_a_table_that_is_not_there_is_named(server: str) -> None:
    with pytest.raises(SourceError, match=r"400 Bad Request.*nothing") as caught:
        open_source(f"clickhouse+http://{server}/otel?table=nothing&compute=here")
    assert "\n" not in str(caught.value)


def test_a_name_cannot_leave_its_quotes(server: str) -> None:
    with pytest.raises(SourceError, match="400"):
        open_source(f"clickhouse+http://{server}/otel?table=x%60%20UNION%20ALL%20SELECT%201--&compute=here")
