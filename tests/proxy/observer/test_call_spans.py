"""Whole call spans, as the store holds them: ids, times, names, values and their types."""

import gzip
import json

import pytest

from otel_agentperf_proxy.frames import Outcome

from .conftest import TENANT, delta, sse, typed

CHAT = {"model": "m-8b", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}
STREAMED = json.dumps({**CHAT, "stream": True, "temperature": 0, "stop": ["END"]}).encode()
PLAIN = json.dumps(CHAT).encode()
ANSWER = json.dumps(
    {
        "id": "c9",
        "model": "m-8b-fp8",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0}},
    }
).encode()
EVENT_STREAM = {"content-type": "text/event-stream"}


def call_fragment(index, **function):
    return {"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": function}]}


def stream(told, *, until=9):
    """Six output chunks: at 20 and 30 reasoning, at 40 text, at 50, 60 and 90 a tool call; then the end."""
    steps = [
        (10, sse(delta({"role": "assistant", "content": ""}))),
        (20, sse(delta({"reasoning_content": "I should "}))),
        (30, sse(delta({"reasoning_content": "look."}))),
        (40, sse(delta({"content": "Looking"}))),
        (50, sse(delta(call_fragment(0, name="bash", arguments="")))),
        (60, sse(delta(call_fragment(0, arguments='{"cmd"')))),
        (90, sse(delta(call_fragment(0, arguments=': "ls"}')))),
        (100, sse(delta({}, "tool_calls"))),
        (110, sse({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 30}}, "[DONE]")),
    ]
    for at_ms, data in steps[:until]:
        told.chunk(at_ms, data)


def test_a_stream_of_openai(relay):
    told = relay.open(
        headers={"user-agent": "tester/1", "x-request-id": "req-1", "x-session-id": "S1"},
        tags={"benchmark.id": "b1", "level": "8", "agent.index": "3", "phase": "steady", "task.domain": "fix"},
    )
    told.body(STREAMED, 1)
    told.head(headers={**EVENT_STREAM, "x-request-id": "the provider's"})
    stream(told)
    told.end(120)
    call, run = relay.spans()

    attributes = call.pop("attributes")
    assert call == {
        "name": "chat m-8b",
        "kind": "CLIENT",
        "trace": f"{0xA1:032x}",
        "span": f"{0xB1:016x}",
        "parent": run["span"],
        "start_ms": 110_000.0,
        "end_ms": 110_120.0,
        "links": [],
        "status": "UNSET",
    }
    assert typed(attributes) == typed(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.conversation.id": "S1",
            "gen_ai.request.model": "m-8b",
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": 0.0,
            "gen_ai.request.stop_sequences": ("END",),
            "gen_ai.response.id": "c1",
            "gen_ai.response.model": "m-8b",
            "gen_ai.response.finish_reasons": ("tool_calls",),
            "gen_ai.response.time_to_first_chunk": 0.01,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 30,
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "url.path": "/v1/chat/completions",
            "server.address": "llm.internal",
            "server.port": 8000,
            "user_agent.original": "tester/1",
            "agentperf.dialect": "openai.chat",
            "agentperf.status": "ok",
            "agentperf.usage.source": "server",
            "agentperf.request.id": "req-1",
            "agentperf.tenant": TENANT,
            "agentperf.trajectory.id": "S1",
            "agentperf.trajectory.source": "header",
            "agentperf.trajectory.confidence": 1.0,
            "agentperf.run.id": attributes["agentperf.run.id"],
            "agentperf.run.index": 0,
            "agentperf.segment.index": 0,
            "agentperf.turn.id": f"{0xB1:016x}",
            "agentperf.turn.index": 0,
            "agentperf.turn.kind": "turn",
            "agentperf.attempt.index": 0,
            "agentperf.agent.depth": 0,
            "agentperf.benchmark.id": "b1",
            "agentperf.level": 8,
            "agentperf.agent.index": 3,
            "agentperf.phase": "steady",
            "agentperf.task.domain": "fix",
            "agentperf.message.count": 1,
            "agentperf.context.system_bytes": 42,
            "agentperf.context.tools_bytes": 0,
            "agentperf.context.messages_bytes": 33,
            "agentperf.context.tool_results_bytes": 0,
            "agentperf.prefix.shared_bytes": 0,
            "agentperf.request.bytes": len(STREAMED),
            "agentperf.response.bytes": told.response_bytes,
            "agentperf.tool.call_count": 1,
            "agentperf.time.first_chunk": 0.01,
            "agentperf.time.first_output": 0.02,
            "agentperf.time.first_answer": 0.04,
            "agentperf.time.last_output": 0.09,
            "agentperf.time.end": 0.12,
            "agentperf.time.sent": 0.002,
            "agentperf.upload_s": 0.0005,
            "agentperf.proxy.overhead_s": 0.00025,
            # Gaps 10, 10, 10, 10, 30 ms.
            "agentperf.chunk.count": 6,
            "agentperf.chunk.gap_p50_s": 0.01,
            "agentperf.chunk.gap_p95_s": 0.026,
            "agentperf.chunk.gap_p99_s": 0.0292,
            "agentperf.chunk.gap_max_s": 0.03,
            "agentperf.chunk.stall_count": 0,
        }
    )


