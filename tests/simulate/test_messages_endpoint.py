"""Anthropic messages over a socket."""

import json

import pytest

HELLO = [
    {"role": "user", "content": "Please tell me in a few words why the build fails on my machine, and only there."}
]
BASH = {
    "name": "bash",
    "description": "Run a command.",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}
THINK = {"type": "enabled", "budget_tokens": 1024}


def events(text: str) -> list:
    """The data of a stream's events, whose names agree with their types."""
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    result = []
    for block in blocks:
        name, data = block.split("\n")
        result.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {result[-1]['type']}"
    return result


async def test_a_message_in_one_body(endpoint):
    e = await endpoint(reasoning_rate=1.0)
    request = {"messages": HELLO, "thinking": THINK, "tools": [BASH], "tool_choice": {"type": "any"}}
    body = (await e.messages(**request, max_tokens=4000)).json()
    assert body["type"] == "message"
    assert body["id"].startswith("msg_")
    kinds = [block["type"] for block in body["content"]]
    assert kinds[0] == "thinking"
    assert kinds[-1] == "tool_use"
    assert body["stop_reason"] == "tool_use"
    assert body["stop_sequence"] is None
    assert all(block["input"]["command"] for block in body["content"] if block["type"] == "tool_use")
    assert body["usage"]["cache_read_input_tokens"] == 0
    assert body["usage"]["input_tokens"] > 20


async def test_a_stream_has_the_whole_vocabulary_in_order(endpoint):
    e = await endpoint(reasoning_rate=1.0)
    request = {"messages": HELLO, "thinking": THINK, "tools": [BASH], "tool_choice": {"type": "any"}, "stream": True}
    response = await e.messages(**request, max_tokens=4000)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = events(response.text)
    assert [event["type"] for event in (found[0], found[1], found[-2], found[-1])] == [
        "message_start",
        "ping",
        "message_delta",
        "message_stop",
    ]
    assert found[0]["message"]["content"] == []
    assert found[0]["message"]["usage"]["input_tokens"] > 20
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    # Each block: start, deltas of its kind, stop; thinking is signed at its end.
    open_kind, index = None, -1
    deltas = {"thinking": ["thinking_delta"], "text": ["text_delta"], "tool_use": ["input_json_delta"]}
    seen: list[str] = []
    for event in found[2:-2]:
        if event["type"] == "content_block_start":
            assert open_kind is None
            index += 1
            open_kind, seen = event["content_block"]["type"], []
        elif event["type"] == "content_block_delta":
            seen.append(event["delta"]["type"])
        else:
            assert event["type"] == "content_block_stop"
            if open_kind == "thinking":
                assert seen.pop() == "signature_delta"
            assert set(seen) == set(deltas[open_kind])
            open_kind = None
        assert event["index"] == index
    assert open_kind is None
    assert index >= 2


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 40, 4000])
async def test_stream_and_body_say_the_same(endpoint, limit):
    e = await endpoint(reasoning_rate=1.0)
    request = {"messages": HELLO, "thinking": THINK, "tools": [BASH], "tool_choice": {"type": "any"}}
    body = (await e.messages(**request, max_tokens=limit)).json()
    found = events((await e.messages(**request, max_tokens=limit, stream=True)).text)
    content: list = []
    for event in found:
        if event["type"] == "content_block_start":
            content.append({**event["content_block"], "pieces": ""})
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            content[-1]["pieces"] += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
    assert [block["type"] for block in content] == [block["type"] for block in body["content"]]
    for streamed, whole in zip(content, body["content"], strict=True):
        kind = whole["type"]
        if kind == "tool_use":
            assert streamed["name"] == whole["name"]
            complete = body["stop_reason"] == "tool_use"
            assert whole["input"] == (json.loads(streamed["pieces"]) if complete else {})
        else:
            assert streamed["pieces"] == whole[kind]
    assert found[-2]["usage"]["output_tokens"] == body["usage"]["output_tokens"] <= limit
    assert found[-2]["delta"]["stop_reason"] == body["stop_reason"]


