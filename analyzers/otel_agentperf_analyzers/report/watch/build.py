"""Computes a look from the relations."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, Final

import msgspec

from otel_agentperf.policies import Tier
from otel_agentperf_analyzers.database import Database
from otel_agentperf_analyzers.report.text import digits
from otel_agentperf_analyzers.report.watch.model import Agent, Model, Now, Slow, Standing, Step

__all__ = ["AGENTS", "look"]

AGENTS: Final = 200
"""Trajectories that are listed."""

SLOWEST: Final = 20
STEPS: Final = 60
STANDINGS: Final = 40


def look(database: Database, *, now: datetime, window: timedelta, tiers: Sequence[Tier] = ()) -> Now:
    """What the spans of a window say.

    Args:
        database: opened for the spans that began in the window.
        now: the end of the window, with a zone.
        tiers: what to judge by; none means the presets that fit the models.
    """
    window_s = window.total_seconds()
    given = {"now": now, "window_s": window_s, "since": now - window, "steps": STEPS}
    [counts] = _rows(database, "counts", given)
    has_turns = counts["turns"] > 0
    return Now(
        source=database.source_name,
        at=now,
        window_s=window_s,
        **counts,
        models=msgspec.convert(_rows(database, "models", given), tuple[Model, ...]),
        standings=_standings(database, tiers) if has_turns else (),
        seen=msgspec.convert(_rows(database, "agents", given | {"limit": AGENTS}), tuple[Agent, ...]),
        slowest=msgspec.convert(_rows(database, "slowest", given | {"limit": SLOWEST}), tuple[Slow, ...]),
        steps=msgspec.convert(_rows(database, "steps", given), tuple[Step, ...]),
    )


def _rows(database: Database, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    sql = (files(__package__) / "sql" / f"{name}.sql").read_text("utf-8")
    used = {key: value for key, value in parameters.items() if f"${key}" in sql}
    rows: list[dict[str, Any]] = database.fetch(sql, used).to_pylist()
    return rows


def _standings(database: Database, tiers: Sequence[Tier]) -> tuple[Standing, ...]:
    """Live traffic first, then benchmarks with the highest level first; of each the tier that asks least first."""
    rows = sorted(database.slo(tiers).to_pylist(), key=_place)
    return tuple(
        Standing(
            policy=f"{row['policy']}@{row['version']}",
            **{name: row[name] for name in _OF_SLO},
            found=", ".join(map(_words, row["targets"])),
        )
        for row in rows[:STANDINGS]
    )


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    speed_tps, ttft_s = row["min_output_speed_tps"] or 0.0, row["max_ttft_s"]
    demand = (speed_tps, -ttft_s if ttft_s is not None else -math.inf, row["tier"])
    benchmark = row["benchmark_id"]
    of = (benchmark is not None, benchmark or "", -(row["level"] or 0), row["model"] or "")
    return *of, row["policy"], row["version"], *demand


_OF_SLO: Final = ("tier", "model", "benchmark_id", "level", "agents", "holds", "margin", "goodput", "error_rate")


def _words(target: dict[str, Any]) -> str:
    """Such as `P95 ttft 0.31 of 2`."""
    return f"P{target['percentile']:g} {target['metric']} {digits(target['found'])} of {target['wanted']:g}"
