"""Percentiles and unions of intervals against a slow reference in plain Python."""

import math
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

import duckdb
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_agentperf import policies
from otel_agentperf_analyzers import Deployment, Inputs, catalog, judging, open_source


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(catalog.macros())
    return connection


def percentile(values: Sequence[float], p: float) -> float | None:
    """Linear interpolation at rank (n-1)p."""
    if not values:
        return None
    ordered = sorted(values)
    rank = (len(ordered) - 1) * p
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def union(intervals: Sequence[tuple[int, int]]) -> int:
    """The measure of a union, by looking at each piece between neighbouring bounds."""
    bounds = sorted({bound for interval in intervals for bound in interval})
    return sum(
        after - before
        for before, after in pairwise(bounds)
        if any(start <= before and after <= end for start, end in intervals)
    )


VALUES = st.lists(st.floats(0, 1e6, allow_nan=False), max_size=30)
INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda x: (x[0], x[0] + x[1])), max_size=12)


@pytest.fixture(scope="module")
def judge() -> duckdb.DuckDBPyConnection:
    """Relation `slo` over tables `turns`, to be filled, and `slo_tiers`; no benchmark."""
    relations = {relation.name: relation for relation in catalog.all_relations()}
    known = {column.name: column.type for column in relations["turns"].columns}
    connection = duckdb.connect()
    connection.execute(catalog.macros())
    connection.execute(f"CREATE TABLE turns ({', '.join(f'{name} {kind}' for name, kind in known.items())})")
    judging.apply(connection, (), only_its_models=False)
    connection.execute(
        """
        CREATE TABLE level_windows (benchmark_id VARCHAR, level BIGINT, start_ns BIGINT, end_ns BIGINT);
        CREATE TABLE levels (
            benchmark_id VARCHAR, level BIGINT, agents BIGINT, window_s DOUBLE, hold_s DOUBLE,
            completed_trajectories BIGINT
        );
        CREATE TABLE live_agents (model VARCHAR, agents BIGINT, window_s DOUBLE, completed_trajectories BIGINT)
        """
    )
    for name in ("population", "applied_tiers", "slo"):
        connection.execute(f"CREATE VIEW {name} AS {relations[name].query}")
    return connection


@settings(deadline=None, max_examples=50)
@example(values=[], p=95.0)
@example(values=[2.5], p=95.0)
@example(values=[0.0, 0.0, 3.0], p=50.0)
@given(values=VALUES, p=st.sampled_from((0.0, 5.0, 25.0, 50.0, 90.0, 95.0, 99.0, 100.0)))
def test_the_percentile_of_a_target_is_quantile_cont(
    judge: duckdb.DuckDBPyConnection, values: list[float], p: float
) -> None:
    target = policies.Target(metric="e2e_latency", percentile=p, bound="max", value=1.0)
    [tier, *_] = policies.select("demo")
    judging.apply(judge, [msgspec.structs.replace(tier, targets=(target,))], only_its_models=False)
    judge.execute("TRUNCATE turns")
    # One more that has no figure: a population of none would not be judged.
    judge.execute(
        """
        INSERT INTO turns BY NAME
        SELECT 'm' AS request_model, 'turn' AS kind, 'ok' AS status, UNNEST($figures::DOUBLE[]) AS e2e_latency_s
        """,
        {"figures": [*values, None]},
    )
    [(found,)] = judge.execute("SELECT targets[1].found FROM slo").fetchall()
    [(native,)] = judge.execute(f"SELECT QUANTILE_CONT(e2e_latency_s, {p / 100}) FROM turns").fetchall()
    expected = percentile(values, p / 100)
    if expected is None:
        assert found is None
        assert native is None
    else:
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert native == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(deadline=None)
@given(intervals=INTERVALS)
def test_newly_covered_sums_up_to_the_union(
    connection: duckdb.DuckDBPyConnection, intervals: list[tuple[int, int]]
) -> None:
    [(found,)] = connection.execute(
        """
        SELECT COALESCE(SUM(newly_covered(s, e, reached)), 0) FROM (
            SELECT s, e, MAX(e) OVER (ORDER BY s, e ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
            FROM (SELECT UNNEST($starts::BIGINT[]) AS s, UNNEST($ends::BIGINT[]) AS e)
        )
        """,
        {"starts": [start for start, _ in intervals], "ends": [end for _, end in intervals]},
    ).fetchall()
    assert found == union(intervals)


