"""Calls inside a WebSocket on `/v1/responses` leave the spans that they would leave by HTTP."""

import json
import struct
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from otel_agentperf import semconv
from otel_agentperf.semconv import ErrorType, Status
from otel_agentperf_proxy.frames import Outcome

CODEX = {
    "user-agent": "codex_exec/0.169.0 (Linux; x86_64)",
    "session-id": "s-1",
    "thread-id": "t-1",
    "x-request-id": "handshake",
    "x-codex-turn-metadata": json.dumps({"turn_id": "", "request_kind": "prewarm"}),
}

REQUEST = {
    "model": "m",
    "stream": True,
    "store": False,
    "instructions": "Be brief.",
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
    "tools": [{"type": "function", "name": "shell", "parameters": {}}],
}

USAGE = {"input_tokens": 20, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 8}}


def events(id: str = "resp_1", text: str = "hi") -> list[dict[str, Any]]:
    """What a server sends for a response with one message."""
    response = {"id": id, "model": "m-1", "status": "in_progress"}
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": text[:1]},
        {"type": "response.output_text.delta", "output_index": 0, "delta": text[1:]},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**response, "status": "completed", "usage": USAGE}},
    ]


class Tunnel:
    """A WebSocket being told to an observer."""

    def __init__(
        self,
        relay,
        *,
        headers: dict[str, str] | None = None,
        path: str = "/v1/responses",
        deflate: bool = False,
        **given,
    ) -> None:
        self.told = relay.open("GET", path, headers=headers, **given)
        self.told.body(b"")
        agreed = {"sec-websocket-extensions": "permessage-deflate; server_max_window_bits=15"} if deflate else {}
        self.told.head(101, {"upgrade": "websocket", **agreed})
        self.extensions = {
            side: [PerMessageDeflate(False, False, 15, 15)] if deflate else [] for side in ("client", "server")
        }

    def frame(self, data: bytes, side: str, opcode: Opcode = Opcode.TEXT) -> bytes:
        return Frame(opcode, data).serialize(mask=side == "client", extensions=self.extensions[side])

    def ask(self, message: dict[str, Any] | bytes, at_ms: float, *, until_ms: float | None = None) -> None:
        """A message of the client, its last byte at `until_ms`."""
        data = self.frame(message if isinstance(message, bytes) else json.dumps(message).encode(), "client")
        self.told.body(data[:-1], at_ms, whole=False)
        self.told.body(data[-1:], until_ms or at_ms, whole=False)

    def say(self, event: dict[str, Any] | bytes, at_ms: float, **options: Any) -> None:
        """An event of the server."""
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.told.chunk(at_ms, self.frame(data, "server"), **options)

    def answer(self, at_ms: float, found: list[dict[str, Any]] | None = None) -> None:
        for step, event in enumerate(found or events()):
            self.say(event, at_ms + 10 * step)

    def close(self, side: str, at_ms: float) -> None:
        frame = self.frame(struct.pack("!H", 1000), side, Opcode.CLOSE)
        if side == "client":
            self.told.body(frame, at_ms, whole=False)
        else:
            self.told.chunk(at_ms, frame)


def create(**changes: Any) -> dict[str, Any]:
    return {"type": "response.create", **REQUEST, **changes}


def calls(relay) -> list[dict[str, Any]]:
    return [span for span in relay.spans() if span["name"].startswith("chat")]


def status_of(span: dict[str, Any]) -> tuple[str, str | None]:
    attributes = span["attributes"]
    return attributes[semconv.STATUS], attributes.get(semconv.ERROR_TYPE)


