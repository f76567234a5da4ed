"""OpenAI chat completions over a socket."""

import json

import pytest

HELLO = [
    {"role": "user", "content": "Please tell me in a few words why the build fails on my machine, and only there."}
]
BASH = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a command.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}


def events(text: str) -> list:
    """The data of a stream's events; the last is `[DONE]`."""
    lines = text.split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


async def test_an_answer_in_one_body(endpoint):
    e = await endpoint(reasoning_rate=1.0)
    response = await e.chat(messages=HELLO, max_tokens=20, ignore_eos=True)
    body = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert body["object"] == "chat.completion"
    assert body["model"] == "m"
    (choice,) = body["choices"]
    message = choice["message"]
    assert choice["finish_reason"] == "length"
    usage = body["usage"]
    assert usage["completion_tokens"] == 20
    assert usage["total_tokens"] == usage["prompt_tokens"] + 20
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    assert len(message["reasoning_content"]) == 4 * reasoning > 0
    assert len(message["content"]) == 4 * (20 - reasoning) > 0


async def test_a_stream_starts_with_the_role_and_ends_with_usage_and_done(endpoint):
    e = await endpoint(reasoning_rate=1.0)
    response = await e.chat(
        messages=HELLO, max_tokens=20, ignore_eos=True, stream=True, stream_options={"include_usage": True}
    )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    chunks = events(response.text)
    first, *tokens, end, usage = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(tokens) == 20
    assert [list(chunk["choices"][0]["delta"]) for chunk in tokens] == sorted(
        [list(chunk["choices"][0]["delta"]) for chunk in tokens], reverse=True
    )
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in (first, *tokens))
    assert end["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 20
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_a_stream_tells_no_usage_unless_asked(endpoint):
    e = await endpoint()
    chunks = events((await e.chat(messages=HELLO, max_tokens=5, stream=True)).text)
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


async def test_stream_and_body_say_the_same(endpoint):
    e = await endpoint(reasoning_rate=1.0)
    request = {"messages": HELLO, "tools": [BASH], "tool_choice": "required"}
    message = (await e.chat(**request)).json()["choices"][0]["message"]
    said = {"content": "", "reasoning_content": "", "arguments": {}, "names": {}}
    for chunk in events((await e.chat(**request, stream=True)).text):
        delta = chunk["choices"][0]["delta"]
        said["content"] += delta.get("content", "")
        said["reasoning_content"] += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            said["names"].setdefault(call["index"], call["function"].get("name"))
            arguments = said["arguments"].get(call["index"], "") + call["function"]["arguments"]
            said["arguments"][call["index"]] = arguments
    assert said["content"] == message["content"]
    assert said["reasoning_content"] == message["reasoning_content"]
    assert list(said["arguments"].values()) == [call["function"]["arguments"] for call in message["tool_calls"]]
    assert set(said["names"].values()) == {"bash"}
    assert all(json.loads(arguments)["command"] for arguments in said["arguments"].values())


async def test_arguments_come_in_pieces_after_the_name(endpoint):
    e = await endpoint(reasoning_rate=0.0)
    request = {"messages": HELLO, "tools": [BASH], "tool_choice": "required", "parallel_tool_calls": False}
    chunks = events((await e.chat(**request, stream=True)).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    fragments = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    start, *pieces = fragments
    assert start["function"] == {"name": "bash", "arguments": ""}
    assert start["id"].startswith("call_")
    assert len(pieces) > 1
    assert all(1 <= len(piece["function"]["arguments"]) <= 4 and "id" not in piece for piece in pieces)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_answers_repeat_and_ids_do_not(inline):
    e = inline()
    request = {"messages": HELLO, "tools": [BASH], "tool_choice": "required"}
    one, two = [(await e.chat(**request)).json() for _ in range(2)]
    calls = [[call["function"] for call in body["choices"][0]["message"]["tool_calls"]] for body in (one, two)]
    ids = [call["id"] for body in (one, two) for call in body["choices"][0]["message"]["tool_calls"]]
    assert calls[0] == calls[1]
    assert len(set(ids)) == len(ids)
    assert one["id"] != two["id"]
    # Another endpoint of the same seed repeats the ids, too.
    other = (await (inline()).chat(**request)).json()
    assert other["choices"] == one["choices"]
    assert other["id"] == one["id"]


async def test_an_answer_left_to_itself_stops_before_the_budget_and_ignore_eos_fills_it(inline):
    e = inline()
    question = [{"role": "user", "content": "Reply with exactly the word: hi"}]
    free = (await e.chat(messages=question, max_tokens=512)).json()
    forced = (await e.chat(messages=question, max_tokens=512, ignore_eos=True)).json()
    assert free["choices"][0]["finish_reason"] == "stop"
    assert free["usage"]["completion_tokens"] < 512
    assert forced["choices"][0]["finish_reason"] == "length"
    assert forced["usage"]["completion_tokens"] == 512


async def test_max_completion_tokens_wins_over_max_tokens(inline):
    e = inline()
    body = (await e.chat(messages=HELLO, max_tokens=50, max_completion_tokens=3, ignore_eos=True)).json()
    assert body["usage"]["completion_tokens"] == 3


async def test_the_next_turn_finds_its_history_in_the_cache(inline):
    e = inline(reasoning_rate=0.0)
    question = [{"role": "system", "content": "Be helpful. " * 40}, *HELLO]
    first = (await e.chat(messages=question, tools=[BASH], tool_choice="required", parallel_tool_calls=False)).json()
    message = first["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "no such file"}
    second = (await e.chat(messages=[*question, message, result], tools=[BASH])).json()["usage"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    computed = first["usage"]["total_tokens"] - 1
    assert second["prompt_tokens_details"]["cached_tokens"] == computed // 16 * 16


async def test_text_in_blocks_and_as_a_string_are_the_same_prompt(inline):
    e = inline()
    words = "Some words that fill more than one block of tokens, so that something can be found in the cache."
    await e.chat(messages=[{"role": "user", "content": words}], max_tokens=1)
    blocks = [{"type": "text", "text": words[:30]}, {"type": "text", "text": words[30:]}]
    usage = (await e.chat(messages=[{"role": "user", "content": blocks}], max_tokens=1)).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == (usage["prompt_tokens"] - 1) // 16 * 16 > 0


async def test_tools_and_images_count_as_prompt(inline):
    e = inline()

    async def tokens(**request) -> int:
        return (await e.chat(max_tokens=1, **request)).json()["usage"]["prompt_tokens"]

    plain = await tokens(messages=HELLO)
    assert await tokens(messages=HELLO, tools=[BASH]) > plain + 20
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}
    with_image = [{"role": "user", "content": [{"type": "text", "text": HELLO[0]["content"]}, image]}]
    assert await tokens(messages=with_image) == plain + 256


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (b"nope", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', "not valid JSON"),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 5000 + b"]" * 5000 + b"}", ""),
        (b"{}", "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[]}', "at least one message"),
        (b'{"model":"m","messages":[5]}', "Expected `object`"),
        (b'{"model":"m","messages":[{"content":"x"}]}', "role"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":2}', "n must be 1"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}', "at least 1"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":"9"}', "$.max_tokens"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{}]}', "function"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":"some"}', "tool_choice"),
        (
            b'{"model":"m","messages":[{"role":"user","content":"x"}],'
            b'"tool_choice":{"type":"function","function":{"name":"nope"}}}',
            "'nope'",
        ),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{}}', "stream: true"),
    ],
)
async def test_a_bad_request_gets_a_400_that_says_why(inline, request_body, says):
    e = inline()
    response = await e.client.post("/v1/chat/completions", content=request_body, headers={"x-request-id": "bad"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]
    line = e.truth_of("bad")
    assert (line["status"], line["http_status"], line["output_tokens"]) == ("error", 400, None)


async def test_a_prompt_beyond_the_context_is_refused(inline):
    e = inline(max_model_len=100)
    long = await e.chat(messages=[{"role": "user", "content": "x" * 400}])
    assert long.status_code == 400
    assert long.json()["error"]["code"] == "context_length_exceeded"
    assert "maximum context length is 100 tokens" in long.json()["error"]["message"]
    greedy = await e.chat(messages=[{"role": "user", "content": "x" * 100}], max_tokens=99)
    assert greedy.status_code == 400
    # 3 special tokens: the message's start and end, and the start of the answer.
    exact = await e.chat(messages=[{"role": "user", "content": "x" * 100}], max_tokens=100 - 25 - 3, ignore_eos=True)
    assert exact.json()["usage"]["total_tokens"] == 100


async def test_without_a_limit_an_answer_may_fill_the_context(inline):
    e = inline(max_model_len=100)
    body = (await e.chat(messages=[{"role": "user", "content": "x" * 100}], ignore_eos=True)).json()
    assert body["usage"]["total_tokens"] == 100
