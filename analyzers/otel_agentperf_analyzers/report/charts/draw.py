"""The plots of a report: their data from the relations, bounded however much the source holds."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

import msgspec

from otel_agentperf.policies import Tier
from otel_agentperf_analyzers import curve
from otel_agentperf_analyzers.database import Database
from otel_agentperf_analyzers.explain import Explanation
from otel_agentperf_analyzers.report.charts import judged, specs
from otel_agentperf_analyzers.report.charts.model import Chart
from otel_agentperf_analyzers.report.charts.story import story
from otel_agentperf_analyzers.report.charts.work import tasks
from otel_agentperf_analyzers.report.model import Benchmark, Figures, Report
from otel_agentperf_analyzers.report.text import count, digits, integer, plain

__all__ = ["BENCHMARKS", "MODELS", "charts", "left_out"]

BENCHMARKS: Final = 6
"""The newest benchmarks are drawn; tables have all."""

MODELS: Final = 4
"""Of live traffic the models with the most turns are drawn; tables have all."""

SAMPLE: Final = 120
"""Single turns that are drawn for a level or load, and for a whole plot the sixfold."""

STEPS: Final = 60
"""Points of a curve over turns."""

ROWS: Final = 12
"""Bars of a plot."""

_TITLES: Final = {
    "ttft": "time to first token, s",
    "server_ttft": "time to first token of the server, s",
    "time_to_first_chunk": "time to first chunk, s",
    "ttfot": "time to first token that is not reasoning, s",
    "tpot": "time per output token, s",
    "e2e_latency": "end to end, s",
    "output_speed": "output speed, tok/s",
    "e2e_speed": "speed end to end, tok/s",
}
_OF_TOKENS: Final = ("output_speed", "e2e_speed", "tpot")
"""Undefined where tokens are an estimate."""

_ALWAYS: Final = ("ttft", "output_speed")

_PARTS: Final = {
    "first_token_s": "first token",
    "queue_s": "queue",
    "prefill_s": "prefill",
    "decode_s": "answer",
    "unsplit_s": "not split",
    "retries_s": "retries",
    "tool_s": "tool",
    "harness_s": "harness",
    "human_s": "human",
}


def charts(
    database: Database,
    report: Report,
    explanation: Explanation,
    *,
    tiers: Sequence[Tier] = (),
    benchmark: str | None = None,
) -> tuple[Chart, ...]:
    """The plots for a report.

    Args:
        report, explanation: of the same database, tiers and benchmark.
        tiers: what the report was judged by.
        benchmark: what it was restricted to.
    """
    slo = database.slo(tiers).to_pylist()
    made: list[Chart] = []
    for number, each in enumerate(_newest(report.benchmarks)):
        of_benchmark = [row for row in slo if row["benchmark_id"] == each.benchmark_id]
        made += _benchmark(database, each, f"benchmark-{number + 1}", of_benchmark)
    if report.live:
        made += _live(database, report.live[:MODELS], _loads(report))
    made += _times(explanation)
    made += tasks(report.work)
    return tuple(made)


def left_out(report: Report) -> tuple[str, ...]:
    """What is in the tables only, in words."""
    told = []
    if len(report.benchmarks) > BENCHMARKS:
        told.append(f"Plots show the {BENCHMARKS} newest of {len(report.benchmarks):,} benchmarks; tables have all.")
    if len(report.live) > MODELS:
        told.append(
            f"Plots of live traffic show the {MODELS} models with the most turns of {len(report.live):,}; "
            "tables have all."
        )
    return tuple(told)


def section_of(benchmark: Benchmark) -> str:
    """Heading of a benchmark's plots."""
    return f"Benchmark {plain(benchmark.benchmark_id)}"


LIVE: Final = "Live traffic"
"""Heading of the plots of traffic outside benchmarks."""

TIME: Final = "Where the time went"
"""Heading of the plots of time."""


