"""The OpenAI and Anthropic SDKs through the proxy: what the SDK was told is what the relations say."""

import anthropic
import openai
import pytest

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "description": "Run a command.",
            "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
        },
    }
]
ANTHROPIC_TOOLS = [{"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} for tool in TOOLS]
PROMPT = "Find out why the tests fail, and mend it. " * 40


@pytest.fixture
async def chat(recorded):
    async with openai.AsyncOpenAI(base_url=f"{recorded.url}/v1", api_key="sk-test-secret", max_retries=0) as client:
        yield client


@pytest.fixture
async def messages(recorded):
    async with anthropic.AsyncAnthropic(base_url=recorded.url, api_key="sk-test-secret", max_retries=0) as client:
        yield client


async def test_openai_stream(recorded, chat):
    stream = await chat.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=50,
        extra_headers={"x-request-id": "mine-1"},
    )
    chunks = [chunk async for chunk in stream]
    (turn,) = recorded.rows("turns")
    usage = chunks[-1].usage
    assert (turn["input_tokens"], turn["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert turn["reasoning_tokens"] == usage.completion_tokens_details.reasoning_tokens
    assert turn["usage_source"] == "server"
    assert (turn["status"], turn["stream"], turn["request_id"]) == ("ok", True, "mine-1")
    assert (turn["request_model"], turn["dialect"], turn["http_status"]) == ("m", "openai.chat", 200)
    assert [turn["finish_reason"]] == [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason]
    assert 0 < turn["time_to_first_chunk_s"] <= turn["ttft_s"] <= turn["e2e_latency_s"]
    assert turn["output_speed_tps"] > 0
    assert turn["user_agent"].startswith("AsyncOpenAI")


async def test_openai_without_stream(recorded, chat):
    completion = await chat.chat.completions.create(
        model="m", messages=[{"role": "user", "content": PROMPT}], max_tokens=20
    )
    (turn,) = recorded.rows("turns")
    assert (turn["status"], turn["stream"]) == ("ok", False)
    assert turn["output_tokens"] == completion.usage.completion_tokens
    assert turn["ttft_s"] is turn["output_speed_tps"] is None
    assert turn["e2e_latency_s"] > 0


async def test_an_openai_tool_loop_is_one_trajectory(recorded, chat):
    history = [{"role": "user", "content": PROMPT}]
    asked = 0
    for _ in range(3):
        async with chat.chat.completions.stream(
            model="m", messages=history, tools=TOOLS, tool_choice="required", max_tokens=8000
        ) as stream:
            message = (await stream.get_final_completion()).choices[0].message
        assert message.tool_calls
        asked += len(message.tool_calls)
        history.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
        history += [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in message.tool_calls]
    await chat.chat.completions.create(model="m", messages=history, tools=TOOLS, tool_choice="none", max_tokens=40)
    turns = recorded.rows("turns")
    assert [turn["turn_index"] for turn in turns] == [0, 1, 2, 3]
    assert [turn["trajectory_source"] for turn in turns] == ["new", *["tool_call_id"] * 3]
    assert len({turn["trajectory_id"] for turn in turns}) == 1
    assert len({turn["run_id"] for turn in turns}) == 1
    tools = recorded.rows("tool_calls")
    assert len(tools) == asked
    assert {tool["tool_name"] for tool in tools} == {"bash"}
    assert {tool["duration_source"] for tool in tools} == {"gap"}
    (trajectory,) = recorded.rows("trajectories")
    assert (trajectory["turns"], trajectory["tool_calls"]) == (4, asked)
    assert trajectory["cache_hit"] > 0
    assert turns[3]["cached_input_tokens"] > 0


async def test_openai_errors(recorded, chat):
    with pytest.raises(openai.BadRequestError):
        await chat.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], n=2)
    (turn,) = recorded.rows("turns")
    assert (turn["status"], turn["http_status"]) == ("error", 400)
    assert turn["error_type"]
    assert turn["output_tokens"] is None


async def test_an_openai_stream_that_the_client_gives_up(recorded, chat):
    stream = await chat.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": PROMPT}],
        max_tokens=5000,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    seen = 0
    async for chunk in stream:
        seen += bool(chunk.choices and chunk.choices[0].delta.content)
        if seen == 3:
            break
    await stream.close()
    (turn,) = recorded.rows("turns")
    assert turn["status"] == "cancelled"
    assert turn["error_type"] == "client_disconnected"
    assert turn["ttft_s"] > 0
    assert turn["chunk_count"] >= 3


async def test_anthropic_stream_with_thinking_and_tools(recorded, messages):
    async with messages.messages.stream(
        model="m",
        max_tokens=3000,
        messages=[{"role": "user", "content": PROMPT}],
        tools=ANTHROPIC_TOOLS,
        tool_choice={"type": "any"},
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        first = await stream.get_final_message()
    calls = [block for block in first.content if block.type == "tool_use"]
    assert calls
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "done", "is_error": True} for call in calls]
    history = [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": results},
    ]
    second = await messages.messages.create(model="m", max_tokens=30, messages=history, tools=ANTHROPIC_TOOLS)
    one, two = recorded.rows("turns")
    assert one["trajectory_id"] == two["trajectory_id"]
    assert two["trajectory_source"] == "tool_call_id"
    assert one["tool_call_count"] == len(calls)
    for turn, message in ((one, first), (two, second)):
        usage = message.usage
        cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        assert turn["input_tokens"] == usage.input_tokens + cached + written
        assert turn["cached_input_tokens"] == cached
        assert turn["output_tokens"] == usage.output_tokens
        assert turn["dialect"] == "anthropic.messages"
        assert turn["status"] == "ok"
    assert [one["stream"], two["stream"]] == [True, False]
    (trajectory,) = recorded.rows("trajectories")
    assert trajectory["tool_errors"] == len(calls)


async def test_anthropic_errors_and_counting(recorded, messages):
    counted = await messages.messages.count_tokens(model="m", messages=[{"role": "user", "content": PROMPT}])
    assert counted.input_tokens > 0
    with pytest.raises(anthropic.BadRequestError):
        await messages.messages.create(model="m", max_tokens=10, messages=[], extra_body={"messages": "none"})
    kinds = {turn["kind"]: turn for turn in recorded.rows("turns")}
    assert kinds["turn"]["status"] == "error"
    assert kinds["auxiliary"]["status"] == "ok"


async def test_no_prompt_and_no_secret_is_kept(recorded, chat):
    await chat.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "the quick brown zebra"}], max_tokens=20
    )
    recorded.finish()
    kept = b"".join(path.read_bytes() for path in recorded.store.iterdir() if path.is_file())
    assert kept
    lines = recorded.rows("spans", "start_time")
    assert "zebra" not in repr(lines)
    assert "sk-test-secret" not in repr(lines)
    assert b"sk-test-secret" not in kept
