"""Verdicts as the plots need them: rows of `slo` (levels) and of `capacity_curve` (loads of live traffic)."""

from collections.abc import Sequence
from typing import Any, Final

__all__ = ["bounds", "judged_by", "of_levels", "of_loads", "percentiles"]

Row = dict[str, Any]

_USUAL: Final = {"output_speed": 25.0, "e2e_speed": 25.0}
"""Percentile that is looked at where no tier says; of all others it is the 95th."""


def of_levels(rows: Sequence[Row]) -> list[Row]:
    """Margin of every tier at every level; rows of `slo` with a level."""
    return [
        _row(row)
        | {
            "agents": row["level"],
            "margin": row["margin"],
            "margin_low": None,
            "margin_high": None,
            "verdict": _level_verdict(row),
        }
        for row in sorted(rows, key=_demand)
    ]


def of_loads(rows: Sequence[Row]) -> list[Row]:
    """Margin of every tier at every load, with its interval; rows of `capacity_curve`."""
    made = []
    for row in sorted(rows, key=_demand):
        margins: list[tuple[float | None, float | None, float | None]] = [_margins(target) for target in row["targets"]]
        margin, low, high = (_least(each) for each in zip(*margins, strict=True)) if margins else (None, None, None)
        verdict = {"holds": "holds", "fails": "misses"}.get(row["verdict"], "cannot be told")
        agents = max(row["agents_mean"], 1.0)
        made.append(
            _row(row) | {"agents": agents, "margin": margin, "margin_low": low, "margin_high": high, "verdict": verdict}
        )
    return made


def percentiles(rows: Sequence[Row], metric: str) -> dict[int, float]:
    """Lowest number of agents of a level or load to the percentile of a metric that was judged there."""
    return {
        row["level"] if "level" in row else row["agents_low"]: target["found"]
        for row in reversed(rows)
        for target in row["targets"]
        if target["metric"] == metric and target["found"] is not None
    }


def judged_by(rows: Sequence[Row], metric: str) -> tuple[str, float, bool]:
    """The percentile that tiers look at: in words, in percent, and whether lower is better."""
    for row in rows:
        for target in row["targets"]:
            if target["metric"] == metric:
                return f"P{target['percentile']:g}", target["percentile"], target["bound"] == "max"
    percentile = _USUAL.get(metric, 95.0)
    return f"P{percentile:g}", percentile, metric not in _USUAL


def bounds(rows: Sequence[Row], metric: str) -> list[Row]:
    """Lines of the tiers for a metric; tiers that ask for the same share one."""
    names: dict[tuple[float, str], list[str]] = {}
    ordered = sorted(rows, key=_demand)
    places = {tier: place for place, tier in enumerate(dict.fromkeys(row["tier"] for row in ordered))}
    for row in ordered:
        for target in row["targets"]:
            if target["metric"] == metric:
                tiers = names.setdefault((target["wanted"], target["bound"]), [])
                if row["tier"] not in tiers:
                    tiers.append(row["tier"])
    return [
        {
            "value": value,
            "label": f"{', '.join(tiers)} {'≥' if bound == 'min' else '≤'} {value:g}",
            "place": places[tiers[0]],
        }
        for (value, bound), tiers in names.items()
    ]


def _row(row: Row) -> Row:
    found = [
        f"P{target['percentile']:g} {target['metric']} {target['found']:.4g}"
        for target in row["targets"]
        if target["found"] is not None
    ]
    return {
        "policy": f"{row['policy']}@{row['version']}",
        "tier": row["tier"],
        "turns": row["turns"],
        "error_rate": row["error_rate"],
        "found": ", ".join(found),
    }


def _level_verdict(row: Row) -> str:
    if row["holds"] is None:
        return "cannot be told"
    if not row["holds"]:
        return "misses"
    return "holds" if row["valid"] else "holds, but not valid"


def _margins(target: Row) -> tuple[float | None, float | None, float | None]:
    """Of one target: margin, and the ends of its interval."""
    found, low, high, wanted = target["found"], target["low"], target["high"], target["wanted"]
    if target["bound"] == "min":
        return _ratio(found, wanted), _ratio(low, wanted), _ratio(high, wanted)
    return _ratio(wanted, found), _ratio(wanted, high), _ratio(wanted, low)


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _least(values: Sequence[float | None]) -> float | None:
    """The least; None where one is not known."""
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _demand(row: Row) -> tuple[str, str, float, float, str, float]:
    """Tiers of a policy from the one that asks least, each by rising load."""
    speed = max((it["wanted"] for it in row["targets"] if it["bound"] == "min"), default=0.0)
    time = min((it["wanted"] for it in row["targets"] if it["bound"] == "max"), default=float("inf"))
    load = row["level"] if "level" in row else row["agents_low"]
    return row["policy"], row["version"], speed, -time, row["tier"], load
