"""The capacity curve of live traffic: figures by the number of agents at work, with intervals over trajectories."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import duckdb
import numpy as np
import pyarrow as pa

from otel_agentperf.policies import METRICS
from otel_agentperf_analyzers import bootstrap, selecting
from otel_agentperf_analyzers.bootstrap import Floats, Integers, Weights
from otel_agentperf_analyzers.sources.base import remove
from otel_agentperf_analyzers.sources.build import sql_text
from otel_agentperf_analyzers.sources.whole import publish

__all__ = ["bins", "create", "empty", "load", "needed", "save"]

FEWEST_TRAJECTORIES: Final = 10
"""A bin of fewer is not judged, whatever the policy asks for: resampling so few says nothing."""

_TOKEN_METRICS: Final = frozenset(("output_speed", "tpot", "e2e_speed"))
_DECODE_METRICS: Final = frozenset(("output_speed", "tpot"))
_COLUMNS: Final = {metric: f"{metric}_{'tps' if metric.endswith('_speed') else 's'}" for metric in METRICS}

_TYPE: Final = """STRUCT(
    policy VARCHAR, version VARCHAR, tier VARCHAR, model VARCHAR,
    agents_low BIGINT, agents_high BIGINT, agents_mean DOUBLE, turns BIGINT, failed_turns BIGINT, trajectories BIGINT,
    targets STRUCT(
        metric VARCHAR, percentile DOUBLE, bound VARCHAR, wanted DOUBLE, found DOUBLE, low DOUBLE, high DOUBLE
    )[],
    error_rate DOUBLE, error_rate_low DOUBLE, error_rate_high DOUBLE, max_error_rate DOUBLE, verdict VARCHAR
)[]"""


def empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table that `capacity_curve` reads."""
    _fill(connection, [])


LOADS: Final = "curve_loads"
"""Table that `create` reads."""


def needed(tiers: pa.Table) -> str:
    """SELECT of what that table holds, for these tiers, relation `applied_tiers`: columns of relation `turn_loads`."""
    metrics = {target["metric"] for targets in tiers.column("targets").to_pylist() for target in targets}
    return f"SELECT {', '.join((*_ALWAYS, *sorted(_COLUMNS[metric] for metric in metrics)))} FROM turn_loads"


def create(connection: duckdb.DuckDBPyConnection, tiers: pa.Table) -> None:
    """Fill it from the table of loads. Of these, the turns of one bin are in memory at a time.

    Args:
        tiers: relation `applied_tiers`.
    """
    # In the order of their names, so that the same data gives the same interval in whichever order it comes.
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE curve_trajectories AS
        SELECT trajectory_id, ROW_NUMBER() OVER (ORDER BY trajectory_id) AS trajectory
        FROM (SELECT DISTINCT trajectory_id FROM {LOADS})
    """)
    highest = dict(connection.execute(f"SELECT model, MAX({_LOAD}) FROM {LOADS} GROUP BY model").fetchall())
    of_models: dict[str | None, list[dict[str, Any]]] = {}
    for tier in tiers.to_pylist():
        of_models.setdefault(tier["model"], []).append(tier)
    found = [
        row
        for model, group in of_models.items()
        for low, high in bins(int(highest.get(model, 0)))
        for row in _of_bin(connection, model, low, high, group)
    ]
    connection.execute("DROP TABLE curve_trajectories")
    _fill(connection, found)


_LOAD: Final = "GREATEST(1, ROUND_EVEN(agents, 0))"
"""The load that a turn is counted for."""

_ALWAYS: Final = (
    "model",
    "trajectory_id",
    "agents",
    "attempt_count",
    "failed_attempt_count",
    "is_failure",
    "is_estimated",
    "has_tool_calls",
)
"""Columns of `turn_loads` that every tier needs."""


def load(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Fill it with what was saved; False when nothing was."""
    if not path.exists():
        return False
    connection.execute(f"CREATE OR REPLACE TABLE curve_rows AS FROM read_parquet({sql_text(str(path))})")
    return True


