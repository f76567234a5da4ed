"""All signals by OTLP, over HTTP and gRPC, as the standard variables say; against receivers on the loopback."""

import json
import logging
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from otlp_sink import GRPCSink, HTTPSink

from otel_agentperf import instruments as metric
from otel_agentperf.errors import UsageError
from otel_agentperf.logs import JSONFormatter
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.metrics.otlp import Converter
from otel_agentperf_proxy.metrics.series import Family, Point
from otel_agentperf_proxy.otlp import Signal, find_target

from .conftest import UPSTREAM
from .test_call_spans import PLAIN
from .test_metrics import streamed_call

PROTOCOLS = ("http/protobuf", "grpc")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "20")


@pytest.fixture(params=PROTOCOLS)
def sink(request: pytest.FixtureRequest) -> Iterator[Any]:
    one = HTTPSink() if request.param == "http/protobuf" else GRPCSink()
    one.protocol = request.param  # type: ignore[union-attr]
    yield one
    one.close()


@pytest.fixture
def http() -> Iterator[HTTPSink]:
    one = HTTPSink()
    yield one
    one.close()


def a_day(relay: Any) -> None:
    """A good call and one that fails, then the end."""
    streamed_call(relay, headers={"x-session-id": "S1"})
    told = relay.open(headers={"x-session-id": "S2", "x-request-id": "r-2"})
    told.body(PLAIN)
    told.head(status=503, headers={"content-type": "application/json"})
    told.chunk(20, json.dumps({"error": {"message": "busy", "type": "overloaded_error"}}))
    told.end(30)
    relay.observer.close()


def attributes(items: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in items}


def test_all_signals_reach_the_endpoint_of_the_configuration(new_relay, sink):
    a_day(new_relay(otlp_endpoint=sink.endpoint, otlp_protocol=sink.protocol, otlp_logs=True))
    received = sink.received
    assert sorted(span.name for span in received.spans()) == ["chat m-8b", "chat m-8b", "invoke_agent", "invoke_agent"]
    metrics = received.metrics()
    duration = metrics["gen_ai.client.inference.duration"]
    assert duration.unit == "s"
    assert duration.histogram.aggregation_temporality == 2
    good, failed = sorted(duration.histogram.data_points, key=lambda point: point.sum, reverse=True)
    assert good.count == 1
    assert good.sum == pytest.approx(0.12)
    assert list(good.explicit_bounds) == list(metric.DOUBLING_S)
    assert list(good.bucket_counts) == [0, 0, 0, 0, 1, *[0] * 10]
    assert not good.HasField("min")
    assert attributes(good.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m-8b",
        "gen_ai.response.model": "m-8b",
        "server.address": "llm.internal",
        "server.port": 8000,
    }
    assert attributes(failed.attributes)["error.type"] == "overloaded_error"
    spans = {span.span_id: span for span in received.spans()}
    (exemplar,) = good.exemplars
    assert spans[exemplar.span_id].trace_id == exemplar.trace_id
    assert exemplar.as_double == pytest.approx(0.12)
    calls = metrics["agentperf.calls"].sum
    assert calls.is_monotonic
    assert sum(point.as_double or point.as_int for point in calls.data_points) == 2
    assert not metrics["agentperf.open_calls"].sum.is_monotonic
    resource = received.requests["metrics"][-1].resource_metrics[0].resource
    assert attributes(resource.attributes)["service.name"] == "otel-agentperf-proxy"


def test_a_failed_call_is_a_log_record_with_the_ids_of_its_span(new_relay, sink):
    a_day(new_relay(otlp_endpoint=sink.endpoint, otlp_protocol=sink.protocol, otlp_logs=True))
    (record,) = sink.received.logs()
    (span,) = [span for span in sink.received.spans() if span.status.code == 2 and span.name.startswith("chat")]
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert record.severity_text == "ERROR"
    assert record.body.string_value == "POST /v1/chat/completions ended with 503: overloaded_error"
    told = attributes(record.attributes)
    assert told["http.response.status_code"] == 503
    assert told["agentperf.request.id"] == "r-2"
    assert told["gen_ai.request.model"] == "m-8b"
    assert told["agentperf.trajectory.id"]
    assert record.time_unix_nano == span.end_time_unix_nano


def test_the_proxys_own_messages_are_log_records(new_relay, http):
    relay = new_relay(otlp_endpoint=http.endpoint, otlp_logs=True)
    logging.getLogger("otel_agentperf_proxy.anything").warning("something is %s", "odd")
    logging.getLogger("somebody.else").warning("not ours")
    relay.observer.close()
    (record,) = http.received.logs()
    assert record.body.string_value == "something is odd"
    assert record.severity_text == "WARN"
    told = attributes(record.attributes)
    assert told == {"logger.name": "otel_agentperf_proxy.anything", "process.pid": os.getpid()}
    logging.getLogger("otel_agentperf_proxy.anything").warning("after the end")
    assert len(http.received.logs()) == 1


