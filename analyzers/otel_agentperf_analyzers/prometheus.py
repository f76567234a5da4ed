"""Power over time from a Prometheus server: its range query, in pieces that it allows."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

import httpx

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers.inputs import PowerSample

__all__ = ["query_power"]

_STEP_S: Final = 15
_POINTS: Final = 10_000
"""Prometheus answers at most 11,000 points of a series at once."""

_TIMEOUT_S: Final = 30.0
_USUAL: Final = timedelta(days=1)


def query_power(
    url: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    transport: httpx.BaseTransport | None = None,
) -> tuple[PowerSample, ...]:
    """The samples of `http://HOST:9090?query=PROMQL[&step=SECONDS]`, whose series are summed up.

    Between `since` (a day before the end by default) and `until` (now by default).

    Raises:
        UsageError: the URL has no query.
        SourceError: the server cannot be reached, or answers with an error or fewer than two samples.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    if not options.get("query"):
        raise UsageError(f"{url} says no query; write http://HOST:9090?query=sum(...) with what gives watts")
    step_s = _step(options.get("step", [str(_STEP_S)])[0])
    end = until or datetime.now(UTC)
    start = since or end - _USUAL
    base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    found: dict[int, float] = {}
    with httpx.Client(timeout=_TIMEOUT_S, transport=transport) as client:
        for first, last in _pieces(start.timestamp(), end.timestamp(), step_s):
            asked = {"query": options["query"][0], "start": first, "end": last, "step": step_s}
            for at_s, watts in _samples(base, _answer(client, f"{base}/api/v1/query_range", asked)):
                at_ns = round(at_s * 1e9)
                found[at_ns] = found.get(at_ns, 0.0) + watts
    if len(found) < 2:
        raise SourceError(f"{base} has fewer than two samples of {options['query'][0]!r} in that time")
    return tuple(sorted(found.items()))


def _step(text: str) -> float:
    try:
        step_s = float(text)
    except ValueError:
        step_s = math.nan
    if not (math.isfinite(step_s) and step_s > 0):
        raise UsageError(f"step={text} is no number of seconds")
    return step_s


def _pieces(start_s: float, end_s: float, step_s: float) -> Iterator[tuple[float, float]]:
    """Ranges of so many points as a server answers at once, none with a point of another."""
    first = start_s
    while first <= end_s:
        last = min(end_s, first + (_POINTS - 1) * step_s)
        yield first, last
        first += _POINTS * step_s


def _answer(client: httpx.Client, url: str, asked: dict[str, Any]) -> Any:
    try:
        response = client.get(url, params=asked)
        answer = response.json()
    except httpx.HTTPError as problem:
        raise SourceError(f"cannot reach Prometheus at {url}: {problem}") from problem
    except ValueError as problem:
        raise SourceError(f"{url} does not answer as Prometheus does: HTTP {response.status_code}") from problem
    if not isinstance(answer, dict) or answer.get("status") != "success":
        reason = answer.get("error") if isinstance(answer, dict) else None
        raise SourceError(f"Prometheus at {url}: {reason or f'HTTP {response.status_code}'}")
    return answer


def _samples(name: str, answer: Any) -> Iterator[tuple[float, float]]:
    try:
        for series in answer["data"]["result"]:
            for at_s, text in series["values"]:
                watts = float(text)
                if math.isfinite(watts):
                    yield float(at_s), watts
    except (KeyError, TypeError, ValueError) as problem:
        raise SourceError(f"{name} does not answer with a range of numbers: {problem!r}") from problem
