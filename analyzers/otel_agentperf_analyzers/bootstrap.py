"""Confidence intervals by resampling clusters: trajectories or tasks, never single turns, which are not independent.

A resample is a weight per cluster: how often it was drawn. Figures of a resample are those of the sample in which each
turn stands as often as its cluster was drawn; no such sample is ever made.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONFIDENCE",
    "Floats",
    "Integers",
    "Weights",
    "draws",
    "interval",
    "percentile",
    "percentiles",
    "ratios",
    "resamples_for",
]

CONFIDENCE: Final = 0.95
"""Share of the resamples that an interval holds."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Weights = NDArray[np.int16]
"""How often each cluster was drawn, a row for each resample; small numbers, and very many."""

_SEED: Final = 20260701
_MOST: Final = 1000
_FEWEST: Final = 200
_WORK: Final = 50_000_000
"""Turns that are looked at for one interval, over all resamples."""


def resamples_for(turns: int) -> int:
    """How many resamples so many turns get: fewer for many turns, whose intervals are narrow anyway."""
    return max(_FEWEST, min(_MOST, _WORK // max(turns, 1)))


def draws(clusters: int, resamples: int, stream: int = 0) -> Weights:
    """Weights, resamples x clusters; the same for the same numbers, independent of those of another stream."""
    chance = np.random.default_rng((_SEED, clusters, stream))
    shares = np.full(clusters, 1 / clusters)
    found = np.empty((resamples, clusters), np.int16)
    for drawn in found:
        drawn[:] = chance.multinomial(clusters, shares)
    return found


def percentile(values: Floats, share: float) -> float:
    """Linear interpolation at rank (n-1)p; NaN without values."""
    return float(np.quantile(values, share)) if len(values) else float("nan")


def percentiles(values: Floats, cluster: Integers, weights: Weights, share: float) -> Floats:
    """The percentile of each resample; NaN where none of its clusters has a value.

    Args:
        values: one figure per turn.
        cluster: the turn's cluster, an index into the columns of `weights`.
    """
    order = np.argsort(values, kind="stable")
    ordered, of_cluster = values[order], cluster[order]
    found = np.full(len(weights), np.nan)
    for number, drawn in enumerate(weights):
        reached = np.cumsum(drawn[of_cluster])
        total = int(reached[-1]) if len(reached) else 0
        if not total:
            continue
        rank = (total - 1) * share
        low, high = np.floor(rank), np.ceil(rank)
        below, above = ordered[np.searchsorted(reached, [low, high], side="right")]
        found[number] = below + (above - below) * (rank - low)
    return found


def ratios(numerator: Floats, denominator: Floats, weights: Weights) -> Floats:
    """The ratio of two sums over clusters of each resample; NaN where the denominator is 0."""
    above, below = (np.array([drawn @ sums for drawn in weights]) for sums in (numerator, denominator))
    found = np.full(len(weights), np.nan)
    np.divide(above, below, out=found, where=below != 0)
    return found


def interval(figures: Floats) -> tuple[float, float] | None:
    """The ends between which `CONFIDENCE` of the resamples lie; None when a resample in ten is undefined."""
    known = figures[~np.isnan(figures)]
    if len(known) < 0.9 * len(figures) or not len(known):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