def test_logs_are_not_exported_unless_asked_for(new_relay, http):
    a_day(new_relay(otlp_endpoint=http.endpoint))
    assert set(http.received.requests) == {"traces", "metrics"}


def test_every_signal_has_an_endpoint_of_its_own(new_relay, http, monkeypatch):
    others = [HTTPSink(), HTTPSink()]
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", http.endpoint + "/")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", others[0].endpoint + "/v1/metrics")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", others[1].endpoint + "/v1/logs")
        a_day(new_relay())
        assert [set(one.received.requests) for one in (http, *others)] == [{"traces"}, {"metrics"}, {"logs"}]
    finally:
        for other in others:
            other.close()


@pytest.mark.parametrize("variable", ["OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER"])
def test_none_switches_a_signal_off(new_relay, http, monkeypatch, variable):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", http.endpoint)
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp")
    monkeypatch.setenv(variable, "none")
    a_day(new_relay())
    off = variable.split("_")[1].lower()
    assert set(http.received.requests) == {"traces", "metrics", "logs"} - {off}


def test_a_disabled_sdk_exports_nothing(new_relay, http, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    a_day(new_relay(otlp_endpoint=http.endpoint, otlp_logs=True))
    assert not http.received.requests


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("signal", list(Signal))
def test_headers_compression_and_time_limits_of_the_variables(new_relay, sink, monkeypatch, signal, own):
    """Those of one signal alone, or those of all."""

    def told(name: str) -> str:
        return signal.variables(name)[0 if own else 1]

    monkeypatch.setenv(told("ENDPOINT"), sink.endpoint + (signal.path if own and sink.protocol != "grpc" else ""))
    monkeypatch.setenv(told("PROTOCOL"), sink.protocol)
    monkeypatch.setenv(told("HEADERS"), "x-team=blue%20sky,authorization=Bearer%20t")
    monkeypatch.setenv(told("COMPRESSION"), "gzip")
    monkeypatch.setenv(told("TIMEOUT"), "25")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "otlp")
    a_day(new_relay())
    if own:
        assert set(sink.received.requests) == {signal}
    headers = sink.received.headers[signal]
    assert headers["x-team"] == "blue sky"
    assert headers["authorization"] == "Bearer t"
    if sink.protocol != "grpc":
        assert headers["content-encoding"] == "gzip"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(authority: trustme.CA, tmp_path: Path) -> Callable[[str], str]:
    client = authority.issue_cert("client@example.org", common_name="client")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    return lambda name: str(tmp_path / name)


@pytest.fixture(params=PROTOCOLS)
def tls_sink(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[Any]:
    """Takes clients with a certificate of the authority only."""
    server = authority.issue_cert("127.0.0.1", "localhost")
    one: HTTPSink | GRPCSink
    if request.param == "grpc":
        key, chain = server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes()
        one = GRPCSink(grpc.ssl_server_credentials([(key, chain)], authority.cert_pem.bytes(), True))
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        one = HTTPSink(context)
    one.protocol = request.param  # type: ignore[union-attr]
    yield one
    one.close()


@pytest.mark.parametrize("signal", list(Signal))
def test_certificates_of_the_variables(new_relay, tls_sink, pem, monkeypatch, signal):
    whole = signal.path if tls_sink.protocol != "grpc" else ""
    settings = {
        "ENDPOINT": tls_sink.endpoint + whole,
        "PROTOCOL": tls_sink.protocol,
        "CERTIFICATE": pem("ca.pem"),
        "CLIENT_KEY": pem("client.key"),
        "CLIENT_CERTIFICATE": pem("client.pem"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(signal.variables(name)[0], value)
    # What is said of one exporter counts more than what is said of all programs that use a certain library.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pem("client.pem"))
    a_day(new_relay())
    assert tls_sink.received.requests[signal]
    assert all(tls_sink.received.clients)


def test_insecure_is_for_a_bare_host_and_port_of_grpc(new_relay, monkeypatch):
    one = GRPCSink()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
        a_day(new_relay(otlp_logs=True))
        assert set(one.received.requests) == set(Signal)
    finally:
        one.close()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "/no/such/file",
            "OTEL_EXPORTER_OTLP_CERTIFICATE: cannot read /no/such/file",
        ),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "/no/key", "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY: cannot read"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "must be a positive number of seconds, not '10s'"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "must be one of none, gzip, deflate for http/protobuf, not 'zstd'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "use http/protobuf or grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "nonsense", "must be a URL"),
    ],
)
def test_settings_that_cannot_work_are_said_before_the_start(monkeypatch, name, value, message):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message.replace("/", "/")):
        find_target(ProxyConfig(upstream=UPSTREAM), Signal.METRICS)


