"""Limits that a response's head tells become a fixed set of attributes, and only what is surely meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf import semconv
from otel_agentperf_proxy.headers import without_secrets
from otel_agentperf_proxy.rate_limits import limit_attributes

DATE = ("date", "Sun, 06 Nov 1994 08:49:37 GMT")


def attributes(*fields: tuple[str, str]) -> dict[str, float]:
    """As the observer gets them: without secrets."""
    return limit_attributes(without_secrets([(name.encode(), value.encode("latin-1")) for name, value in fields]))


def test_openai():
    found = attributes(
        ("x-ratelimit-limit-requests", "5000"),
        ("x-ratelimit-limit-tokens", "160000"),
        ("x-ratelimit-remaining-requests", "4999"),
        ("x-ratelimit-remaining-tokens", "159976"),
        ("x-ratelimit-reset-requests", "12ms"),
        ("x-ratelimit-reset-tokens", "6m0s"),
        ("content-type", "application/json"),
    )
    assert found == {
        semconv.RATE_LIMIT_REQUESTS_LIMIT: 5000,
        semconv.RATE_LIMIT_REQUESTS_REMAINING: 4999,
        semconv.RATE_LIMIT_TOKENS_LIMIT: 160000,
        semconv.RATE_LIMIT_TOKENS_REMAINING: 159976,
    }


def test_anthropic():
    found = attributes(
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:00Z"),
        ("anthropic-ratelimit-input-tokens-limit", "30000"),
        ("anthropic-ratelimit-input-tokens-remaining", "0"),
        ("anthropic-ratelimit-output-tokens-remaining", "8000"),
        ("retry-after", "17"),
    )
    assert found == {
        semconv.RATE_LIMIT_REQUESTS_REMAINING: 49,
        semconv.RATE_LIMIT_INPUT_TOKENS_LIMIT: 30000,
        semconv.RATE_LIMIT_INPUT_TOKENS_REMAINING: 0,
        semconv.RATE_LIMIT_OUTPUT_TOKENS_REMAINING: 8000,
        semconv.RETRY_AFTER_S: 17.0,
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("retry-after", "7")], 7.0),
        ([("retry-after", " 0 ")], 0.0),
        ([("retry-after", "1.5")], 1.5),
        ([("retry-after", "1"), ("retry-after-ms", "250")], 0.25),
        ([("retry-after", "3"), ("retry-after", "4")], 3.0),
        ([DATE, ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], 60.0),
        ([DATE, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], 0.0),
        ([("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], None),
        ([DATE, ("retry-after", "soon")], None),
        ([DATE, ("retry-after", "Sun, 06 Nov 9994 08:50:37 GMT")], None),
        ([("retry-after", "-1")], None),
        ([("retry-after", "nan")], None),
        ([("retry-after", "inf")], None),
        ([("retry-after", "1e99")], None),
        ([("retry-after", "")], None),
        ([("retry-after-ms", "x"), ("retry-after", "2")], 2.0),
    ],
)
def test_how_long_to_wait(fields, expected):
    assert attributes(*fields).get(semconv.RETRY_AFTER_S) == expected


@pytest.mark.parametrize("value", ["-1", "", "many", "1.5", "9" * 19, "²"])
def test_what_is_no_number_is_not_told(value):
    assert attributes(("x-ratelimit-remaining-requests", value)) == {}


def test_other_limits_make_no_attributes():
    assert (
        attributes(("x-ratelimit-remaining-wishes", "3"), ("ratelimit", "limit=10, remaining=1"), ("x-rate", "1")) == {}
    )


@given(st.lists(st.tuples(st.sampled_from([b"retry-after", b"retry-after-ms", b"date"]), st.binary(max_size=40))))
def test_hostile_values_never_raise(fields):
    for value in limit_attributes(fields).values():
        assert 0 <= value < 1e9
