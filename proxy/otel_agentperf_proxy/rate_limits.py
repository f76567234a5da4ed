"""What a response's head tells of limits: how long to wait, how much is left.

The names are OpenAI's (Azure, Groq, vLLM-based services and others use them too) and Anthropic's; of each kind of thing
that is counted, the limit and what is left of it. Other rate-limit fields are left out, so that an upstream cannot make
up attributes.
"""

from email.utils import parsedate_to_datetime
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy.attributes import Attributes, put
from otel_agentperf_proxy.facts import Headers

LONGEST_WAIT_S: Final = 366 * 86_400.0
"""A longer wait is none that anybody waits for, and not told."""

_FIELDS: Final = {
    b"x-ratelimit-limit-requests": semconv.RATE_LIMIT_REQUESTS_LIMIT,
    b"x-ratelimit-remaining-requests": semconv.RATE_LIMIT_REQUESTS_REMAINING,
    b"x-ratelimit-limit-tokens": semconv.RATE_LIMIT_TOKENS_LIMIT,
    b"x-ratelimit-remaining-tokens": semconv.RATE_LIMIT_TOKENS_REMAINING,
    b"anthropic-ratelimit-requests-limit": semconv.RATE_LIMIT_REQUESTS_LIMIT,
    b"anthropic-ratelimit-requests-remaining": semconv.RATE_LIMIT_REQUESTS_REMAINING,
    b"anthropic-ratelimit-tokens-limit": semconv.RATE_LIMIT_TOKENS_LIMIT,
    b"anthropic-ratelimit-tokens-remaining": semconv.RATE_LIMIT_TOKENS_REMAINING,
    b"anthropic-ratelimit-input-tokens-limit": semconv.RATE_LIMIT_INPUT_TOKENS_LIMIT,
    b"anthropic-ratelimit-input-tokens-remaining": semconv.RATE_LIMIT_INPUT_TOKENS_REMAINING,
    b"anthropic-ratelimit-output-tokens-limit": semconv.RATE_LIMIT_OUTPUT_TOKENS_LIMIT,
    b"anthropic-ratelimit-output-tokens-remaining": semconv.RATE_LIMIT_OUTPUT_TOKENS_REMAINING,
}


def limit_attributes(headers: Headers) -> Attributes:
    """The attributes that the fields of a response tell; the first field of a name counts."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _FIELDS or name in _WAITS:
            found.setdefault(name, value.strip())
    attributes: Attributes = {}
    if not found:
        return attributes
    put(attributes, semconv.RETRY_AFTER_S, _wait_s(found, headers))
    for name, attribute in _FIELDS.items():
        if name in found:
            put(attributes, attribute, _count(found[name]))
    return attributes


_WAITS: Final = frozenset((b"retry-after", b"retry-after-ms"))


def _wait_s(found: dict[bytes, bytes], headers: Headers) -> float | None:
    """The wait that is asked for: the exact one where OpenAI and Azure tell it too, seconds, or a date (RFC 9110
    10.2.3), which counts from the response's own."""
    wait_s = _seconds(found.get(b"retry-after-ms"), 1000.0)
    told = found.get(b"retry-after")
    if wait_s is None:
        wait_s = _seconds(told, 1.0)
    if wait_s is None and told:
        date = next((value for name, value in headers if name == b"date"), b"")
        wait_s = _between(date, told)
    return wait_s if wait_s is not None and wait_s <= LONGEST_WAIT_S else None


def _seconds(value: bytes | None, per_second: float) -> float | None:
    if value is None or not value[:1].isdigit() or len(value) > 20:
        return None
    try:
        return float(value) / per_second
    except ValueError:
        return None


def _between(begin: bytes, end: bytes) -> float | None:
    """Seconds between two HTTP dates; None when one of them is none."""
    try:
        dates = [parsedate_to_datetime(value.decode("latin-1")) for value in (begin, end)]
        return max((dates[1] - dates[0]).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _count(value: bytes) -> int | None:
    """A number that fits an attribute; some servers say -1 for no limit."""
    return int(value) if value.isdigit() and len(value) <= 18 else None
