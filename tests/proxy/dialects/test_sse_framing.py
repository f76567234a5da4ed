"""Server-sent events: the HTML standard's rules, any split, bounded memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.sse import SSEFraming


def events(*pieces: bytes, limit: int = 1000) -> list[Event]:
    framing = SSEFraming(limit)
    found = [event for piece in pieces for event in framing.feed(piece)]
    return found + framing.finish()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a\n\n", [(b"", b" a")]),
        (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [(b"x", b"a"), (b"", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [(b"", b"a"), (b"", b"b"), (b"", b"c")]),
        (b": comment\n\ndata: a\n: comment\n\n", [(b"", b"a")]),
        (b"id: 1\nretry: 5\nfoo\ndata: a\n\n", [(b"", b"a")]),
        (b"event: x\n\ndata: a\n\n", [(b"", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"data\n\ndata:\n\ndata: \n\n", []),
        (b"data: [DONE]", [(b"", b"[DONE]")]),
        (b"data: [DONE]\n", [(b"", b"[DONE]")]),
        (b"data: [DONE]\r", [(b"", b"[DONE]")]),
        ("data: é€😀\n\n".encode(), [(b"", "é€😀".encode())]),
        (b"", []),
        (b"\n\n\n", []),
        (b'error: {"code":500}\n\ndata: [DONE]\n\n', [(b"error", b'{"error": {"code":500}}'), (b"", b"[DONE]")]),
        (
            b'data: a\n\n{\n "error": {}\n}\n\ndata: b\n\n',
            [(b"", b"a"), (b"error", b'{\n "error": {}\n}'), (b"", b"b")],
        ),
        (b'data: a\n\n{"error": "busy"}', [(b"", b"a"), (b"error", b'{"error": "busy"}')]),
        (b'{"id": 1}\n\ndata: a\n{"error": 1}\n\n', [(b"", b"a")]),
    ],
)
def test_events_of_a_stream(stream: bytes, expected: list[Event]) -> None:
    assert events(stream) == expected
    assert events(*[stream[index : index + 1] for index in range(len(stream))]) == expected


STREAM = st.lists(
    st.sampled_from(
        [
            b"data: ",
            b"data:",
            b"event: t",
            b":",
            b"{}",
            "é".encode(),
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"x",
            b"error:",
            b'{"error"',
        ]
    ),
    max_size=40,
).map(b"".join)


@given(stream=STREAM, cuts=st.lists(st.integers(0, 200), max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_split_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    bounds = sorted(min(cut, len(stream)) for cut in cuts)
    pieces = [stream[start:end] for start, end in zip([0, *bounds], [*bounds, len(stream)], strict=True)]
    for limit in (1000, 8):
        assert events(*pieces, limit=limit) == events(stream, limit=limit)


@pytest.mark.parametrize(
    "large",
    [
        b"data: " + b"x" * 200 + b"\n\n",
        b"data: xxxxxxxx\n" * 20 + b"\n",
        b"foo: " + b"x" * 200 + b"\ndata: a\n\n",
        b"data: a\nevent: " + b"x" * 200 + b"\n\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_above_the_limit_is_skipped_and_counted(large: bytes, size: int) -> None:
    framing = SSEFraming(100)
    stream = b"data: 1\n\n" + large + b"data: 2\n\n"
    found = []
    for index in range(0, len(stream), size):
        found += framing.feed(stream[index : index + size])
        assert sum(map(len, framing._line)) + sum(map(len, framing._data)) <= 100 + size
    assert found == [(b"", b"1"), (b"", b"2")]
    assert framing.skipped == 1
