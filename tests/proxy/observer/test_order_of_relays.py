"""Calls of several relays are placed in the order in which they came, also when one relay tells late."""

import json

import pytest

from otel_agentperf_proxy.calls import Call
from otel_agentperf_proxy.dialects import MessageCache
from otel_agentperf_proxy.frames import Open
from otel_agentperf_proxy.waiting import LEAST_NS, MOST_NS, Waiting

from .conftest import MS, PaperRelay, read_spans

CALL_ID = "call_8f3a9c1d7e5b"
TOOL_CALL = {"id": CALL_ID, "type": "function", "function": {"name": "ls", "arguments": "{}"}}
ASKING = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
FIRST = [{"role": "user", "content": "a"}]
SECOND = [*FIRST, ASKING, {"role": "tool", "tool_call_id": CALL_ID, "content": "x"}]


def body(messages):
    return json.dumps({"messages": messages}).encode()


def answer(message):
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})


def call(at_ns):
    opened = Open("POST", "/v1/chat/completions", [], {}, "", "h", 80, b"t" * 16, b"s" * 8)
    return Call(opened, at_ns, content=False, cache=MessageCache())


@pytest.fixture
def waiting():
    return Waiting()


def taken(waiting, now_ns, heard_ns):
    return [call.t0_ns for call in waiting.ready(now_ns, lambda time_ns: time_ns <= heard_ns)]


def test_calls_come_out_in_the_order_of_their_times(waiting):
    for at_ns in (30, 10, 20):
        waiting.add(at_ns, call(at_ns))
    assert taken(waiting, 10 + LEAST_NS, heard_ns=10**9) == [10]
    assert taken(waiting, 10**9, heard_ns=10**9) == [20, 30]
    assert not waiting


def test_a_call_waits_until_all_was_told_before_it_but_not_for_ever(waiting):
    waiting.add(0, call(0))
    waiting.add(MS, call(MS))
    assert taken(waiting, LEAST_NS + MS, heard_ns=-1) == []
    assert taken(waiting, LEAST_NS + MS, heard_ns=0) == [0]
    assert taken(waiting, MOST_NS, heard_ns=0) == []
    assert taken(waiting, MOST_NS + MS, heard_ns=0) == [MS]


def test_at_the_end_nothing_waits(waiting):
    waiting.add(0, call(0))
    assert taken(waiting, None, heard_ns=-1) == [0]


@pytest.mark.parametrize("late_ms", [1, 100, 400])
def test_an_end_that_another_relay_tells_late_is_not_missed(relay, late_ms):
    """The next turn's request is told `late_ms` before the end of the answer that it goes on from."""
    other = PaperRelay(relay.observer, relay.store, worker="0-2", count=10)
    asking = relay.open()
    asking.body(body(FIRST))
    asking.head(headers={"content-type": "application/json"})
    other.now_ns = relay.now_ns - 10_000 * MS + 60 * MS
    going_on = other.open()
    going_on.body(body(SECOND))
    told_ns = going_on.t0_ns + late_ms * MS
    relay.observer.tick(told_ns)
    asking.chunk(20, answer(ASKING))
    asking.end(30)
    relay.open()  # whatever comes next tells that nothing is missing
    relay.observer.tick(told_ns + MOST_NS)
    going_on.head(headers={"content-type": "application/json"})
    going_on.chunk(20, answer({"role": "assistant", "content": "done"}))
    going_on.end(30)
    relay.observer.close()
    chats = [span["attributes"] for span in read_spans(relay.store) if span["name"].startswith("chat")]
    sources = [
        chat["agentperf.trajectory.source"] for chat in sorted(chats, key=lambda chat: chat["agentperf.turn.index"])
    ]
    assert sources.count("tool_call_id") == 1
