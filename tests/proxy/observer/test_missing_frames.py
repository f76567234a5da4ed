"""What a call leaves when frames of it are missing: a span, partial, and never a wrong number."""

import json

import pytest

from otel_agentperf_proxy.frames import Frame, Kind, Outcome

from .conftest import SECOND, delta, sse
from .test_call_spans import ANSWER, EVENT_STREAM, PLAIN, STREAMED, anthropic, stream

OUTPUT_TIMES = ("first_output", "first_answer", "last_output")


def known_times(attributes):
    return {name for name in OUTPUT_TIMES if f"agentperf.time.{name}" in attributes}


def test_a_gap_in_the_middle_of_a_stream(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    told.chunk(10, sse(delta({"content": "a"})))
    told.chunk(20, sse(delta({"content": "b"})), lost=True)
    told.gap(30)
    told.chunk(30, sse(delta({"content": "c"}), delta({}, "stop")))
    told.chunk(40, sse({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}}, "[DONE]"))
    told.end(50, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["agentperf.observation.dropped"] == 1
    # First and last output were seen, and so were the final counts; what lies between was not.
    assert known_times(attributes) == set(OUTPUT_TIMES)
    assert attributes["agentperf.time.last_output"] == 0.03
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert not [name for name in attributes if name.startswith("agentperf.chunk.")]
    assert "agentperf.tool.call_count" not in attributes


def test_a_gap_inside_an_event_joins_nothing(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    event = sse({"choices": [], "usage": {"prompt_tokens": 123, "completion_tokens": 45}})
    told.chunk(10, event[:40])
    told.chunk(11, event[40:60], lost=True)
    told.gap(12)
    told.chunk(12, event[60:] + sse("[DONE]"))
    told.end(20, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["agentperf.usage.source"] == "none"


def test_a_gap_before_the_first_output(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    told.chunk(10, sse(delta({"content": "a"})), lost=True)
    told.gap(20)
    told.chunk(20, sse(delta({"content": "b"}), delta({}, "stop"), "[DONE]"))
    told.end(50, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert known_times(attributes) == {"last_output"}
    # The relay's own stamps need no frame.
    assert attributes["agentperf.time.first_chunk"] == 0.01


def test_the_end_of_a_stream_is_missing(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told, until=5)
    told.chunk(110, sse(delta({}, "stop"), "[DONE]"), lost=True)
    told.gap(120)
    told.end(120, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert known_times(attributes) == {"first_output", "first_answer"}
    assert "error.type" not in attributes


def test_running_counts_before_a_gap_are_given_up(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    told.chunk(10, sse({**delta({"content": "a"}), "usage": {"prompt_tokens": 10, "completion_tokens": 1}}))
    told.chunk(20, sse({**delta({"content": "b"}), "usage": {"prompt_tokens": 10, "completion_tokens": 2}}), lost=True)
    told.gap(30)
    told.chunk(30, sse("[DONE]"))
    told.end(40, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["gen_ai.usage.input_tokens"] == 10
    assert "gen_ai.usage.output_tokens" not in attributes


def test_what_is_lost_after_the_terminal_event_changes_nothing(relay):
    told = relay.open(path="/v1/messages")
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    told.chunk(10, anthropic(type="message_start", message={"id": "m", "usage": {"input_tokens": 5}}))
    told.chunk(20, anthropic(type="content_block_start", index=0, content_block={"type": "text", "text": "x"}))
    told.chunk(30, anthropic(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}))
    told.chunk(31, anthropic(type="message_stop"))
    told.chunk(32, "\n", lost=True)
    told.gap(33)
    told.end(40, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["gen_ai.usage.output_tokens"] == 7
    assert attributes["agentperf.chunk.count"] == 1
    assert attributes["agentperf.status"] == "partial"


def test_a_compressed_stream_is_not_taken_up_after_a_gap(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers={**EVENT_STREAM, "content-encoding": "gzip"})
    told.chunk(10, b"\x1f\x8b\x08\x00")
    told.gap(20)
    told.chunk(20, b"rest")
    told.end(40, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert known_times(attributes) == set()


def test_a_document_with_a_gap_is_not_read(relay):
    told = relay.open()
    told.body(PLAIN)
    told.head(headers={"content-type": "application/json"})
    told.chunk(10, ANSWER[:20])
    told.chunk(11, ANSWER[20:30], lost=True)
    told.gap(12)
    told.chunk(12, ANSWER[30:])
    told.end(20, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["agentperf.usage.source"] == "none"


def test_a_request_with_a_gap_is_read_up_to_it(relay):
    told = relay.open()
    told.body(PLAIN[:20], whole=False)
    told.body(PLAIN[20:30], whole=False, lost=True)
    told.gap(2)
    told.body(PLAIN[30:], 3)
    told.head(headers={"content-type": "application/json"})
    told.chunk(20, ANSWER)
    told.end(30, dropped_frames=1)
    attributes = relay.span("chat m-8b")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["agentperf.request.bytes"] == len(PLAIN)
    assert not [name for name in attributes if name.startswith(("agentperf.context.", "agentperf.message."))]
    assert "agentperf.prefix.shared_bytes" not in attributes


def test_the_response_head_is_missing(relay):
    told = relay.open()
    told.body(PLAIN)
    told.status = 200
    told.gap(10)
    told.chunk(20, ANSWER)
    told.end(30, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["http.response.status_code"] == 200


def test_failures_are_certain_without_all_frames(relay):
    told = relay.open()
    told.body(PLAIN)
    told.gap(10)
    told.end(30, Outcome.UPSTREAM_FAILED, "upstream_timeout", status=504, dropped_frames=1)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "error"
    assert attributes["error.type"] == "upstream_timeout"


def test_bodies_past_the_observation_limit(relay):
    told = relay.open()
    told.body(PLAIN)
    told.head(headers={"content-type": "application/json"})
    told.chunk(20, ANSWER[:10])
    told.end(30, unread_bytes=90, response_bytes=100)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["agentperf.observation.unread_bytes"] == 90
    assert attributes["agentperf.response.bytes"] == 100
    assert "agentperf.observation.dropped" not in attributes


def test_an_observer_that_was_restarted_in_the_middle(new_relay):
    relay = new_relay()
    told = relay.open(headers={"x-session-id": "S1"}, resumed=True)
    told.status = 200
    told.chunk(20, sse(delta({"content": "b"}), "[DONE]"))
    told.end(50, request_bytes=9, first_chunk_ns=told.t0_ns + 5_000_000)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["agentperf.trajectory.id"] == "S1"
    assert attributes["agentperf.time.end"] == 0.05
    assert attributes["agentperf.time.first_chunk"] == 0.005
    assert attributes["agentperf.request.bytes"] == 9
    assert known_times(attributes) == set()
    assert relay.observer.stats()["calls_resumed"] == 1


def test_a_relay_that_comes_back_to_the_same_observer(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told, until=4)
    relay.observer.disconnected(relay.worker, relay.now_ns)
    relay.observer.feed(relay.worker, hello())
    relay.resume(told)
    told.chunk(110, sse(delta({}, "stop"), "[DONE]"))
    told.end(120)
    relay.observer.tick(relay.now_ns + 10 * SECOND)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert known_times(attributes) == {"first_output", "first_answer"}


def hello(worker="0-1"):
    from otel_agentperf_proxy.frames import Hello, encode_record

    return Frame(Kind.HELLO, 0, 0, encode_record(Hello(worker, 1)))


def test_an_end_that_is_told_twice_leaves_one_span(relay):
    told = relay.call(PLAIN, ANSWER)
    relay.observer.disconnected(relay.worker, relay.now_ns)
    relay.observer.feed(relay.worker, hello())
    relay.resume(told)
    told.end(30)
    assert [span["name"] for span in relay.spans()] == ["chat m-8b", "invoke_agent"]


def test_a_relay_that_died(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told, until=4)
    relay.observer.disconnected(relay.worker, relay.now_ns)
    relay.observer.tick(relay.now_ns + SECOND)
    assert relay.observer.stats()["open_calls"] == 1
    relay.observer.tick(relay.now_ns + 3 * SECOND)
    assert relay.observer.stats()["open_calls"] == 0
    span = relay.span("chat")
    attributes = span["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["http.response.status_code"] == 200
    assert known_times(attributes) == {"first_output", "first_answer"}
    assert span["end_ms"] - span["start_ms"] == 40
    for name in ("agentperf.time.end", "agentperf.request.bytes", "agentperf.time.sent"):
        assert name not in attributes


def test_an_observer_that_is_told_to_stop(relay):
    told = relay.open()
    told.body(STREAMED)
    assert relay.span("chat")["attributes"]["agentperf.status"] == "partial"


def test_an_end_without_its_open(relay):
    told = relay.open()
    told.number = 77
    told.end(30, status=200, response_bytes=5, first_chunk_ns=told.t0_ns + 20_000_000, sent_ns=None)
    span = relay.span("HTTP")
    assert span["attributes"] == {
        "agentperf.status": "partial",
        "http.response.status_code": 200,
        "agentperf.request.bytes": 0,
        "agentperf.response.bytes": 5,
        "agentperf.observation.dropped": 1,
    }
    assert span["end_ms"] - span["start_ms"] == 10
    assert relay.observer.stats()["calls_without_open"] == 1


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.RESPONSE_HEAD, Kind.END, Kind.HELLO, 55])
def test_frames_of_garbage_cost_their_call_only(relay, kind, caplog):
    told = relay.open()
    told.body(PLAIN)
    for number in (1, 99):
        relay.observer.feed(relay.worker, Frame(kind, number, told.t0_ns + 1, b"\xc1garbage"))
    relay.call(PLAIN, ANSWER)
    ok = [span for span in relay.spans() if span["attributes"].get("agentperf.status") == "ok"]
    assert [span["name"] for span in ok if span["name"].startswith("chat")] == ["chat m-8b"]
    said = [record.message for record in caplog.records]
    assert len(said) == len(set(said))


def test_a_failure_of_ours_is_counted_and_said_once(relay, monkeypatch, caplog):
    def fail(*_, **__):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(relay.observer._linker, "place", fail)
    for _ in range(3):
        relay.call(PLAIN, ANSWER)
    spans = relay.spans()
    assert [span["name"] for span in spans] == ["chat m-8b"] * 3
    assert "agentperf.trajectory.id" not in spans[0]["attributes"]
    assert relay.observer.stats()["errors"]["frame: ZeroDivisionError"] == 3
    said = [record for record in caplog.records if "frame: ZeroDivisionError" in record.message]
    assert len(said) == 1


def test_stats_are_json(relay):
    relay.call(PLAIN, ANSWER)
    relay.call(PLAIN, b"no json")
    stats = json.loads(json.dumps(relay.observer.stats()))
    assert stats["calls"] == {"ok": 1, "partial": 1}
    assert stats["problems"] == {"openai.chat": 1}
    assert stats["relays"] == 1
    assert stats["export"] is None
    assert stats["store"]["failing"] is None
    assert stats["linker"]["trajectories"] == 2
