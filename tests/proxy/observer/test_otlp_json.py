"""Our encoder of OTLP/JSON against the OpenTelemetry exporter's."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_agentperf_proxy.otlp_json import encode

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
SCALAR = TEXT | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.binary()
NAME = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
ATTRIBUTES = st.dictionaries(NAME, SCALAR | st.lists(TEXT).map(tuple) | st.lists(st.floats()).map(tuple))
CONTEXT = st.builds(
    SpanContext,
    trace_id=st.integers(1, (1 << 128) - 1),
    span_id=st.integers(1, (1 << 64) - 1),
    is_remote=st.booleans(),
    trace_flags=st.just(TraceFlags(1)),
    trace_state=st.sampled_from((None, TraceState(), TraceState([("a", "1"), ("b", "2")]))),
)
SPAN = st.builds(
    ReadableSpan,
    name=NAME,
    context=CONTEXT,
    parent=st.none() | CONTEXT,
    resource=st.sampled_from(
        (Resource({}), Resource({"service.name": "s", "n": 1}), Resource({"a": True}, "https://x"))
    ),
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, name=NAME, attributes=ATTRIBUTES, timestamp=st.integers(1, 1 << 62)), max_size=2),
    links=st.lists(st.builds(Link, context=CONTEXT, attributes=ATTRIBUTES), max_size=2),
    kind=st.sampled_from(SpanKind),
    status=st.sampled_from((Status(), Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "é"))),
    start_time=st.integers(1, 1 << 62),
    end_time=st.integers(1, 1 << 62),
    instrumentation_scope=st.sampled_from(
        (None, InstrumentationScope("s"), InstrumentationScope("s", "1", "https://x", {"k": 2}))
    ),
)


@given(st.lists(SPAN, min_size=1, max_size=3))
def test_every_span_is_encoded_as_by_the_exporter(spans: list[ReadableSpan]) -> None:
    assert encode(spans) == msgspec.json.encode(encode_spans(spans).to_dict()) + b"\n"


def test_a_value_that_otlp_does_not_know_is_an_error() -> None:
    span = ReadableSpan("x", context=SpanContext(1, 1, False), attributes={"a": object()}, start_time=1, end_time=1)  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="object"):
        encode([span])
