"""The dialect layer, expression by expression: what DuckDB gives, ClickHouse gives for what is written for it."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import msgspec
import peer_clickhouse as peer
import pytest

from otel_agentperf_analyzers import catalog
from otel_agentperf_analyzers.clickhouse import literal
from otel_agentperf_analyzers.clickhouse.dialect import Untranslatable, translate
from otel_agentperf_analyzers.clickhouse.kinds import Columns, parse

needs_chdb = pytest.mark.skipif(peer.found() is None, reason=f"chdb is not in ${peer.PEERS}: tests/peers/install.py")

ROWS = """
    (1, 'a', 10, 1.5, TRUE, ['x', 'y'], 1767225600000000000),
    (2, 'a', NULL, -2.5, FALSE, [], 1767225600000000001),
    (3, 'b', 30, NULL, NULL, ['z'], 1767229200999999999),
    (4, NULL, 40, 0.5, TRUE, ['x'], NULL),
    (5, 'b', 7, 2.5, FALSE, ['q', 'r', 's'], 1767312000000000000),
    (6, 'Ünï c*d?e', 7, 1e300, TRUE, ['[a]'], 1767225600000000000)
"""
TYPES = "id BIGINT, s VARCHAR, i BIGINT, d DOUBLE, b BOOLEAN, l VARCHAR[], ns BIGINT"

QUERIES = dict(
    re.findall(
        r"^=== (.*?)\n(.*?)\n*(?=^=== |\Z)",
        (Path(__file__).parents[1] / "cases" / "clickhouse" / "queries.txt").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)
"""Name to query."""


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(catalog.macros())
        columns = ", ".join(each.split()[0] for each in TYPES.split(", "))
        connection.execute(f"CREATE TABLE t ({TYPES}); INSERT INTO t ({columns}) VALUES {ROWS}")
        yield connection


@pytest.fixture(scope="module")
def columns(connection: duckdb.DuckDBPyConnection) -> Columns:
    return {name: parse(kind) for name, kind, *_ in connection.execute("DESCRIBE t").fetchall()}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    python = peer.found()
    assert python is not None
    with peer.running(python) as address, httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        yield client


@needs_chdb
@pytest.mark.peer("clickhouse")
@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_both_engines_give_the_same(
    connection: duckdb.DuckDBPyConnection, columns: Columns, client: httpx.Client, query: str
) -> None:
    wanted = connection.sql(query)
    [rows] = literal.selects(connection.sql("FROM t").to_arrow_table(), columns)
    translated = translate(query, {"t": columns})
    assert list(translated.columns) == wanted.columns
    written = translated.sql.removeprefix("WITH RECURSIVE ").removeprefix("WITH ")
    joined = "," if written != translated.sql else ""
    word = "WITH RECURSIVE" if translated.sql.startswith("WITH RECURSIVE ") else "WITH"
    content = f"{word} `t` AS ({rows}){joined}\n{written} FORMAT JSONCompact"
    response = client.post("/", content=content, headers={"connection": "close"})
    assert response.status_code == 200, response.text
    found = [[plain(value) for value in row] for row in msgspec.json.decode(response.content)["data"]]
    expected = [[plain(value) for value in row] for row in wanted.fetchall()]
    if "ORDER BY i DESC" not in query:
        found, expected = sorted(found, key=repr), sorted(expected, key=repr)
    assert found == expected


def plain(value: Any) -> Any:
    """A value as both can tell it: numbers to twelve digits, truth as a number, no list as an empty one."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value] or None
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return plain(float(value)) if value.lstrip("-").replace(".", "").isdigit() else value
        except ValueError:
            return value
    if isinstance(value, int | float):
        return float(f"{value:.12g}") if math.isfinite(value) else str(value)
    return value if value is None else value.strftime("%Y-%m-%d %H:%M:%S.%f")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT HISTOGRAM(i) FROM t", "HISTOGRAM cannot be run on ClickHouse"),
        ("SELECT * FROM nothing", "no relation 'nothing'"),
        ("SELECT i FROM t FULL JOIN t AS u ON u.id = t.id", "FULL JOIN cannot be run"),
        ("SELECT i FROM t LEFT JOIN t AS u ON u.id < t.id", "LEFT JOIN without an equality"),
        ("SELECT DISTINCT ON (i) i FROM t", "DISTINCT ON"),
        ("SELECT QUANTILE_CONT(i, [0.5, 0.9]) FROM t", "needs a number"),
        ("SELECT l[id] FROM t", "an index on ClickHouse is a number"),
        ("SELECT FORMAT('{:>9}', i) FROM t", "FORMAT with {:>9}"),
        ("DROP TABLE t", "only a SELECT"),
        ("SELECT (", "cannot be read"),
    ],
)
def test_what_is_not_known_to_be_the_same_is_refused(columns: Columns, query: str, message: str) -> None:
    with pytest.raises(Untranslatable, match=message) as caught:
        translate(query, {"t": columns})
    assert "\n" not in str(caught.value)
