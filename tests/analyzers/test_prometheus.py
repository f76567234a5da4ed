"""Power from Prometheus: what is asked, how series are summed, and what is said when it goes wrong."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from otel_agentperf.errors import AgentPerfError
from otel_agentperf_analyzers.prometheus import query_power

START = datetime(2026, 1, 1, tzinfo=UTC)
URL = "http://prometheus:9090/prom?query=sum(watts)&step=60"


def server(answer: Callable[[httpx.Request], Any]) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(200, json=answer(request)))


def series(*values: tuple[float, str]) -> dict[str, Any]:
    return {"metric": {}, "values": [list(pair) for pair in values]}


def test_series_are_summed_and_what_is_not_finite_is_left_out() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> Any:
        asked.append(request)
        result = [series((10, "100"), (70, "NaN")), series((10, "50"), (70, "60"))]
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}

    found = query_power(URL, since=START, until=START + timedelta(hours=1), transport=server(answer))
    assert found == ((10 * 10**9, 150.0), (70 * 10**9, 60.0))
    [request] = asked
    assert request.url.path == "/prom/api/v1/query_range"
    assert dict(request.url.params) == {
        "query": "sum(watts)",
        "start": str(START.timestamp()),
        "end": str(START.timestamp() + 3600),
        "step": "60.0",
    }


def test_a_long_time_is_asked_for_in_pieces_without_a_point_twice() -> None:
    def answer(request: httpx.Request) -> Any:
        first, last, step = (float(request.url.params[name]) for name in ("start", "end", "step"))
        points = [(first + step * number, "1") for number in range(int((last - first) / step) + 1)]
        assert len(points) <= 11_000
        return {"status": "success", "data": {"result": [series(*points)]}}

    found = query_power(URL, since=START, until=START + timedelta(days=30), transport=server(answer))
    assert len(found) == 30 * 24 * 60 + 1
    assert {watts for _, watts in found} == {1.0}


@pytest.mark.parametrize(
    ("url", "body", "message"),
    [
        ("http://p", "{}", "says no query"),
        ("http://p?query=x&step=0", "{}", "step=0 is no number of seconds"),
        (URL, "<html>", "does not answer as Prometheus does: HTTP 200"),
        (URL, '{"status": "error", "error": "parse error"}', "parse error"),
        (URL, '{"status": "success", "data": {}}', "does not answer with a range"),
        (URL, '{"status": "success", "data": {"result": []}}', "fewer than two samples"),
        (URL, json.dumps([1]), "HTTP 200"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(url: str, body: str, message: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    with pytest.raises(AgentPerfError, match=message):
        query_power(url, transport=transport)


def test_a_server_that_is_not_there_is_named() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(AgentPerfError, match=r"cannot reach Prometheus at http://prometheus:9090/prom.*refused"):
        query_power(URL, transport=httpx.MockTransport(refuse))
