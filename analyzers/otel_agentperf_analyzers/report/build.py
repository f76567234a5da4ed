"""Computes the report from the relations."""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec

from otel_agentperf.errors import UsageError
from otel_agentperf.policies import Tier
from otel_agentperf_analyzers.database import Database
from otel_agentperf_analyzers.report.model import (
    Benchmark,
    Counts,
    Figures,
    Jobs,
    LiveCapacity,
    Load,
    Report,
    Target,
    Tool,
    Undefined,
    Unread,
    Verdict,
    Work,
)

__all__ = ["build"]


def build(database: Database, *, tiers: Sequence[Tier] = (), benchmark: str | None = None) -> Report:
    """The report of a source.

    Args:
        tiers: what to judge by; none means the presets that fit the models.
        benchmark: only this one, without live traffic.

    Raises:
        UsageError: no such benchmark.
    """
    benchmarks = database.relation("benchmarks", benchmark=benchmark).to_pylist()
    if benchmark is not None and not benchmarks:
        there = ", ".join(row["benchmark_id"] for row in database.relation("benchmarks").to_pylist())
        raise UsageError(f"no benchmark {benchmark!r}; there is {there or 'none'}")
    levels = _rows(database, "levels", benchmark)
    verdicts = [row for row in database.slo(tiers).to_pylist() if benchmark in (None, row["benchmark_id"])]
    capacities = () if benchmark is not None else _capacities(database, tiers)
    [counts] = _rows(database, "counts", benchmark)
    return Report(
        source=database.source_name,
        counts=msgspec.convert(counts, Counts),
        unread=Unread(
            lines=database.skipped.lines, duplicates=database.skipped.duplicates, examples=database.skipped.examples
        ),
        benchmarks=tuple(
            Benchmark(
                benchmark_id=row["benchmark_id"],
                model=row["request_model"],
                preset=row["preset"],
                start_time=row["start_time"],
                end_time=row["end_time"],
                accelerators=row["accelerators"],
                levels=msgspec.convert(
                    [level for level in levels if level["benchmark_id"] == row["benchmark_id"]], tuple[Figures, ...]
                ),
                targets=_targets(
                    [verdict for verdict in verdicts if verdict["benchmark_id"] == row["benchmark_id"]],
                    {level["level"]: level for level in levels if level["benchmark_id"] == row["benchmark_id"]},
                ),
            )
            for row in benchmarks
        ),
        live=msgspec.convert(_rows(database, "live", benchmark), tuple[Figures, ...]),
        live_targets=_targets([verdict for verdict in verdicts if verdict["benchmark_id"] is None]),
        live_capacity=capacities,
        jobs=msgspec.convert(_rows(database, "jobs", benchmark), tuple[Jobs, ...]),
        tools=msgspec.convert(_rows(database, "tools", benchmark), tuple[Tool, ...]),
        work=msgspec.convert(_rows(database, "work", benchmark), tuple[Work, ...]),
        undefined=msgspec.convert(_rows(database, "undefined", benchmark), tuple[Undefined, ...]),
    )


def _rows(database: Database, name: str, benchmark: str | None) -> list[dict[str, Any]]:
    """Rows of one of the report's own queries."""
    sql = (files(__package__) / "sql" / f"{name}.sql").read_text("utf-8")
    rows: list[dict[str, Any]] = database.fetch(sql, {"benchmark": benchmark}).to_pylist()
    return rows


def _targets(rows: Sequence[dict[str, Any]], levels: Mapping[int, dict[str, Any]] = {}) -> tuple[Target, ...]:
    """Rows of `slo` for one benchmark, with its levels, or for live traffic, by tier and model."""
    return tuple(_target(group, levels) for group in sorted(_grouped(rows), key=_demand))


