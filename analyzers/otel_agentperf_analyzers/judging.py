"""SLO tiers as the table `slo_tiers`, which the relations that judge read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import msgspec

from otel_agentperf.policies import METRICS, Target, Tier, load_presets

__all__ = ["applied", "apply"]

_BOUNDS: Final = ", ".join(f"{metric} STRUCT(low DOUBLE, high DOUBLE)" for metric in METRICS)

_TYPE: Final = f"""STRUCT(
    policy VARCHAR, version VARCHAR, tier VARCHAR, models VARCHAR[],
    targets STRUCT(metric VARCHAR, percentile DOUBLE, bound VARCHAR, value DOUBLE)[], bounds STRUCT({_BOUNDS}),
    max_error_rate DOUBLE, skip_tool_call_turns BOOLEAN, use_estimated_tokens BOOLEAN,
    min_trajectories BIGINT, min_trajectories_per_agent DOUBLE, min_steady_s DOUBLE, min_hold_s DOUBLE,
    comparable BOOLEAN, fallback BOOLEAN, only_its_models BOOLEAN
)[]"""


def apply(connection: duckdb.DuckDBPyConnection, tiers: Sequence[Tier], *, only_its_models: bool) -> None:
    """Let the relations judge by these tiers, each only the models it was made for, or every model."""
    rows = [_row(tier) | {"only_its_models": only_its_models} for tier in tiers]
    connection.execute(
        f"CREATE OR REPLACE TABLE slo_tiers AS SELECT tier.* FROM (SELECT UNNEST(CAST($tiers AS {_TYPE})) AS tier)",
        {"tiers": rows},
    )


@contextmanager
def applied(connection: duckdb.DuckDBPyConnection, tiers: Sequence[Tier]) -> Iterator[None]:
    """Judge every model by these tiers for a while, then by the presets again; no tiers mean the presets."""
    if not tiers:
        yield
        return
    apply(connection, tiers, only_its_models=False)
    try:
        yield
    finally:
        apply(connection, load_presets(), only_its_models=True)


def _row(tier: Tier) -> dict[str, Any]:
    return {**msgspec.to_builtins(tier), "bounds": {metric: _loosest(tier.targets, metric) for metric in METRICS}}


def _loosest(targets: Sequence[Target], metric: str) -> dict[str, float | None]:
    """What a single turn must keep within: of several targets of one metric the loosest."""
    of_metric = [target for target in targets if target.metric == metric]
    return {
        "low": min((target.value for target in of_metric if target.bound == "min"), default=None),
        "high": max((target.value for target in of_metric if target.bound == "max"), default=None),
    }