@pytest.mark.parametrize("deflate", [False, True])
def test_a_call_leaves_the_span_that_it_leaves_by_http(relay, deflate):
    by_http = relay.open(path="/v1/responses", headers={"user-agent": "codex"})
    by_http.body(json.dumps(create()).encode(), 1)
    by_http.head(headers={"content-type": "text/event-stream"})
    for step, event in enumerate(events()):
        by_http.chunk(20 + 10 * step, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n")
    by_http.end(70)

    tunnel = Tunnel(relay, headers={"user-agent": "codex"}, deflate=deflate)
    tunnel.ask(create(), 1000, until_ms=1001)
    tunnel.answer(1020)
    tunnel.close("client", 2000)
    tunnel.told.end(2010)

    http, websocket = calls(relay)
    assert (http["name"], http["kind"], http["status"]) == (websocket["name"], websocket["kind"], websocket["status"])
    assert websocket["start_ms"] == tunnel.told.t0_ns / 1e6 + 1000
    assert websocket["end_ms"] - websocket["start_ms"] == 70
    expected, got = dict(http["attributes"]), dict(websocket["attributes"])
    own = {
        semconv.HTTP_REQUEST_METHOD: "GET",
        semconv.NETWORK_PROTOCOL_NAME: "websocket",
        semconv.UPLOAD_S: 0.001,
        semconv.TIME_SENT: 0.001,
    }
    assert {name: got.pop(name) for name in own} == own
    for name in (*own, semconv.HTTP_RESPONSE_STATUS_CODE, semconv.PROXY_OVERHEAD_S):
        expected.pop(name, None)
    for attributes in (expected, got):
        for name in (semconv.RESPONSE_BYTES, semconv.REQUEST_BYTES, semconv.REQUEST_ID):
            assert attributes.pop(name)
        for name in (semconv.TRAJECTORY_ID, semconv.RUN_ID, semconv.TURN_ID):
            assert attributes.pop(name)
    assert got == expected
    assert got[semconv.TIME_FIRST_OUTPUT] == 0.04
    assert got[semconv.GEN_AI_USAGE_INPUT_TOKENS] == 20


def test_the_connection_is_a_plain_span_that_its_calls_link(relay):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    tunnel.answer(120)
    tunnel.told.end(500)
    connection = relay.span("GET")
    (call,) = [span for span in relay.spans() if span["name"].startswith("chat")]
    assert connection["attributes"][semconv.HTTP_RESPONSE_STATUS_CODE] == 101
    assert connection["attributes"][semconv.STATUS] == Status.OK
    assert semconv.DIALECT not in connection["attributes"]
    assert (connection["trace"], connection["span"]) in call["links"]
    assert connection["end_ms"] - connection["start_ms"] == 500


def test_turns_of_one_agent_over_one_connection(relay):
    """Codex: a warm-up, then each turn with new items only; the handshake's metadata speaks of the warm-up."""
    metadata = {"x-codex-turn-metadata": json.dumps({"turn_id": "1", "request_kind": "turn"}), "thread_id": "t-1"}
    tunnel = Tunnel(relay, headers=CODEX)
    tunnel.ask(create(generate=False), 100)
    tunnel.answer(110, [events("resp_0")[0], events("resp_0")[-1]])
    tunnel.ask(create(client_metadata=metadata), 200)
    call = {"type": "function_call", "call_id": "call_abcdefghijkl", "name": "shell", "arguments": "{}"}
    tunnel.answer(
        220,
        [
            {"type": "response.output_item.done", "output_index": 0, "item": call},
            {**events("resp_1")[-1]},
        ],
    )
    result = {"type": "function_call_output", "call_id": "call_abcdefghijkl", "output": "done"}
    tunnel.ask(create(client_metadata=metadata, previous_response_id="resp_1", input=[result]), 300)
    tunnel.answer(320, events("resp_2"))
    tunnel.told.end(500)
    found = [span["attributes"] for span in calls(relay)]
    assert [one[semconv.TURN_KIND] for one in found] == ["auxiliary", "turn", "turn"]
    assert [one.get(semconv.TURN_INDEX) for one in found] == [None, 0, 1]
    assert len({one[semconv.TRAJECTORY_ID] for one in found}) == 1
    assert len({one[semconv.RUN_ID] for one in found}) == 1
    assert {one[semconv.TRAJECTORY_SOURCE] for one in found} == {"header"}
    assert len({one[semconv.REQUEST_ID] for one in found}) == 3
    tools = [span for span in relay.spans() if span["name"].startswith("execute_tool")]
    assert [span["name"] for span in tools] == ["execute_tool shell"]


def test_runs_over_one_connection_have_traces_of_their_own(relay):
    tunnel = Tunnel(relay, headers=CODEX)
    at = 0
    for text in ("one", "two"):
        at += 5000
        asked = [*REQUEST["input"], {"type": "message", "role": "user", "content": text}]
        tunnel.ask(create(input=asked), at)
        tunnel.answer(at + 10, events(text))
        relay.observer.tick(relay.now_ns + 4_000_000_000)
    tunnel.told.end(20_000)
    found = calls(relay)
    assert len({span["trace"] for span in found}) == 2
    assert len({span["attributes"][semconv.TRAJECTORY_ID] for span in found}) == 1
    assert [span["attributes"][semconv.RUN_INDEX] for span in found] == [0, 1]
    # The upstream was told of the first run's trace in the handshake.
    assert found[0]["trace"] == tunnel.told.record.trace_id.hex()


def test_a_client_that_names_its_own_context(relay):
    metadata = {"ws_request_header_traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    tunnel = Tunnel(relay)
    tunnel.ask(create(client_metadata=metadata), 100)
    tunnel.answer(120)
    tunnel.told.end(500)
    (call,) = calls(relay)
    assert (call["trace"], call["parent"]) == ("ab" * 16, "cd" * 8)


def test_requests_are_answered_in_their_order(relay):
    tunnel = Tunnel(relay)
    tunnel.ask(create(model="first"), 100)
    tunnel.ask(create(model="second"), 110)
    tunnel.answer(200, events("a"))
    tunnel.answer(300, events("b"))
    tunnel.told.end(500)
    found = [(span["name"], span["attributes"][semconv.GEN_AI_RESPONSE_ID]) for span in calls(relay)]
    assert found == [("chat first", "a"), ("chat second", "b")]


def test_an_error_event_ends_a_call_with_its_status(relay):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    error = {"type": "rate_limit_error", "message": "slow down"}
    told = {"Retry-After": "7", "x-ratelimit-remaining-tokens": 0, "x-other": None}
    tunnel.say({"type": "error", "status": 429, "error": error, "headers": told}, 110)
    tunnel.ask(create(), 200)
    tunnel.answer(210)
    tunnel.told.end(500)
    one, other = calls(relay)
    assert status_of(one) == (Status.ERROR, "rate_limit_error")
    assert one["attributes"][semconv.HTTP_RESPONSE_STATUS_CODE] == 429
    assert one["attributes"][semconv.RETRY_AFTER_S] == 7.0
    assert one["attributes"][semconv.RATE_LIMIT_TOKENS_REMAINING] == 0
    assert status_of(other) == (Status.OK, None)
    assert semconv.HTTP_RESPONSE_STATUS_CODE not in other["attributes"]
    assert other["attributes"][semconv.ATTEMPT_INDEX] == 1


def test_other_messages_are_no_calls(relay):
    tunnel = Tunnel(relay)
    tunnel.say({"type": "error", "status": 400, "error": {"type": "x"}}, 50)
    tunnel.ask({"type": "response.processed", "response_id": "r"}, 60)
    tunnel.ask(b"no JSON", 70)
    tunnel.ask(b"\xff\xfe", 70)
    tunnel.told.body(tunnel.frame(json.dumps(create()).encode(), "client", Opcode.BINARY), 80, whole=False)
    tunnel.say(events()[-1], 90)
    tunnel.told.end(500)
    assert [span["name"] for span in relay.spans()] == ["GET"]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (lambda tunnel: tunnel.close("client", 400), (Status.CANCELLED, ErrorType.CLIENT_DISCONNECTED)),
        (lambda tunnel: tunnel.close("server", 400), (Status.TRUNCATED, ErrorType.UPSTREAM_RESET)),
        (lambda tunnel: None, (Status.TRUNCATED, ErrorType.UPSTREAM_RESET)),
        # The client's side of the connection ends without a close frame.
        (lambda tunnel: tunnel.told.body(b"", 400), (Status.CANCELLED, ErrorType.CLIENT_DISCONNECTED)),
    ],
)
def test_a_connection_that_ends_in_the_middle_of_a_call(relay, ending, expected):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    tunnel.answer(120, events()[:4])
    ending(tunnel)
    tunnel.told.end(500)
    (call,) = calls(relay)
    assert status_of(call) == expected
    assert call["end_ms"] - tunnel.told.t0_ns / 1e6 == 500


