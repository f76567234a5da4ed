"""The catalogue against the contract, against DuckDB, and against the cases."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from otel_agentperf_analyzers import Database, catalog, open_source
from otel_agentperf_analyzers.relations import Relations
from otel_agentperf_analyzers.sources import rows

STABLE = {
    "turns": """
        request_id trajectory_id trajectory_source parent_trajectory_id run_id segment turn_index
        kind attempt_count dialect provider request_model response_model status benchmark_id level
        phase agent_index http_status error_type start_time end_time ttft_s server_ttft_s
        time_to_first_chunk_s ttfot_s e2e_latency_s output_speed_tps e2e_speed_tps tpot_s
        input_tokens cached_input_tokens output_tokens reasoning_tokens usage_source agent_name
        stream cache_write_tokens cost finish_reason tool_call_count chunk_count proxy_overhead_s
        client_session_id user_agent
    """,
    "trajectories": """
        trajectory_id parent_trajectory_id trajectory_source agent_name task_domain turns
        auxiliary_calls tool_calls segments start_time end_time job_latency_s llm_time_s tool_time_s
        harness_time_s human_time_s input_tokens cached_input_tokens output_tokens
        max_context_tokens cache_hit cost outcome retries tool_errors repeated_tool_calls status
    """,
    "tool_calls": """trajectory_id turn_index tool_name tool_call_id start_time end_time duration_s duration_source""",
    "slo": """policy tier model benchmark_id level agents turns ttft_p95_s output_speed_p25_tps error_rate goodput valid
        passed margin""",
    "attempts": "attempt_index",
    "runs": "run_id",
    "benchmarks": "benchmark_id",
    "levels": "level",
    "concurrency": "bucket_start",
    "spans": "span_id",
    "undefined": "metric reason count",
    "capacity": """policy tier model max_agents last_pass first_fail method agents_per_accelerator agents_per_mw
        agents_per_dollar_hour""",
    "tasks": "dimension tasks success_rate tasks_per_hour cost_per_completed_task tokens_per_completed_task",
}
"""Columns that scripts rely on."""

METRICS = """
        ttft server_ttft queue_time server_prefill_time server_decode_time network_time
        time_to_first_chunk ttfot e2e_latency output_speed e2e_speed tpot
        prefill_rate chunk_gap_p50 chunk_gap_p95 chunk_gap_p99 chunk_gap_max tool_time job_latency
        llm_time tool_time_of_trajectory harness_time human_time cache_hit max_context iterations
        retries tool_errors repeated_tool_calls recoveries wasted_tokens slo_ttft slo_speed slo_pass
        slo_valid slo_margin goodput error_rate truncated_rate cancelled_rate inflight active_agents
        occupancy completed_trajectories output_throughput input_throughput total_throughput
        fresh_throughput jobs_per_hour_per_user jobs_per_hour_per_accelerator
        energy_per_output_token energy_per_trajectory proxy_overhead energy
        attempt_cost cost cost_of_trajectory stalls stalled_turn_share optimal_cache_hit
        optimal_cache_hit_of_trajectory optimal_cache_hit_of_level hit_efficiency hit_efficiency_of_level
        context_growth compactions context_system_share context_tools_share context_history_share
        context_tool_results_share outcome loops pooled_speed pooled_e2e_speed tool_call_turn_share
        interactivity_p50 interactivity_p90 e2e_norm_interactivity_p50 e2e_norm_interactivity_p90
        time_first_token time_decode time_retries time_queue time_prefill
        max_agents agents_per_accelerator agents_per_mw agents_per_dollar_hour headroom
        success_rate tasks_per_hour ended_per_hour tokens_per_completed_task cost_per_completed_task cost_per_task
        rate_limit_left wasted_cost
    """

CASES = Path(__file__).parents[1] / "cases" / "metrics"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, to_lines: Callable[[str], str]) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(to_lines("call t=0 end=1"))
    with open_source(str(path)) as database:
        yield database


@pytest.mark.parametrize("name", STABLE)
def test_every_stable_column_is_there(name: str) -> None:
    relation = catalog.relation(name)
    assert relation is not None
    assert set(STABLE[name].split()) <= {column.name for column in relation.columns}


def test_every_metric_is_there_with_all_its_fields() -> None:
    found = catalog.metrics()
    assert sorted(metric.name for metric in found) == sorted(METRICS.split())
    for metric in found:
        relation = catalog.relation(metric.relation)
        assert relation is not None
        assert metric.column in {column.name for column in relation.columns}, metric.name
        for text in (metric.definition, metric.formula, metric.unit, metric.grain, metric.requires, metric.source):
            assert text, metric.name
        assert metric.definition.endswith("."), metric.name


def test_every_metric_has_a_case() -> None:
    queries = " ".join(path.read_text() for path in CASES.glob("*.txt"))
    asked = set(re.findall(r"\w+", queries))
    assert {metric.column for metric in catalog.metrics()} <= asked


def test_headers_say_what_duckdb_has(database: Database) -> None:
    for relation in catalog.relations():
        described = database.query(f"DESCRIBE {relation.name}").to_pylist()
        assert [(row["column_name"], row["column_type"]) for row in described] == [
            (column.name, column.type) for column in relation.columns
        ], relation.name


def test_every_relation_and_column_carries_its_comment(database: Database) -> None:
    bare = database.query("""
        SELECT table_name, column_name FROM duckdb_columns()
        WHERE comment IS NULL
            AND table_name IN (SELECT table_name FROM duckdb_columns() WHERE comment IS NOT NULL)
    """).to_pylist()
    assert bare == []
    told = database.query("""
        SELECT view_name AS name FROM duckdb_views() WHERE comment IS NOT NULL
        UNION ALL SELECT table_name FROM duckdb_tables() WHERE comment IS NOT NULL
    """)
    assert set(told.column("name").to_pylist()) == {relation.name for relation in catalog.relations()}


def test_relations_come_after_what_they_read_and_read_what_they_say() -> None:
    seen = {"raw_spans", "slo_tiers", "given_prices", "given_outcomes", "given_power", "given_deployment", "curve_rows"}
    names = {relation.name for relation in catalog.all_relations()} | seen
    for relation in catalog.all_relations():
        assert set(relation.reads) <= seen, relation.name
        used = set(re.findall(r"(?:FROM|JOIN)\s+(\w+)", relation.query)) & names
        assert used <= {*relation.reads, "slo_tiers"}, relation.name
        seen.add(relation.name)


def test_only_staging_reads_spans() -> None:
    folder = Path(catalog.__file__).parent / "sql"
    for path in (folder / "metrics").glob("*.sql"):
        relation = catalog.parse(path.read_text())
        assert not {"spans", "raw_spans"} & set(relation.reads), path.name
        assert relation.name == path.stem


def test_every_attribute_column_is_documented_as_its_source_has_it() -> None:
    spans = catalog.relation("spans")
    assert spans is not None
    columns = {column.name for column in spans.columns}
    assert set(rows.ATTRIBUTES) <= columns


def test_filters_and_orders_name_columns() -> None:
    for relation in catalog.relations():
        columns = {column.name for column in relation.columns}
        assert relation.filters.keys() <= {"model", "benchmark", "trajectory"}
        assert set(relation.filters.values()) <= columns, relation.name
        assert relation.order, relation.name
        assert set(relation.order) <= columns, relation.name
        assert all(text.endswith(".") for text in (relation.description, *(c.description for c in relation.columns)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- relation: x\nSELECT 1", "fields of x"),
        ("-- no colon here\nSELECT 1", "no key"),
        ("--   indented: first\nSELECT 1", "indented before any key"),
        ("-- columns:\n--   broken\nSELECT 1", "not a column"),
    ],
)
def test_a_wrong_header_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        catalog.parse(text)


def test_what_nothing_is_stitched_for_keeps_its_columns() -> None:
    every, fewer = ({each.name: each for each in catalog.all_relations(is_linked=told)} for told in (True, False))
    assert {name for name in every if not name.startswith("stitch_")} <= fewer.keys()
    emptied = [name for name, relation in fewer.items() if relation.query != every[name].query]
    assert sorted(emptied) == ["stitch", "stitch_tools"]
    for relations in (every, fewer):
        assert {name for each in relations.values() for name in each.reads} & every.keys() <= relations.keys()
    connection = duckdb.connect(":memory:")
    with contextlib.closing(connection):
        connection.execute(catalog.macros())
        connection.register("no_spans", pa.Table.from_batches([], rows.SCHEMA))
        connection.execute("CREATE TABLE raw_spans AS FROM no_spans")
        every_made = Relations(connection, None, is_linked=True)
        every_made.make(emptied)
        for name in emptied:
            wanted = connection.execute(f"DESCRIBE {name}").fetchall()
            assert connection.execute(f"DESCRIBE {fewer[name].query}").fetchall() == wanted
