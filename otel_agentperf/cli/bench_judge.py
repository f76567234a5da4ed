"""Judges the levels of a replay: the verdicts of relation `slo` over the spans of a level just played."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_agentperf.errors import SourceError, UsageError

if TYPE_CHECKING:
    from otel_agentperf.policies import Tier
    from otel_agentperf.replay import LevelResult, Verdict

__all__ = ["StoreJudge", "record_level", "tiers_for"]

SPANS_WAIT_S: Final = 60.0
"""Longest wait for the spans of a level to stand in the store."""

FIRST_LOOK_S: Final = 1.5
"""The proxy writes finished spans at least once a second."""

MISSING_SHARE: Final = 0.01
"""Of the requests of a level: with more spans missing than this, the level is not judged."""

_NOT_THROUGH: Final = ("connect", "connect_timeout")


def tiers_for(names: Sequence[str] | None, model: str, *, search: bool) -> "tuple[Tier, ...]":
    """The tiers to judge by: the named ones, else for a search those that were made for the model.

    Raises:
        UsageError: a name is not known.
    """
    from otel_agentperf import policies

    if names:
        return tuple(dict.fromkeys(tier for name in names for tier in policies.select(name)))
    if not search:
        return ()
    fitting = [tier for tier in policies.load_presets() if tier.fits(model)]
    made = [tier for tier in fitting if not tier.fallback] or fitting
    newest = {tier.policy: tier.version for tier in sorted(made, key=lambda tier: tier.version)}
    chosen = tuple(tier for tier in made if tier.version == newest[tier.policy])
    if not chosen:
        raise UsageError(f"no SLO tier is made for the model {model}; name one with --tier POLICY:TIER")
    return chosen


def record_level(
    store: Path,
    benchmark_id: str,
    level: "LevelResult",
    *,
    preset: str,
    accelerators: int | None = None,
    power_mean_w: float | None = None,
) -> None:
    """Write the span of a level, when it has a steady window.

    Raises:
        StoreError: the store cannot be written.
    """
    from otel_agentperf_proxy.spans import level_span
    from otel_agentperf_proxy.store import append_spans

    if level.steady_start_unix_ns is None or level.steady_end_unix_ns is None:
        return
    span = level_span(
        benchmark_id=benchmark_id,
        level=level.agents,
        start_unix_ns=level.steady_start_unix_ns,
        end_unix_ns=level.steady_end_unix_ns,
        completed_trajectories=level.completed_trajectories,
        preset=preset,
        accelerator_count=accelerators,
        power_mean_w=power_mean_w,
    )
    append_spans(store, [span])


@dataclass(frozen=True, kw_only=True)
class StoreJudge:
    """Verdicts from the store that the proxy of the replay writes.

    Attributes:
        tiers: with the validity rules that shall hold.
        sleep: waits between two looks into the store.
    """

    store: Path
    benchmark_id: str
    model: str
    tiers: "Sequence[Tier]"
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, level: "LevelResult") -> "Mapping[str, Verdict]":
        """The verdicts by tier, of a level whose span is written."""
        from otel_agentperf.replay import Verdict

        waited_s, pause_s = 0.0, FIRST_LOOK_S
        while True:
            self.sleep(pause_s)
            waited_s += pause_s
            seen, verdicts = self.look(level)
            expected = _expected(level)
            missing = expected - seen
            if missing <= 0 or waited_s >= SPANS_WAIT_S:
                break
            pause_s *= 2
        if missing > MISSING_SHARE * expected:
            reason = f"{missing} of {expected} requests left no span in {self.store}"
            return {tier.label: Verdict(passed=None, reason=reason) for tier in self.tiers}
        return verdicts

    def look(self, level: "LevelResult") -> "tuple[int, Mapping[str, Verdict]]":
        """How many requests of a level's window have spans now, and the verdicts over these."""
        from otel_agentperf_analyzers import open_source

        with open_source(str(self.store), since=_start(level)) as database:
            ours = f"benchmark_id = '{self.benchmark_id}' AND level = {level.agents} AND phase = 'steady'"
            seen = len(database.relation("attempts", where=ours))
            rows = [
                row
                for row in database.slo(self.tiers).to_pylist()
                if row["benchmark_id"] == self.benchmark_id
                and row["level"] == level.agents
                and row["model"] == self.model
            ]
        by_label = {f"{row['policy']}@{row['version']}:{row['tier']}": row for row in rows}
        return seen, {tier.label: _verdict(by_label.get(tier.label)) for tier in self.tiers}

    def again(self, levels: "Sequence[LevelResult]") -> "dict[int, Mapping[str, Verdict]]":
        """The verdicts over levels played earlier, by agents; those whose spans are gone are left out."""
        found = {}
        for level in levels:
            try:
                seen, verdicts = self.look(level)
            except SourceError:
                continue
            if _expected(level) - seen <= MISSING_SHARE * _expected(level):
                found[level.agents] = verdicts
        return found


def _expected(level: "LevelResult") -> int:
    """Requests of the window that must have left a span: those that were cut off, or did not get through, may not."""
    return level.requests - level.cut_requests - sum(level.errors.get(kind, 0) for kind in _NOT_THROUGH)


def _start(level: "LevelResult") -> datetime | None:
    """A moment before the first request of a level; None when its window never opened."""
    if level.steady_start_unix_ns is None or level.steady_start_ns is None:
        return None
    before_s = (level.steady_start_ns - level.start_ns) / 1e9
    return datetime.fromtimestamp(level.steady_start_unix_ns / 1e9, UTC) - timedelta(seconds=before_s + 1)


def _verdict(row: Mapping[str, Any] | None) -> "Verdict":
    from otel_agentperf.replay import Verdict

    if row is None:
        return Verdict(passed=None, reason="no turn of the level has a span")
    if row["holds"] is False:
        return Verdict(passed=False, reason=_missed(row), margin=row["margin"])
    if row["holds"] is None:
        return Verdict(passed=None, reason="a figure is undefined: answers without token counts, or not streamed")
    if not row["valid"]:
        return Verdict(passed=None, reason=row["invalid_reason"], margin=row["margin"])
    return Verdict(passed=True, margin=row["margin"])


def _missed(row: Mapping[str, Any]) -> str:
    """The targets that a level misses, in words."""
    words = [
        f"P{target['percentile']:g} {target['metric']} {target['found']:.4g} instead of "
        f"{'≥' if target['bound'] == 'min' else '≤'} {target['wanted']:g}"
        for target in row["targets"]
        if target["margin"] is not None and target["margin"] < 1
    ]
    if row["error_rate"] > row["max_error_rate"]:
        words.append(f"{row['error_rate']:.1%} of requests failed")
    return ", ".join(words)
