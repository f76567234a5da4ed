"""A look as text: the tables that the terminal view and the plain output share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from otel_agentperf_analyzers.report.text import amount, count, digits, heading, integer, plain, plain_table, share
from otel_agentperf_analyzers.report.watch.model import Agent, Now, Slow, Standing

__all__ = ["TABLES", "Table", "headline", "render"]

Cell = Callable[[Any], Text]


@dataclass(frozen=True)
class Table:
    """One of the tables."""

    name: str
    title: str
    rows: Callable[[Now], Sequence[Any]]
    key: Callable[[Any], str]
    """Tells a row from the others, from one look to the next."""
    columns: tuple[tuple[str, Cell, bool], ...]
    """Heading, cell, and whether it stands to the right."""
    trajectory: Callable[[Any], str] | None = None
    """The trajectory that a row is about."""


def headline(now: Now) -> Text:
    """The state in a line."""
    text = Text.assemble(
        (f"{now.agents_last_minute:,}", "bold"),
        " agents in the last minute · ",
        (f"{now.agents:,}", "bold"),
        f" in {duration(now.window_s)} · ",
        (f"{now.turns:,}", "bold"),
        f" turns, {now.turns / now.window_s * 60:.1f} per min",
    )
    if now.failed_turns:
        text.append(f" · {now.failed_turns:,} failed", "red")
    if not now.turns:
        text = Text(f"no turn in the last {duration(now.window_s)}", "yellow")
    return text


def render(now: Now, console: Console) -> None:
    """Print all tables."""
    console.print(Text.assemble((plain(now.source), "bold"), f" at {now.at:%Y-%m-%d %H:%M:%S %Z}"))
    console.print(headline(now))
    for each in TABLES:
        rows = each.rows(now)
        if not rows:
            continue
        table = plain_table(roomy=True)
        for title, _, right in each.columns:
            table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=right)
        for row in rows:
            table.add_row(*(cell(row) for _, cell, _ in each.columns))
        console.print(heading(each.title))
        console.print(table)
    if now.agents > len(now.seen):
        console.print(Text(f"and {count(now.agents - len(now.seen), 'agent')} seen earlier", "dim"))


def duration(seconds: float) -> str:
    """Such as `40 s`, `15 min`, `2 h`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            scaled = seconds / size
            return f"{scaled:.0f} {unit}" if scaled >= 10 or scaled == round(scaled) else f"{scaled:.1f} {unit}"
    return f"{seconds:.0f} s"


def _text(name: str) -> Cell:
    return lambda row: Text(plain(str(getattr(row, name) or "")))


def _number(name: str, show: Callable[[Any], str]) -> Cell:
    return lambda row: Text(show(getattr(row, name)))


def _bad(name: str, show: Callable[[Any], str]) -> Cell:
    """Red unless nothing."""
    return lambda row: Text(show(getattr(row, name)), "red" if getattr(row, name) else "")


def _where(row: Standing | Agent) -> Text:
    if row.benchmark_id is None:
        return Text("live")
    return Text(f"{plain(row.benchmark_id)}{f' {row.level}' if row.level is not None else ''}")


def _verdict(row: Standing) -> Text:
    if row.holds is None:
        return Text("–", "dim")
    margin = "" if row.margin is None else f" {row.margin:.2f}×"
    if not row.holds and (row.margin is None or row.margin >= 1):
        margin = f" errors {share(row.error_rate)}"
    return Text(f"{'holds' if row.holds else 'misses'}{margin}", "green" if row.holds else "red")


def _seen(row: Agent) -> Text:
    if row.is_completed:
        return Text("done", "dim")
    return Text(duration(row.last_seen_s), "green" if row.last_seen_s < 60 else "")


def _seconds(row: Slow) -> Text:
    usual = row.typical_e2e_latency_s
    return Text(digits(row.e2e_latency_s), "red" if usual is not None and row.e2e_latency_s > 3 * usual else "")


TABLES: Final = (
    Table(
        "models",
        "Models",
        lambda now: now.models,
        lambda row: str(row.model),
        (
            ("model", lambda row: Text(plain(row.model or "(none)")), False),
            ("turns", _number("turns", integer), True),
            ("per min", _number("turns_per_min", digits), True),
            ("TTFT P50 s", _number("ttft_p50_s", digits), True),
            ("P95 s", _number("ttft_p95_s", digits), True),
            ("tok/s P25", _number("output_speed_p25_tps", digits), True),
            ("P50", _number("output_speed_p50_tps", digits), True),
            ("out tok/s", _number("output_tps", digits), True),
            ("cache", _number("cache_hit", share), True),
            ("errors", _bad("error_rate", share), True),
        ),
    ),
    Table(
        "tiers",
        "SLO tiers",
        lambda now: now.standings,
        lambda row: f"{row.policy} {row.tier} {row.model} {row.benchmark_id} {row.level}",
        (
            ("of", _where, False),
            ("model", lambda row: Text(plain(row.model or "(none)")), False),
            ("tier", _text("tier"), False),
            ("agents", _number("agents", integer), True),
            ("verdict", _verdict, False),
            ("goodput", _number("goodput", share), True),
            ("found", _text("found"), False),
        ),
    ),
    Table(
        "agents",
        "Agents",
        lambda now: now.seen,
        lambda row: str(row.trajectory_id),
        (
            ("trajectory", _text("trajectory_id"), False),
            ("agent", _text("agent_name"), False),
            ("seen", _seen, True),
            ("turns", _number("turns", integer), True),
            ("tools", _number("tool_calls", integer), True),
            ("TTFT s", _number("ttft_s", digits), True),
            ("tok/s", _number("output_speed_tps", digits), True),
            ("context", _number("max_context_tokens", amount), True),
            ("output", _number("output_tokens", amount), True),
            ("LLM s", _number("llm_time_s", digits), True),
            ("tool s", _number("tool_time_s", digits), True),
            ("failed", _bad("failed_turns", integer), True),
            ("retries", _number("retries", integer), True),
            ("model", _text("model"), False),
            ("of", _where, False),
        ),
        lambda row: str(row.trajectory_id),
    ),
    Table(
        "slowest",
        "Slowest turns",
        lambda now: now.slowest,
        lambda row: f"{row.trajectory_id} {row.turn_index}",
        (
            ("trajectory", _text("trajectory_id"), False),
            ("turn", _number("turn_index", integer), True),
            ("s", _seconds, True),
            ("usual s", _number("typical_e2e_latency_s", digits), True),
            ("ended", lambda row: Text(f"{duration(row.ended_s)} ago"), True),
            ("output", _number("output_tokens", amount), True),
            ("cause", _text("cause"), False),
            ("status", lambda row: Text(row.status, "" if row.status == "ok" else "red"), False),
            ("model", _text("model"), False),
        ),
        lambda row: str(row.trajectory_id),
    ),
)
"""All of them, in order."""