def rows_of(database: Database, name: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows of one of the plots' own queries."""
    sql = (files(__package__) / "sql" / f"{name}.sql").read_text("utf-8")
    rows: list[dict[str, Any]] = database.fetch(sql, parameters).to_pylist()
    return rows


def _newest(benchmarks: Sequence[Benchmark]) -> list[Benchmark]:
    known = [each for each in benchmarks if each.start_time is not None]
    known.sort(key=lambda each: str(each.start_time), reverse=True)
    return known[:BENCHMARKS]


def _benchmark(database: Database, benchmark: Benchmark, prefix: str, slo: list[dict[str, Any]]) -> Iterator[Chart]:
    section = section_of(benchmark)
    levels = [row for row in slo if row["level"] is not None]
    yield from margins_of(
        f"{prefix}-capacity",
        section,
        judged.of_levels(levels),
        "Every level against every tier: how many times better than the tighter target the judged percentiles are. A "
        "tier holds up to where its line crosses 1.",
    )
    for metric in _metrics(levels):
        rows = rows_of(
            database,
            "level_spread",
            {
                "benchmark": benchmark.benchmark_id,
                "metric": metric,
                "of_tokens": metric in _OF_TOKENS,
                "sample": _sample(len(benchmark.levels)),
            },
        )
        yield from _spread(f"{prefix}-{metric}", section, metric, rows, levels, "turns in the levels' steady windows")
    yield from _contexts(database, f"{prefix}-context", section, benchmark.benchmark_id, benchmark.model)
    yield from _traffic(database, f"{prefix}-traffic", section, benchmark.benchmark_id)
    yield from story(rows_of, database, prefix, section, benchmark.benchmark_id)


def _live(database: Database, models: Sequence[Figures], loads: list[dict[str, Any]]) -> Iterator[Chart]:
    [highest] = rows_of(database, "highest_load")
    lows = [low for low, _ in curve.bins(int(highest["agents"]))]
    metrics = _metrics(loads)
    spreads = {
        metric: rows_of(
            database,
            "load_spread",
            {"lows": lows, "metric": metric, "of_tokens": metric in _OF_TOKENS, "sample": _sample(len(lows))},
        )
        for metric in metrics
    }
    highs = dict(curve.bins(int(highest["agents"])))
    for number, figures in enumerate(models):
        prefix = f"live-{number + 1}"
        name = plain(figures.model or "(no model)")
        section = f"{LIVE} · {name}"
        of_model = [row for row in loads if row["model"] == figures.model]
        yield from margins_of(
            f"{prefix}-capacity",
            section,
            judged.of_loads(of_model),
            "Turns by the number of agents that were at work meanwhile: how many times better than the tighter target "
            "they were, with 95 % intervals over trajectories. A load holds when its whole interval is above 1.",
        )
        for metric in metrics:
            rows = [row | {"agents_high": highs[row["agents_low"]]} for row in spreads[metric]]
            rows = [row for row in rows if row["model"] == figures.model]
            population = f"turns of {name}, by the agents at work meanwhile"
            yield from _spread(f"{prefix}-{metric}", section, metric, rows, of_model, population)
        yield from _contexts(database, f"{prefix}-context", section, None, figures.model)
    yield from _traffic(database, "live-traffic", LIVE, None)
    yield from story(rows_of, database, "live", LIVE, None)


def _sample(loads: int) -> int:
    """Single turns that are drawn for each of so many loads."""
    return max(10, min(SAMPLE, 6 * SAMPLE // max(loads, 1)))


def _loads(report: Report) -> list[dict[str, Any]]:
    """Loads of live traffic, as relation `capacity_curve` has them."""
    rows = []
    for capacity in report.live_capacity:
        policy, _, version = capacity.policy.rpartition("@")
        tier = {"policy": policy, "version": version, "tier": capacity.tier, "model": capacity.model}
        rows += [{**msgspec.to_builtins(load), **tier} for load in capacity.curve]
    return rows


def _metrics(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Metrics that are drawn: what every tier is about, and what these tiers ask for."""
    return list(dict.fromkeys((*_ALWAYS, *(target["metric"] for row in rows for target in row["targets"]))))


def margins_of(prefix: str, section: str, rows: list[dict[str, Any]], caption: str) -> Iterator[Chart]:
    """A plot of each policy's margins, rows of `judged`; those without a place on the axis are left out and counted."""
    for policy in dict.fromkeys(row["policy"] for row in rows):
        of_policy = [row for row in rows if row["policy"] == policy]
        known = [row for row in of_policy if row["margin"] and math.isfinite(row["margin"])]
        if not known:
            continue
        ends = [row[key] for row in known for key in ("margin", "margin_low", "margin_high") if row[key]]
        ends = [end for end in ends if math.isfinite(end)]
        extent = (min(0.5, min(ends) * 0.8), max(2.0, max(ends) * 1.25))
        undefined = len(of_policy) - len(known)
        note = f" {count(undefined, 'verdict')} without a value left out." if undefined else ""
        seen = [name for name in specs.VERDICTS if any(row["verdict"] == name for row in known)]
        signs = ", ".join(f"{specs.VERDICTS[name][1]} {name}" for name in seen)
        yield Chart(
            id=f"{prefix}-{policy}",
            section=section,
            title=f"Capacity by {policy}",
            caption=f"{caption} {signs}.{note}",
            spec=specs.margins(
                list(dict.fromkeys(row["tier"] for row in of_policy)),
                sorted({row["agents"] for row in known}),
                extent,
                with_intervals=any(row["margin_low"] for row in known),
            ),
            rows=of_policy,
            sample=[],
            height=300,
        )


def _spread(
    id_: str, section: str, metric: str, rows: list[dict[str, Any]], verdicts: list[dict[str, Any]], population: str
) -> Iterator[Chart]:
    if not rows:
        return
    found = judged.percentiles(verdicts, metric)
    name, at, low_is_good = judged.judged_by(verdicts, metric)
    drawn, sample = [], []
    for row in rows:
        load = _load(row["agents_low"], row["agents_high"])
        p5, p25, p50, p75, p95 = row["percentiles"]
        own = dict(zip((5.0, 25.0, 50.0, 75.0, 95.0), row["percentiles"], strict=True)).get(at)
        drawn.append(
            {"load": load, "turns": row["turns"], "p5": p5, "p25": p25, "p50": p50, "p75": p75, "p95": p95}
            | {"judged": found.get(row["agents_low"], own)}
        )
        for place, turn in enumerate(row["sample"]):
            # Spread evenly instead of at random: the golden ratio's multiples.
            jitter = round((place * 0.618034) % 1 * 2 - 1, 3)
            sample.append(
                {"load": load, "jitter": jitter, "figure": turn["figure"]}
                | {"trajectory": turn["trajectory_id"], "turn": turn["turn_index"]}
            )
    turns = sum(row["turns"] for row in rows)
    lines = judged.bounds(verdicts, metric)
    ends = [row[key] for row in drawn for key in ("p5", "p95", "judged") if row[key]]
    ends += [turn["figure"] for turn in sample] + [line["value"] for line in lines]
    yield Chart(
        id=id_,
        section=section,
        title=_TITLES[metric].partition(",")[0].capitalize(),
        caption=f"{integer(turns)} {population}: 5th to 95th percentile, quartiles and median; the diamond is {name}, "
        f"which tiers judge by ({'lower' if low_is_good else 'higher'} is better), the dashed lines are the tiers'. "
        + (f"Dots are a sample of {len(sample):,} turns." if len(sample) < turns else "Dots are the turns."),
        spec=specs.spread(
            _TITLES[metric], [row["load"] for row in drawn], (min(ends) * 0.85, max(ends) * 1.2), lines, name
        ),
        rows=drawn,
        sample=sample,
        height=300,
    )


def _load(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _traffic(database: Database, id_: str, section: str, benchmark: str | None) -> Iterator[Chart]:
    buckets = rows_of(database, "traffic", {"benchmark": benchmark})
    if len(buckets) < 2:
        return
    names = {"active_agents": "agents at work", "inflight": "open calls"}
    if any(row["active_subagents"] for row in buckets):
        names["active_subagents"] = "sub-agents at work"
    extent = buckets[-1]["bucket_start"] - buckets[0]["bucket_start"]
    yield Chart(
        id=id_,
        section=section,
        title="Agents and calls over time",
        caption=f"Means over buckets of {digits(buckets[0]['bucket_s'])} s, weighted by time. An agent that waits "
        "for a tool is at work; between its runs it is not.",
        spec=specs.traffic(list(names.values()), extent.total_seconds()),
        rows=[row for key, name in names.items() for row in _steps(buckets, key, name)],
        sample=[],
        height=220,
        is_wide=True,
    )


def _steps(buckets: Sequence[dict[str, Any]], key: str, name: str) -> Iterator[dict[str, Any]]:
    """Values at the beginnings of buckets; nothing where there is no bucket."""
    ends = None
    for row in buckets:
        begins = row["bucket_start"]
        if ends is not None and begins > ends:
            yield _step(ends, name, 0.0)
        yield _step(begins, name, row[key])
        ends = begins + timedelta(seconds=row["bucket_s"])
    if ends is not None:
        yield _step(ends, name, 0.0)


def _step(time: datetime, name: str, mean: float) -> dict[str, Any]:
    moment = time.astimezone(UTC)
    told = moment.strftime("%Y-%m-%d %H:%M:%S")
    return {"time": moment.isoformat().replace("+00:00", "Z"), "told": told, "what": name, "mean": mean}


def _contexts(database: Database, id_: str, section: str, benchmark: str | None, model: str | None) -> Iterator[Chart]:
    rows = rows_of(database, "contexts", {"benchmark": benchmark, "model": model, "steps": STEPS})
    if len(rows) < 2:
        return
    width = rows[1]["turn_index"] - rows[0]["turn_index"]
    together = f", {width} turns taken together" if width > 1 else ""
    yield Chart(
        id=id_,
        section=section,
        title="Context and cache by turn",
        caption=f"Input tokens of {integer(sum(row['turns'] for row in rows))} turns by their place in the "
        f"trajectory{together}, and how many came from the server's cache where it tells. Later turns are of the "
        "longer trajectories only.",
        spec=specs.contexts(),
        rows=rows,
        sample=[],
        height=300,
    )


def _times(explanation: Explanation) -> Iterator[Chart]:
    times = sorted(explanation.times, key=lambda row: -row.total_s)[:ROWS] if explanation.times else []
    times.sort(key=lambda row: (row.benchmark_id or "", row.level or 0, row.model or ""))
    several = len({row.benchmark_id for row in times}) > 1
    rows, labels = [], []
    for row in times:
        of = plain(row.model or "(no model)")
        if row.benchmark_id is not None:
            level = count(row.level, "agent") if row.level is not None else "no level"
            of = f"{level} · {plain(row.benchmark_id)}" if several else level
        labels.append(of)
        for rank, (key, part) in enumerate(_PARTS.items()):
            seconds = getattr(row, key)
            if seconds > 0 and row.total_s > 0:
                share = seconds / row.total_s
                rows.append({"of": of, "part": part, "share": share, "seconds": seconds, "rank": rank})
    if rows:
        more = len(explanation.times) - len(times)
        yield Chart(
            id="time",
            section=TIME,
            title="Time of the trajectories",
            caption="Each instant counts once, for the first of: answer, prefill, queue, first token, not split, "
            "retries, tool, harness, human." + (f" {more:,} shorter bars are left out." if more else ""),
            spec=specs.shares(
                list(dict.fromkeys(labels)), [part for part in _PARTS.values() if any(r["part"] == part for r in rows)]
            ),
            rows=rows,
            sample=[],
            height=46 * len(set(labels)) + 20,
        )
    causes = [row for row in explanation.causes if row.excess_s > 0][:ROWS]
    if causes:
        yield Chart(
            id="causes",
            section=TIME,
            title="Why turns took longer",
            caption="Time of turns beyond the median of their model, by what took the most of it.",
            spec=specs.bars([row.cause for row in causes], "seconds", "seconds beyond the median", causes[0].excess_s),
            rows=[
                {
                    "of": row.cause,
                    "seconds": row.excess_s,
                    "turns": row.turns,
                    "told": f"{digits(row.excess_s)} s in {count(row.turns, 'turn')}",
                }
                for row in causes
            ],
            sample=[],
            height=34 * len(causes) + 20,
        )
