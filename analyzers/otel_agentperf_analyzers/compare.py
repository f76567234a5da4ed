"""Two benchmarks, or two times of live traffic, beside each other: differences with intervals over trajectories.

Where both sides played the same tasks, these are compared with each other: only tasks of both sides count, and a
resample draws the same tasks for both. Otherwise each side's trajectories are drawn by themselves. Turns are never
drawn: those of one trajectory are alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np
import pyarrow as pa

from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers import bootstrap
from otel_agentperf_analyzers.bootstrap import Floats, Integers, Weights
from otel_agentperf_analyzers.database import Database

__all__ = ["DIFFERENCES", "compare", "regressions"]

FEWEST_TASKS: Final = 5
"""Common tasks from which on sides are paired by them."""

FEWEST_CLUSTERS: Final = 5
"""Fewer trajectories or tasks on a side have no interval."""

DIFFERENCES: Final = pa.schema(
    [
        ("level", pa.int64()),
        ("metric", pa.string()),
        ("unit", pa.string()),
        ("better", pa.string()),
        ("a", pa.float64()),
        ("b", pa.float64()),
        ("change", pa.float64()),
        ("change_low", pa.float64()),
        ("change_high", pa.float64()),
        ("relative", pa.float64()),
        ("relative_low", pa.float64()),
        ("relative_high", pa.float64()),
        ("verdict", pa.string()),
        ("regressed", pa.bool_()),
        ("paired", pa.bool_()),
        ("trajectories_a", pa.int64()),
        ("trajectories_b", pa.int64()),
    ]
)
"""Columns of a comparison. `level` is NULL for live traffic. `change` is b - a, `relative` is change / a, each with the
ends of its 95 % interval. `verdict`: better, worse, not shown (the interval holds 0), too few (trajectories for an
interval), or undefined (one side has no value); `changed` where neither direction is better. `regressed`: worse by more
than the threshold."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """One metric: a percentile over turns, or a ratio of two sums over turns or trajectories."""

    metric: str
    unit: str
    better: str
    """lower, higher or neither."""
    table: str
    column: str
    share: float | None = None
    """Of a percentile."""
    below: str = ""
    """Of a ratio: the denominator."""

    @property
    def is_share(self) -> bool:
        """Its threshold is in points, not relative."""
        return self.unit == "share"


_FIGURES: Final = (
    _Figure("ttft_p50", "s", "lower", "turns", "ttft_s", 0.5),
    _Figure("ttft_p95", "s", "lower", "turns", "ttft_s", 0.95),
    _Figure("output_speed_p25", "tok/s", "higher", "turns", "output_speed_tps", 0.25),
    _Figure("output_speed_p50", "tok/s", "higher", "turns", "output_speed_tps", 0.5),
    _Figure("e2e_speed_p50", "tok/s", "higher", "turns", "e2e_speed_tps", 0.5),
    _Figure("e2e_latency_p50", "s", "lower", "turns", "e2e_latency_s", 0.5),
    _Figure("e2e_latency_p95", "s", "lower", "turns", "e2e_latency_s", 0.95),
    _Figure("error_rate", "share", "lower", "turns", "failed_attempts", below="attempts"),
    _Figure("cache_hit", "share", "higher", "turns", "cached_tokens", below="tokens_with_cached"),
    _Figure("job_latency_mean", "s", "lower", "trajectories", "job_latency_s", below="ended"),
    _Figure("tool_time_mean", "s", "lower", "trajectories", "tool_time_s", below="trajectories"),
    _Figure("harness_time_mean", "s", "lower", "trajectories", "harness_time_s", below="trajectories"),
    _Figure("turns_mean", "turns", "neither", "trajectories", "turns", below="trajectories"),
    _Figure("input_tokens_mean", "tokens", "neither", "trajectories", "input_tokens", below="counted"),
    _Figure("output_tokens_mean", "tokens", "neither", "trajectories", "output_tokens", below="counted"),
    _Figure("wasted_tokens_mean", "tokens", "lower", "trajectories", "wasted_tokens", below="trajectories"),
    _Figure("tool_errors_mean", "tool calls", "lower", "trajectories", "tool_errors", below="trajectories"),
    _Figure("success_rate", "share", "higher", "trajectories", "succeeded", below="judged"),
    _Figure("cost_mean", "currency", "lower", "trajectories", "cost", below="priced"),
)


def compare(
    a: Database,
    b: Database,
    *,
    benchmarks: tuple[str | None, str | None] = (None, None),
    threshold: float = 0.05,
) -> pa.Table:
    """How `b` differs from `a`, one row per metric and level that both have (`DIFFERENCES`).

    Args:
        benchmarks: of each side; None for its live traffic, or its only benchmark where it has no live traffic.
        threshold: a metric regressed when it is worse by more than this share; a share, by more than these points.

    Raises:
        UsageError: a side has no such benchmark or several, or the two have no level in common.
    """
    sides = [_side(database, benchmark) for database, benchmark in zip((a, b), benchmarks, strict=True)]
    levels = [set(side["trajectories"].column("level").to_pylist()) for side in sides]
    common = levels[0] & levels[1]
    if not common:
        # Live traffic and a benchmark of one level may stand beside each other.
        if all(len(each) == 1 for each in levels):
            return _table(_rows(sides, None, threshold))
        told = [
            ", ".join("live traffic" if level is None else str(level) for level in sorted(each, key=str))
            for each in levels
        ]
        raise UsageError(f"no level in common: one side has {told[0]}, the other {told[1]}")
    rows: list[dict[str, Any]] = []
    for level in sorted(common, key=lambda level: -1 if level is None else level):
        rows += _rows(
            [{name: _of_level(table, level) for name, table in side.items()} for side in sides], level, threshold
        )
    return _table(rows)


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), DIFFERENCES)


def _side(database: Database, benchmark: str | None) -> dict[str, pa.Table]:
    """Turns and trajectories of one side."""
    known = database.relation("benchmarks").column("benchmark_id").to_pylist()
    if benchmark is None and known:
        [(live,)] = [
            tuple(row.values())
            for row in database.fetch("SELECT COUNT(*) AS n FROM trajectories WHERE benchmark_id IS NULL").to_pylist()
        ]
        if live or len(known) > 1:
            what = " and live traffic" if live else ""
            raise UsageError(
                f"{database.source_name} holds the benchmarks {', '.join(known)}{what}; "
                f"say which one: {database.source_name}#{known[0]}"
            )
        benchmark = known[0]
    if benchmark is not None and benchmark not in known:
        raise UsageError(f"no benchmark {benchmark!r} in {database.source_name}; there is {', '.join(known) or 'none'}")
    found = {}
    for name in ("turns", "trajectories"):
        sql = (files(__package__) / "sql" / "compare" / f"{name}.sql").read_text("utf-8")
        found[name] = database.fetch(sql, {"benchmark": benchmark})
    if not found["turns"].num_rows:
        raise UsageError(f"{database.source_name} holds no turns to compare")
    return found


def _of_level(table: pa.Table, level: int | None) -> pa.Table:
    import pyarrow.compute as pc

    column = table.column("level")
    return table.filter(pc.is_null(column) if level is None else pc.equal(column, level))


def _rows(sides: Sequence[dict[str, pa.Table]], level: int | None, threshold: float) -> list[dict[str, Any]]:
    clusters, weights, is_paired = _drawn(sides)
    counts = [side["trajectories"].num_rows for side in sides]
    rows = []
    for figure in _FIGURES:
        values, resampled = zip(
            *(
                _measured(figure, side[figure.table], clusters[number][figure.table], weights[number])
                for number, side in enumerate(sides)
            ),
            strict=True,
        )
        if np.isnan(values[0]) and np.isnan(values[1]):
            continue
        rows.append(
            {
                "level": level,
                "metric": figure.metric,
                "unit": figure.unit,
                "better": figure.better,
                "paired": is_paired,
                "trajectories_a": counts[0],
                "trajectories_b": counts[1],
                **_difference(figure, values, resampled, threshold),
            }
        )
    return rows


def _drawn(sides: Sequence[dict[str, pa.Table]]) -> tuple[list[dict[str, Integers]], list[Weights], bool]:
    """Each row's cluster (-1: it does not count), the weights of each side's clusters, and whether these are pairs."""
    resamples = bootstrap.resamples_for(sum(side["turns"].num_rows for side in sides))
    tasks = [set(side["trajectories"].column("task_id").to_pylist()) - {None} for side in sides]
    common = sorted(tasks[0] & tasks[1])
    if len(common) >= FEWEST_TASKS:
        weights = bootstrap.draws(len(common), resamples)
        return [_numbered(side, "task_id", common) for side in sides], [weights, weights], True
    numbered, drawn = [], []
    for stream, side in enumerate(sides):
        names = sorted(set(side["trajectories"].column("trajectory_id").to_pylist()))
        numbered.append(_numbered(side, "trajectory_id", names))
        drawn.append(bootstrap.draws(len(names), resamples, stream))
    return numbered, drawn, False


def _numbered(side: dict[str, pa.Table], column: str, names: Sequence[str]) -> dict[str, Integers]:
    numbers = {name: number for number, name in enumerate(names)}
    return {
        name: np.array([numbers.get(value, -1) for value in table.column(column).to_pylist()], dtype=np.int64)
        for name, table in side.items()
    }


def _measured(figure: _Figure, table: pa.Table, cluster: Integers, weights: Weights) -> tuple[float, Floats]:
    """The figure, and that of each resample; NaN where it is not defined."""
    above = _floats(table, figure.column)
    counts = cluster >= 0
    if weights.shape[1] < FEWEST_CLUSTERS:
        weights = np.zeros_like(weights)
    if figure.share is not None:
        counts &= ~np.isnan(above)
        return (
            bootstrap.percentile(above[counts], figure.share),
            bootstrap.percentiles(above[counts], cluster[counts], weights, figure.share),
        )
    below = _floats(table, figure.below)
    sums = [_summed(values, cluster, counts, weights.shape[1]) for values in (above, below)]
    total = sums[1].sum()
    return (float(sums[0].sum() / total) if total else float("nan")), bootstrap.ratios(sums[0], sums[1], weights)


def _summed(values: Floats, cluster: Integers, counts: "np.ndarray[Any, np.dtype[np.bool_]]", clusters: int) -> Floats:
    known = counts & ~np.isnan(values)
    return np.bincount(cluster[known], values[known], clusters).astype(np.float64)


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _difference(
    figure: _Figure, values: Sequence[float], resampled: Sequence[Floats], threshold: float
) -> dict[str, Any]:
    a, b = values
    change = b - a
    ends = bootstrap.interval(resampled[1] - resampled[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = (resampled[1] - resampled[0]) / np.where(resampled[0] == 0, np.nan, resampled[0])
    relative_ends = bootstrap.interval(quotients)
    relative = change / a if a else float("nan")
    verdict = "undefined" if np.isnan(change) else _verdict(figure.better, ends)
    size = abs(change) if figure.is_share else abs(relative)
    return {
        "a": _known(a),
        "b": _known(b),
        "change": _known(change),
        **dict(zip(("change_low", "change_high"), ends or (None, None), strict=True)),
        "relative": _known(relative),
        **dict(zip(("relative_low", "relative_high"), relative_ends or (None, None), strict=True)),
        "verdict": verdict,
        # Where a is 0 any worse b is a regression: there is nothing to take a share of.
        "regressed": verdict == "worse" and not size <= threshold,
    }


def _verdict(better: str, ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "too few"
    low, high = ends
    if low <= 0 <= high:
        return "not shown"
    if better == "neither":
        return "changed"
    return "better" if (low > 0) == (better == "higher") else "worse"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def regressions(differences: pa.Table) -> Iterator[str]:
    """What regressed, in words."""
    for row in differences.to_pylist():
        if row["regressed"]:
            level = "" if row["level"] is None else f" at {row['level']} agents"
            relative = "" if row["relative"] is None else f" ({row['relative']:+.1%})"
            yield f"{row['metric']}{level}: {row['a']:.4g} to {row['b']:.4g} {row['unit']}{relative}"
