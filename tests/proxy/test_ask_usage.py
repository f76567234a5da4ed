"""Asking for token counts changes nothing else of a request, and hides nothing else of a response."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf_proxy import ask_usage
from otel_agentperf_proxy.ask_usage import UsageHider, asking, may_ask, may_hide

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("POST", CHAT, [(b"content-type", b"application/json"), (b"authorization", b"Bearer x")], True),
        ("POST", "/openai/deployments/x/chat/completions", [], True),
        ("GET", CHAT, [], False),
        ("POST", "/v1/completions", [], False),
        ("POST", "/v1/responses", [], False),
        ("POST", "/v1/messages", [], False),
        ("POST", CHAT, [(b"content-encoding", b"gzip")], False),
        ("POST", CHAT, [(b"content-digest", b"sha-256=:x:")], False),
    ],
)
def test_which_requests_are_looked_into(method, path, headers, expected):
    assert may_ask(method, path, headers) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (
            b' \n{ "model": "m",\t"stream" : true, "x": "\xc3\xa9" }\n',
            b' \n{"stream_options":{"include_usage":true}, "model": "m",\t"stream" : true, "x": "\xc3\xa9" }\n',
        ),
        (
            rb'{"stream":true,"messages":[{"content":"\"stream\": 0"}]}',
            rb'{"stream_options":{"include_usage":true},"stream":true,"messages":[{"content":"\"stream\": 0"}]}',
        ),
    ],
)
def test_a_request_that_says_nothing_is_made_to_ask(body, expected):
    assert asking(body) == expected
    told = json.loads(expected)
    assert told.pop("stream_options") == {"include_usage": True}
    assert told == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"stream":false}',
        b'{"stream":1}',
        b'{"stream":"true"}',
        b'{"stream":null}',
        b'{"stream":true,"stream_options":{"include_usage":true}}',
        b'{"stream":true,"stream_options":{"include_usage":false}}',
        b'{"stream":true,"stream_options":{}}',
        b'{"stream":true,"stream_options":null}',
        b'{"stream":true,"stream\\u005foptions":null}',
        b'{"stream":true,"stream":false}',
        b'{"stream":false,"tools":[{"parameters":{"stream":true}}]}',
        b'{"stream":true',
        b'{"stream":true}}',
        b'\xef\xbb\xbf{"stream":true}',
        '{"stream":true}'.encode("utf-16"),
        b'{"stream":true,"x":' + b"[" * 100_000,
        b'data: {"stream":true}',
    ],
)
def test_a_request_in_doubt_passes_as_it_is(body):
    assert asking(body) is None


def test_a_long_request_passes_as_it_is(monkeypatch):
    body = b'{"stream":true,"x":"yyyy"}'
    monkeypatch.setattr(ask_usage, "MAX_BODY_BYTES", len(body))
    assert asking(body) is not None
    assert asking(body + b" ") is None


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"transfer-encoding", b"chunked")], True),
        (200, [(b"content-type", b"Text/Event-Stream")], True),
        (200, [(b"content-type", b"application/json")], False),
        (200, [], False),
        (429, [(b"content-type", b"text/event-stream")], False),
        (200, [(b"content-type", b"text/event-stream"), (b"content-length", b"100")], False),
        (200, [(b"content-encoding", b"gzip"), (b"content-type", b"text/event-stream")], False),
    ],
)
def test_which_responses_are_looked_into(status, headers, expected):
    assert may_hide(status, headers) is expected


def chunk(**members: object) -> str:
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **members})


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
DELTA = f"data: {chunk(choices=[{'index': 0, 'delta': {'content': 'hi'}}], usage=None)}\n\n".encode()
COUNTS = f"data: {chunk(choices=[], usage=USAGE)}\n\n".encode()
DONE = b"data: [DONE]\n\n"

HIDDEN = [
    COUNTS,
    COUNTS.replace(b"data: ", b"data:"),
    COUNTS.replace(b"\n", b"\r\n"),
    f"data: {chunk(choices=[], usage=USAGE, system_fingerprint='f', service_tier=None, x=None)}\n\n".encode(),
    b'data: {"choices":[ ],"usage":{}}\n\n',
]

KEPT = [
    DELTA,
    DONE,
    b": keep-alive\n\n",
    b"\n\n",
    f"data: {chunk(choices=[{'index': 0, 'delta': {}, 'finish_reason': 'stop'}], usage=USAGE)}\n\n".encode(),
    f"data: {chunk(choices=[], usage=None, prompt_filter_results=[])}\n\n".encode(),
    f"data: {chunk(choices=[], usage=USAGE, timings={'predicted_ms': 3})}\n\n".encode(),
    f"data: {chunk(choices=[], usage=USAGE, error={'message': 'x'})}\n\n".encode(),
    f"data: {chunk(choices=[])}\n\n".encode(),
    f"data: {chunk(usage=USAGE)}\n\n".encode(),
    b"event: usage\n" + COUNTS,
    b"id: 7\n" + COUNTS,
    b": comment\n" + COUNTS,
    COUNTS.replace(b"}\n", b"}\ndata: \n", 1),
    COUNTS.replace(b"}}", b"}}}"),
    COUNTS.replace(b"[]", b"[[]]"),
    b'data: {"usage": "x\xff", "choices": []}\n\n',
    b'data: {"choices": [], "usage": {}, "pad": "%b"}\n\n' % (b"y" * ask_usage.MAX_CHUNK_BYTES),
    b"data: " + b"z" * (2 * ask_usage.MAX_CHUNK_BYTES) + b"\n\n",
    b"data: \r\r",
]


def hide(data: bytes, sizes: list[int]) -> tuple[bytes, int]:
    """What the client gets of a stream that comes in pieces of these sizes, over and over."""
    hider = UsageHider()
    out = b""
    at = step = 0
    while at < len(data):
        size = sizes[step % len(sizes)]
        out += hider.feed(data[at : at + size])
        at += size
        step += 1
    return out + hider.finish(), hider.hidden


@pytest.mark.parametrize("event", HIDDEN)
def test_a_chunk_with_nothing_but_counts_is_taken_out(event):
    stream = DELTA + event + DONE
    for sizes in ([len(stream)], [1], [7], [len(DELTA)], [len(DELTA) + 3]):
        assert hide(stream, sizes) == (DELTA + DONE, 1)


@pytest.mark.parametrize("event", KEPT)
def test_everything_else_passes(event):
    stream = DELTA + event + DONE
    for sizes in ([len(stream)], [4096], [len(DELTA) + 1], [len(stream) - 1]):
        assert hide(stream, sizes) == (stream, 0)


@given(
    st.lists(st.sampled_from([*HIDDEN, *[event for event in KEPT if len(event) < 1000]]), max_size=8),
    st.lists(st.integers(1, 300), min_size=1, max_size=20),
    st.binary(max_size=20),
)
def test_any_split_gives_the_same_bytes(events, sizes, tail):
    stream = b"".join(events) + tail
    assert hide(stream, sizes) == hide(stream, [max(len(stream), 1)])


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_a_stream_without_counts_is_never_changed(data, sizes):
    assert hide(data, sizes) == (data, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_after_an_event_that_is_too_long_it_goes_on(size, monkeypatch):
    monkeypatch.setattr(ask_usage, "MAX_CHUNK_BYTES", 500)
    for end in (b"\n\n", b"\r\n\r\n"):
        long = b"data: " + b"x" * 2000 + end
        assert hide(long + COUNTS + DONE, [size]) == (long + DONE, 1)


def test_an_event_that_is_cut_off_passes():
    assert hide(DELTA + COUNTS[:-1], [1]) == (DELTA + COUNTS[:-1], 0)


def test_whole_events_are_not_held_back():
    hider = UsageHider()
    assert hider.feed(DELTA) == DELTA
    assert hider.feed(DELTA + DELTA[:10]) == DELTA
    assert hider.feed(DELTA[10:]) == DELTA
    assert hider.feed(COUNTS) == b""
    assert hider.feed(DONE) == DONE