async def test_thinking_comes_only_where_the_request_enables_it(inline):
    e = inline(reasoning_rate=1.0)
    for thinking, kinds in ((None, {"text"}), ({"type": "disabled"}, {"text"}), (THINK, {"thinking", "text"})):
        request = {} if thinking is None else {"thinking": thinking}
        body = (await e.messages(messages=HELLO, ignore_eos=True, **request)).json()
        assert {block["type"] for block in body["content"]} == kinds
        assert body["usage"]["output_tokens"] == 64


async def test_the_next_turn_finds_its_history_in_the_cache_wherever_the_markers_are(inline):
    e = inline(reasoning_rate=1.0)
    marker = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "Be helpful. " * 40, **marker}]
    question = {"role": "user", "content": [{"type": "text", "text": HELLO[0]["content"], **marker}]}
    settings = {"max_tokens": 4000, "thinking": THINK, "tools": [{**BASH, **marker}], "system": system}
    choice = {"type": "any", "disable_parallel_tool_use": True}
    first = (await e.messages(messages=[question], tool_choice=choice, **settings)).json()
    call = first["content"][-1]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "no such file", **marker}
    turn = [HELLO[0], {"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    second = (await e.messages(messages=turn, **{**settings, "tools": [BASH]})).json()
    assert first["usage"]["cache_read_input_tokens"] == 0
    computed = first["usage"]["input_tokens"] + first["usage"]["output_tokens"] - 1
    assert second["usage"]["cache_read_input_tokens"] == computed // 16 * 16
    assert second["usage"]["input_tokens"] > 0


async def test_counted_tokens_are_those_of_the_usage(inline):
    e = inline()
    prompt = {"model": "m", "messages": HELLO, "system": "Be brief.", "tools": [BASH]}
    counted = (await e.client.post("/v1/messages/count_tokens", json=prompt)).json()
    usage = (await e.messages(**{**prompt, "max_tokens": 1})).json()["usage"]
    assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}
    assert len(e.truth()) == 1


async def test_every_kind_of_block_is_a_prompt(inline):
    e = inline()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 5000}}
    content = [
        {"type": "text", "text": "look"},
        image,
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "x"}, image]},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "unheard_of", "deep": [1]},
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    counted = (await e.client.post("/v1/messages/count_tokens", json=body)).json()["input_tokens"]
    # Start and end of the message, start of the answer; two texts; three blocks without text; two tool results.
    assert counted == 3 + 1 + 1 + 3 * 256 + 2


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (b"nope", "not valid JSON"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}]}', "max_tokens: Field required"),
        (b'{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}', "max_tokens"),
        (b'{"model":"m","max_tokens":9,"messages":[]}', "messages"),
        (b'{"model":"m","max_tokens":9,"messages":[{"role":"user"}]}', "content"),
        (
            b'{"model":"m","max_tokens":9,"system":7,"messages":[{"role":"user","content":"x"}]}',
            "Expected `str | array",
        ),
        (b'{"model":"m","max_tokens":9,"tools":[{}],"messages":[{"role":"user","content":"x"}]}', "name"),
        (b'{"model":"m","max_tokens":9,"tool_choice":"any","messages":[{"role":"user","content":"x"}]}', "tool_choice"),
        (
            b'{"model":"m","max_tokens":9,"tool_choice":{"type":"tool","name":"nope"},'
            b'"messages":[{"role":"user","content":"x"}]}',
            "'nope'",
        ),
    ],
)
async def test_a_bad_request_gets_a_400_that_says_why(inline, request_body, says):
    e = inline()
    response = await e.client.post("/v1/messages", content=request_body)
    assert response.status_code == 400
    body = response.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert says in body["error"]["message"]


async def test_a_prompt_beyond_the_context_is_refused(inline):
    e = inline(max_model_len=100)
    long = await e.messages(messages=[{"role": "user", "content": "x" * 400}], max_tokens=1)
    assert long.status_code == 400
    assert long.json()["error"]["message"] == "prompt is too long: 103 tokens > 99 maximum"
    greedy = await e.messages(messages=[{"role": "user", "content": "x" * 100}], max_tokens=90)
    assert "28 + 90 > 100" in greedy.json()["error"]["message"]
