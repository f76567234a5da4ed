"""Nothing that a client or a server sends makes a parser raise; what could be told is told, the rest is a problem."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy.dialects import DIALECTS, Dialect, MessageCache, base, find
from otel_agentperf_proxy.facts import RequestFacts, ResponseFacts

CHAT = "/v1/chat/completions"
GEMINI = "/v1beta/models/m:generateContent"
OLLAMA = "/api/chat"

HISTORY = {
    CHAT: b"messages",
    "/v1/messages": b"messages",
    "/v1/messages/count_tokens": b"messages",
    "/v1/responses": b"input",
    "/v1/responses/compact": b"input",
    GEMINI: b"contents",
    "/v1beta/models/m:countTokens": b"contents",
    OLLAMA: b"messages",
}
"""Paths of dialects whose requests hold messages, and where."""

WITHOUT_HISTORY = ["/v1/completions", "/v1/embeddings", "/api/generate"]


def parse(path: str, body: bytes) -> RequestFacts:
    dialect = find("POST", path)
    assert dialect is not None
    facts = dialect.parse_request(body, content=True)
    plain = dialect.parse_request(body, cache=MessageCache())
    facts_without_content = {**{name: getattr(facts, name) for name in facts.__slots__}, "content": None}
    assert {name: getattr(plain, name) for name in plain.__slots__} == facts_without_content
    return facts


def respond(dialect: Dialect, data: bytes, *, status: int = 200, content_type: str = "") -> ResponseFacts:
    parser = dialect.response_parser(RequestFacts("", "", ""), status, content_type, content=True)
    parser.feed(1, data)
    return parser.finish()


@pytest.mark.parametrize("path", HISTORY)
@pytest.mark.parametrize(
    ("body", "model", "problem"),
    [
        (b"", None, "request is cut off"),
        (b'{"model": "m", "stream": true, "messages": [{"role": "user", "con', "m", "request is cut off"),
        (b'{"model": "m\\u00e9", "stream": true, oops}', "mé", "request is not JSON"),
        (b'{"model": "m"} trailing', "m", "request is not JSON"),
        (b'[{"role": "user"}]', None, "request has an unexpected shape"),
        (b"null", None, "request has an unexpected shape"),
        (b"\x1f\x8b\x08\x00garbage", None, "request is not JSON"),
        (b'{"model": "m", "messages": 5}', "m", "request messages are no list"),
        (b'{"model": "m", "messages": [1, null]}', "m", "request has an unreadable message"),
        (b'{"model": "m", "x": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "m", "request nested too deep"),
        (b'{"model": "m", "temperature": 1e999, "messages": []}', "m", None),
        (b'{"model": "m", "seed": ' + b"9" * 5000 + b"}", "m", None),
        (b'{"model": "m", "seed": ' + b"9" * 30 + b"}", "m", None),
        (b'{"model": "m", "temperature": NaN}', "m", None),
        (b'{"model": "a", "model": "m"}', "m", None),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\xff\xfe"}]}', "m", None),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', "m", None),
        (b'{"messages": [], "messages": [{"role": "user", "content": {"a": [1]}}], "model": "m"}', "m", None),
        (b'{"model": "m", "messages": [{"role": "user", "content": 1, "parts": {}, "tool_calls": 5}]}', "m", None),
        (b'{"model": ["m"], "stream": "yes", "max_tokens": true, "tools": {}, "metadata": 5}', None, None),
    ],
)
def test_hostile_requests(path: str, body: bytes, model: str | None, problem: str | None) -> None:
    facts = parse(path, body.replace(b"messages", HISTORY[path]))
    in_path = path.startswith("/v1beta")
    assert facts.model == ("m" if in_path else model)
    assert facts.problem == problem
    assert facts.stream is (path == OLLAMA or (not in_path and b'"stream": true' in body))
    assert facts.attributes == {}


@pytest.mark.parametrize("path", WITHOUT_HISTORY)
@pytest.mark.parametrize(
    ("body", "model", "problem"),
    [
        (b"", None, "request is cut off"),
        (b'{"model": "m", "stream": true, "prompt": "hel', "m", "request is cut off"),
        (b'{"model": "m", "prompt": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "m", "request nested too deep"),
        (b'{"model": "m", "prompt": ["a", [1], {}, null, 5], "input": [[[1]], {}, "a"]}', "m", None),
        (b'{"model": "m", "prompt": {"a": 1}, "input": {"a": 1}, "images": {"b": 2}}', "m", None),
        (b'{"model": "m", "prompt": "\xff", "input": "\\ud800", "options": [5], "n": "x"}', "m", None),
    ],
)
def test_hostile_prompts(path: str, body: bytes, model: str | None, problem: str | None) -> None:
    facts = parse(path, body)
    assert (facts.model, facts.problem) == (model, problem)
    assert facts.attributes == {}


def test_a_wrong_type_costs_its_field_only() -> None:
    facts = parse(CHAT, b'{"model": "m", "max_tokens": "many", "top_p": 0.5, "stop": [1, "x"], "n": -1}')
    assert facts.attributes == {"gen_ai.request.top_p": 0.5, "gen_ai.request.stop_sequences": ["x"]}
    assert facts.problem is None


def test_an_unreadable_message_leaves_the_others() -> None:
    facts = parse(CHAT, b'{"messages": [{"role": "user", "content": "a"}, 5, {"role": "user", "content": "b"}]}')
    assert [message.role for message in facts.messages] == ["user", "", "user"]
    assert len({message.digest for message in facts.messages}) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


def shaped(names: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


TYPES = [
    *("text", "thinking", "tool_use", "tool_result", "refusal", "image", "function", "reasoning", "output_text"),
    *("function_call", "function_call_output", "shell_call", "custom_tool_call", "item_reference", "summary_text"),
]
BLOCK = shaped(
    [
        *("type", "text", "thinking", "id", "name", "input", "tool_use_id", "content", "is_error", "function", "index"),
        *("call_id", "arguments", "action", "output", "summary", "thought", "functionCall", "functionResponse", "args"),
        *("response", "thoughtSignature", "status"),
    ],
    JSON | st.sampled_from(TYPES) | st.lists(shaped(["type", "text", "name", "args"], JSON), max_size=2),
)
MESSAGE = shaped(
    [
        "role",
        "content",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "reasoning",
        "parts",
        "images",
        "type",
    ],
    JSON | st.lists(JSON | BLOCK, max_size=3) | BLOCK | st.sampled_from(["user", "assistant", "tool", "system"]),
)
REQUEST = shaped(
    [
        *("model", "messages", "tools", "system", "stream", "n", "max_tokens", "stop", "metadata", "response_format"),
        *("input", "instructions", "client_metadata", "conversation", "text", "contents", "systemInstruction"),
        *("generationConfig", "generateContentRequest", "prompt", "images", "options", "format", "think"),
    ],
    JSON | st.lists(JSON | MESSAGE, max_size=3) | BLOCK,
)


@given(body=JSON | REQUEST)
@settings(max_examples=100, deadline=None)
def test_no_json_makes_a_request_parser_raise(body: Any) -> None:
    text = json.dumps(body).encode()
    for dialect in DIALECTS:
        facts = dialect.parse_request(text, content=True, cache=MessageCache())
        assert "unreadable:" not in (facts.problem or ""), facts.problem


EVENT = shaped(
    [
        *("id", "model", "choices", "usage", "error", "object", "type", "index", "delta", "content_block", "message"),
        *("output_index", "item", "response", "code", "output", "status", "candidates", "usageMetadata", "timings"),
        *("promptFeedback", "done", "done_reason", "thinking", "eval_count", "eval_duration", "prompt_eval_count"),
    ],
    JSON
    | st.lists(
        shaped(
            ["index", "delta", "message", "finish_reason", "text", "error", "content", "finishReason"], JSON | MESSAGE
        ),
        max_size=3,
    )
    | st.lists(BLOCK, max_size=3)
    | MESSAGE
    | BLOCK
    | shaped(["prompt_tokens", "output_tokens", "input_tokens", "prompt_tokens_details", "promptTokenCount"], JSON)
    | st.sampled_from(["content_block_start", "content_block_delta", "message_start", "message_delta", "error"])
    | st.sampled_from(["response.output_item.added", "response.output_item.done", "response.completed", "x.delta"]),
)


@given(events=st.lists(EVENT | JSON, max_size=3), status=st.sampled_from([200, 400]))
@settings(max_examples=60, deadline=None)
def test_no_json_makes_a_response_parser_raise(events: list[Any], status: int) -> None:
    texts = [json.dumps(event).encode() for event in events]
    stream = b"".join([b"data: " + text + b"\n\n" for text in texts])
    for dialect in DIALECTS:
        found = [respond(dialect, stream, status=status, content_type="text/event-stream")]
        found += [respond(dialect, text, status=status, content_type="application/json") for text in texts]
        found += [respond(dialect, b"\n".join(texts), status=status, content_type="application/x-ndjson")]
        found += [respond(dialect, b"[" + b",".join(texts) + b"]", status=status, content_type="application/json")]
        for facts in found:
            assert "unreadable:" not in (facts.problem or ""), facts.problem


@given(data=st.binary(max_size=200), content_type=st.sampled_from(["", "text/event-stream", "application/json"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_a_parser_raise(data: bytes, content_type: str) -> None:
    for dialect in DIALECTS:
        dialect.parse_request(data, content=True)
        respond(dialect, data, content_type=content_type)
        respond(dialect, b"data: " + data + b"\n\n", content_type="text/event-stream")


@pytest.mark.parametrize("path", [*HISTORY, *WITHOUT_HISTORY])
@pytest.mark.parametrize(
    ("data", "content_type", "problem"),
    [
        (b'{"id": "x", "content": [', "application/json", "response is cut off"),
        (b"<html>", "application/json", "response is not JSON"),
        (b"5", "application/json", "response has an unexpected shape"),
        (b"data: {oops}\n\n", "text/event-stream", "event is not JSON"),
        (b"data: []\n\n", "text/event-stream", "event has an unexpected shape"),
        (b"", "application/json", None),
        (b" \n", "application/json", None),
    ],
)
def test_hostile_responses(path: str, data: bytes, content_type: str, problem: str | None) -> None:
    dialect = find("POST", path)
    assert dialect is not None
    facts = respond(dialect, data, content_type=content_type)
    assert facts.problem == problem
    assert not facts.terminal


def test_lines_and_elements_after_a_bad_one_still_count() -> None:
    ollama, gemini = find("POST", OLLAMA), find("POST", GEMINI)
    assert ollama is not None
    assert gemini is not None
    lines = b'{oops}\n5\n{"message": {"role": "assistant", "content": "a"}}\n{"done": true}\n'
    facts = respond(ollama, lines, content_type="application/x-ndjson")
    assert (facts.problem, facts.terminal, len(facts.output_ns)) == ("event is not JSON", True, 1)
    array = b'[{oops}, 5, {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]}]'
    facts = respond(gemini, array, content_type="application/json")
    assert (facts.problem, facts.terminal, len(facts.output_ns)) == ("event is not JSON", True, 1)


def test_a_line_stream_is_taken_up_again_after_a_gap_and_an_array_is_not() -> None:
    ollama, gemini = find("POST", OLLAMA), find("POST", GEMINI)
    assert ollama is not None
    assert gemini is not None
    parser = ollama.response_parser(RequestFacts("", "", "", stream=True), 200, "application/x-ndjson")
    parser.feed(1, b'{"message": {"content": "a"}}\n{"message": {"con')
    parser.gap()
    parser.feed(2, b'tent": "c"}}\n{"message": {"content": "d"}}\n{"done": true, "eval_count": 9}\n')
    facts = parser.finish()
    assert (facts.problem, facts.terminal, facts.usage.output) == (base.GAP, True, 9)
    assert (facts.output_ns, facts.message_digest) == ([1, 2], None)
    parser = gemini.response_parser(RequestFacts("", "", "", stream=True), 200, "application/json")
    parser.feed(1, b'[{"candidates": [{"content": {"parts": [{"text": "a"}]}}]}')
    parser.gap()
    parser.feed(2, b', {"candidates": [{"finishReason": "STOP"}]}]')
    facts = parser.finish()
    assert (facts.problem, facts.terminal, facts.output_ns) == (base.GAP, False, [1])


def test_events_after_a_bad_one_still_count() -> None:
    dialect = find("POST", CHAT)
    assert dialect is not None
    stream = b'data: {oops}\n\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
    facts = respond(dialect, stream, content_type="text/event-stream")
    assert (facts.problem, facts.terminal, len(facts.output_ns)) == ("event is not JSON", True, 1)


def test_a_body_above_the_limit_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_RESPONSE_BYTES", 100)
    dialect = find("POST", CHAT)
    assert dialect is not None
    parser = dialect.response_parser(RequestFacts("", "", ""), 200, "application/json")
    for _ in range(20):
        parser.feed(1, b'{"a": 1, ')
    facts = parser.finish()
    assert (facts.problem, facts.terminal) == (base.TOO_LARGE, False)


def test_a_stream_above_the_limit_keeps_times_and_usage_but_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_RESPONSE_BYTES", 100)
    dialect = find("POST", CHAT)
    assert dialect is not None
    parser = dialect.response_parser(RequestFacts("", "", ""), 200, "text/event-stream")
    for index in range(10):
        parser.feed(index, b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
    parser.feed(10, b'data: {"usage":{"completion_tokens":10},"choices":[]}\n\ndata: [DONE]\n\n')
    facts = parser.finish()
    assert (facts.problem, facts.terminal, facts.usage.output) == (base.TOO_LARGE, True, 10)
    assert facts.output_ns == list(range(10))
    assert facts.message_digest is None
