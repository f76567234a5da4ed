"""Computes an explanation from the relations."""

from importlib.resources import files
from typing import Any, Final

import msgspec

from otel_agentperf_analyzers.database import Database
from otel_agentperf_analyzers.explain.model import CacheUse, Causes, Explanation, SlowTurn, Times, Trouble
from otel_agentperf_analyzers.report.model import Work

__all__ = ["explain"]

SLOWEST: Final = 10
TROUBLED: Final = 5


def explain(
    database: Database, *, benchmark: str | None = None, model: str | None = None, limit: int = SLOWEST
) -> Explanation:
    """Why the work of a source took so long and cost so much.

    Args:
        benchmark: only this one.
        model: only trajectories and turns of this model.
        limit: so many of the slowest turns.
    """
    chosen = {"benchmark": benchmark, "model": model}
    [together] = _rows(database, "trouble", chosen | {"limit": 0})
    return Explanation(
        source=database.source_name,
        times=msgspec.convert(_rows(database, "times", chosen), tuple[Times, ...]),
        causes=msgspec.convert(_rows(database, "causes", chosen), tuple[Causes, ...]),
        slowest=msgspec.convert(_rows(database, "slowest", chosen | {"limit": limit}), tuple[SlowTurn, ...]),
        cache=msgspec.convert(_rows(database, "cache", chosen), tuple[CacheUse, ...]),
        trouble=msgspec.convert(together, Trouble) if together["trajectories"] else None,
        troubled=msgspec.convert(_rows(database, "troubled", chosen | {"limit": TROUBLED}), tuple[Trouble, ...]),
        work=msgspec.convert(_rows(database, "work", chosen), tuple[Work, ...]),
    )


def _rows(database: Database, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    sql = (files(__package__) / "sql" / f"{name}.sql").read_text("utf-8")
    used = {key: value for key, value in parameters.items() if f"${key}" in sql}
    rows: list[dict[str, Any]] = database.fetch(sql, used).to_pylist()
    return rows
