"""A whole proxy that exports all signals: spans, metrics of all its processes, and its log."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from otlp_sink import HTTPSink
from prometheus_client.openmetrics.parser import text_string_to_metric_families

CALL = {"model": "m", "max_tokens": 5, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def sink() -> Iterator[HTTPSink]:
    one = HTTPSink()
    yield one
    one.close()


def total(metric: Any) -> float:
    return sum(point.as_double or point.as_int for point in metric.sum.data_points)


def test_a_proxy_exports_its_spans_metrics_and_log(endpoint, start_proxy, sink, monkeypatch):
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "300")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=proxy-0")
    options = ("--otlp-endpoint", sink.endpoint, "--otlp-logs", "--log-format", "json", "--workers", "2")
    proxy = start_proxy(endpoint[0], *options, "--slo", "demo:standard", "--capacity", "3")
    for _ in range(3):
        assert httpx.post(f"{proxy.url}/v1/chat/completions", json=CALL).status_code == 200
    assert httpx.post(f"{proxy.url}/v1/chat/completions", content=b"no JSON").status_code == 400
    proxy.wait_until(lambda status: sum(status["observer"]["stats"]["calls"].values()) == 4)
    request = {"accept": "application/openmetrics-text"}
    text = httpx.get(f"http://{proxy.admin}/metrics", headers=request).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    buckets = [one for one in families["agentperf_ttft_seconds"].samples if one.exemplar]
    said = proxy.stop()
    received = sink.received
    metrics = received.metrics()
    assert total(metrics["agentperf.calls"]) == 4
    assert total(metrics["agentperf.proxy.exchanges"]) == 4
    assert {"agentperf.relay.up", "agentperf.build_info", "agentperf.channel.frames", "agentperf.ttft"} <= set(metrics)
    assert total(metrics["agentperf.capacity"]) == 3
    assert sum(point.count for point in metrics["agentperf.ttft"].histogram.data_points) == 3
    assert total(metrics["agentperf.slo.calls"]) == 4
    exported = {span.span_id.hex() for span in received.spans()}
    assert {sample.exemplar.labels["span_id"] for sample in buckets} <= exported
    resources = [
        request.resource_metrics[0].resource
        if hasattr(request, "resource_metrics")
        else request.resource_spans[0].resource
        for signal in ("traces", "metrics")
        for request in received.requests[signal]
    ]
    names = [{item.key: item.value.string_value for item in resource.attributes} for resource in resources]
    assert {name["k8s.pod.name"] for name in names} == {"proxy-0"}
    assert len({name["service.instance.id"] for name in names}) == 1
    messages = [record.body.string_value for record in received.logs()]
    assert any(text.startswith("proxy: listening on") for text in messages), messages
    assert any("ended with 400" in text for text in messages), messages
    assert any(text.startswith("stopping") for text in messages), messages
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert any(line["message"].startswith("proxy: listening on") and line["level"] == "info" for line in lines)
