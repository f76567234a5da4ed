"""Relation `undefined`: what is NULL has a reason, counted once."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf import pricing
from otel_agentperf_analyzers import Database, Inputs, catalog, open_source
from otel_agentperf_analyzers.report.reasons import REASONS

ROWS = {"turns": "kind = 'turn'", "trajectories": "TRUE", "attempts": "TRUE"}
"""The relations whose figures are counted, and which of their rows."""

KEYS = ("request_model", "benchmark_id", "level")

PRICES = """
currency = "USD"

[[price]]
models = ["priced*"]
input = 3
cached_input = 0.3
output = 15
"""

Counts = Counter[tuple[Any, ...]]


def nulls(database: Database) -> Counts:
    """How often each metric of these relations is NULL, by model, benchmark and level."""
    found: Counts = Counter()
    for relation, condition in ROWS.items():
        # An outcome that nobody told is a word, not NULL.
        figures = [
            (metric.name, "NULLIF(outcome, 'unknown')" if metric.name == "outcome" else metric.column)
            for metric in catalog.internal(relation).metrics
        ]
        missing = ", ".join(f"COUNT(*) FILTER (({column}) IS NULL) AS {name}" for name, column in figures)
        rows = database.query(f"SELECT {', '.join(KEYS)}, {missing} FROM {relation} WHERE {condition} GROUP BY ALL")
        for row in rows.to_pylist():
            for name, _ in figures:
                found[relation, name, *(row[key] for key in KEYS)] += row[name]
    return +found


def counted(database: Database) -> Counts:
    """The same, as `undefined` has it."""
    found: Counts = Counter()
    for row in database.relation("undefined").to_pylist():
        found[row["relation"], row["metric"], *(row[key] for key in KEYS)] += row["count"]
    return found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    path = tmp_path_factory.mktemp("inputs") / "prices.toml"
    path.write_text(PRICES)
    return Inputs(prices=pricing.load(path))


@pytest.mark.parametrize("priced", [False, True])
def test_every_null_of_the_golden_spans_has_one_reason(traffic: Path, inputs: Inputs, priced: bool) -> None:
    with open_source(str(traffic), inputs=inputs if priced else Inputs()) as database:
        assert counted(database) == nulls(database)


@pytest.fixture(scope="module")
def database(traffic: Path) -> Iterator[Database]:
    with open_source(str(traffic)) as database:
        yield database


@pytest.mark.parametrize(
    ("relation", "column", "reason"),
    [
        ("levels", "pooled_e2e_speed_tps", "turns IN (0, failed_turns, failed_turns + estimated_turns)"),
        ("levels", "jobs_per_hour_per_user", "job_latency_mean_s IS NULL"),
        ("levels", "jobs_per_hour_per_accelerator", "accelerators IS NULL"),
        ("levels", "energy_j", "power_mean_w IS NULL"),
        ("levels", "energy_per_trajectory_j", "power_mean_w IS NULL OR completed_trajectories = 0"),
        ("slo", "margin", "LEN(LIST_FILTER(targets, LAMBDA each: each.found IS NULL)) > 0"),
        ("capacity", "agents_per_accelerator", "max_agents IS NULL OR accelerators IS NULL"),
        ("capacity", "agents_per_mw", "max_agents IS NULL OR power_w IS NULL"),
        ("tasks", "success_rate", "unknown = tasks"),
        ("tasks", "tasks_per_hour", "unknown = tasks"),
        ("tasks", "tokens_per_completed_task", "succeeded = 0"),
    ],
)
def test_the_row_of_a_figure_over_many_turns_says_why_it_is_null(
    database: Database, relation: str, column: str, reason: str
) -> None:
    """What `docs/definitions.md` says of these figures."""
    rows = database.query(f"SELECT {column} IS NULL AS missing, {reason} AS explained FROM {relation}").to_pylist()
    assert [row for row in rows if row["missing"] != row["explained"]] == []
    assert {row["missing"] for row in rows} == {False, True}


def test_no_capacity_comes_without_words(database: Database) -> None:
    rows = database.query("SELECT statement FROM capacity WHERE max_agents IS NULL").to_pylist()
    assert rows
    assert all(row["statement"] for row in rows)


SECONDS = st.sampled_from((None, 0, 0.5, 2))
TOKENS = st.sampled_from((None, 0, 1, 20))
BYTES = st.sampled_from((None, 0, 10))
FLAG = st.sampled_from((None, None, "yes"))
CALL = st.fixed_dictionaries(
    {
        "traj": st.sampled_from("ab"),
        "turn": st.integers(0, 3),
        "attempt": st.integers(0, 1),
        "segment": st.integers(0, 1),
        "status": st.sampled_from(("ok", "ok", "ok", "error", "cancelled", "truncated", "partial")),
        "plain": FLAG,
        "aux": FLAG,
        "bench": st.sampled_from((None, "bench")),
        "usage": st.sampled_from((None, "server", "estimated", "none")),
        "end": st.sampled_from((0, 3)),
        "chunks": st.sampled_from((None, 0, 1, 2)),
        "stalls": st.sampled_from((None, 0, 1)),
        **dict.fromkeys(("sent", "chunk", "first", "answer", "last", "gap_p50", "gap_max", "overhead"), SECONDS),
        **dict.fromkeys(("in", "out", "cached"), TOKENS),
        **dict.fromkeys(("shared", "system_bytes", "tools_bytes", "messages_bytes", "results_bytes"), BYTES),
    }
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "gen_ai.request.stream": st.sampled_from(("true", "false")),
        "gen_ai.response.time_to_first_chunk": st.sampled_from((0, 1)),
        "gen_ai.usage.input_tokens": st.sampled_from((0, 20)),
        "gen_ai.usage.output_tokens": st.sampled_from((0, 1, 20)),
        "error.type": st.just("timeout"),
    },
)


@settings(deadline=None, max_examples=12)
@given(calls=st.lists(CALL, min_size=1, max_size=16), others=st.lists(OTHERS, max_size=6))
def test_every_null_has_one_reason_whatever_spans_tell(
    to_lines: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    inputs: Inputs,
    calls: list[dict[str, Any]],
    others: list[dict[str, Any]],
) -> None:
    """Each call is of a model of its own, so that the reasons of each turn are compared."""
    notation = [
        ("call", {"t": 10 * number, "model": f"{'priced' if number % 2 else 'm'}{number}", **call})
        for number, call in enumerate(calls)
    ]
    notation += [
        ("span", {"t": f"{1000 + number}..{1001 + number}", "gen_ai.request.model": f"other{number}", **other})
        for number, other in enumerate(others)
    ]
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.write_text(
        to_lines(
            "\n".join(
                " ".join([kind, *(f"{word}={value}" for word, value in words.items() if value is not None)])
                for kind, words in notation
            )
        )
    )
    with open_source(str(path), inputs=inputs) as database:
        assert counted(database) == nulls(database)


def test_every_reason_has_its_words_in_reports_and_documentation() -> None:
    relation = catalog.internal("undefined")
    given = set(re.findall(r"(?:THEN|ELSE) '([a-z0-9_]+)'", relation.query))
    assert given == REASONS.keys()
    page = (Path(__file__).parents[2] / "docs" / "definitions.md").read_text()
    rows = [line.partition(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    assert given <= set(re.findall(r"`([a-z0-9_]+)`", " ".join(rows)))
    assert given <= set(re.findall(r"[a-z0-9_]+", relation.description))