def save(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Save it for the next reader of the same turns and tiers, if that can be."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(duckdb.IOException, OSError):
        try:
            connection.execute(f"COPY curve_rows TO {sql_text(str(partial))} (FORMAT parquet)")
            publish(partial, path)
        finally:
            remove(partial)


def _fill(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> None:
    connection.execute(
        f"CREATE OR REPLACE TABLE curve_rows AS SELECT entry.* FROM (SELECT UNNEST(CAST($rows AS {_TYPE})) AS entry)",
        {"rows": rows},
    )


def bins(highest: int) -> Iterator[tuple[int, int]]:
    """Lowest and highest load of each bin: single loads up to 3, then a quarter as wide as the lowest."""
    low = 1
    while low <= highest:
        high = max(low, low + low // 4)
        yield low, high
        low = high + 1


@dataclass(slots=True)
class _Bin:
    """Turns of one model that met a load of one bin, resampled once for all tiers."""

    low: int
    high: int
    turns: pa.Table
    cluster: Integers
    """The trajectory of each turn, as a column of `weights`."""
    weights: Weights
    _known: dict[tuple[Any, ...], tuple[float, tuple[float, float] | None]] = field(default_factory=dict)
    """Figures and intervals by what they are of: tiers of a policy mostly ask for the same percentiles."""

    @classmethod
    def of(cls, low: int, high: int, turns: pa.Table) -> Self:
        """Resample the trajectories of turns."""
        there, cluster = np.unique(turns.column("trajectory").to_numpy(), return_inverse=True)
        weights = bootstrap.draws(len(there), bootstrap.resamples_for(turns.num_rows))
        return cls(low, high, turns.drop_columns("trajectory"), cluster, weights)

    def judged(self, tiers: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """A row for each tier."""
        trajectories = self.weights.shape[1]
        failed, attempts = (_floats(self.turns, name) for name in ("failed_attempt_count", "attempt_count"))
        sums = [np.bincount(self.cluster, values, trajectories).astype(np.float64) for values in (failed, attempts)]
        errors = bootstrap.interval(bootstrap.ratios(sums[0], sums[1], self.weights)) or (np.nan, np.nan)
        told = {
            "agents_low": self.low,
            "agents_high": self.high,
            "agents_mean": float(_floats(self.turns, "agents").mean()),
            "turns": self.turns.num_rows,
            "failed_turns": int(_floats(self.turns, "is_failure").sum()),
            "trajectories": trajectories,
            "error_rate": float(failed.sum() / attempts.sum()),
            "error_rate_low": None if np.isnan(errors[0]) else errors[0],
            "error_rate_high": None if np.isnan(errors[1]) else errors[1],
        }
        for tier in tiers:
            targets = [self._target(target, tier) for target in tier["targets"]]
            allowed = {"bound": "max", "wanted": tier["max_error_rate"], "low": errors[0], "high": errors[1]}
            verdicts = [_verdict(target) for target in (*targets, allowed)]
            yield {
                **{name: tier[name] for name in ("policy", "version", "tier", "model", "max_error_rate")},
                **told,
                "targets": targets,
                "verdict": _of_all(verdicts, trajectories >= max(FEWEST_TRAJECTORIES, tier["min_trajectories"])),
            }

    def _target(self, target: dict[str, Any], tier: dict[str, Any]) -> dict[str, Any]:
        rules = (tier["skip_tool_call_turns"], tier["use_estimated_tokens"])
        key = (target["metric"], target["percentile"], *rules)
        if key not in self._known:
            self._known[key] = self._measured(target, tier)
        return _target(target, *self._known[key])

    def _measured(self, target: dict[str, Any], tier: dict[str, Any]) -> tuple[float, tuple[float, float] | None]:
        """The figure that a target bounds, and its interval."""
        metric = target["metric"]
        values = _floats(self.turns, _COLUMNS[metric])
        counts = ~np.isnan(values) & (_floats(self.turns, "is_failure") == 0)
        if metric in _DECODE_METRICS and tier["skip_tool_call_turns"]:
            counts &= _floats(self.turns, "has_tool_calls") == 0
        if metric in _TOKEN_METRICS and not tier["use_estimated_tokens"]:
            counts &= _floats(self.turns, "is_estimated") == 0
        share = target["percentile"] / 100
        resampled = bootstrap.percentiles(values[counts], self.cluster[counts], self.weights, share)
        return bootstrap.percentile(values[counts], share), bootstrap.interval(resampled)


def _of_bin(
    connection: duckdb.DuckDBPyConnection, model: str | None, low: int, high: int, tiers: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    turns = selecting.fetch(
        connection,
        f"""
        SELECT * EXCLUDE (model, trajectory_id)
        FROM {LOADS}
        INNER JOIN curve_trajectories USING (trajectory_id)
        WHERE model IS NOT DISTINCT FROM $model AND {_LOAD} BETWEEN $low AND $high
        """,
        {"model": model, "low": low, "high": high},
    )
    if turns.num_rows:
        yield from _Bin.of(low, high, turns).judged(tiers)


def _target(target: dict[str, Any], found: float, ends: tuple[float, float] | None) -> dict[str, Any]:
    low, high = ends or (None, None)
    return {
        **{name: target[name] for name in ("metric", "percentile", "bound")},
        "wanted": target["value"],
        "found": None if np.isnan(found) else found,
        "low": low,
        "high": high,
    }


def _verdict(target: dict[str, Any]) -> str:
    low, high, wanted = target["low"], target["high"], target["wanted"]
    if low is None or np.isnan(low):
        return "unclear"
    if target["bound"] == "min":
        return "holds" if low >= wanted else "fails" if high < wanted else "unclear"
    return "holds" if high <= wanted else "fails" if low > wanted else "unclear"


def _of_all(verdicts: list[str], is_enough: bool) -> str:
    if not is_enough:
        return "too few"
    return next((verdict for verdict in ("fails", "unclear") if verdict in verdicts), "holds")


def _floats(turns: pa.Table, name: str) -> Floats:
    """A column as numbers; NULL is NaN."""
    column = turns.column(name).cast(pa.int8() if pa.types.is_boolean(turns.schema.field(name).type) else pa.float64())
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