def anthropic(**event):
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def test_a_stream_of_anthropic(relay):
    told = relay.open(path="/v1/messages", headers={"x-claude-code-session-id": "S1"})
    told.body(json.dumps({"model": "claude", "stream": True, "max_tokens": 64, "messages": CHAT["messages"]}).encode())
    told.head(headers={**EVENT_STREAM, "request-id": "req_abc"})
    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1}
    told.chunk(10, anthropic(type="message_start", message={"id": "msg_1", "model": "claude-x", "usage": usage}))
    told.chunk(20, anthropic(type="content_block_start", index=0, content_block={"type": "text", "text": ""}))
    told.chunk(30, anthropic(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}))
    told.chunk(50, anthropic(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"}))
    told.chunk(60, anthropic(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}))
    told.chunk(61, anthropic(type="message_stop"))
    told.end(70)
    span = relay.span("chat claude")
    expected = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.max_tokens": 64,
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "claude-x",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 125,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_write.input_tokens": 20,
        "gen_ai.agent.name": "claude-code",
        "agentperf.dialect": "anthropic.messages",
        "agentperf.request.id": "req_abc",
        "agentperf.time.first_output": 0.03,
        "agentperf.time.first_answer": 0.03,
        "agentperf.time.last_output": 0.05,
        "agentperf.chunk.count": 2,
        "agentperf.status": "ok",
    }
    assert typed(span["attributes"]) | typed(expected) == typed(span["attributes"])
    assert span["status"] == "UNSET"


def test_a_response_that_is_no_stream_has_no_output_times(relay):
    relay.call(PLAIN, ANSWER)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "ok"
    assert attributes["agentperf.time.first_chunk"] == 0.02
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    assert not [name for name in attributes if "chunk.gap" in name or "output" in name.partition("time.")[2]]
    for name in ("gen_ai.response.time_to_first_chunk", "agentperf.chunk.count", "gen_ai.request.stream"):
        assert name not in attributes


def test_counts_that_the_server_did_not_tell_are_estimated_and_marked(relay):
    relay.call(PLAIN, json.dumps({"choices": [{"message": {"content": "Hello!!"}, "finish_reason": "stop"}]}).encode())
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.usage.source"] == "estimated"
    told = {name: value for name, value in attributes.items() if name.startswith("gen_ai.usage.")}
    # 11 bytes of prompt, 7 of answer.
    assert told == {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 2}


def test_counts_of_a_broken_stream_are_not_estimated(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told, until=4)
    told.end(120)
    attributes = relay.span("chat")["attributes"]
    assert (attributes["agentperf.status"], attributes["agentperf.usage.source"]) == ("truncated", "none")
    assert not [name for name in attributes if name.startswith("gen_ai.usage.")]


