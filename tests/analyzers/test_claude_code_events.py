"""Log events of Claude Code: calls and tools, and one with what the proxy and its traces tell."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import open_source

ToLines = Callable[[str], str]
EPOCH_NS = 1_767_225_600 * 10**9


def event(
    name: str, at: float, sequence: int, *, session: str = "s", trace: str = "", span: str = "", **more: Any
) -> str:
    """A line with one event at its end, `at` seconds into 2026, as the collector's file exporter writes it."""
    attributes = {"session.id": session, "event.name": name, "event.sequence": sequence, "user.id": "u"} | {
        key.replace("__", "."): value for key, value in more.items()
    }
    record = {
        "timeUnixNano": str(EPOCH_NS + round(at * 1e9)),
        "body": {"stringValue": f"claude_code.{name}"},
        "attributes": [
            {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}}
            for key, value in attributes.items()
        ],
        "traceId": trace,
        "spanId": span,
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}}]}
    scope = {"name": "com.anthropic.claude_code.events"}
    logs = [{"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": [record]}]}]
    return json.dumps({"resourceLogs": logs}) + "\n"


def request(at: float, sequence: int, **more: Any) -> str:
    facts = {"model": "claude-x", "duration_ms": 2500, "input_tokens": 2, "output_tokens": 30}
    facts |= {"cache_read_tokens": 90, "cache_creation_tokens": 8, "cost_usd": "0.25"}
    return event("api_request", at, sequence, **(facts | more))


TOOLS = "SELECT tool_name, tool_call_id, duration_s, duration_source, is_error, trajectory_id FROM tool_calls"


def rows(path: Path, sql: str) -> list[dict[str, Any]]:
    with open_source(str(path)) as database:
        assert database.skipped.lines == 0
        found: list[dict[str, Any]] = database.query(sql).to_pylist()
        return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "otel.jsonl"


def test_events_alone_are_calls_and_tools_with_their_cost(file: Path) -> None:
    file.write_text(
        event("user_prompt", 0, 1, prompt__id="p", prompt_length=5)
        + request(4, 2, prompt__id="p", request_id="req_1")
        + event(
            "tool_result",
            7,
            3,
            prompt__id="p",
            tool_name="Bash",
            tool_use_id="toolu_1",
            success="false",
            duration_ms=1500,
        )
        + event("api_error", 8, 4, model="claude-x", status_code=529, error="overloaded", duration_ms=500, attempt=1)
        + request(12, 5, agent_id="g", prompt__id="p")
        + request(13, 6, query_source="compact")
    )
    turns = rows(
        file,
        """SELECT trajectory_id, run_id, kind, status, http_status, error_type, e2e_latency_s, input_tokens,
        cached_input_tokens, output_tokens, ttft_s, cost, cost_basis, request_model, agent_name, provider
        FROM turns ORDER BY start_ns""",
    )
    assert [list(row.values())[:7] for row in turns] == [
        ["s", "p", "turn", "ok", None, None, 2.5],
        ["s", turns[1]["run_id"], "turn", "error", 529, "overloaded", 0.5],
        ["s/g", "p", "turn", "ok", None, None, 2.5],
        ["s", turns[3]["run_id"], "auxiliary", "ok", None, None, 2.5],
    ]
    assert list(turns[0].values())[7:] == [100, 90, 30, None, 0.25, "told", "claude-x", "claude-code", "anthropic"]
    assert rows(file, TOOLS) == [
        {
            "tool_name": "Bash",
            "tool_call_id": "toolu_1",
            "duration_s": 1.5,
            "duration_source": "client",
            "is_error": True,
            "trajectory_id": "s",
        }
    ]


