"""Request bodies: recorded messages as they were or in Anthropic's shape, with limits, and a prefix in its place."""

import json
from itertools import pairwise
from typing import Any

import pytest

from otel_agentperf.replay import Placement, Recording, Task, Turn
from otel_agentperf.replay.dialects import OutputLimit, Prefix
from otel_agentperf.replay.dialects import anthropic_shape as shape
from otel_agentperf.replay.dialects.chat import Chat
from otel_agentperf.replay.dialects.messages import Messages

EXACT = OutputLimit(70, exact=True)
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "ls", "arguments": '{"path": "."}'}}
TOOL = {"type": "function", "function": {"name": "ls", "description": "list", "parameters": {"type": "object"}}}
HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "which files?"},
    {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "a.txt"},
    {"role": "user", "content": "go on"},
]


def task(*histories: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> Task:
    encoded = json.dumps(tools).encode() if tools else None
    return Task(
        "t",
        None,
        tuple(
            Turn(tuple(json.dumps(each).encode() for each in one), encoded, 70, None, None, 0.0) for one in histories
        ),
    )


def chat(recorded: Task, placement: Placement, prefix: str | None = None, limit: OutputLimit = EXACT) -> dict[str, Any]:
    dialect = Chat("tiny", {"temperature": 0}, placement)
    body = dialect.body(dialect.prepare(recorded)[-1], limit, Prefix(prefix) if prefix else None)
    return json.loads(body)  # type: ignore[no-any-return]


def messages(
    recorded: Task, placement: Placement, prefix: str | None = None, limit: OutputLimit = EXACT
) -> dict[str, Any]:
    dialect = Messages("tiny", {"temperature": 0}, placement)
    body = dialect.body(dialect.prepare(recorded)[-1], limit, Prefix(prefix) if prefix else None)
    return json.loads(body)  # type: ignore[no-any-return]


def test_chat_sends_messages_and_tools_as_recorded() -> None:
    assert chat(task(HISTORY, tools=[TOOL]), Placement.NONE) == {
        "model": "tiny",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 70,
        "ignore_eos": True,
        "tools": [TOOL],
        "messages": HISTORY,
    }


def test_a_limit_that_is_not_exact_leaves_the_end_to_the_model() -> None:
    limit = OutputLimit(9, exact=False)
    for body in (
        chat(task(HISTORY), Placement.NONE, None, limit),
        messages(task(HISTORY), Placement.NONE, None, limit),
    ):
        assert body["max_tokens"] == 9
        assert "ignore_eos" not in body
        assert "tools" not in body


def test_the_prefix_stands_before_the_system_prompt_or_the_first_user_message() -> None:
    recorded = task(HISTORY)
    sent = chat(recorded, Placement.SYSTEM, "X-")["messages"]
    assert [each["content"] for each in sent[:2]] == ["X-be brief", "which files?"]
    sent = chat(recorded, Placement.USER, "X-")["messages"]
    assert [each["content"] for each in sent[:2]] == ["be brief", "X-which files?"]
    assert sent[2:] == HISTORY[2:]
    body = messages(recorded, Placement.SYSTEM, "X-")
    assert body["system"] == "X-be brief"
    body = messages(recorded, Placement.USER, "X-")
    assert body["system"] == "be brief"
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "X-"},
        {"type": "text", "text": "which files?"},
    ]


def test_without_a_system_prompt_the_prefix_becomes_one() -> None:
    recorded = task(HISTORY[1:])
    assert chat(recorded, Placement.SYSTEM, "X-")["messages"][:2] == [{"role": "system", "content": "X-"}, HISTORY[1]]
    assert messages(recorded, Placement.SYSTEM, "X-")["system"] == "X-"


def test_a_prefix_goes_before_the_parts_of_a_message_and_in_place_of_no_content() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    sent = chat(task(parts), Placement.USER, "X-")["messages"][0]["content"]
    assert sent == [{"type": "text", "text": "X-"}, {"type": "text", "text": "hi"}]
    assert chat(task([{"role": "user", "content": None}]), Placement.USER, "X-")["messages"][0]["content"] == "X-"


def test_turns_of_a_task_share_their_pieces_in_both_dialects() -> None:
    recorded = task(HISTORY[:2], HISTORY)
    for dialect in (Chat("m", {}, Placement.SYSTEM), Messages("m", {}, Placement.SYSTEM)):
        first, second = dialect.prepare(recorded)
        assert first.messages[0] == second.messages[0]
    first, second = Messages("m", {}, Placement.SYSTEM).prepare(recorded)
    assert first.messages[0] is second.messages[0]
    assert first.system is second.system


def test_messages_converts_the_whole_conversation() -> None:
    assert messages(task(HISTORY, tools=[TOOL]), Placement.NONE) == {
        "model": "tiny",
        "stream": True,
        "temperature": 0,
        "max_tokens": 70,
        "ignore_eos": True,
        "system": "be brief",
        "tools": [{"name": "ls", "input_schema": {"type": "object"}, "description": "list"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "which files?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "c1", "name": "ls", "input": {"path": "."}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "a.txt"},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([{"role": "assistant", "content": ""}], [{"type": "text", "text": "(empty)"}]),
        (
            [
                {"role": "tool", "tool_call_id": "a", "content": ""},
                {"role": "tool", "tool_call_id": "b", "content": "x"},
            ],
            [{"type": "tool_result", "tool_use_id": "a"}, {"type": "tool_result", "tool_use_id": "b", "content": "x"}],
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}],
                }
            ],
            [{"type": "tool_use", "id": "a", "name": "f", "input": {"arguments": "{"}}],
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1]"}}],
                }
            ],
            [{"type": "tool_use", "id": "a", "name": "f", "input": {"arguments": [1]}}],
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}],
            [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}],
            [{"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}],
        ),
    ],
)
def test_parts_of_messages_become_blocks(parts: list[dict[str, Any]], content: list[dict[str, Any]]) -> None:
    assert shape.message(parts)["content"] == content


def test_several_system_messages_become_one_prompt() -> None:
    assert shape.system([{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}]) == "a\n\nb"
    assert shape.system([{"role": "user", "content": "a"}]) is None


def test_a_converted_conversation_alternates_and_answers_its_calls(all_recordings: list[Recording]) -> None:
    for recording in all_recordings:
        dialect = Messages("m", {}, Placement.NONE)
        for each in recording.tasks:
            for turn in dialect.prepare(each):
                sent = json.loads(dialect.body(turn, EXACT, None))["messages"]
                assert sent[0]["role"] == "user"
                assert all(one["role"] != after["role"] for one, after in pairwise(sent))
                for one, after in pairwise(sent):
                    asked = [block["id"] for block in one["content"] if block["type"] == "tool_use"]
                    told = [block["tool_use_id"] for block in after["content"] if block["type"] == "tool_result"]
                    assert asked == told
