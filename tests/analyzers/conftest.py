"""Spans in a compact notation, as OTLP JSON lines; see `tests/cases/metrics/README.md`."""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import golden
import pytest

from otel_agentperf import semconv
from otel_agentperf_analyzers import Database, Inputs, open_source

EPOCH_S = 1_767_225_600
"""2026-01-01T00:00:00Z, second 0 of every case."""

_CALL = {
    "model": semconv.GEN_AI_REQUEST_MODEL,
    "parent": semconv.TRAJECTORY_PARENT_ID,
    "segment": semconv.SEGMENT_INDEX,
    "agent": semconv.AGENT_INDEX,
    "name": semconv.GEN_AI_AGENT_NAME,
    "bench": semconv.BENCHMARK_ID,
    "level": semconv.LEVEL,
    "phase": semconv.PHASE,
    "outcome": semconv.OUTCOME,
    "domain": semconv.TASK_DOMAIN,
    "request": semconv.REQUEST_ID,
    "http": semconv.HTTP_RESPONSE_STATUS_CODE,
    "error": semconv.ERROR_TYPE,
    "in": semconv.GEN_AI_USAGE_INPUT_TOKENS,
    "out": semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
    "cached": semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
    "written": semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
    "reasoning": semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
    "tools": semconv.TOOL_CALL_COUNT,
    "chunks": semconv.CHUNK_COUNT,
    "sent": semconv.TIME_SENT,
    "chunk": semconv.TIME_FIRST_CHUNK,
    "first": semconv.TIME_FIRST_OUTPUT,
    "answer": semconv.TIME_FIRST_ANSWER,
    "last": semconv.TIME_LAST_OUTPUT,
    "end": semconv.TIME_END,
    "gap_p50": semconv.CHUNK_GAP_P50_S,
    "gap_p95": semconv.CHUNK_GAP_P95_S,
    "gap_p99": semconv.CHUNK_GAP_P99_S,
    "gap_max": semconv.CHUNK_GAP_MAX_S,
    "stalls": semconv.CHUNK_STALL_COUNT,
    "overhead": semconv.PROXY_OVERHEAD_S,
    "shared": semconv.PREFIX_SHARED_BYTES,
    "system_bytes": semconv.CONTEXT_SYSTEM_BYTES,
    "tools_bytes": semconv.CONTEXT_TOOLS_BYTES,
    "messages_bytes": semconv.CONTEXT_MESSAGES_BYTES,
    "results_bytes": semconv.CONTEXT_TOOL_RESULTS_BYTES,
    "usage": semconv.USAGE_SOURCE,
    "server": semconv.SERVER_ADDRESS,
    "port": semconv.SERVER_PORT,
    "task": semconv.TASK_ID,
}
_LEVEL = {
    "bench": semconv.BENCHMARK_ID,
    "level": semconv.LEVEL,
    "completed": semconv.LEVEL_COMPLETED,
    "preset": semconv.LEVEL_PRESET,
    "accelerators": semconv.ACCELERATOR_COUNT,
    "power": semconv.POWER_MEAN_W,
}
_TYPES: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(
        ("segment", "agent", "level", "http", "in", "out", "cached", "written", "reasoning", "tools", "chunks"), int
    ),
    **dict.fromkeys(("completed", "accelerators", "stalls", "port", "shared"), int),
    **dict.fromkeys(("system_bytes", "tools_bytes", "messages_bytes", "results_bytes"), int),
    **dict.fromkeys(("sent", "chunk", "first", "answer", "last", "end", "overhead", "power"), float),
    **dict.fromkeys(("gap_p50", "gap_p95", "gap_p99", "gap_max"), float),
}


def attribute(name: str, value: Any) -> dict[str, Any]:
    """A key and value as OTLP JSON has them."""
    match value:
        case bool():
            encoded: dict[str, Any] = {"boolValue": value}
        case int():
            encoded = {"intValue": str(value)}
        case float():
            encoded = {"doubleValue": value}
        case list():
            encoded = {"arrayValue": {"values": [attribute("", item)["value"] for item in value]}}
        case _:
            encoded = {"stringValue": value}
    return {"key": name, "value": encoded}