@pytest.mark.parametrize(
    ("words", "merges"),
    [
        ({"request_id": "req_1"}, True),
        ({}, True),
        ({"session": "other"}, False),
        ({"output_tokens": 31}, False),
    ],
)
def test_a_call_that_the_proxy_tells_too_is_the_proxys_with_the_cost(
    file: Path, to_lines: ToLines, words: dict[str, Any], merges: bool
) -> None:
    """By the request's id; without one by session, tokens and time."""
    call = "call t=1 end=3 first=0.5 last=3 in=100 out=30 request=req_1 gen_ai.conversation.id=s"
    file.write_text(to_lines(call) + request(4.01, 1, **words))
    turns = rows(file, "SELECT trajectory_id, ttft_s, cost FROM turns ORDER BY trajectory_id")
    if merges:
        assert turns == [{"trajectory_id": "a", "ttft_s": 0.5, "cost": 0.25}]
    else:
        session = words.get("session", "s")
        assert [(row["trajectory_id"], row["cost"]) for row in turns] == [("a", None), (session, 0.25)]


def test_a_call_that_all_three_tell_counts_once(file: Path, to_lines: ToLines) -> None:
    file.write_text(
        to_lines(
            """
            call t=1 end=3 first=0.5 last=3 in=100 out=30 request=req_1
            span t=1..4 trace=9 id=e1 name=claude_code.llm_request kind=client session.id=s request_id=req_1
            tool t=4..9 turn=0 id=toolu_1
            span t=5..8 trace=9 name=claude_code.tool session.id=s tool_name=Bash tool_use_id=toolu_1
            """
        )
        + request(4, 1, request_id="req_1")
        + event("tool_result", 8, 2, tool_name="Bash", tool_use_id="toolu_1", success="true", duration_ms=2900)
    )
    assert rows(file, "SELECT trajectory_id, ttft_s, cost FROM turns") == [
        {"trajectory_id": "a", "ttft_s": 0.5, "cost": 0.25}
    ]
    assert rows(file, "SELECT trajectory_id, duration_s, duration_source FROM tool_calls") == [
        {"trajectory_id": "a", "duration_s": 3, "duration_source": "client"}
    ]


def test_an_event_within_a_span_of_claude_code_adds_its_cost_to_it(file: Path, to_lines: ToLines) -> None:
    span = "span t=1..4 trace=9 id=e1 name=claude_code.llm_request kind=client session.id=s ttft_ms=500"
    file.write_text(to_lines(span) + request(4, 1, trace="9".rjust(32, "0"), span="e1".rjust(16, "0")))
    assert rows(file, "SELECT ttft_s, cost FROM turns") == [{"ttft_s": 0.5, "cost": 0.25}]


def test_events_are_read_beside_the_spans_of_a_store(tmp_path: Path, to_lines: ToLines) -> None:
    (tmp_path / "spans-a-0.jsonl").write_text(to_lines("call t=1 end=3 in=100 out=30 request=req_1"))
    (tmp_path / "spans-claude-code.jsonl").write_text(request(4, 1, request_id="req_1"))
    assert rows(tmp_path, "SELECT trajectory_id, cost FROM turns") == [{"trajectory_id": "a", "cost": 0.25}]


def test_an_event_that_is_exported_twice_counts_once(file: Path) -> None:
    file.write_text(request(4, 1) * 2 + request(4, 2))
    with open_source(str(file)) as database:
        assert database.query("SELECT count(*) AS n FROM turns").to_pylist() == [{"n": 2}]
        assert database.skipped.duplicates == 1


def test_other_records_are_passed_over_and_broken_ones_counted(file: Path) -> None:
    others = [
        event("api_request", 1, 1).replace("claude_code", "codex"),
        '{"resourceLogs":[]}\n',
        '{"resourceSpans":[]}\n',
    ]
    file.write_text("".join(others))
    with pytest.raises(SourceError, match="holds no spans"):
        open_source(str(file))
    untimed = request(4, 1).replace(str(EPOCH_NS + 4 * 10**9), "soon")
    broken = ['{"resourceLogs":[{"scopeLogs":7}]}\n', untimed, '{"resourceMetrics":[]}\n']
    file.write_text("".join([*others, *broken, request(5, 2)]))
    with open_source(str(file)) as database:
        assert database.skipped.lines == 3
        assert all("not an OTLP line" in example for example in database.skipped.examples)
        assert database.query("SELECT count(*) AS n FROM turns").to_pylist() == [{"n": 1}]
