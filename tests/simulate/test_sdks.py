"""The providers' own Python SDKs against the simulated endpoint."""

import json

import anthropic
import openai
import pytest

HELLO = [{"role": "user", "content": "Please tell me in a few words why the build fails on my machine and only there."}]
SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
CHAT_TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": SCHEMA}}]
MESSAGES_TOOLS = [{"name": "bash", "input_schema": SCHEMA}]


@pytest.fixture
async def chat(endpoint):
    """Makes OpenAI clients; arguments are those of `SimulateConfig`."""
    clients = []

    async def make(**settings):
        e = await endpoint(**settings)
        clients.append(openai.AsyncOpenAI(base_url=f"{e.url}/v1", api_key="none", max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def claude(endpoint):
    """Makes Anthropic clients; arguments are those of `SimulateConfig`."""
    clients = []

    async def make(**settings):
        e = await endpoint(**settings)
        clients.append(anthropic.AsyncAnthropic(base_url=e.url, api_key="none", max_retries=0))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def test_openai_runs_an_agents_loop(chat):
    client = await chat(tool_call_rate=1.0)
    messages: list = list(HELLO)
    cached = []
    for _ in range(3):
        reply = await client.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS)
        message = reply.choices[0].message
        assert reply.choices[0].finish_reason == "tool_calls"
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            assert "command" in json.loads(call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "done"})
        cached.append(reply.usage.prompt_tokens_details.cached_tokens)
    assert cached[0] < cached[1] < cached[2]


async def test_openai_streams(chat):
    client = await chat(reasoning_rate=1.0)
    stream = await client.chat.completions.create(
        model="m",
        messages=HELLO,
        max_completion_tokens=40,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    reasoning, text, usage = "", "", None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
    assert usage.completion_tokens == 40
    assert len(reasoning) == 4 * usage.completion_tokens_details.reasoning_tokens > 0
    assert len(reasoning) + len(text) == 160


async def test_openai_streams_tool_calls(chat):
    client = await chat()
    async with client.chat.completions.stream(
        model="m", messages=HELLO, tools=CHAT_TOOLS, tool_choice="required"
    ) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert all(json.loads(call.function.arguments)["command"] for call in final.choices[0].message.tool_calls)


async def test_openai_raises_its_own_errors(chat):
    client = await chat(max_model_len=100)
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="m", messages=HELLO, n=3)
    assert "n must be 1" in bad.value.message
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(model="m", messages=HELLO * 20)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="m", input="x")
    assert [model.id async for model in client.models.list()] == ["simulated"]


async def test_openai_meets_an_injected_error(chat):
    client = await chat(error_rate=1.0, error_status=429)
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="m", messages=HELLO)


async def test_anthropic_runs_an_agents_loop(claude):
    client = await claude(tool_call_rate=1.0, reasoning_rate=1.0)
    messages: list = list(HELLO)
    cached = []
    for _ in range(3):
        reply = await client.messages.create(
            model="m",
            max_tokens=4000,
            messages=messages,
            tools=MESSAGES_TOOLS,
            thinking={"type": "enabled", "budget_tokens": 1024},
        )
        assert reply.stop_reason == "tool_use"
        assert reply.content[0].type == "thinking"
        messages.append({"role": "assistant", "content": [block.model_dump() for block in reply.content]})
        calls = [block for block in reply.content if block.type == "tool_use"]
        assert all(call.input["command"] for call in calls)
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "done"} for call in calls]
        messages.append({"role": "user", "content": results})
        cached.append(reply.usage.cache_read_input_tokens)
    assert cached[0] < cached[1] < cached[2]


async def test_anthropic_streams(claude):
    client = await claude(reasoning_rate=1.0)
    async with client.messages.stream(
        model="m",
        max_tokens=4000,
        messages=HELLO,
        tools=MESSAGES_TOOLS,
        tool_choice={"type": "any"},
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        seen = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert {"message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"} <= set(seen)
    assert final.stop_reason == "tool_use"
    assert final.content[0].type == "thinking"
    assert final.content[0].signature
    assert final.content[-1].input["command"]


async def test_anthropic_counts_tokens(claude):
    client = await claude()
    counted = await client.messages.count_tokens(model="m", messages=HELLO)
    reply = await client.messages.create(model="m", max_tokens=5, messages=HELLO)
    assert counted.input_tokens == reply.usage.input_tokens


async def test_anthropic_raises_its_own_errors(claude):
    client = await claude(max_model_len=100)
    with pytest.raises(anthropic.BadRequestError) as long:
        await client.messages.create(model="m", max_tokens=5, messages=HELLO * 20)
    assert "prompt is too long" in str(long.value)
    assert [model.id async for model in client.models.list()] == ["simulated"]
