"""Numbers by bounded attributes."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext

from otel_agentperf import instruments as metric
from otel_agentperf import semconv
from otel_agentperf.instruments import LIMITS, MAX_SERIES, OTHER
from otel_agentperf_proxy.metrics.series import MAX_CHARS, SERIES, Histogram, Registry

BOUNDS = (0.1, 0.2, 0.5, 1.0)


def test_bounds_are_inclusive():
    histogram = Histogram(BOUNDS)
    for value in (0.1, 0.1000001, 1.0, 1.5, 0.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 0, 1, 1]


@given(st.lists(st.integers(min_value=0, max_value=3 * 10**9)))
def test_many_measurements_at_once_count_as_one_by_one(values):
    one_by_one, at_once = Histogram(BOUNDS), Histogram(BOUNDS)
    for value in values:
        one_by_one.observe(value / 1e9)
    at_once.observe_sorted(sorted(values), 1e9)
    assert at_once.counts == one_by_one.counts
    assert abs(at_once.sum - one_by_one.sum) < 1e-6


def test_a_bucket_keeps_its_latest_exemplar():
    histogram = Histogram(BOUNDS)
    contexts = [SpanContext(number, number, False) for number in (1, 2, 3)]
    histogram.observe(0.15, (contexts[0], 100))
    histogram.observe(0.16, (contexts[1], 200))
    histogram.observe(0.17)
    histogram.observe(0.9, (contexts[2], 300))
    exemplars = histogram.point(()).exemplars
    assert [(one.value, one.unix_ns, one.span_id[-1]) if one else None for one in exemplars] == [
        None,
        (0.16, 200, 2),
        None,
        (0.9, 300, 3),
        None,
    ]


def test_values_beyond_the_limit_are_other_and_counted():
    registry = Registry()
    limit = LIMITS[semconv.GEN_AI_TOOL_NAME]
    admitted = [registry.admit(semconv.GEN_AI_TOOL_NAME, f"tool {number}") for number in range(limit + 3)]
    assert admitted == [*(f"tool {number}" for number in range(limit)), OTHER, OTHER, OTHER]
    assert registry.admit(semconv.GEN_AI_TOOL_NAME, "tool 0") == "tool 0"
    assert registry.overflows == {semconv.GEN_AI_TOOL_NAME: 3}


def test_values_that_anybody_may_make_up_take_half_of_the_room():
    registry = Registry()
    limit = LIMITS[semconv.GEN_AI_REQUEST_MODEL]
    made_up = [registry.admit(semconv.GEN_AI_REQUEST_MODEL, f"x{n}", trusted=False) for n in range(limit)]
    assert made_up.count(OTHER) == limit - limit // 2
    real = [registry.admit(semconv.GEN_AI_REQUEST_MODEL, f"m{n}") for n in range(limit)]
    assert real.count(OTHER) == limit // 2


def test_values_are_text_of_bounded_length():
    registry = Registry()
    assert len(registry.admit(semconv.GEN_AI_REQUEST_MODEL, "x" * 5000)) == MAX_CHARS
    assert registry.admit(semconv.GEN_AI_REQUEST_MODEL, "a\ud800b") == "a?b"
    assert registry.admit(semconv.SERVER_PORT, 8000) == registry.admit(semconv.SERVER_PORT, 8000) == "8000"
    assert registry.admit(semconv.GEN_AI_REQUEST_MODEL, None) == ""
    assert registry.admit("agentperf.status", "ok") == "ok"


def test_an_instrument_has_a_limit_of_series():
    registry = Registry()
    for number in range(MAX_SERIES + 5):
        registry.number(metric.ERRORS, ("p", f"m{number}", "e")).value += 1
    points = {point.values: point.value for point in registry.family(metric.ERRORS).points}
    assert len(points) == MAX_SERIES + 1
    assert points[OTHER, OTHER, OTHER] == 5
    assert registry.overflows == {SERIES: 5}
    registry.number(metric.ERRORS, ("p", "m0", "e")).value += 1
    assert registry.overflows == {SERIES: 5}


def test_values_of_a_closed_set_stay_when_the_series_are_full():
    registry = Registry()
    for number in range(MAX_SERIES + 2):
        registry.number(metric.AGENT_TIME, (f"m{number}", "tool")).value += 1
    registry.number(metric.AGENT_TIME, ("another", "ttft")).value += 1
    points = {point.values: point.value for point in registry.family(metric.AGENT_TIME).points}
    assert points[OTHER, "tool"] == 2
    assert points[OTHER, "ttft"] == 1


def test_what_is_there_now_begins_anew_and_keeps_its_series():
    registry = Registry()
    registry.number(metric.CALLS_INFLIGHT, ("m",)).value += 3
    registry.zero(metric.CALLS_INFLIGHT)
    (point,) = registry.family(metric.CALLS_INFLIGHT).points
    assert (point.values, point.value) == (("m",), 0)
