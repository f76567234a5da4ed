"""Waterfalls of single trajectories."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_agentperf_analyzers.database import Database
from otel_agentperf_analyzers.report.charts import specs
from otel_agentperf_analyzers.report.charts.model import Chart
from otel_agentperf_analyzers.report.charts.style import PARTS
from otel_agentperf_analyzers.report.text import amount, count, digits, plain

__all__ = ["story"]

LINES: Final = 48
"""Turns that are drawn, those with the most time."""

SUBAGENTS: Final = 12
"""Sub-agents with a line of their own; the others share one."""

Rows = Callable[[Database, str, dict[str, Any]], list[dict[str, Any]]]


def story(rows_of: Rows, database: Database, prefix: str, section: str, benchmark: str | None) -> Iterator[Chart]:
    """The slowest trajectory of a benchmark, or of live traffic, and the one in the middle."""
    for head in rows_of(database, "telling", {"benchmark": benchmark}):
        trajectory = {"trajectory": head["trajectory_id"]}
        calls, beside = rows_of(database, "calls_of", trajectory), rows_of(database, "beside", trajectory)
        pieces = [*_calls(calls), *_beside(beside)]
        lines, left_out = _lines(pieces)
        drawn = [piece for piece in pieces if piece["line"] in lines]
        parts = [part for part in PARTS if any(piece["part"] == part for piece in drawn)]
        yield Chart(
            id=f"{prefix}-{head['which']}-trajectory",
            section=section,
            title=f"The {head['which']} trajectory, {digits(head['job_latency_s'])} s",
            caption=_caption(head, left_out),
            spec=specs.waterfall(lines, parts),
            rows=drawn,
            sample=[],
            height=max(14 * len(lines), 60),
            is_wide=True,
        )


def _caption(head: dict[str, Any], left_out: int) -> str:
    said = [f"Trajectory {plain(head['trajectory_id'])}"]
    said += [plain(head[key]) for key in ("agent_name", "model") if head[key]]
    if head["level"] is not None:
        said.append(count(head["level"], "agent"))
    said += [count(head["turns"], "turn"), count(head["tool_calls"], "tool call"), f"status {head['status']}"]
    if head["outcome"] != "unknown":
        said.append(f"outcome {head['outcome']}")
    if head["cost"] is not None:
        said.append(f"cost {digits(head['cost'])}")
    text = f"{', '.join(said)}; of {count(head['places'], 'trajectory')} with several turns."
    if left_out:
        text += f" The {LINES} turns with the most time are shown, {count(left_out, 'shorter one')} left out."
    return text


def _calls(calls: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for call in calls:
        line = (
            f"turn {call['turn_index']}" if call["kind"] == "turn" and call["turn_index"] is not None else "auxiliary"
        )
        start, end = call["start_s"], call["end_s"]
        what = f"attempt {call['attempt_index']}, {call['status']}" if call["attempt_index"] else str(call["status"])
        if call["input_tokens"] is not None:
            cached = f" ({amount(call['cached_input_tokens'])} cached)" if call["cached_input_tokens"] else ""
            what += f", {amount(call['input_tokens'])} in{cached}, {amount(call['output_tokens'])} out"
        if call["output_speed_tps"] is not None:
            what += f", {digits(call['output_speed_tps'])} tok/s"
        if call["error_type"]:
            what += f", {plain(call['error_type'])}"
        if not call["is_last"] or call["status"] in ("error", "cancelled", "truncated"):
            yield _piece(line, "failed attempt", start, end, what)
        elif call["ttft_s"] is None:
            yield _piece(line, "not split", start, end, what)
        else:
            yield _piece(line, "first token", start, start + call["ttft_s"], what)
            yield _piece(line, "answer", start + call["ttft_s"], end, what)


def _beside(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    agents = 0
    for event in events:
        name = plain(event["name"] or "")
        what = ", ".join(filter(None, (name, event["status"], event["note"])))
        if event["event"] == "tool":
            line = f"turn {event['turn_index']}" if event["turn_index"] is not None else "tools"
            yield _piece(line, "tool", event["start_s"], event["end_s"], what)
        elif event["event"] == "subagent":
            agents += 1
            line = f"sub-agent {agents}" if agents <= SUBAGENTS else "other sub-agents"
            yield _piece(line, "sub-agent", event["start_s"], event["end_s"], what)
        else:
            yield _piece("human", "human", event["start_s"], event["end_s"], what)


def _piece(line: str, part: str, start_s: float, end_s: float, what: str) -> dict[str, Any]:
    seconds = max(end_s - start_s, 0.0)
    times = {"start_s": round(start_s, 6), "end_s": round(end_s, 6), "seconds": round(seconds, 6)}
    return {"line": line, "part": part, **times, "what": what}


def _lines(pieces: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Lines to draw in order of their beginning, and how many turns are left out."""
    begins: dict[str, float] = {}
    spent: dict[str, float] = {}
    for piece in pieces:
        line = piece["line"]
        begins[line] = min(begins.get(line, piece["start_s"]), piece["start_s"])
        spent[line] = spent.get(line, 0.0) + piece["seconds"]
    turns = sorted((line for line in begins if line.startswith("turn ")), key=lambda line: -spent[line])
    hidden = set(turns[LINES:])
    return sorted((line for line in begins if line not in hidden), key=begins.__getitem__), len(hidden)
