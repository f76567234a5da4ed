"""Answers are read lightly: first and last output, usage, end and errors, in whatever pieces the bytes come."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from otel_agentperf.replay.dialects.chat import ChatEvents
from otel_agentperf.replay.dialects.messages import MessagesEvents
from otel_agentperf.replay.stream import TAIL_BYTES, EventReader, StreamReader


def chat(*events: object) -> list[bytes]:
    return [b"data: %b\n\n" % (each if isinstance(each, bytes) else json.dumps(each).encode()) for each in events]


def delta(**members: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members, "finish_reason": None}]}


ROLE = delta(role="assistant", content="")
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 50, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 48}},
}
WHOLE = [*chat(ROLE, delta(content="a"), delta(content="b"), STOP, USAGE), b": ping\n\n", *chat(b"[DONE]")]

ANTHROPIC = [
    b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
    for event in (
        {
            "type": "message_start",
            "message": {
                "usage": {
                    "input_tokens": 2,
                    "cache_read_input_tokens": 40,
                    "cache_creation_input_tokens": 8,
                    "output_tokens": 1,
                }
            },
        },
        {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_stop"},
        {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "ls", "id": "c1"}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
]


def read(chunks: list[bytes], events: Callable[[], EventReader] = ChatEvents) -> StreamReader:
    """Chunk `i` is read at time `i` + 1."""
    reader = StreamReader(events())
    for index, chunk in enumerate(chunks):
        reader.feed(index + 1, chunk)
    reader.finish()
    return reader


def test_a_chat_stream_tells_its_outputs_usage_and_end() -> None:
    reader = read(WHOLE)
    assert (reader.first_output_ns, reader.last_output_ns) == (2, 3), "the role alone is no output, nor is the stop"
    facts = reader.facts
    assert (facts.input_tokens, facts.cached_input_tokens, facts.output_tokens) == (50, 48, 3)
    assert (facts.complete, facts.error, reader.streamed) == (True, None, True)


def test_an_anthropic_stream_tells_the_same() -> None:
    reader = read(ANTHROPIC, MessagesEvents)
    assert (reader.first_output_ns, reader.last_output_ns) == (4, 7)
    facts = reader.facts
    assert (facts.input_tokens, facts.cached_input_tokens, facts.output_tokens) == (50, 40, 9)
    assert facts.complete


@pytest.mark.parametrize(("chunks", "events"), [(WHOLE, ChatEvents), (ANTHROPIC, MessagesEvents)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_any_split_reads_the_same(chunks: list[bytes], events: Callable[[], EventReader], size: int) -> None:
    data = b"".join(chunks)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    one, other = read(pieces, events), read(chunks, events)
    assert one.facts == other.facts

    def end_of(number: int | None) -> int:
        """Bytes up to the end of the line break that completes the data of a whole chunk."""
        assert number is not None
        return len(b"".join(chunks[:number])) - 1

    assert one.first_output_ns is not None
    assert one.last_output_ns is not None
    assert one.first_output_ns == -(-end_of(other.first_output_ns) // size)
    assert one.last_output_ns == -(-end_of(other.last_output_ns) // size)


@pytest.mark.parametrize(
    "first",
    [
        delta(content="a"),
        delta(reasoning_content="hm"),
        delta(reasoning="hm"),
        delta(refusal="no"),
        delta(tool_calls=[{"index": 0, "function": {"name": "ls"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
        delta(function_call={"name": "ls"}),
    ],
)
def test_content_reasoning_and_tool_calls_are_output(first: dict[str, Any]) -> None:
    assert read(chat(ROLE, first, STOP)).first_output_ns == 2


@pytest.mark.parametrize(
    "event",
    [
        ROLE,
        delta(),
        delta(content=None, tool_calls=[]),
        delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "", "arguments": ""}}]),
        {"choices": None},
        {"choices": "odd"},
        {"choices": [7]},
        {"usage": "odd"},
        [],
        7,
        b"{broken",
        b"",
    ],
)
def test_other_events_are_not(event: object) -> None:
    reader = read(chat(event, delta(content="a"), event, STOP))
    assert (reader.first_output_ns, reader.last_output_ns) == (2, 2)


def test_a_long_answer_is_not_kept_and_its_end_still_read() -> None:
    words = chat(*(delta(content=f"word {index}") for index in range(5000)))
    reader = StreamReader(ChatEvents())
    kept = 0
    for index, chunk in enumerate([*chat(ROLE), *words, *chat(STOP, USAGE, b"[DONE]")]):
        reader.feed(index + 1, chunk)
        kept = max(kept, reader._tail_bytes)
    reader.finish()
    assert kept < TAIL_BYTES + max(map(len, words))
    assert (reader.first_output_ns, reader.last_output_ns) == (2, 5001)
    assert (reader.facts.output_tokens, reader.facts.complete) == (3, True)


def test_an_event_larger_than_what_is_kept_is_the_last_output() -> None:
    arguments = delta(tool_calls=[{"index": 0, "function": {"arguments": "x" * (3 * TAIL_BYTES)}}])
    data = chat(delta(content="a"))[0], *chat(arguments), *chat(STOP, USAGE, b"[DONE]")
    big = data[1]
    parts = [big[at : at + 1000] for at in range(0, len(big), 1000)]
    reader = read([data[0], *parts, *data[2:]])
    assert (reader.first_output_ns, reader.last_output_ns) == (1, 1 + len(parts))
    assert reader.facts.complete


def test_an_error_in_the_stream_and_a_missing_end_are_seen() -> None:
    reader = read(chat(ROLE, delta(content="a"), {"error": {"message": "out of memory", "code": 500}}))
    assert (reader.facts.error, reader.facts.complete) == ("out of memory", False)
    reader = read([b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'], MessagesEvents)
    assert reader.facts.error == '{"type":"overloaded_error"}'
    assert not read(chat(ROLE, delta(content="a"))).facts.complete


def test_carriage_returns_and_missing_spaces_do_not_matter() -> None:
    data = b"".join(WHOLE).replace(b"\n", b"\r\n").replace(b"data: ", b"data:")
    assert read([data]).facts == read(WHOLE).facts


def test_a_body_that_is_no_stream_is_recognised() -> None:
    assert read([b" \n", b'{"choices": []}']).streamed is False
    assert read([b"<html>"]).streamed is False
    assert read([]).streamed is None


def test_an_answer_without_usage_has_no_counts() -> None:
    facts = read(chat(ROLE, delta(content="a"), STOP)).facts
    assert (facts.input_tokens, facts.cached_input_tokens, facts.output_tokens) == (None, None, None)
    odd = {"choices": [], "usage": {"prompt_tokens": True, "completion_tokens": -1, "prompt_tokens_details": None}}
    assert read(chat(delta(content="a"), STOP, odd)).facts.output_tokens is None