@pytest.mark.parametrize(
    ("outcome", "error_type", "expected"),
    [
        (Outcome.CLIENT_DISCONNECTED, ErrorType.CLIENT_DISCONNECTED, Status.CANCELLED),
        (Outcome.UPSTREAM_FAILED, ErrorType.UPSTREAM_RESET, Status.TRUNCATED),
        (Outcome.SHUTDOWN, ErrorType.PROXY_SHUTDOWN, Status.TRUNCATED),
    ],
)
def test_a_connection_that_breaks_in_the_middle_of_a_call(relay, outcome, error_type, expected):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    tunnel.answer(120, events()[:4])
    tunnel.told.end(500, outcome, error_type)
    (call,) = calls(relay)
    assert status_of(call) == (expected, error_type)


def test_a_call_without_any_answer(relay):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    tunnel.told.end(500)
    (call,) = calls(relay)
    assert status_of(call) == (Status.ERROR, ErrorType.UPSTREAM_RESET)


def test_after_missing_frames_the_rest_of_the_connection_is_not_guessed(relay):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    tunnel.answer(120)
    tunnel.ask(create(), 300)
    tunnel.say(events()[0], 310)
    tunnel.say(events()[2], 320, lost=True)
    tunnel.told.gap(330)
    tunnel.answer(340, events()[3:])
    tunnel.ask(create(), 500)
    tunnel.answer(520)
    tunnel.told.end(800, dropped_frames=1)
    found = calls(relay)
    assert [status_of(span)[0] for span in found] == [Status.OK, Status.PARTIAL]
    assert relay.span("GET")["attributes"][semconv.FRAMES_DROPPED] == 1