def span(
    number: int,
    name: str,
    start_s: float,
    end_s: float,
    attributes: dict[str, Any],
    *,
    kind: int = 1,
    trace: str = "1",
    identifier: str = "",
    parent: str = "",
    link: str = "",
) -> dict[str, Any]:
    """One span as OTLP JSON has it; ids are filled up with zeros, a link is `TRACE/SPAN`."""
    linked, _, linked_span = link.partition("/")
    return {
        "traceId": trace.rjust(32, "0"),
        "spanId": (identifier or f"{number:x}").rjust(16, "0"),
        "parentSpanId": parent and parent.rjust(16, "0"),
        "links": [{"traceId": linked.rjust(32, "0"), "spanId": linked_span.rjust(16, "0")}] if link else [],
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(EPOCH_S * 10**9 + round(start_s * 1e9)),
        "endTimeUnixNano": str(EPOCH_S * 10**9 + round(end_s * 1e9)),
        "attributes": [attribute(key, value) for key, value in attributes.items()],
        "status": {},
    }


def line(*spans: dict[str, Any]) -> str:
    """One OTLP JSON line."""
    resource = {"attributes": [attribute("service.name", "otel-agentperf")]}
    scope = {"name": semconv.SCOPE_NAME}
    document = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}
    return json.dumps(document, separators=(",", ":"))


def parse_spans(text: str) -> Iterator[dict[str, Any]]:
    """Spans of the compact notation."""
    defaults: dict[str, str] = {}
    rows = (re.split(r"(?:^|\s)#\s", row)[0].strip() for row in text.splitlines())
    for number, written in enumerate(filter(None, rows), 1):
        kind, *words = shlex.split(written)
        fields = {key: value or "yes" for key, _, value in (word.partition("=") for word in words)}
        if kind == "all":
            defaults = fields
            continue
        yield _MAKERS[kind](number, {**{k: v for k, v in defaults.items() if kind == "call"}, **fields})


def _extra(fields: dict[str, str]) -> dict[str, Any]:
    """Attributes named in full, `NAME=VALUE` with a dot in the name; numbers are numbers."""
    found: dict[str, Any] = {}
    for name in [name for name in fields if "." in name]:
        value = fields.pop(name)
        try:
            found[name] = int(value)
        except ValueError:
            found[name] = value
    return found


def _named(fields: dict[str, str], names: dict[str, str]) -> dict[str, Any]:
    found = {names[key]: _TYPES.get(key, str)(value) for key, value in fields.items() if key in names}
    unknown = fields.keys() - names.keys()
    assert not unknown, f"unknown words in the notation: {unknown}"
    return found


def _bounds(fields: dict[str, str]) -> tuple[float, float]:
    start, _, end = fields.pop("t").partition("..")
    return float(start), float(end)


def _call(number: int, fields: dict[str, str]) -> dict[str, Any]:
    attributes = _extra(fields)
    t0 = float(fields.pop("t"))
    trajectory = fields.pop("traj", "a")
    index = fields.pop("turn", "0")
    auxiliary = fields.pop("aux", None) is not None
    attributes |= {
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
        semconv.DIALECT: "openai.chat",
        semconv.GEN_AI_REQUEST_MODEL: "m",
        semconv.TRAJECTORY_ID: trajectory,
        semconv.TRAJECTORY_SOURCE: semconv.Source.LAUNCHER,
        semconv.RUN_ID: f"{trajectory}/{fields.pop('run', '0')}",
        semconv.TURN_ID: f"{trajectory}/{'aux' if auxiliary else ''}{index}",
        semconv.TURN_KIND: semconv.KIND_AUXILIARY if auxiliary else semconv.KIND_TURN,
        semconv.ATTEMPT_INDEX: int(fields.pop("attempt", "0")),
        semconv.STATUS: fields.pop("status", semconv.Status.OK),
    }
    if not auxiliary:
        attributes[semconv.TURN_INDEX] = int(index)
    if fields.pop("plain", None) is None:
        attributes[semconv.GEN_AI_REQUEST_STREAM] = True
    if fields.pop("final", None) is not None:
        attributes[semconv.TRAJECTORY_FINAL] = True
    if reason := fields.pop("finish", None):
        attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] = [reason]
    end = float(fields["end"])
    under, link = fields.pop("under", ""), fields.pop("link", "")
    attributes |= _named(fields, _CALL)
    return span(number, "chat m", t0, t0 + end, attributes, kind=3, parent=under, link=link)