def test_a_collector_that_takes_no_metrics_is_said_once(new_relay, monkeypatch, caplog):
    """Such as Jaeger."""
    one = HTTPSink(statuses={"/v1/metrics": 404})
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
    try:
        relay = new_relay(otlp_endpoint=one.endpoint)
        streamed_call(relay)
        for second in range(1, 4):
            relay.observer.tick(relay.now_ns + second * 10**12)
        a_day(relay)
        stats = relay.observer.stats()["metrics"]
        assert stats["exports"] == 0
        assert stats["failed"] >= 1
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len([text for text in said if "takes no metrics; OTEL_METRICS_EXPORTER=none" in text]) == 1
        assert len(said) == 1
        assert one.received.spans()
    finally:
        one.close()


def test_metrics_go_at_the_interval_and_at_the_end(new_relay, http, monkeypatch):
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1000")
    relay = new_relay(otlp_endpoint=http.endpoint)
    streamed_call(relay)
    relay.observer.tick(relay.now_ns)
    before = len(http.received.requests["metrics"])
    relay.observer.tick(10**18)
    http.received.wait("metrics", before + 1)
    relay.observer.tick(10**18 + 1)
    streamed_call(relay)
    relay.observer.close()
    http.received.wait("metrics", before + 2)
    assert len(http.received.requests["metrics"]) == before + 2
    counts = [
        sum(point.count for point in http.received.metrics(at)["agentperf.ttft"].histogram.data_points)
        for at in (-2, -1)
    ]
    assert counts == [1, 2]


def test_what_is_told_of_the_processes_is_exported_too(new_relay, http):
    relay = new_relay(otlp_endpoint=http.endpoint)
    relay.observer.take_processes([Family(metric.CHANNEL_FRAMES_DROPPED.name, [Point(("0",), 7)])])
    relay.observer.close()
    (point,) = http.received.metrics()["agentperf.channel.frames_dropped"].sum.data_points
    assert (point.as_double or point.as_int) == 7
    assert attributes(point.attributes) == {"agentperf.worker": "0"}


def test_delta_temporality_is_the_exporters_to_ask_for(new_relay, http, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1000")
    relay = new_relay(otlp_endpoint=http.endpoint)
    streamed_call(relay)
    relay.observer.tick(10**18)
    http.received.wait("metrics")
    streamed_call(relay)
    streamed_call(relay)
    relay.observer.close()
    counts = []
    for at in (0, 1):
        histogram = http.received.metrics(at)["agentperf.ttft"].histogram
        assert histogram.aggregation_temporality == 1
        counts.append([(point.count, point.bucket_counts[0]) for point in histogram.data_points])
    assert counts == [[(1, 1)], [(2, 2)]]


def counter(value: float) -> list[Family]:
    return [Family(metric.RELAY_RESTARTS.name, [Point((), value)])]


def number(data: Any) -> tuple[float, int, int]:
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return point.value, point.start_time_unix_nano, point.time_unix_nano


def test_a_sum_that_became_smaller_began_anew():
    from opentelemetry.sdk.metrics import Counter
    from opentelemetry.sdk.metrics.export import AggregationTemporality
    from opentelemetry.sdk.resources import Resource

    cumulative = Converter(Resource({}), {}, start_ns=100)
    assert number(cumulative.convert(counter(5), 200)) == (5, 100, 200)
    assert number(cumulative.convert(counter(7), 300)) == (7, 100, 300)
    assert number(cumulative.convert(counter(2), 400)) == (2, 300, 400)
    assert number(cumulative.convert(counter(3), 500)) == (3, 300, 500)
    delta = Converter(Resource({}), {Counter: AggregationTemporality.DELTA}, start_ns=100)
    assert number(delta.convert(counter(5), 200)) == (5, 100, 200)
    assert number(delta.convert(counter(7), 300)) == (2, 200, 300)
    assert number(delta.convert(counter(2), 400)) == (2, 300, 400)


def test_messages_as_json():
    record = logging.LogRecord("otel_agentperf_proxy.x", logging.ERROR, "f.py", 1, "an ‘odd’ %s\n", ("thing",), None)
    record.trace_id, record.span_id = "ab" * 16, "cd" * 8
    told = json.loads(JSONFormatter().format(record))
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "error",
        "logger": "otel_agentperf_proxy.x",
        "process": os.getpid(),
        "message": "an ‘odd’ thing\n",
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
    }


def test_a_failure_of_the_observer_names_the_call(new_relay, http, monkeypatch):
    relay = new_relay(otlp_endpoint=http.endpoint, otlp_logs=True)

    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(relay.observer._outlet._spans, "call", fail)
    told = streamed_call(relay)
    relay.observer.close()
    (record,) = http.received.logs()
    assert "failed in span: RuntimeError: boom" in record.body.string_value
    assert told.record is not None
    assert record.span_id == told.record.span_id
    assert record.trace_id == told.record.trace_id
