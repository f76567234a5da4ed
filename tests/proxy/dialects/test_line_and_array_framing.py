"""Streams of lines and of array elements: any split, bounded memory, and what is taken up again after a gap."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy.dialects.framing import Event, Framing
from otel_agentperf_proxy.dialects.json_array import JSONArrayFraming
from otel_agentperf_proxy.dialects.ndjson import NDJSONFraming

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{},"\\:é\n', max_size=6),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)


def events(framing: Framing, *pieces: bytes) -> list[Event]:
    found = [event for piece in pieces for event in framing.feed(piece)]
    return found + framing.finish()


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted(min(cut, len(data)) for cut in cuts)
    return [data[start:end] for start, end in zip([0, *bounds], [*bounds, len(data)], strict=True)]


CUTS = st.lists(st.integers(0, 200), max_size=20)


@given(values=st.lists(VALUES, max_size=5), cuts=CUTS, indent=st.sampled_from([None, 1]))
@settings(max_examples=200, deadline=None)
def test_any_split_of_an_array_gives_its_elements(values: list[Any], cuts: list[int], indent: int | None) -> None:
    array = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    found = events(JSONArrayFraming(), *pieces_of(array, cuts))
    assert [json.loads(data) for _, data in found] == values


@given(values=st.lists(VALUES, max_size=5), cuts=CUTS, end=st.sampled_from([b"\n", b"\r\n"]), closed=st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_split_of_lines_gives_the_lines(values: list[Any], cuts: list[int], end: bytes, closed: bool) -> None:
    lines = end.join(json.dumps(value).encode() for value in values) + (end if closed else b"")
    assert [json.loads(data) for _, data in events(NDJSONFraming(), *pieces_of(lines, cuts))] == values


@given(data=st.lists(st.sampled_from(list(b'[]{},"\\1 \n')), max_size=60).map(bytes), cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_a_framing_raise_or_depend_on_the_split(data: bytes, cuts: list[int]) -> None:
    for limit in (1000, 5):
        assert events(JSONArrayFraming(limit), *pieces_of(data, cuts)) == events(JSONArrayFraming(limit), data)
        assert events(NDJSONFraming(limit), *pieces_of(data, cuts)) == events(NDJSONFraming(limit), data)


def test_an_element_counts_with_its_last_byte() -> None:
    framing = JSONArrayFraming()
    assert framing.feed(b' [ {"a": 1}') == [(b"", b'{"a": 1}')]
    assert framing.feed(b"\r\n") == []
    assert framing.feed(b", 5") == []
    assert framing.feed(b", [1, 2]") == [(b"", b"5"), (b"", b"[1, 2]")]
    assert framing.feed(b"]") == []
    assert framing.feed(b' ignored [{"b": 2}]') == []
    assert framing.finish() == []


def test_the_empty_array_holds_nothing() -> None:
    assert events(JSONArrayFraming(), b"[", b" ", b"]") == []


def test_what_is_cut_off_is_no_element_and_the_last_line_needs_no_end() -> None:
    assert events(JSONArrayFraming(), b'[{"a": 1}, {"b"') == [(b"", b'{"a": 1}')]
    assert events(NDJSONFraming(), b'{"a": 1}\n\n{"b"') == [(b"", b'{"a": 1}'), (b"", b'{"b"')]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_above_the_limit_is_skipped_and_counted(size: int) -> None:
    large = b'"' + b"x" * 500 + b'"'
    for framing, stream in (
        (JSONArrayFraming(100), b"[1," + large + b",2]"),
        (NDJSONFraming(100), b"1\n" + large + b"\n2\n"),
    ):
        found: list[Event] = []
        for piece in pieces_of(stream, list(range(size, len(stream), size))):
            found += framing.feed(piece)
            assert sum(map(len, framing._pieces)) <= 100
        assert found == [(b"", b"1"), (b"", b"2")]
        assert framing.skipped == 1


def test_lines_are_taken_up_again_at_the_next_one() -> None:
    framing = NDJSONFraming(20)
    framing.feed(b'{"a": 1}\n' + b"x" * 50 + b'\n{"b')
    resumed = framing.resumed()
    assert events(resumed, b'": 2}\n{"c": 3}\n') == [(b"", b'{"c": 3}')]
    assert resumed.skipped == 1


def test_an_array_is_not_taken_up_again() -> None:
    framing: Framing = JSONArrayFraming()
    assert framing.resumed() is None
