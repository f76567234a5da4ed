"""A store with all that a report can show: live traffic whose load rises and falls, with retries, failures, sub-agents,
outcomes and waits for people, of two models; and two benchmarks. Made from a seed: the same again each time."""

import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from otel_agentperf import semconv

NOON = datetime(2026, 7, 31, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 10**9

HOSTILE = "</script><img src=x onerror=alert(1)>"
"""Name of one of the tools: what a client says must stay text."""

Attributes = dict[str, object]


def write(directory: Path, *, agents: int = 180, benchmarks: int = 2, seed: int = 7) -> Path:
    """Write a store of some thousands of spans."""
    directory.mkdir(parents=True, exist_ok=True)
    spans = [*_live(random.Random(seed), agents)]
    for number in range(benchmarks):
        spans += _benchmark(random.Random(seed + number), f"bench-{number + 1}", 9000.0 + 600 * number)
    write_spans(directory, spans)
    return directory


Span = tuple[str, float, float, Attributes]
"""Name, beginning and end in s after noon, attributes."""


def write_spans(directory: Path, spans: Iterable[Span]) -> None:
    """Write spans as a segment of a store."""
    lines = (_line(name, start, end, attributes, number) for number, (name, start, end, attributes) in enumerate(spans))
    (directory / "spans-busy-0.jsonl").write_text("".join(f"{line}\n" for line in lines))


def _live(chance: random.Random, agents: int) -> Iterator[Span]:
    """Agents over a quarter of an hour: few in the beginning and in the end, a dozen at once in the middle."""
    for number in range(agents):
        share = (number + 0.5) / agents
        start = 900 * ((share / 2) ** 0.5 if share < 0.5 else 1 - ((1 - share) / 2) ** 0.5)
        load = 0.5 + agents / 15 * (1 - abs(start / 450 - 1))
        model = "gpt-oss-120b" if number % 5 else "small-model"
        name = ("coder", "reviewer", "planner")[number % 3]
        tags: Attributes = {semconv.GEN_AI_AGENT_NAME: name, semconv.OUTCOME: ("success", "failure", None)[number % 3]}
        yield from trajectory(
            chance, f"agent-{number:03}", start, 3 + number % 14, load, model, tags, people=number % 4 == 0
        )
        if number % 10 == 0:
            child: Attributes = {
                semconv.TRAJECTORY_PARENT_ID: f"agent-{number:03}",
                semconv.GEN_AI_AGENT_NAME: "explorer",
            }
            yield from trajectory(chance, f"agent-{number:03}-sub", start + 2, 3, load, model, child)


def _benchmark(chance: random.Random, benchmark: str, start: float) -> Iterator[Span]:
    for level in (1, 2, 4, 8, 16):
        tags: Attributes = {semconv.BENCHMARK_ID: benchmark, semconv.LEVEL: level}
        end = start + 60
        played: Attributes = {semconv.LEVEL_COMPLETED: 3 * level, semconv.LEVEL_PRESET: "quick"}
        yield semconv.SPAN_LEVEL, start, end, {**tags, **played}
        for agent in range(level):
            at = start
            for job in range(3):
                steady: Attributes = {**tags, semconv.PHASE: semconv.PHASE_STEADY, semconv.AGENT_INDEX: agent}
                spans = list(
                    trajectory(chance, f"{benchmark}-{level}-{agent}-{job}", at, 4, level, "gpt-oss-120b", steady)
                )
                spans[-1][3][semconv.TRAJECTORY_FINAL] = True
                yield from spans
                at = spans[-1][2] + 0.1
        start = end + 5


def trajectory(
    chance: random.Random,
    name: str,
    at: float,
    turns: int,
    load: float,
    model: str,
    tags: Attributes,
    *,
    people: bool = False,
) -> Iterator[Span]:
    tokens = 4000
    run = 0
    for turn in range(turns):
        if people and turn == turns // 2:
            at += 40
            run += 1
        ttft = chance.lognormvariate(0, 0.5) * 0.15 * load**0.9
        output = 20 + int(chance.expovariate(1 / 150))
        end = ttft + output * (0.004 + 0.0012 * load)
        common: Attributes = {
            semconv.TRAJECTORY_ID: name,
            semconv.TRAJECTORY_SOURCE: semconv.Source.HEADER,
            semconv.RUN_ID: f"{name}.{run}",
            semconv.RUN_INDEX: run,
            semconv.TURN_INDEX: turn,
            semconv.GEN_AI_REQUEST_MODEL: model,
            **tags,
        }
        failed = chance.random() < 0.01
        if failed:
            yield _call(common, turn, at, 0.3, 0, ttft_s=None, tokens=None, output=None, status="error")
            at += 0.8
        yield _call(common, turn, at, end, int(failed), ttft_s=ttft, tokens=tokens, output=output, status="ok")
        at += end
        tokens += output + 600
        if turn + 1 < turns:
            tool = HOSTILE if chance.random() < 0.02 else chance.choice(("bash", "edit", "read"))
            took = chance.lognormvariate(-0.5, 0.8)
            yield (
                f"execute_tool {tool}",
                at,
                at + took,
                {
                    semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
                    semconv.GEN_AI_TOOL_NAME: tool,
                    semconv.GEN_AI_TOOL_CALL_ID: f"{name}-{turn}",
                    semconv.TOOL_TURN_ID: f"{name}.{turn}",
                    semconv.TOOL_DURATION_SOURCE: semconv.DURATION_GAP,
                    **common,
                },
            )
            at += took


def _call(
    common: Attributes,
    turn: int,
    at: float,
    end_s: float,
    attempt: int,
    *,
    ttft_s: float | None,
    tokens: int | None,
    output: int | None,
    status: str,
) -> Span:
    return (
        "chat",
        at,
        at + end_s,
        {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
            semconv.DIALECT: "openai.chat",
            semconv.GEN_AI_REQUEST_STREAM: True,
            semconv.SEGMENT_INDEX: 0,
            semconv.TURN_ID: f"{common[semconv.TRAJECTORY_ID]}.{turn}",
            semconv.TURN_KIND: semconv.KIND_TURN,
            semconv.ATTEMPT_INDEX: attempt,
            semconv.STATUS: status,
            semconv.HTTP_RESPONSE_STATUS_CODE: 200 if status == "ok" else 503,
            semconv.ERROR_TYPE: None if status == "ok" else "503",
            semconv.TIME_END: end_s,
            semconv.TIME_FIRST_CHUNK: ttft_s,
            semconv.TIME_FIRST_OUTPUT: ttft_s,
            semconv.TIME_LAST_OUTPUT: None if ttft_s is None else end_s,
            semconv.USAGE_SOURCE: semconv.USAGE_NONE if tokens is None else semconv.USAGE_SERVER,
            semconv.GEN_AI_USAGE_INPUT_TOKENS: tokens,
            semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: None if tokens is None else tokens - 700 if turn else 0,
            semconv.GEN_AI_USAGE_OUTPUT_TOKENS: output,
            semconv.TOOL_CALL_COUNT: 1,
            **common,
        },
    )


def call(trajectory: str, turn: int, at: float, end_s: float, *, parent: str | None = None) -> Span:
    """A turn of a run."""
    common: Attributes = {
        semconv.TRAJECTORY_ID: trajectory,
        semconv.TRAJECTORY_PARENT_ID: parent,
        semconv.RUN_ID: f"{trajectory}.0",
        semconv.RUN_INDEX: 0,
        semconv.TURN_INDEX: turn,
        semconv.GEN_AI_REQUEST_MODEL: "small-model",
    }
    return _call(common, turn, at, end_s, 0, ttft_s=end_s / 4, tokens=100, output=10, status="ok")


def tool(trajectory: str, turn: int, start: float, end: float, name: str) -> Span:
    """A tool that a turn asked for."""
    return (
        f"execute_tool {name}",
        start,
        end,
        {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
            semconv.GEN_AI_TOOL_NAME: name,
            semconv.GEN_AI_TOOL_CALL_ID: f"{trajectory}-{turn}-{name}",
            semconv.TOOL_TURN_ID: f"{trajectory}.{turn}",
            semconv.TOOL_DURATION_SOURCE: semconv.DURATION_GAP,
            semconv.TRAJECTORY_ID: trajectory,
            semconv.RUN_ID: f"{trajectory}.0",
            semconv.TURN_INDEX: turn,
        },
    )


def _line(name: str, start_s: float, end_s: float, attributes: Attributes, number: int) -> str:
    span = {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": name,
        "kind": 3,
        "startTimeUnixNano": str(NOON_NS + round(start_s * 1e9)),
        "endTimeUnixNano": str(NOON_NS + round(end_s * 1e9)),
        "attributes": [{"key": key, "value": _value(value)} for key, value in attributes.items() if value is not None],
        "status": {},
    }
    scope = {"scope": {"name": semconv.SCOPE_NAME}, "spans": [span]}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "otel-agentperf"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def _value(value: object) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}
