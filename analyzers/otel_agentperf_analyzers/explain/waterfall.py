"""One trajectory as a waterfall for the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers.database import Database
from otel_agentperf_analyzers.report.text import amount, digits, plain, plain_table, share

__all__ = ["find_trajectory", "waterfall"]

_NARROWEST: Final = 16
"""Columns of the bars."""

_WIDEST: Final = 60
_CANDIDATES: Final = 5

_WAIT, _WORK, _TOOL, _HUMAN, _OTHER = "░", "█", "▒", "·", "▪"
LEGEND: Final = (
    f"{_WAIT} first token  {_WORK} answer  {_TOOL} tool  {_OTHER} sub-agent, earlier attempt  {_HUMAN} human"
)


def find_trajectory(database: Database, name: str) -> str:
    """The id of a trajectory from its id, or from a beginning that only one has.

    Raises:
        UsageError: there is none, or several.
    """
    sql = """
        SELECT trajectory_id FROM trajectories
        WHERE trajectory_id = $name OR STARTS_WITH(trajectory_id, $name)
        ORDER BY trajectory_id <> $name, start_time, trajectory_id
        LIMIT $limit
    """
    found: list[str] = (
        database.fetch(sql, {"name": name, "limit": _CANDIDATES + 1}).column("trajectory_id").to_pylist()
        if name
        else []
    )
    if not found:
        raise UsageError(f"no trajectory {name!r}; `otel-agentperf trajectories` lists them")
    if found[0] != name and len(found) > 1:
        more = ", ..." if len(found) > _CANDIDATES else ""
        raise UsageError(f"{name!r} begins several trajectories: {', '.join(found[:_CANDIDATES])}{more}")
    return found[0]


def waterfall(database: Database, trajectory: str, console: Console) -> None:
    """Print what happened in a trajectory, one line per event, with a bar on its time axis."""
    [head] = database.relation("trajectories", trajectory=trajectory).to_pylist()
    parts = database.relation("time_breakdown", trajectory=trajectory).to_pylist()
    events = database.relation("timeline", trajectory=trajectory).to_pylist()
    console.print(_title(head))
    for row in parts:
        console.print(_times(row))
    end_s = max((event["offset_s"] + event["duration_s"] for event in events), default=0.0)
    width = max(_NARROWEST, min(_WIDEST, console.width - 78))
    table = plain_table(roomy=True)
    table.add_column("at s", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column(f"0 {'─' * (width - len(digits(end_s)) - 5)} {digits(end_s)} s", no_wrap=True)
    for name in ("s", "TTFT", "input", "cached", "output", "tok/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for event in events:
        table.add_row(*_cells(event, end_s, width))
    console.print()
    console.print(table)
    console.print(Text(LEGEND, "dim"))


def _title(head: dict[str, Any]) -> Text:
    text = Text.assemble(("Trajectory ", "bold"), (plain(head["trajectory_id"]), "bold"))
    for part in (head["agent_name"], head["request_model"], head["deployment"], head["task_domain"]):
        if part:
            text.append(f" · {plain(part)}")
    line = [f"{head['turns']:,} turns", f"{head['tool_calls']:,} tool calls", f"status {head['status']}"]
    line.append(f"outcome {head['outcome']}")
    if head["cost"] is not None:
        line.append(f"cost {head['cost']:.4g}")
    text.append(f"\n{' · '.join(line)}")
    cache = [f"{name} {share(head[key])}" for name, key in _CACHE if head[key] is not None]
    if head["max_context_tokens"] is not None:
        cache.append(f"longest context {amount(head['max_context_tokens'])}")
    if head["context_growth_tokens"] is not None:
        cache.append(f"growing by {digits(head['context_growth_tokens'])} tokens per turn")
    if head["compactions"]:
        cache.append(f"{head['compactions']} compactions")
    if cache:
        text.append(f"\n{' · '.join(cache)}")
    trouble = [f"{head[key]:,} {name}" for name, key in _TROUBLE if head[key]]
    if trouble:
        text.append(f"\n{' · '.join(trouble)}", "yellow")
    return text


_CACHE: Final = (("cache hit", "cache_hit"), ("optimal", "optimal_cache_hit"), ("efficiency", "hit_efficiency"))
_TROUBLE: Final = (
    ("failed turns", "failed_turns"),
    ("retries", "retries"),
    ("tool errors", "tool_errors"),
    ("recovered", "recoveries"),
    ("repeated tool calls", "repeated_tool_calls"),
    ("loops", "loops"),
    ("stalls", "stalls"),
    ("wasted tokens", "wasted_tokens"),
)
_PARTS: Final = (
    ("queue", "queue_s"),
    ("prefill", "prefill_s"),
    ("first token", "first_token_s"),
    ("answers", "decode_s"),
    ("calls not streamed", "unsplit_s"),
    ("retries", "retries_s"),
    ("tools", "tool_s"),
    ("harness", "harness_s"),
    ("human", "human_s"),
)


def _times(row: dict[str, Any]) -> Text:
    total = row["total_s"] or 0.0
    parts = [
        f"{name} {digits(row[key])} s ({share(row[key] / total)})" for name, key in _PARTS if total and row[key] > 0
    ]
    return Text(f"{digits(total)} s: {', '.join(parts)}")


def _cells(event: dict[str, Any], end_s: float, width: int) -> Sequence[str | Text]:
    kind, name = event["event"], event["name"] or ""
    if kind == "turn":
        what = f"turn {event['turn_index']}"
    elif kind in ("tool", "subagent"):
        what = f"  {kind} {plain(name)}" if name else f"  {kind}"
    else:
        what = f"  {kind}" if kind == "attempt" else kind
    cached = event["cached_input_tokens"]
    hit = cached / event["input_tokens"] if cached is not None and event["input_tokens"] else None
    note = Text(plain(event["note"] or ""), "yellow" if event["status"] not in (None, "ok") else "")
    return (
        digits(event["offset_s"]),
        what,
        "".join(_bar(event, end_s, width)),
        digits(event["duration_s"]),
        "" if event["first_token_s"] is None else digits(event["first_token_s"]),
        "" if event["input_tokens"] is None else amount(event["input_tokens"]),
        "" if hit is None else share(hit),
        "" if event["output_tokens"] is None else amount(event["output_tokens"]),
        "" if event["output_speed_tps"] is None else digits(event["output_speed_tps"]),
        note,
    )


def _bar(event: dict[str, Any], end_s: float, width: int) -> Iterator[str]:
    """The event's part of the time axis; at least one sign."""
    scale = width / end_s if end_s > 0 else 0.0
    first = min(int(event["offset_s"] * scale), width - 1)
    last = min(max(first + 1, round((event["offset_s"] + event["duration_s"]) * scale)), width)
    answer = last
    if event["event"] == "turn" and event["first_token_s"] is not None:
        # A retried turn's last attempt is at its end.
        waited_s = event["duration_s"] - (event["decode_s"] or 0.0)
        answer = min(max(first, round((event["offset_s"] + waited_s) * scale)), last - 1)
    sign = {"turn": _WORK, "auxiliary": _WORK, "tool": _TOOL, "human": _HUMAN}.get(event["event"], _OTHER)
    for position in range(width):
        if not first <= position < last:
            yield " "
        else:
            yield _WAIT if event["event"] == "turn" and answer != last and position < answer else sign