CALLS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(1, 20), st.sampled_from(("ok", "error"))),
    min_size=1,
    max_size=12,
)
TOOLS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 20)), max_size=8)


@settings(deadline=None, max_examples=25)
@given(calls=CALLS, tools=TOOLS)
def test_the_shares_of_a_trajectorys_time_are_those_of_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    to_lines: Callable[[str], str],
    calls: list[tuple[int, int, int, str]],
    tools: list[tuple[int, int, int]],
) -> None:
    """Runs 0 to 2 of one trajectory may overlap; tools may lie outside their run, or belong to a run without calls."""
    notation = [
        f"call t={start} turn={turn} run={run} end={length} status={status}"
        for turn, (run, start, length, status) in enumerate(calls)
    ]
    notation += [f"tool t={start}..{start + length} run={run}" for run, start, length in tools]
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(to_lines("\n".join(notation)))

    bounds = {
        run: (min(c[1] for c in calls if c[0] == run), max(c[1] + c[2] for c in calls if c[0] == run))
        for run in {call[0] for call in calls}
    }
    llm = [(start, start + length) for _, start, length, _ in calls]
    tool = [
        (max(start, bounds[run][0]), min(start + length, bounds[run][1]))
        for run, start, length in tools
        if run in bounds and start < bounds[run][1] and start + length > bounds[run][0]
    ]
    job = union(list(bounds.values()))
    extent = max(end for _, end in bounds.values()) - min(start for start, _ in bounds.values())
    with open_source(str(path)) as database:
        [row] = database.relation("trajectories").to_pylist()
    assert row["job_latency_s"] == pytest.approx(job)
    assert row["llm_time_s"] == pytest.approx(union(llm))
    assert row["tool_time_s"] == pytest.approx(union(tool))
    assert row["harness_time_s"] == pytest.approx(job - union(llm + tool))
    assert row["human_time_s"] == pytest.approx(extent - job)


@settings(deadline=None, max_examples=15)
@given(
    calls=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(1, 20), st.sampled_from(("ok", "error", "plain"))),
        min_size=1,
        max_size=8,
    ),
    tools=TOOLS,
)
def test_each_instant_of_a_trajectory_belongs_to_one_part(
    tmp_path_factory: pytest.TempPathFactory,
    to_lines: Callable[[str], str],
    calls: list[tuple[int, int, int, str]],
    tools: list[tuple[int, int, int]],
) -> None:
    """The reference looks at every second and asks, in the order of the definition, what goes on in it."""
    notation: list[str] = []
    phases: list[tuple[str, int, int]] = []
    for turn, (run, start, length, kind) in enumerate(calls):
        middle, end = start + length // 2, start + length
        words = {"ok": f"first={length // 2} last={length}", "error": "status=error", "plain": "plain"}[kind]
        notation.append(f"call t={start} turn={turn} run={run} end={length} {words}")
        phases += {
            "ok": [("decode_s", middle, end), ("first_token_s", start, middle)],
            "error": [("retries_s", start, end)],
            "plain": [("unsplit_s", start, end)],
        }[kind]
    bounds = {
        run: (min(c[1] for c in calls if c[0] == run), max(c[1] + c[2] for c in calls if c[0] == run))
        for run in {call[0] for call in calls}
    }
    for run, start, length in tools:
        notation.append(f"tool t={start}..{start + length} run={run}")
        if run in bounds:
            phases.append(("tool_s", max(start, bounds[run][0]), min(start + length, bounds[run][1])))
    order = ("decode_s", "first_token_s", "unsplit_s", "retries_s", "tool_s")
    expected = dict.fromkeys((*order, "harness_s", "human_s"), 0)
    for second in range(min(start for start, _ in bounds.values()), max(end for _, end in bounds.values())):
        going_on = {part for part, start, end in phases if start <= second < end}
        is_run = any(start <= second < end for start, end in bounds.values())
        expected[next((part for part in order if part in going_on), "harness_s" if is_run else "human_s")] += 1

    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(to_lines("\n".join(notation)))
    with open_source(str(path)) as database:
        [row] = database.relation("time_breakdown").to_pylist()
    assert {part: row[part] for part in expected} == pytest.approx(expected)
    assert row["total_s"] == pytest.approx(sum(expected.values()))


