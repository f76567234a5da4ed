"""The report for a terminal: 80 columns are enough, wider ones are used where they help."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from otel_agentperf_analyzers.report.model import (
    Benchmark,
    Figures,
    Jobs,
    LiveCapacity,
    Load,
    Report,
    Target,
    Tool,
    Undefined,
    Verdict,
    Work,
)
from otel_agentperf_analyzers.report.reasons import REASONS

__all__ = ["amount", "count", "digits", "heading", "integer", "money", "plain", "plain_table", "render", "share"]

_ABSENT: Final = "–"
_ROOMY: Final = 120
"""Columns from which tables show their less telling figures too."""

_TOOLS: Final = 15
"""Tools that are shown; the others are summed up in a line."""

_EXPLAINED: Final = ("ttft", "output_speed", "job_latency", "max_context", "cache_hit")
"""Metrics of the report whose missing values are counted in it."""


def render(report: Report, console: Console) -> None:
    """Print the report."""
    width = console.width
    console.print(_title(report))
    for benchmark in report.benchmarks:
        jobs = [row for row in report.jobs if row.benchmark_id == benchmark.benchmark_id]
        _section(console, _benchmark(benchmark, jobs, width))
    live = [row for row in report.jobs if row.benchmark_id is None]
    if report.live:
        _section(console, _live(report, live, width))
    if not report.benchmarks and not report.live:
        console.print("\nNo turns of agents: nothing to judge.")
    if any(row.cost is not None or row.success_rate is not None for row in report.work):
        _section(console, _work(report.work))
    if report.tools:
        _section(console, _tools(report.tools))
    if undefined := [row for row in report.undefined if row.metric in _EXPLAINED]:
        _section(console, _undefined(undefined))


def _section(console: Console, parts: Iterable[RenderableType]) -> None:
    for part in parts:
        console.print(part)


def heading(*parts: str | None) -> Text:
    """A line above a table, set off from what is before it."""
    first, *rest = [plain(part) for part in parts if part]
    return Text.assemble("\n", (first, "bold"), *(f" · {part}" for part in rest))


def _title(report: Report) -> Text:
    counts = report.counts
    text = Text.assemble(("AgentPerf report", "bold"), f" of {plain(report.source)}")
    if counts.first_time is not None and counts.last_time is not None:
        text.append(f"\n{_time(counts.first_time)} to {_time(counts.last_time)}")
    parts = [
        count(counts.trajectories, "trajectory"),
        count(counts.turns, "turn"),
        count(counts.tool_calls, "tool call"),
    ]
    if counts.auxiliary_calls:
        parts.append(count(counts.auxiliary_calls, "auxiliary call"))
    retries = counts.attempts - counts.turns - counts.auxiliary_calls
    if retries:
        parts.append(count(retries, "retry"))
    text.append(f"\n{' · '.join([*parts, count(counts.spans, 'span')])}")
    if report.unread.lines:
        skipped = count(report.unread.lines, "unreadable line")
        text.append(f"\n{skipped} skipped, the first is {plain(report.unread.examples[0])}", "yellow")
    return text


def _benchmark(benchmark: Benchmark, jobs: Sequence[Jobs], width: int) -> Iterable[RenderableType]:
    preset = f"preset {benchmark.preset}" if benchmark.preset else None
    accelerators = count(benchmark.accelerators, "accelerator") if benchmark.accelerators else None
    yield heading(f"Benchmark {benchmark.benchmark_id}", benchmark.model, preset, accelerators)
    if benchmark.levels:
        yield _figures(benchmark.levels, width, benchmark=True)
        yield from _pooled(benchmark.levels)
    yield from _verdicts(benchmark.targets, benchmark=True)
    if jobs:
        yield heading("Jobs", "all phases, shares of their time")
        yield _jobs(jobs, width, benchmark=True)


def _live(report: Report, jobs: Sequence[Jobs], width: int) -> Iterable[RenderableType]:
    yield heading("Live traffic", None if report.benchmarks else "no benchmark")
    yield _figures(report.live, width, benchmark=False)
    yield from _pooled(report.live)
    yield from _verdicts(report.live_targets, benchmark=False)
    yield from _live_capacity(report.live_capacity)
    if jobs:
        yield heading("Jobs", "shares of their time")
        yield _jobs(jobs, width, benchmark=False)


_BOTH, _WIDE, _BENCHMARK, _WIDE_BENCHMARK = range(4)
"""Where a figure is shown: always, in a benchmark only with room, only in benchmarks, only in benchmarks with room."""

_FIGURES: Final[tuple[tuple[str, Callable[[Figures], str], int], ...]] = (
    ("turns", lambda it: integer(it.turns), _BOTH),
    ("jobs\ndone", lambda it: integer(it.completed_trajectories), _BENCHMARK),
    ("TTFT s\nP50", lambda it: digits(it.ttft_p50_s), _BOTH),
    ("TTFT s\nP95", lambda it: digits(it.ttft_p95_s), _BOTH),
    ("tok/s\nP25", lambda it: digits(it.output_speed_p25_tps), _BOTH),
    ("tok/s\nP50", lambda it: digits(it.output_speed_p50_tps), _BOTH),
    ("E2E s\nP50", lambda it: digits(it.e2e_latency_p50_s), _BOTH),
    ("E2E s\nP95", lambda it: digits(it.e2e_latency_p95_s), _WIDE),
    ("input\ntokens", lambda it: amount(it.input_tokens), _WIDE),
    ("output\ntokens", lambda it: amount(it.output_tokens), _WIDE),
    ("cache\nhit", lambda it: share(it.cache_hit), _BOTH),
    ("errors", lambda it: share(it.error_rate), _BOTH),
    ("out\ntok/s", lambda it: digits(it.output_throughput_tps), _BENCHMARK),
    ("in\nflight", lambda it: digits(it.inflight), _BENCHMARK),
    ("active\nagents", lambda it: digits(it.active_agents), _WIDE_BENCHMARK),
)
"""Columns of the table of levels or models: heading, value, and where it is shown."""


def _figures(rows: Sequence[Figures], width: int, *, benchmark: bool) -> Table:
    roomy = width >= _ROOMY
    if benchmark:
        shown = {_BOTH, _BENCHMARK, _WIDE, _WIDE_BENCHMARK} if roomy else {_BOTH, _BENCHMARK}
    else:
        shown = {_BOTH, _WIDE}
    columns = [(name, value) for name, value, where in _FIGURES if where in shown]
    table = plain_table(roomy)
    if benchmark:
        table.add_column("agents", justify="right", no_wrap=True)
    else:
        table.add_column("model", overflow="fold")
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        first = integer(row.agents) if benchmark else Text(plain(row.model or "(none)"))
        table.add_row(first, *(value(row) for _, value in columns))
    return table


def _verdicts(targets: Sequence[Target], *, benchmark: bool) -> Iterable[RenderableType]:
    """Levels down, tiers across; then what it comes to, in words."""
    for policy, model in dict.fromkeys((target.policy, target.model) for target in targets):
        group = [target for target in targets if (target.policy, target.model) == (policy, model)]
        for_trial = None if all(target.comparable for target in group) else "not comparable with published results"
        yield heading(f"SLO {policy}", model, for_trial)
        table = plain_table(roomy=True)
        table.add_column("agents", justify="right")
        for target in group:
            table.add_column("\n".join((plain(target.tier), *target.requirement)), justify="right")
        for row in zip(*(target.verdicts for target in group), strict=True):
            agents = integer(row[0].agents)
            table.add_row(agents if benchmark else f"~{agents}", *map(_verdict, row))
        yield table
        if benchmark:
            yield Text("\n".join(f"{plain(target.tier)}: {_capacity(target)}" for target in group))
        yield from _invalid(group[0])


def _verdict(verdict: Verdict) -> Text:
    if verdict.holds is None:
        return Text("not defined", "dim")
    text = Text.assemble(("pass", "green") if verdict.holds else ("miss", "red"))
    if not verdict.holds and (verdict.margin is None or verdict.margin >= 1):
        text.append(f" errors {share(verdict.error_rate)}")
    elif verdict.margin is not None:
        text.append(f" {verdict.margin:.2f}×")
    if not verdict.valid:
        text.append("*", "yellow")
    return text


def _capacity(target: Target) -> str:
    """The highest level that holds the tier, and how sure that is."""
    if target.max_agents_if_valid is None:
        words = "no level holds it" if target.first_miss is not None else "no level can be judged"
    else:
        words = count(target.max_agents_if_valid, "agent")
        words += ", the highest level" if target.first_miss is None else f", missed at {target.first_miss:,}"
        if target.max_agents != target.max_agents_if_valid:
            valid = "no lower level is" if target.max_agents is None else f"{target.max_agents:,} is"
            words += f"; not valid as a result*, {valid}"
    if target.agents_per_accelerator is not None:
        words += f"; {digits(target.agents_per_accelerator)} per accelerator"
    if target.agents_per_mw is not None:
        words += f"; {digits(target.agents_per_mw)} per MW"
    if not target.monotone:
        words += "; a level above holds it again, so repeat the benchmark"
    return words


def _live_capacity(tiers: Sequence[LiveCapacity]) -> Iterable[RenderableType]:
    """Loads down, tiers across; then what it comes to, in words."""
    for policy, model in dict.fromkeys((tier.policy, tier.model) for tier in tiers):
        group = [tier for tier in tiers if (tier.policy, tier.model) == (policy, model)]
        now = group[0].agents_now
        at_work = None if now is None else f"{digits(now)} agents at work on average"
        yield heading(f"Capacity {policy}", model, at_work)
        table = plain_table(roomy=True)
        for name in ("agents\nat work", "trajec-\ntories", "turns"):
            table.add_column(name, justify="right", no_wrap=True)
        for tier in group:
            table.add_column(plain(tier.tier), justify="right", overflow="fold")
        for loads in zip(*(tier.curve for tier in group), strict=True):
            low, high = loads[0].agents_low, loads[0].agents_high
            load = integer(low) if low == high else f"{low:,}–{high:,}"
            table.add_row(load, integer(loads[0].trajectories), integer(loads[0].turns), *map(_shown, loads))
        yield table
        words = {plain(tier.tier): _stated(tier) for tier in group}
        if len(group) > 1 and len(set(words.values())) == 1:
            words = {"all tiers": next(iter(words.values()))}
        yield Text("\n".join(f"{tier}: {statement}" for tier, statement in words.items()))


def _shown(load: Load) -> Text:
    """The verdict at a load, and what stands in the way of one or decides it."""
    text = Text(load.verdict, {"holds": "green", "fails": "red"}.get(load.verdict, "dim"))
    if load.verdict in ("fails", "unclear"):
        for target in load.targets:
            if target.low is None or target.high is None:
                continue
            beyond = target.low < target.wanted if target.bound == "min" else target.high > target.wanted
            if beyond:
                text.append(f" {digits(target.low)}–{digits(target.high)}")
                break
    return text


def _stated(tier: LiveCapacity) -> str:
    words = tier.statement
    if tier.headroom_agents is not None:
        spare = tier.headroom_agents
        words += f"; headroom {digits(spare)}" if spare >= 0 else f"; on average {digits(-spare)} more are at work"
    for figure, unit in (
        (tier.agents_per_accelerator, "accelerator"),
        (tier.agents_per_mw, "MW"),
        (tier.agents_per_dollar_hour, "currency/h"),
    ):
        if figure is not None:
            words += f"; {digits(figure)} per {unit}"
    return words


def _invalid(target: Target) -> Iterable[Text]:
    """Why levels are not valid; the rules are the policy's, so one tier speaks for all."""
    for verdict in target.verdicts:
        if verdict.reasons:
            where = count(verdict.agents, "agent") if verdict.agents is not None else "this level"
            yield Text(f"* not valid at {where}: {', '.join(verdict.reasons)}", "yellow")