def _tool(number: int, fields: dict[str, str]) -> dict[str, Any]:
    start, end = _bounds(fields)
    trajectory = fields.pop("traj", "a")
    attributes = {
        **_extra(fields),
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
        semconv.GEN_AI_TOOL_NAME: fields.pop("name", "bash"),
        semconv.TRAJECTORY_ID: trajectory,
        semconv.RUN_ID: f"{trajectory}/{fields.pop('run', '0')}",
        semconv.TOOL_TURN_ID: f"{trajectory}/{fields.pop('turn', '0')}",
        semconv.TOOL_DURATION_SOURCE: fields.pop("source", semconv.DURATION_GAP),
    }
    for word, name in (("error", semconv.TOOL_ERROR), ("repeated", semconv.TOOL_REPEATED)):
        if fields.pop(word, None) is not None:
            attributes[name] = True
    if call_id := fields.pop("id", None):
        attributes[semconv.GEN_AI_TOOL_CALL_ID] = call_id
    assert not fields, f"unknown words in the notation: {fields.keys()}"
    return span(number, f"execute_tool {attributes[semconv.GEN_AI_TOOL_NAME]}", start, end, attributes)


def _run(number: int, fields: dict[str, str]) -> dict[str, Any]:
    start, end = _bounds(fields)
    trajectory = fields.pop("traj", "a")
    attributes = {
        **_extra(fields),
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_AGENT,
        semconv.TRAJECTORY_ID: trajectory,
        semconv.RUN_ID: f"{trajectory}/{fields.pop('run', '0')}",
        semconv.STATUS: fields.pop("status", semconv.Status.OK),
    }
    assert not fields, f"unknown words in the notation: {fields.keys()}"
    return span(number, "invoke_agent", start, end, attributes)


def _level(number: int, fields: dict[str, str]) -> dict[str, Any]:
    start, end = _bounds(fields)
    return span(number, semconv.SPAN_LEVEL, start, end, {**_extra(fields), **_named(fields, _LEVEL)})


def _span(number: int, fields: dict[str, str]) -> dict[str, Any]:
    start, end = _bounds(fields)
    kind = {"internal": 1, "server": 2, "client": 3}[fields.pop("kind", "internal")]
    names = ("trace", "id", "parent", "link")
    trace, identifier, parent, link = (fields.pop(name, "1" if name == "trace" else "") for name in names)
    name = fields.pop("name", "span")
    attributes = _extra(fields) | fields
    return span(
        number, name, start, end, attributes, kind=kind, trace=trace, identifier=identifier, parent=parent, link=link
    )


_MAKERS = {"call": _call, "tool": _tool, "run": _run, "level": _level, "span": _span}


@pytest.fixture(scope="session")
def to_lines() -> Callable[[str], str]:
    """The notation as OTLP JSON lines, one span each."""

    def to_lines(notation: str) -> str:
        return "".join(line(each) + "\n" for each in parse_spans(notation))

    return to_lines


@pytest.fixture(scope="session")
def traffic(to_lines: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden spans in one file."""
    directory = tmp_path_factory.mktemp("golden")
    path = directory / "spans.jsonl"
    path.write_text(golden.lines(to_lines, directory / "stores"))
    return path


@pytest.fixture
def open_spans(tmp_path: Path, to_lines: Callable[[str], str]) -> Iterator[Callable[..., Database]]:
    """A database over spans in the notation; closed after the test."""
    with ExitStack() as stack:

        def open_spans(notation: str, inputs: Inputs = Inputs()) -> Database:
            path = tmp_path / "spans.jsonl"
            path.write_text(to_lines(notation))
            return stack.enter_context(open_source(str(path), inputs=inputs))

        yield open_spans


@pytest.fixture
def open_many(tmp_path: Path) -> Iterator[Callable[[Iterable[dict[str, Any]]], Database]]:
    """A database over spans made with `make_span`."""
    with ExitStack() as stack:

        def open_many(spans: Iterable[dict[str, Any]]) -> Database:
            path = tmp_path / "spans.jsonl"
            path.write_text(line(*spans) + "\n")
            return stack.enter_context(open_source(str(path)))

        yield open_many


@pytest.fixture
def make_call() -> Callable[..., dict[str, Any]]:
    """A call span from the words of the notation, for tests that draw their values."""

    def make_call(number: int, **words: object) -> dict[str, Any]:
        return _call(number, {key.rstrip("_"): str(value) for key, value in words.items() if value is not None})

    return make_call
