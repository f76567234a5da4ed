"""The proxy's readers and the simulator agree on every reply: what one says, the other understands."""

import json

import pytest

from otel_agentperf_proxy import dialects

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "integer"}},
        "mode": {"enum": ["lesen", "größer", 'quote " and \\ slash']},
        "options": {"type": "object", "properties": {"deep": {"type": "boolean"}}, "required": ["deep"]},
    },
    "required": ["path", "lines", "mode", "options"],
}
CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("read", "größe")]
MESSAGES_TOOLS = [{"name": name, "input_schema": SCHEMA} for name in ("read", "größe")]
QUESTIONS = [f"Question {number}: why does the build fail on this machine and nowhere else?" for number in range(12)]


def _chat(question: str, **more) -> dict:
    return {"messages": [{"role": "user", "content": question}], "tools": CHAT_TOOLS, **more}


def _messages(question: str, **more) -> dict:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    request = {"messages": [{"role": "user", "content": question}], "tools": MESSAGES_TOOLS, "thinking": thinking}
    return {**request, "max_tokens": 5000, **more}


async def _understood(e, path: str, body: dict, request_id: str) -> tuple:
    """A reply as the proxy's reader understands it, its body, and its line in the truth log."""
    data = json.dumps({"model": "m", **body}).encode()
    dialect = dialects.find("POST", path)
    request = dialect.parse_request(data)
    assert request.problem is None
    response = await e.client.post(path, content=data, headers={"x-request-id": request_id})
    parser = dialect.response_parser(request, response.status_code, response.headers["content-type"])
    for at in range(0, len(response.content), 1000):
        parser.feed(at, response.content[at : at + 1000])
    facts = parser.finish()
    assert facts.problem is None
    return facts, response, e.truth_of(request_id)


def _check(facts, line: dict, stream: bool) -> None:
    assert facts.usage.input == line["input_tokens"]
    assert facts.usage.cached == line["cached_tokens"]
    assert facts.usage.output == line["output_tokens"]
    assert facts.finish_reasons == (line["finish_reason"],)
    assert facts.id == line["response_id"]
    assert facts.model == line["model"]
    assert len(facts.tool_calls) == line["tool_calls"]
    assert facts.terminal
    assert facts.streamed == stream
    if stream:
        # The token that starts a block comes in one chunk with the events around it.
        assert len(facts.output_ns) >= line["output_tokens"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "request_of"), [("/v1/chat/completions", _chat), ("/v1/messages", _messages)])
async def test_usage_tool_calls_and_finish_reasons_agree(endpoint, path, request_of, stream):
    e = await endpoint(output_tokens=80, decode_ms=0.1)
    options = {"stream_options": {"include_usage": True}} if stream and request_of is _chat else {}
    ids: set[str] = set()
    reasons = set()
    for number, question in enumerate(QUESTIONS):
        limits = {"max_tokens": 25} if number % 4 == 3 else {}
        body = request_of(question, stream=stream, **options, **limits)
        facts, _, line = await _understood(e, path, body, f"{number}")
        _check(facts, line, stream)
        if path == "/v1/chat/completions":
            assert facts.usage.reasoning == line["reasoning_tokens"]
        calls = {call.id for call in facts.tool_calls}
        assert len(calls) == len(facts.tool_calls)
        assert calls.isdisjoint(ids)
        assert {call.name for call in facts.tool_calls} <= {"read", "größe"}
        ids |= calls
        reasons.add(line["finish_reason"])
    assert len(reasons) == 3


@pytest.mark.parametrize(("path", "request_of"), [("/v1/chat/completions", _chat), ("/v1/messages", _messages)])
async def test_the_answer_echoed_in_the_next_request_is_recognised(endpoint, path, request_of):
    e = await endpoint(tool_call_rate=1.0, decode_ms=0.1)
    body = request_of(QUESTIONS[0])
    facts, response, _ = await _understood(e, path, body, "whole")
    streamed, _, _ = await _understood(e, path, {**body, "stream": True}, "streamed")
    reply = response.json()
    message = (
        reply["choices"][0]["message"] if "choices" in reply else {"role": "assistant", "content": reply["content"]}
    )
    echo = {**body, "messages": [*body["messages"], message]}
    request = dialects.find("POST", path).parse_request(json.dumps({"model": "m", **echo}).encode())
    assert request.messages[-1].digest == facts.message_digest
    assert request.messages[-1].tool_calls
    # The stream is another request: the same answer with ids of its own.
    assert [call.arguments_digest for call in streamed.tool_calls] == [
        call.arguments_digest for call in facts.tool_calls
    ]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_errors_are_understood(endpoint, path):
    e = await endpoint()
    facts, response, _ = await _understood(e, path, {"messages": []}, "bad")
    assert response.status_code == 400
    assert facts.error_type == "invalid_request_error"