def test_what_a_server_tells_of_its_times_and_of_the_cost_is_kept(relay):
    answer = {**json.loads(ANSWER), "timings": {"prompt_ms": 20.5, "predicted_ms": 40}}
    answer["usage"]["cost"] = 0.25
    relay.call(PLAIN, json.dumps(answer).encode())
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.usage.cost"] == 0.25
    assert attributes["agentperf.server.prefill_s"] == 0.0205
    assert attributes["agentperf.server.decode_s"] == 0.04


def test_a_call_of_gemini(relay):
    told = relay.open(path="/v1beta/models/gemini-3:generateContent")
    told.body(json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}).encode())
    told.head(headers={"content-type": "application/json"})
    candidate = {"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
    told.chunk(20, json.dumps({"candidates": [candidate], "usageMetadata": {"promptTokenCount": 2}}))
    told.end(30)
    attributes = relay.span("generate_content gemini-3")["attributes"]
    assert attributes["gen_ai.operation.name"] == "generate_content"
    assert attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert attributes["agentperf.dialect"] == "gemini.generate"
    assert attributes["gen_ai.usage.input_tokens"] == 2
    assert attributes["agentperf.usage.source"] == "server"


def test_embeddings_are_no_turn(relay):
    told = relay.open(path="/v1/embeddings")
    told.body(b'{"model": "e", "input": "hello there"}')
    told.head(headers={"content-type": "application/json"})
    told.chunk(20, b'{"object": "list", "data": [{"embedding": [0.5]}], "model": "e"}')
    told.end(30)
    attributes = relay.span("embeddings e")["attributes"]
    assert attributes["agentperf.turn.kind"] == "auxiliary"
    assert attributes["agentperf.usage.source"] == "estimated"
    assert attributes["gen_ai.usage.input_tokens"] == 3
    assert "gen_ai.usage.output_tokens" not in attributes


def test_an_error_status(relay):
    told = relay.open()
    told.body(PLAIN)
    told.head(429, {"content-type": "application/json"})
    told.chunk(20, b'{"error": {"type": "rate_limit_exceeded", "message": "slow down"}}')
    told.end(30)
    call, _ = relay.spans()
    assert call["status"] == "ERROR"
    assert call["attributes"]["agentperf.status"] == "error"
    assert call["attributes"]["error.type"] == "rate_limit_exceeded"
    assert call["attributes"]["http.response.status_code"] == 429


def test_an_error_status_with_a_page(relay):
    told = relay.open()
    told.body(PLAIN)
    told.head(503, {"content-type": "text/html"})
    told.chunk(20, b"<h1>try later</h1>")
    told.end(30)
    assert relay.span("chat")["attributes"]["error.type"] == "503"


def test_an_error_in_the_middle_of_a_stream(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told, until=4)
    told.chunk(55, sse({"error": {"type": "overloaded_error", "message": "no"}}))
    told.end(60)
    span = relay.span("chat")
    assert span["status"] == "ERROR"
    assert span["attributes"]["agentperf.status"] == "error"
    assert span["attributes"]["error.type"] == "overloaded_error"
    assert span["attributes"]["agentperf.chunk.count"] == 3


def test_a_client_that_leaves_in_the_middle(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told, until=4)
    told.end(60, Outcome.CLIENT_DISCONNECTED, "client_disconnected")
    span = relay.span("chat")
    assert span["status"] == "ERROR"
    assert span["attributes"]["agentperf.status"] == "cancelled"
    assert span["attributes"]["error.type"] == "client_disconnected"
    assert span["attributes"]["agentperf.time.last_output"] == 0.04
    assert "gen_ai.response.finish_reasons" not in span["attributes"]


def test_a_client_that_leaves_before_the_first_byte(relay):
    told = relay.open()
    told.body(STREAMED)
    told.end(60, Outcome.CLIENT_DISCONNECTED, "client_disconnected")
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "cancelled"
    assert attributes["agentperf.usage.source"] == "none"
    assert "http.response.status_code" not in attributes


def test_a_client_that_leaves_while_it_uploads(relay):
    told = relay.open()
    told.body(STREAMED[:40], whole=False)
    told.end(60, Outcome.CLIENT_DISCONNECTED, "client_disconnected", sent_ns=None)
    attributes = relay.span("chat m-8b")["attributes"]
    assert attributes["agentperf.status"] == "cancelled"
    assert attributes["agentperf.trajectory.confidence"] == 0.5
    assert "agentperf.message.count" not in attributes
    assert "agentperf.time.sent" not in attributes


def test_leaving_right_after_the_terminal_event_is_no_abort(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told)
    told.end(111, Outcome.CLIENT_DISCONNECTED, "client_disconnected")
    span = relay.span("chat")
    assert span["status"] == "UNSET"
    assert span["attributes"]["agentperf.status"] == "ok"
    assert "error.type" not in span["attributes"]


@pytest.mark.parametrize(
    ("outcome", "told_type", "error_type"),
    [
        (Outcome.COMPLETE, None, "truncated"),
        (Outcome.UPSTREAM_FAILED, "upstream_reset", "upstream_reset"),
        (Outcome.SHUTDOWN, "proxy_shutdown", "proxy_shutdown"),
    ],
)
def test_a_stream_without_its_terminal_event(relay, outcome, told_type, error_type):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    stream(told, until=7)
    told.end(100, outcome, told_type)
    span = relay.span("chat")
    assert span["status"] == "ERROR"
    assert span["attributes"]["agentperf.status"] == "truncated"
    assert span["attributes"]["error.type"] == error_type
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ("error",)
    assert span["attributes"]["agentperf.chunk.count"] == 6


def test_an_answer_that_the_engine_gave_up(relay):
    told = relay.open()
    told.body(STREAMED)
    told.head(headers=EVENT_STREAM)
    told.chunk(20, sse(delta({"content": "He"}), delta({}, "abort"), "[DONE]"))
    told.end(30)
    span = relay.span("chat")
    assert span["status"] == "ERROR"
    assert span["attributes"]["agentperf.status"] == "truncated"
    assert span["attributes"]["error.type"] == "truncated"
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ("abort",)
    assert span["attributes"]["agentperf.usage.source"] == "none"


@pytest.mark.parametrize("error_type", ["upstream_connect_failed", "upstream_timeout"])
def test_an_upstream_that_gives_no_response(relay, error_type):
    told = relay.open()
    told.body(PLAIN)
    told.end(40, Outcome.UPSTREAM_FAILED, error_type, status=502, sent_ns=None)
    span = relay.span("chat")
    assert span["attributes"]["agentperf.status"] == "error"
    assert span["attributes"]["error.type"] == error_type
    assert span["attributes"]["http.response.status_code"] == 502


def test_compressed_bodies_are_read(relay):
    told = relay.open(headers={"content-encoding": "gzip"})
    told.body(gzip.compress(PLAIN))
    told.head(headers={"content-type": "application/json", "content-encoding": "gzip"})
    packed = gzip.compress(ANSWER)
    told.chunk(20, packed[:30])
    told.chunk(21, packed[30:])
    told.end(30)
    attributes = relay.span("chat m-8b")["attributes"]
    assert attributes["agentperf.status"] == "ok"
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["agentperf.message.count"] == 1
    assert attributes["agentperf.request.bytes"] == len(gzip.compress(PLAIN))


def test_an_unknown_coding_leaves_a_partial_span(relay):
    told = relay.open()
    told.body(PLAIN)
    told.head(headers={"content-type": "application/json", "content-encoding": "sdch"})
    told.chunk(20, b"\x00\x01")
    told.end(30)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.status"] == "partial"
    assert attributes["agentperf.usage.source"] == "none"
    assert relay.observer.stats()["problems"] == {"openai.chat": 1}


def test_what_is_no_inference_call_leaves_a_plain_http_span(relay):
    told = relay.open("GET", "/v1/models", headers={"user-agent": "tester/1"}, tags={"benchmark.id": "b1"})
    told.body(b"")
    told.head(headers={"content-type": "application/json", "x-request-id": "p1"})
    told.chunk(20, b"{}")
    told.end(30)
    (span,) = relay.spans()
    attributes = span.pop("attributes")
    assert span == {
        "name": "GET",
        "kind": "CLIENT",
        "trace": f"{0xA1:032x}",
        "span": f"{0xB1:016x}",
        "parent": None,
        "start_ms": 110_000.0,
        "end_ms": 110_030.0,
        "links": [],
        "status": "UNSET",
    }
    assert typed(attributes) == typed(
        {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "url.path": "/v1/models",
            "server.address": "llm.internal",
            "server.port": 8000,
            "user_agent.original": "tester/1",
            "agentperf.request.id": "p1",
            "agentperf.tenant": TENANT,
            "agentperf.benchmark.id": "b1",
            "agentperf.status": "ok",
            "agentperf.request.bytes": 0,
            "agentperf.response.bytes": 2,
            "agentperf.time.first_chunk": 0.02,
            "agentperf.time.sent": 0.002,
            "agentperf.time.end": 0.03,
            "agentperf.upload_s": 0.0005,
            "agentperf.proxy.overhead_s": 0.00025,
        }
    )


def test_an_unknown_method_is_of_low_cardinality(relay):
    told = relay.open("BREW", "/pot")
    told.end(30, status=405)
    (span,) = relay.spans()
    assert span["name"] == "HTTP"
    assert span["attributes"]["http.request.method"] == "_OTHER"
    assert span["attributes"]["error.type"] == "405"


def test_a_plain_download_that_breaks_off(relay):
    told = relay.open("GET", "/file")
    told.head(headers={"content-length": "10"})
    told.chunk(20, b"12345")
    told.end(30, Outcome.CLIENT_DISCONNECTED, "client_disconnected")
    whole = relay.open("GET", "/file")
    whole.head(headers={"content-length": "5"})
    whole.chunk(20, b"12345")
    whole.end(30, Outcome.CLIENT_DISCONNECTED, "client_disconnected")
    assert [span["attributes"]["agentperf.status"] for span in relay.spans()] == ["cancelled", "ok"]


def test_no_text_without_being_asked(new_relay):
    relay = new_relay()
    relay.call(b'{"model": "m", "messages": [{"role": "user", "content": "SECRET"}]}', ANSWER)
    relay.observer.close()
    assert not [span for span in relay.spans() if "SECRET" in str(span) or "Hello" in str(span)]


def test_text_when_asked(new_relay):
    relay = new_relay(capture="content")
    relay.call(PLAIN, ANSWER)
    attributes = relay.span("chat")["attributes"]
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "Hello"}]
    assert "Be brief." in attributes["gen_ai.input.messages"]


