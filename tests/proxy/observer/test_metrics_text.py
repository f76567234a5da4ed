"""Metrics as Prometheus reads them: the text format, OpenMetrics with exemplars, and the names."""

import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_agentperf import instruments as metric
from otel_agentperf.instruments import Instrument, Kind, instruments, prometheus_label, prometheus_name
from otel_agentperf_proxy.metrics.families import instrument_of, of_processes
from otel_agentperf_proxy.metrics.prometheus import exposition
from otel_agentperf_proxy.metrics.series import Family, Point

from .test_metrics import streamed_call

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

RELAY = {
    "inflight": 2,
    "tunnels": 0,
    "outcomes": {"complete": 5},
    "statuses": {"200": 5},
    "errors": {"upstream_timeout": 1},
    "usage": {"asked": 1},
    "channel": {"frames": 50, "frames_dropped": 0, "calls_lost": 0, "waiting_bytes": 10},
}
STATUS = {
    "uptime_s": 12.5,
    "relay_restarts": 1,
    "relays": [{"pid": 1, "stats": RELAY}, {"pid": None, "stats": None}],
    "observer": {"pid": 3, "restarts": 0, "stats": {}},
}


@pytest.fixture
def families(new_relay):
    """What a proxy tells after a call, two failures, and with everything switched on."""
    relay = new_relay(slo=("demo:standard",), capacity=4)
    streamed_call(relay, headers={"x-session-id": "S1"}, tags={"agent.name": 'a "quoted"\nname\\'})
    for _ in range(2):
        broken = relay.open()
        broken.body(b"{}")
        broken.head(status=500)
        broken.end(30)
    return [*of_processes(STATUS), *relay.observer.metrics()]


def test_the_text_format(families):
    body, content_type = exposition(families, "text/plain;version=0.0.4")
    assert content_type.startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }
    assert samples[("agentperf_capacity_headroom",)] == 3
    assert samples[("agentperf_relay_up", ("agentperf_worker", "1"))] == 0
    labels = (
        ("gen_ai_agent_name", 'a "quoted"\nname\\'),
        ("gen_ai_provider_name", "openai"),
        ("gen_ai_request_model", "m-8b"),
    )
    assert samples[("agentperf_ttft_seconds_count", *labels)] == 1
    assert samples[("agentperf_ttft_seconds_sum", *labels)] == pytest.approx(0.02)
    assert samples[("agentperf_ttft_seconds_bucket", *labels, ("le", "0.05"))] == 1
    assert samples[("agentperf_ttft_seconds_bucket", *labels, ("le", "+Inf"))] == 1
    assert b"trace_id" not in body


def test_open_metrics_has_exemplars(families):
    body, content_type = exposition(families, OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text")
    exemplars = {
        sample.name: sample.exemplar
        for family in parse_open_metrics(body.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert set(exemplars["agentperf_ttft_seconds_bucket"].labels) == {"trace_id", "span_id"}
    assert exemplars["agentperf_ttft_seconds_bucket"].value == pytest.approx(0.02)
    assert {
        "gen_ai_client_inference_duration_seconds_bucket",
        "gen_ai_client_operation_duration_seconds_bucket",
        "agentperf_output_speed_per_second_bucket",
        "agentperf_proxy_overhead_seconds_bucket",
    } <= set(exemplars)


def test_no_label_is_an_id(families):
    body, _ = exposition(families, "")
    ids = ("trajectory", "run_id", "request_id", "session", "tenant", "turn_id", "conversation")
    for family in parse_text(body.decode()):
        for sample in family.samples:
            assert not any(word in label for label in sample.labels for word in ids), sample


@pytest.mark.peer("promtool")
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here: apt-get install prometheus")
def test_promtool_finds_nothing_to_say(families):
    body, _ = exposition(families, "")
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.stdout + checked.stderr).decode() == ""
    assert checked.returncode == 0


def test_every_family_that_is_told_is_an_instrument_with_its_values(families):
    for family in families:
        for point in family.points:
            assert len(point.values) == len(instrument_of(family).attributes), family


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("a.b", "s", Kind.HISTOGRAM, "a_b_seconds"),
        ("a.b", "s", Kind.COUNTER, "a_b_seconds_total"),
        ("a.b", "{call}", Kind.COUNTER, "a_b_total"),
        ("a.b", "{token}/s", Kind.HISTOGRAM, "a_b_per_second"),
        ("a.b", "1", Kind.GAUGE, "a_b_ratio"),
        ("a.b", "1", Kind.COUNTER, "a_b_total"),
        ("a.b_bytes", "By", Kind.UP_DOWN, "a_b_bytes"),
        ("a.total.b", "", Kind.COUNTER, "a_b_total"),
    ],
)
def test_names_are_those_of_the_compatibility_specification(name, unit, kind, expected):
    assert prometheus_name(name, unit, kind) == expected


def test_names_and_labels_are_unique():
    all_of_them = instruments()
    assert len({each.name for each in all_of_them}) == len(all_of_them)
    assert len({each.prometheus_name for each in all_of_them}) == len(all_of_them)
    for each in all_of_them:
        assert len({prometheus_label(name) for name in each.attributes}) == len(each.attributes)
        assert bool(each.buckets) == (each.kind is Kind.HISTOGRAM)
        assert list(each.buckets) == sorted(set(each.buckets))
        assert each.description.endswith(".")


def test_buckets_hold_the_bounds_of_the_preset_tiers():
    from otel_agentperf.policies import load_presets

    wanted = {"ttft": set(metric.TTFT_S), "output_speed": set(metric.SPEED_TPS)}
    for tier in load_presets():
        for target in tier.targets:
            if target.metric in wanted:
                assert target.value in wanted[target.metric], (tier.label, target)


def test_a_family_without_points_is_left_out():
    empty = Instrument(name=metric.TTFT.name, kind=Kind.HISTOGRAM, unit="s", description="Nothing.")
    body, _ = exposition([Family(empty.name, []), Family(metric.SPANS.name, [Point((), 1)])], "")
    assert b"ttft" not in body
    assert b"agentperf_spans_total 1.0" in body
