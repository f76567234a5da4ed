"""The verdicts at the top of the page: for each benchmark, or model in live traffic, what each tier comes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otel_agentperf_analyzers.report.model import Report, Target
from otel_agentperf_analyzers.report.text import digits, plain, share

__all__ = ["Card", "Group", "groups"]


@dataclass(frozen=True)
class Card:
    """What one tier comes to."""

    tier: str
    requirement: tuple[str, ...]
    number: str
    mood: str
    """good, bad, doubt, or nothing where it cannot be told."""
    word: str
    """The mood in a word."""
    statement: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Tiers of one policy."""

    heading: str
    about: str
    cards: tuple[Card, ...]


def groups(report: Report, capacities: Sequence[dict[str, Any]], *, benchmarks: int, models: int) -> list[Group]:
    """The newest benchmarks, and the models of live traffic with the most turns.

    Args:
        capacities: rows of relation `capacity`.
        benchmarks, models: at most so many.
    """
    found = {_key(row): row for row in capacities}
    made = []
    newest = sorted(report.benchmarks, key=lambda each: str(each.start_time), reverse=True)[:benchmarks]
    for benchmark in newest:
        made += _of(benchmark.targets, found, benchmark.benchmark_id, f"Benchmark {plain(benchmark.benchmark_id)}")
    for figures in report.live[:models]:
        targets = [target for target in report.live_targets if target.model == figures.model]
        made += _of(targets, found, None, "Live traffic")
    return made


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["benchmark_id"], row["model"], f"{row['policy']}@{row['version']}", row["tier"]


def _of(
    targets: Sequence[Target], found: dict[tuple[Any, ...], dict[str, Any]], benchmark: str | None, heading: str
) -> list[Group]:
    made = []
    for policy, model in dict.fromkeys((target.policy, target.model) for target in targets):
        of_policy = [target for target in targets if (target.policy, target.model) == (policy, model)]
        about = [plain(model or "(no model)"), f"policy {plain(policy)}"]
        if not all(target.comparable for target in of_policy):
            about.append("not comparable with published results")
        cards = tuple(_card(target, found.get((benchmark, model, policy, target.tier))) for target in of_policy)
        made.append(Group(heading, " · ".join(about), cards))
    return made


def _card(target: Target, row: dict[str, Any] | None) -> Card:
    if row is None:
        return Card(plain(target.tier), target.requirement, "–", "", "not known", "nothing to judge by", ())
    number = row["max_agents"]
    mood, word = "", "undecided"
    if number is not None:
        mood, word = ("good", "holds") if row["is_monotone"] else ("doubt", "doubtful")
    elif row["max_agents_if_valid"] is not None:
        number, mood, word = row["max_agents_if_valid"], "doubt", "not valid"
    elif row["first_fail"] is not None:
        number, mood, word = 0, "bad", "missed"
    details = []
    if row["agents_now"] is not None:
        details.append(f"{digits(row['agents_now'])} at work on average")
    if row["headroom_agents"] is not None:
        details.append(f"headroom {digits(row['headroom_agents'])}")
    for key, unit in (
        ("agents_per_accelerator", "per accelerator"),
        ("agents_per_mw", "per MW"),
        ("agents_per_dollar_hour", "per currency/h"),
    ):
        if row[key] is not None:
            details.append(f"{digits(row[key])} {unit}")
    if row["method"] == "live" and target.verdicts and target.verdicts[0].holds is not None:
        verdict = target.verdicts[0]
        margin = "" if verdict.margin is None else f" ({verdict.margin:.2f}×)"
        if not verdict.holds and (verdict.margin is None or verdict.margin >= 1):
            margin = f" (errors {share(verdict.error_rate)})"
        details.append(f"all traffic together {'holds' if verdict.holds else 'misses'} it{margin}")
    shown = "–" if number is None else f"{number:,}"
    return Card(plain(target.tier), target.requirement, shown, mood, word, row["statement"], tuple(details))
