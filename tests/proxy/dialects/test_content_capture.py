"""Content attributes in the message-parts schema of the conventions, only when asked for."""

import json
from typing import Any

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import Dialect, find
from otel_agentperf_proxy.facts import RequestFacts

REQUEST = RequestFacts("", "", "")


def dialect(path: str) -> Dialect:
    found = find("POST", path)
    assert found is not None
    return found


def captured(content: Any) -> dict[str, Any]:
    assert content is not None
    return {name: json.loads(value) for name, value in content.items()}


def test_nothing_is_captured_unless_asked_for() -> None:
    for path in ("/v1/chat/completions", "/v1/messages"):
        found = dialect(path)
        assert found.parse_request(b'{"messages": [{"role": "user", "content": "secret"}]}').content is None
        parser = found.response_parser(REQUEST, 200, "application/json")
        parser.feed(
            1, b'{"content": [{"type": "text", "text": "secret"}], "choices": [{"message": {"content": "secret"}}]}'
        )
        facts = parser.finish()
        assert facts.content is None
        assert "secret" not in repr(facts)


def test_chat_messages() -> None:
    body = {
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "u"}, {"type": "image_url", "image_url": "x"}],
            },
            {
                "role": "assistant",
                "reasoning_content": "r",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "ok"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    assert captured(dialect("/v1/chat/completions").parse_request(json.dumps(body).encode(), content=True).content) == {
        semconv.GEN_AI_INPUT_MESSAGES: [
            {"role": "system", "parts": [{"type": "text", "content": "s"}]},
            {
                "role": "user",
                "parts": [
                    {"type": "text", "content": "u"},
                    {"type": "image_url", "content": {"type": "image_url", "image_url": "x"}},
                ],
            },
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "r"},
                    {"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}},
                ],
            },
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "ok"}]},
        ],
        semconv.GEN_AI_TOOL_DEFINITIONS: body["tools"],
    }


def test_anthropic_messages() -> None:
    body = {
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "ok"}]}],
        "tools": [{"name": "f"}],
    }
    assert captured(dialect("/v1/messages").parse_request(json.dumps(body).encode(), content=True).content) == {
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS: [{"type": "text", "content": "s"}],
        semconv.GEN_AI_INPUT_MESSAGES: [
            {"role": "user", "parts": [{"type": "tool_call_response", "id": "1", "response": "ok"}]}
        ],
        semconv.GEN_AI_TOOL_DEFINITIONS: [{"name": "f"}],
    }


OUTPUT = {
    semconv.GEN_AI_OUTPUT_MESSAGES: [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "text", "content": "ab"},
                {"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}},
            ],
            "finish_reason": "tool_use",
        }
    ]
}


def test_a_streamed_chat_answer() -> None:
    parser = dialect("/v1/chat/completions").response_parser(REQUEST, 200, "text/event-stream", content=True)
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    for delta in ({"reasoning": "h"}, {"reasoning": "m"}, {"content": "a"}, {"content": "b"}, {"tool_calls": [call]}):
        parser.feed(1, b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
    parser.feed(2, b'data: {"choices": [{"delta": {}, "finish_reason": "tool_use"}]}\n\n')
    assert captured(parser.finish().content) == OUTPUT


def test_a_streamed_anthropic_answer() -> None:
    parser = dialect("/v1/messages").response_parser(REQUEST, 200, "text/event-stream", content=True)
    deltas = [
        ({"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "hm"}),
        ({"type": "text", "text": "a"}, {"type": "text_delta", "text": "b"}),
        (
            {"type": "tool_use", "id": "1", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"a": 1}'},
        ),
    ]
    events: list[dict[str, Any]] = []
    for index, (block, delta) in enumerate(deltas):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
    events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]
    for event in events:
        parser.feed(1, b"data: " + json.dumps(event).encode() + b"\n\n")
    assert captured(parser.finish().content) == OUTPUT
