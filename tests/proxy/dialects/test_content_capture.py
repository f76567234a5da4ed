"""Content attributes in the message-parts schema of the conventions, only when asked for."""

import json
from typing import Any

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import DIALECTS, Dialect, find
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
    message = {"role": "user", "content": "secret", "parts": [{"text": "secret"}]}
    request = {"messages": [message], "input": [message], "contents": [message], "prompt": "secret"}
    answer = {
        "content": [{"type": "text", "text": "secret"}],
        "choices": [{"message": {"content": "secret"}, "text": "secret"}],
        "output": [{"type": "message", "content": "secret"}],
        "candidates": [{"content": {"parts": [{"text": "secret"}]}}],
        "message": {"content": "secret"},
        "response": "secret",
    }
    for found in DIALECTS:
        facts = found.parse_request(json.dumps(request).encode())
        assert facts.content is None
        assert "secret" not in repr(facts)
        parser = found.response_parser(REQUEST, 200, "application/json")
        parser.feed(1, json.dumps(answer).encode())
        told = parser.finish()
        assert told.content is None
        assert "secret" not in repr(told)


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


SYSTEM = [{"type": "text", "content": "s"}]
HISTORY = [
    {"role": "user", "parts": [{"type": "text", "content": "u"}]},
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "a"},
            {"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}},
        ],
    },
]


def test_items_of_responses() -> None:
    body = {
        "instructions": "s",
        "input": [
            {"role": "user", "content": "u"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "1", "output": "ok"},
        ],
        "tools": [{"type": "function", "name": "f"}],
    }
    assert captured(dialect("/v1/responses").parse_request(json.dumps(body).encode(), content=True).content) == {
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS: SYSTEM,
        semconv.GEN_AI_INPUT_MESSAGES: [
            HISTORY[0],
            {"role": "assistant", "parts": [{"type": "reasoning", "content": "r"}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "ok"}]},
        ],
        semconv.GEN_AI_TOOL_DEFINITIONS: body["tools"],
    }


def test_contents_of_gemini() -> None:
    body = {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "u"}]},
            {"role": "model", "parts": [{"text": "a"}, {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
    }
    found = dialect("/v1beta/models/m:generateContent").parse_request(json.dumps(body).encode(), content=True)
    assert captured(found.content) == {
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS: SYSTEM,
        semconv.GEN_AI_INPUT_MESSAGES: HISTORY,
        semconv.GEN_AI_TOOL_DEFINITIONS: body["tools"],
    }


def test_messages_of_ollama() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}
    body = {
        "messages": [
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a", "tool_calls": [call]},
        ]
    }
    found = dialect("/api/chat").parse_request(json.dumps(body).encode(), content=True)
    assert captured(found.content) == {semconv.GEN_AI_INPUT_MESSAGES: HISTORY}


def test_prompts() -> None:
    found = dialect("/api/generate").parse_request(b'{"system": "s", "prompt": "u"}', content=True)
    assert captured(found.content) == {
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS: SYSTEM,
        semconv.GEN_AI_INPUT_MESSAGES: HISTORY[:1],
    }
    found = dialect("/v1/completions").parse_request(b'{"prompt": "u"}', content=True)
    assert captured(found.content) == {semconv.GEN_AI_INPUT_MESSAGES: HISTORY[:1]}


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


def test_a_streamed_answer_of_responses() -> None:
    parser = dialect("/v1/responses").response_parser(REQUEST, 200, "text/event-stream", content=True)
    items: list[dict[str, Any]] = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ab"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"a": 1}'},
    ]
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.done", "output_index": index, "item": item} for index, item in enumerate(items)
    ]
    details = {"reason": "tool_use"}
    events.append({"type": "response.incomplete", "response": {"status": "incomplete", "incomplete_details": details}})
    for event in events:
        parser.feed(1, b"data: " + json.dumps(event).encode() + b"\n\n")
    assert captured(parser.finish().content) == OUTPUT


def test_a_streamed_answer_of_gemini() -> None:
    parser = dialect("/v1beta/models/m:streamGenerateContent").response_parser(REQUEST, 200, "", content=True)
    parts: list[dict[str, Any]] = [
        {"text": "hm", "thought": True},
        {"text": "ab"},
        {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}},
    ]
    chunks: list[dict[str, Any]] = [{"candidates": [{"content": {"parts": [part]}}]} for part in parts]
    chunks.append({"candidates": [{"finishReason": "tool_use"}]})
    parser.feed(1, json.dumps(chunks).encode())
    assert captured(parser.finish().content) == OUTPUT


def test_a_streamed_answer_of_ollama() -> None:
    parser = dialect("/api/chat").response_parser(REQUEST, 200, "application/x-ndjson", content=True)
    call = {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}
    for message in ({"thinking": "hm"}, {"content": "ab"}, {"tool_calls": [call]}):
        parser.feed(1, json.dumps({"message": message}).encode() + b"\n")
    parser.feed(2, b'{"done": true, "done_reason": "tool_use"}\n')
    assert captured(parser.finish().content) == OUTPUT