def _jobs(rows: Sequence[Jobs], width: int, *, benchmark: bool) -> Table:
    roomy = width >= _ROOMY
    told = any(row.succeeded or row.failed for row in rows)
    named = not benchmark or len({row.agent_name for row in rows}) > 1
    table = plain_table(roomy)
    if benchmark:
        table.add_column("agents", justify="right", no_wrap=True)
    if named:
        table.add_column("agent", overflow="fold")
    names = ["begun", "done", "job s\nP50", "job s\nP95", "LLM", "tools", "harness", "human", "turns", "tool\ncalls"]
    names += ["output\ntokens", "longest\ncontext"] if roomy else []
    names += ["success"] if told else []
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [integer(row.agents)] if benchmark else []
        if named:
            cells.append(Text(plain(row.agent_name or "(unnamed)")))
        cells += [integer(row.trajectories), integer(row.completed)]
        cells += [digits(row.job_latency_p50_s), digits(row.job_latency_p95_s)]
        parts = (row.llm_time_s, row.tool_time_s, row.harness_time_s, row.human_time_s)
        total = sum(part for part in parts if part is not None)
        cells += [share(part / total if total and part is not None else None) for part in parts]
        cells += [integer(row.turns), integer(row.tool_calls)]
        cells += [amount(row.output_tokens), amount(row.max_context_tokens)] if roomy else []
        if told:
            cells.append(f"{row.succeeded:,} of {row.succeeded + row.failed:,}")
        table.add_row(*cells)
    return table


