"""The control routes of a running proxy: apart from the proxied port, and true."""

import json
from urllib.request import Request, urlopen

import httpx
from prometheus_client.parser import text_string_to_metric_families

CALL = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


def samples(text: str) -> dict[str, float]:
    """Sample values summed over their labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def test_probes_status_and_metrics(endpoint, start_proxy):
    proxy = start_proxy(endpoint[0], "--workers", "2")
    for path in ("livez", "readyz", "startupz"):
        with urlopen(f"http://{proxy.admin}/{path}") as answer:
            assert (answer.status, answer.read()) == (200, b"ok\n")
    for _ in range(3):
        assert httpx.post(f"{proxy.url}/v1/chat/completions", json=CALL).status_code == 200
    assert httpx.post(f"{proxy.url}/v1/chat/completions", content=b"no JSON").status_code == 400
    status = proxy.wait_until(lambda status: sum(status["observer"]["stats"]["calls"].values()) == 4)
    assert status["observer"]["stats"]["calls"] == {"ok": 3, "error": 1}
    assert len(status["relays"]) == 2
    metrics = samples(proxy.metrics())
    assert metrics["agentperf_proxy_exchanges_total"] == 4
    assert metrics["agentperf_calls_total"] == 4
    assert metrics["agentperf_relay_up"] == 2
    assert metrics["agentperf_observer_up"] == 1
    assert metrics["agentperf_channel_frames_dropped_total"] == 0
    assert metrics["agentperf_proxy_exchanges_inflight"] == 0
    assert "agentperf_export_spans_exported_total" not in metrics


def test_open_metrics_on_request(endpoint, start_proxy):
    proxy = start_proxy(endpoint[0])
    request = Request(f"http://{proxy.admin}/metrics", headers={"accept": "application/openmetrics-text"})
    with urlopen(request) as answer:
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")


def test_the_proxied_port_has_no_control_routes(endpoint, start_proxy):
    """These paths belong to the upstream, which does not know them."""
    proxy = start_proxy(endpoint[0])
    for path in ("livez", "status", "metrics"):
        response = httpx.get(f"{proxy.url}/{path}")
        assert response.status_code == 404
        assert "relays" not in json.dumps(response.json())


def test_an_outcome_told_later_is_the_trajectorys(endpoint, start_proxy, read_store):
    proxy = start_proxy(endpoint[0])
    for name in ("one", "two", "three"):
        headers = {"x-agentperf-trajectory-id": name, "x-agentperf-outcome": "failure"}
        assert httpx.post(f"{proxy.url}/v1/chat/completions", json=CALL, headers=headers).status_code == 200
    told = [("one", "success"), ("two", "success"), ("two", "failure"), ("of another proxy", "success")]
    for trajectory_id, outcome in told:
        body = {"trajectory_id": trajectory_id, "outcome": outcome, "score": 0.5}
        response = httpx.post(f"http://{proxy.admin}/outcome", json=body)
        assert (response.status_code, response.json()["outcome"]) == (200, outcome)
    refused = httpx.post(f"http://{proxy.admin}/outcome", json={"trajectory_id": "one", "outcome": "good"})
    assert refused.status_code == 400
    assert "good" in refused.json()["error"]["message"]
    assert samples(proxy.metrics())["agentperf_outcomes_total"] == 4
    proxy.stop()
    rows = read_store(proxy.store, "trajectories")
    outcomes = {row["trajectory_id"]: row["outcome"] for row in rows}
    assert outcomes == {"one": "success", "two": "failure", "three": "failure"}