def test_the_configuration_names_the_provider(new_relay):
    relay = new_relay(provider="vllm")
    relay.call(PLAIN, ANSWER)
    assert relay.span("chat")["attributes"]["gen_ai.provider.name"] == "vllm"


def test_values_of_the_wrong_type_and_endless_ones(relay):
    tags = {"level": "many", "agent.index": "-1", "phase": "x" * 5000, "outcome": "perhaps"}
    relay.call(json.dumps({"model": "m" * 10_000, "messages": []}).encode(), ANSWER, tags=tags)
    call, *_ = relay.spans()
    attributes = call["attributes"]
    assert len(attributes["gen_ai.request.model"]) == len(attributes["agentperf.phase"]) == 4096
    assert attributes["gen_ai.request.model"].endswith("…")
    assert not {"agentperf.level", "agentperf.agent.index", "agentperf.outcome"} & attributes.keys()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": 1}', b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_body_that_cannot_be_read_leaves_a_span(relay, body):
    relay.call(body, body)
    call, _ = relay.spans()
    assert call["name"] == "chat"
    assert call["attributes"]["agentperf.request.bytes"] == len(body)
    assert relay.observer.stats()["errors"] == {}


def test_how_long_to_wait_and_what_is_left_stand_on_the_span(relay):
    told = relay.open()
    told.body(b"{}")
    told.head(429, {"retry-after": "2", "x-ratelimit-remaining-requests": "0"})
    told.end(30)
    attributes = relay.span("chat")["attributes"]
    assert attributes["agentperf.response.retry_after_s"] == 2.0
    assert attributes["agentperf.rate_limit.requests.remaining"] == 0