def _work(rows: Sequence[Work]) -> Iterable[RenderableType]:
    """What tasks cost and how they came out."""
    yield heading("Tasks, outcome and cost")
    table = plain_table(roomy=True)
    table.add_column("of", overflow="fold")
    names = (
        "tasks",
        "ended",
        "success",
        "un-\nknown",
        "success\nper hour",
        "tokens per\nsuccess",
        "cost",
        "cost per\ntask",
    )
    for name in (*names, "cost per\nsuccess"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        of = "live traffic" if row.benchmark_id is None else f"{plain(row.benchmark_id)}, {row.level} agents"
        if row.dimension != "all":
            of = f"  {row.dimension.replace('_', ' ')} {plain(row.dimension_value or '')}"
        table.add_row(
            Text(of),
            integer(row.tasks),
            integer(row.ended),
            share(row.success_rate),
            integer(row.unknown),
            digits(row.tasks_per_hour),
            digits(row.tokens_per_completed_task),
            money(row.cost),
            money(row.cost_per_task),
            money(row.cost_per_completed_task),
        )
    yield table
    unpriced = sum(row.unpriced_calls for row in rows if row.dimension == "all")
    if unpriced and any(row.cost is not None for row in rows):
        yield Text(f"{count(unpriced, 'call')} without a price, left out of the cost", "yellow")


def _pooled(rows: Sequence[Figures]) -> Iterable[Text]:
    """What the tables leave out: pooled speeds with their population, and tokens that are estimates."""
    for row in rows:
        if row.pooled_speed_tps is not None:
            of = count(row.agents, "agent") if row.agents is not None else plain(row.model or "(none)")
            yield Text(
                f"{of}: pooled {digits(row.pooled_speed_tps)} tok/s, without the {share(row.tool_call_turn_share)} of "
                f"turns that return tool calls; {digits(row.pooled_e2e_speed_tps)} end to end with them",
                "dim",
            )
        if row.estimated_turns:
            yield Text(f"{count(row.estimated_turns, 'turn')} with estimated tokens, in no speed", "yellow")


def _tools(tools: Sequence[Tool]) -> Iterable[RenderableType]:
    yield heading("Tools")
    table = plain_table(roomy=True)
    table.add_column("tool", overflow="fold")
    for name in ("calls", "P50 s", "P95 s", "total s", "errors", "repeated"):
        table.add_column(name, justify="right", no_wrap=True)
    for tool in tools[:_TOOLS]:
        table.add_row(
            Text(plain(tool.tool_name or "(unknown)")),
            integer(tool.calls),
            digits(tool.duration_p50_s),
            digits(tool.duration_p95_s),
            digits(tool.total_s),
            integer(tool.errors),
            integer(tool.repeated),
        )
    yield table
    if others := tools[_TOOLS:]:
        yield Text(f"and {count(len(others), 'other tool')} with {count(sum(it.calls for it in others), 'call')}")


def _undefined(counted: Sequence[Undefined]) -> Iterable[RenderableType]:
    yield heading("Without a value")
    for metric, relation in dict.fromkeys((row.metric, row.relation) for row in counted):
        rows = [row for row in counted if (row.metric, row.relation) == (metric, relation)]
        reasons = "; ".join(f"{REASONS[row.reason]}: {row.count:,}" for row in rows)
        total = count(sum(row.count for row in rows), "turn" if relation == "turns" else "trajectory")
        yield Text(f"{metric}: {total} ({reasons})")
    yield Text("Of all metrics: otel-agentperf query 'FROM undefined'", "dim")


def plain_table(roomy: bool) -> Table:
    """A table without a frame."""
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        header_style="dim",
        padding=(0, 1, 0, 0) if roomy else (0, 0, 0, 0),
    )


def plain(text: str) -> str:
    """What a span says, without what would drive the terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def count(number: int, noun: str) -> str:
    """A number of things."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def integer(value: int | None) -> str:
    """With thousands set apart."""
    return _ABSENT if value is None else f"{value:,}"


def money(value: float | None) -> str:
    """An amount of a currency, which may be a small part of its unit."""
    return _ABSENT if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def digits(value: float | None) -> str:
    """Three digits, thousandths at most."""
    if value is None:
        return _ABSENT
    size = abs(value)
    return f"{value:,.{3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0}f}"


def amount(value: int | None) -> str:
    """Tokens with three digits: 131k, 2.40M."""
    if value is None:
        return _ABSENT
    for unit, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= unit:
            scaled = value / unit
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{suffix}"
    return f"{value:,}"


def share(value: float | None) -> str:
    """In percent."""
    return _ABSENT if value is None else f"{value * 100:.1f}%"
