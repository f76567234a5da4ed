"""Plots of what got done, and what it cost."""

from collections.abc import Iterator, Sequence
from typing import Final

from otel_agentperf_analyzers.report.charts import specs
from otel_agentperf_analyzers.report.charts.model import Chart
from otel_agentperf_analyzers.report.model import Work
from otel_agentperf_analyzers.report.text import count, digits, plain

__all__ = ["WORK", "tasks"]

WORK: Final = "Outcomes and cost"
"""Heading of these plots."""

BARS: Final = 12
"""Bars of a plot."""

_COMPARED: Final = ("agent", "model", "deployment")
"""Dimensions of live traffic that have a bar for each value; benchmarks have one for each level."""


def tasks(work: Sequence[Work]) -> Iterator[Chart]:
    """How tasks came out, and what each cost, where that is known."""
    told = [row for row in work if row.success_rate is not None]
    rows, more = _compared(told)
    if rows:
        yield Chart(
            id="outcomes",
            section=WORK,
            title="How tasks came out",
            caption="As launchers, evaluations or a file told it; what nobody told is no failure." + _more(more),
            spec=specs.ends([_name(row) for row in rows]),
            rows=[
                {"of": _name(row), "outcome": outcome, "tasks": number, "rank": rank}
                for row in rows
                for rank, (outcome, number) in enumerate(
                    zip(specs.ENDS, (row.succeeded, row.failed, row.unknown), strict=True)
                )
                if number
            ],
            sample=[],
            height=34 * len(rows) + 20,
        )
    rows, more = _compared([row for row in work if row.cost_per_task is not None])
    if rows:
        costs = {_name(row): row.cost_per_task or 0.0 for row in rows}
        yield Chart(
            id="costs",
            section=WORK,
            title="Cost per task",
            caption="By the prices that were given; sub-agents are part of their task." + _more(more),
            spec=specs.bars(list(costs), "cost", "currency", max(costs.values())),
            rows=[{"of": name, "cost": cost, "told": digits(cost)} for name, cost in costs.items()],
            sample=[],
            height=34 * len(rows) + 20,
        )


def _compared(work: Sequence[Work]) -> tuple[list[Work], int]:
    """Rows worth a bar, those with the most tasks, and how many others there are."""
    rows = [row for row in work if row.dimension == "all" or (row.benchmark_id is None and row.dimension in _COMPARED)]
    kept = sorted(rows, key=lambda row: -row.tasks)[:BARS]
    return [row for row in rows if row in kept], len(rows) - len(kept)


def _more(number: int) -> str:
    return f" {count(number, 'bar')} of fewer tasks left out." if number else ""


def _name(row: Work) -> str:
    if row.benchmark_id is not None:
        of = count(row.level, "agent") if row.level is not None else "no level"
        return f"{plain(row.benchmark_id)}, {of}"
    return "live traffic" if row.dimension == "all" else f"{row.dimension} {plain(row.dimension_value or '')}"