@settings(deadline=None, max_examples=15)
@given(repeats=st.lists(st.booleans(), max_size=14))
def test_loops_are_runs_of_at_least_three_repeats(
    tmp_path_factory: pytest.TempPathFactory, to_lines: Callable[[str], str], repeats: list[bool]
) -> None:
    notation = ["call t=0 end=1"]
    notation += [f"tool t={at + 1}..{at + 2} {'repeated' if repeated else ''}" for at, repeated in enumerate(repeats)]
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(to_lines("\n".join(notation)))
    expected = sum(repeated and len(list(run)) >= 3 for repeated, run in groupby(repeats))
    with open_source(str(path)) as database:
        [row] = database.relation("trajectories").to_pylist()
    assert (row["loops"], row["repeated_tool_calls"]) == (expected, sum(repeats))


TURNS = st.lists(
    st.tuples(
        st.integers(1, 500),  # input tokens
        st.one_of(st.none(), st.integers(0, 100)),  # cached, in percent of the input
        st.integers(0, 300),  # shared bytes
        st.sampled_from((100, 150)),  # system bytes
        st.integers(300, 400),  # messages bytes
        st.integers(0, 1),  # segment grows
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=15)
@given(turns=TURNS)
def test_cache_and_context_of_a_trajectory_are_those_of_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    to_lines: Callable[[str], str],
    turns: list[tuple[int, int | None, int, int, int, int]],
) -> None:
    notation, seen, growths = [], set(), []
    optimal = cached_tokens = optimal_with_cached = 0.0
    segment, before = 0, None
    for number, (tokens, percent, shared, system, messages, step) in enumerate(turns):
        segment += step
        cached = None if percent is None else tokens * percent // 100
        notation.append(
            f"call t={10 * number} turn={number} end=1 in={tokens} out=1 segment={segment} shared={shared} "
            f"system_bytes={system} tools_bytes=0 messages_bytes={messages} results_bytes=0"
            + ("" if cached is None else f" cached={cached}")
        )
        part = (system + shared) / (system + messages) if system in seen else 0.0
        seen.add(system)
        optimal += part * tokens
        if cached is not None:
            cached_tokens += cached
            optimal_with_cached += part * tokens
        if before is not None and before[0] == segment:
            growths.append(tokens - before[1])
        before = (segment, tokens)
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(to_lines("\n".join(notation)))
    with open_source(str(path)) as database:
        [row] = database.relation("trajectories").to_pylist()
    assert row["optimal_cache_hit"] == pytest.approx(optimal / sum(turn[0] for turn in turns))
    is_known = optimal_with_cached > 0
    assert row["hit_efficiency"] == (pytest.approx(cached_tokens / optimal_with_cached) if is_known else None)
    assert row["context_growth_tokens"] == (pytest.approx(sum(growths) / len(growths)) if growths else None)
    assert row["compactions"] == segment
    sent = sum(turn[3] + turn[4] for turn in turns)
    assert row["system_share"] == pytest.approx(sum(turn[3] for turn in turns) / sent)
    assert row["history_share"] == pytest.approx(sum(turn[4] for turn in turns) / sent)


@settings(deadline=None, max_examples=15)
@given(calls=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), min_size=1, max_size=8))
def test_the_price_of_accelerators_is_shared_second_by_second(
    tmp_path_factory: pytest.TempPathFactory, to_lines: Callable[[str], str], calls: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(to_lines("\n".join(f"call t={t} traj=t{n} end={length}" for n, (t, length) in enumerate(calls))))
    expected = [
        sum(1 / sum(a <= second < a + b for a, b in calls) for second in range(start, start + length))
        for start, length in calls
    ]
    given = Inputs(deployment=Deployment(accelerators=1, price_per_hour=3600))
    with open_source(str(path), inputs=given) as database:
        found = database.query("SELECT cost FROM trajectories ORDER BY CAST(trajectory_id[2:] AS INT)").column("cost")
    assert found.to_pylist() == pytest.approx(expected)
