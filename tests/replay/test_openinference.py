"""OpenInference attributes: the names are those of its own package, and the messages are all there."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from openinference.semconv import trace as names
from recorded_store import called, result, span, text, turn, write
from typer.testing import CliRunner

from otel_agentperf import semconv
from otel_agentperf.cli.main import app
from otel_agentperf.replay import openinference
from otel_agentperf.replay.openinference import Converted, converted

ASKED = text("user", "what is here?")
LISTED = called("c1", "ls", {"path": "."}, words="let me see", thought="a listing would tell")
FOUND = result("c1", "a.txt")


def plain(value: dict[str, Any]) -> Any:
    [(kind, given)] = value.items()
    return int(given) if kind == "intValue" else given


def exported(source: Path, out: Path) -> list[dict[str, Any]]:
    """Attributes of every span, as Python values, with its name."""
    done = CliRunner().invoke(app, ["export", str(source), "--format", "openinference", "-o", str(out)])
    assert done.exit_code == 0, (done.output, done.exception)
    data = gzip.decompress(out.read_bytes()) if out.suffix == ".gz" else out.read_bytes()
    return [
        {"": each["name"], **{one["key"]: plain(one["value"]) for one in each["attributes"]}}
        for line in data.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for each in scope["spans"]
    ]


def test_names_are_those_of_the_conventions() -> None:
    known = {
        value
        for group in vars(names).values()
        if isinstance(group, type)
        for key, value in vars(group).items()
        if key.isupper() and isinstance(value, str)
    }
    ours = {
        value
        for name, value in vars(openinference).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_") and name != "TEXT"
    }
    assert len(ours) > 30
    assert ours <= known
    kinds = {kind.value for kind in names.OpenInferenceSpanKindValues}
    assert set(openinference._KINDS.values()) <= kinds


def test_a_call_has_model_tokens_and_parameters(tmp_path: Path) -> None:
    source = write(tmp_path / "st", turn("t1", 1, 0, [ASKED], LISTED, **{semconv.USAGE_COST: 0.25}))
    [call] = exported(source, tmp_path / "oi.jsonl")
    assert call["openinference.span.kind"] == "LLM"
    assert (call["llm.model_name"], call["llm.request.model_name"], call["llm.provider"]) == ("m-2026", "m", "openai")
    assert (call["llm.token_count.prompt"], call["llm.token_count.completion"]) == (200, 40)
    assert (call["llm.token_count.total"], call["llm.token_count.prompt_details.cache_read"]) == (240, 100)
    assert json.loads(call["llm.invocation_parameters"]) == {"temperature": 0.5, "stream": True}
    assert (call["llm.finish_reason"], call["llm.cost.total"]) == ("stop", 0.25)
    assert (call["session.id"], call["agent.name"]) == ("t1", "coder")
    assert json.loads(call["llm.tools.0.tool.json_schema"])["function"]["name"] == "ls"
    assert call[semconv.TURN_INDEX] == 1
    assert semconv.GEN_AI_INPUT_MESSAGES not in call


def test_messages_are_flattened_in_order(tmp_path: Path) -> None:
    source = write(tmp_path / "st", turn("t1", 0, 0, [ASKED, LISTED, FOUND], text("assistant", "one file")))
    [call] = exported(source, tmp_path / "oi.jsonl")
    sent = {key.removeprefix("llm.input_messages."): call[key] for key in call if key.startswith("llm.input_messages.")}
    assert sent == {
        "0.message.role": "system",
        "0.message.content": "be brief",
        "1.message.role": "user",
        "1.message.content": "what is here?",
        "2.message.role": "assistant",
        "2.message.contents.0.message_content.type": "reasoning",
        "2.message.contents.0.message_content.text": "a listing would tell",
        "2.message.contents.1.message_content.type": "text",
        "2.message.contents.1.message_content.text": "let me see",
        "2.message.tool_calls.0.tool_call.id": "c1",
        "2.message.tool_calls.0.tool_call.function.name": "ls",
        "2.message.tool_calls.0.tool_call.function.arguments": '{"path":"."}',
        "3.message.role": "tool",
        "3.message.tool_call_id": "c1",
        "3.message.content": "a.txt",
    }
    assert call["llm.output_messages.0.message.content"] == "one file"
    assert (call["input.value"], call["output.value"]) == ("a.txt", "one file")


@pytest.mark.parametrize(
    ("operation", "kind", "attribute", "value"),
    [
        (semconv.OPERATION_EXECUTE_TOOL, "TOOL", "tool.name", "ls"),
        (semconv.OPERATION_INVOKE_AGENT, "AGENT", "agent.name", "coder"),
        (semconv.OPERATION_EMBEDDINGS, "EMBEDDING", "embedding.model_name", "m"),
    ],
)
def test_other_spans_have_their_kind(tmp_path: Path, operation: str, kind: str, attribute: str, value: str) -> None:
    attributes = {
        semconv.GEN_AI_OPERATION_NAME: operation,
        semconv.GEN_AI_TOOL_NAME: "ls",
        semconv.GEN_AI_AGENT_NAME: "coder",
        semconv.GEN_AI_REQUEST_MODEL: "m",
        semconv.GEN_AI_CONVERSATION_ID: "session",
        semconv.TRAJECTORY_ID: "t1",
    }
    [made] = exported(write(tmp_path / "st", span("x", 0, 1, attributes)), tmp_path / "oi.jsonl.gz")
    assert (made["openinference.span.kind"], made[attribute], made["session.id"]) == (kind, value, "session")


def test_what_it_does_not_know_passes_as_it_is(tmp_path: Path) -> None:
    attributes = {"http.request.method": "GET", "n": 3}
    [made] = exported(write(tmp_path / "st", span("GET /", 0, 1, attributes)), tmp_path / "oi.jsonl")
    assert made == {"": "GET /", **attributes}


def test_broken_lines_are_counted() -> None:
    good = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": []}]}]}).encode()
    counted = Converted()
    lines = list(converted([b"{", good, b'{"other": 1}', b"[]"], counted))
    assert [json.loads(line) for line in lines] == [json.loads(good)]
    assert counted.broken_lines == 3