def _capacities(database: Database, tiers: Sequence[Tier]) -> tuple[LiveCapacity, ...]:
    """What live traffic says of each tier, in the order of their demands, with its curve."""
    curve: dict[tuple[str, ...], list[Load]] = {}
    for row in database.judged("capacity_curve", tiers).to_pylist():
        curve.setdefault(_of_tier(row), []).append(msgspec.convert(row, Load))
    order = [_of_tier(group[0]) for group in sorted(_grouped(database.slo(tiers).to_pylist()), key=_demand)]
    rows = [row for row in database.judged("capacity", tiers).to_pylist() if row["method"] == "live"]
    return tuple(
        LiveCapacity(
            policy=f"{row['policy']}@{row['version']}",
            monotone=row["is_monotone"],
            curve=tuple(sorted(curve[_of_tier(row)], key=lambda load: load.agents_low)),
            **{name: row[name] for name in _OF_CAPACITY},
        )
        for row in sorted(rows, key=lambda row: order.index(_of_tier(row)))
    )


_OF_CAPACITY: Final = (
    "tier",
    "model",
    "comparable",
    "statement",
    "max_agents",
    "first_fail",
    "agents_now",
    "headroom_agents",
    "agents_per_accelerator",
    "agents_per_mw",
    "agents_per_dollar_hour",
)
"""Columns of relation `capacity` that the report has under the same names."""


def _of_tier(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] or "" for name in ("policy", "version", "tier", "model"))


def _grouped(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows by tier and model."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_of_tier(row), []).append(row)
    return list(groups.values())


def _demand(rows: Sequence[dict[str, Any]]) -> tuple[str, str, str, float, float]:
    """Policy, version and model, then from the tier that asks least to the one that asks most."""
    first = rows[0]
    max_ttft_s = first["max_ttft_s"] if first["max_ttft_s"] is not None else math.inf
    speed_tps = first["min_output_speed_tps"] or 0.0
    return first["policy"], first["version"], first["model"] or "", speed_tps, -max_ttft_s


def _target(rows: Sequence[dict[str, Any]], of_levels: Mapping[int, dict[str, Any]]) -> Target:
    levels = [row for row in rows if row["level"] is not None]
    missed = [row["level"] for row in levels if row["holds"] is False]
    first_miss = min(missed, default=None)
    below = [row for row in levels if first_miss is None or row["level"] < first_miss]
    first = rows[0]
    max_agents = max((row["level"] for row in below if row["passed"]), default=None)
    level = of_levels.get(max_agents, {}) if max_agents is not None else {}
    accelerators, power_w = level.get("accelerators"), level.get("power_mean_w")
    return Target(
        policy=f"{first['policy']}@{first['version']}",
        tier=first["tier"],
        model=first["model"],
        requirement=_requirement(first),
        comparable=first["comparable"],
        verdicts=tuple(_verdict(row) for row in rows),
        max_agents=max_agents,
        agents_per_accelerator=max_agents / accelerators if max_agents and accelerators else None,
        agents_per_mw=max_agents * 1e6 / power_w if max_agents and power_w else None,
        max_agents_if_valid=max((row["level"] for row in below if row["holds"]), default=None),
        first_miss=first_miss,
        monotone=not any(row["holds"] for row in levels if first_miss is not None and row["level"] > first_miss),
    )


def _verdict(row: dict[str, Any]) -> Verdict:
    return Verdict(
        agents=row["level"] if row["level"] is not None else row["agents"],
        holds=row["holds"],
        valid=row["valid"],
        passed=bool(row["passed"]),
        margin=row["margin"],
        error_rate=row["error_rate"],
        goodput=row["goodput"],
        reasons=tuple(row["invalid_reason"].split("; ")) if row["invalid_reason"] else (),
    )


def _requirement(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_words(target) for target in row["targets"])


_SHORT: Final = {"ttft": "TTFT", "server_ttft": "server TTFT", "output_speed": "", "tpot": "TPOT", "e2e_speed": "E2E"}
"""Metrics in the few words that a heading has room for; a speed says what it is by its unit."""


def _words(target: dict[str, Any]) -> str:
    """Such as `P25 ≥ 60 tok/s` and `P95 TTFT ≤ 5 s`."""
    metric = target["metric"]
    unit = "tok/s" if metric.endswith("_speed") else "s"
    sign = "≥" if target["bound"] == "min" else "≤"
    name = _SHORT.get(metric, metric.replace("_", " "))
    return " ".join(filter(None, (f"P{target['percentile']:g}", name, sign, f"{target['wanted']:g}", unit)))