def test_an_observer_that_was_restarted_does_not_begin_in_the_middle(relay):
    tunnel = Tunnel(relay)
    relay.observer._relays.clear()
    relay.resume(tunnel.told)
    tunnel.ask(create(), 100)
    tunnel.answer(120)
    tunnel.told.end(500)
    (span,) = relay.spans()
    assert (span["name"], span["attributes"][semconv.HTTP_RESPONSE_STATUS_CODE]) == ("GET", 101)
    assert relay.observer.stats()["problems"] == {}


def test_a_relay_that_dies_leaves_its_calls_partial(relay):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    tunnel.answer(120, events()[:4])
    (call,) = calls(relay)
    assert status_of(call)[0] == Status.PARTIAL
    assert relay.span("GET")["attributes"][semconv.STATUS] == Status.PARTIAL


def test_bytes_that_are_no_websocket_are_counted(relay):
    tunnel = Tunnel(relay)
    tunnel.ask(create(), 100)
    tunnel.told.chunk(120, b"\xff" * 300)
    tunnel.told.chunk(130, b"\xff" * 300)
    tunnel.told.end(500)
    assert relay.observer.stats()["problems"] == {"websocket": 1}
    assert relay.observer.stats()["errors"] == {}
    (call,) = calls(relay)
    assert status_of(call)[0] == Status.PARTIAL


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/responses/compact", "/"])
def test_other_websockets_leave_one_plain_span(relay, path):
    tunnel = Tunnel(relay, path=path)
    tunnel.told.end(500, request_bytes=100, response_bytes=200)
    (span,) = relay.spans()
    assert span["name"] == "GET"
    assert span["attributes"][semconv.URL_PATH] == path
    assert span["attributes"][semconv.RESPONSE_BYTES] == 200
