"""Export against real receivers on the loopback, and against collectors that are not well."""

import gzip
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, TraceIdRatioBased

from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.export import Export, create_export
from otel_agentperf_proxy.otlp import find_target

from .conftest import UPSTREAM
from .test_call_spans import ANSWER, PLAIN
from .test_store import span

WAIT_S = 30.0
SHUTDOWN_S = 15.0
"""Far above the bound of the shutdown, far below what an unbounded one takes."""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


class Received:
    """What a collector got."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.headers: dict[str, str] = {}
        self.came = threading.Event()

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        self.headers = headers
        for resource in request.resource_spans:
            self.names += [one.name for scope in resource.scope_spans for one in scope.spans]
        self.came.set()


class HTTPCollector:
    """An OTLP/HTTP receiver that answers with `status`."""

    def __init__(self, status: int = 200) -> None:
        received = self.received = Received()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    received.take(ExportTraceServiceRequest.FromString(body), headers)
                self.send_response(status if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def collector() -> Iterator[HTTPCollector]:
    one = HTTPCollector()
    yield one
    one.close()


@pytest.fixture
def failing_collector() -> Iterator[HTTPCollector]:
    one = HTTPCollector(status=400)
    yield one
    one.close()


@pytest.fixture
def grpc_collector() -> Iterator[tuple[str, Received]]:
    received = Received()

    class Servicer(TraceServiceServicer):
        def Export(self, request, context):
            received.take(request, dict(context.invocation_metadata()))
            return ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", received
    server.stop(None).wait()


@pytest.fixture
def silent() -> Iterator[str]:
    """A collector that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def refused() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


def config(**options: object) -> ProxyConfig:
    return ProxyConfig(**{"upstream": UPSTREAM, "store": None, **options})  # type: ignore[arg-type]


def made(**options: object) -> Export:
    export = create_export(config(**options))
    assert export is not None
    return export


def test_spans_reach_a_collector_over_http(new_relay, collector):
    relay = new_relay(otlp_endpoint=collector.endpoint)
    relay.call(PLAIN, ANSWER)
    written = [one["name"] for one in relay.spans()]
    assert collector.received.names == written == ["chat m-8b", "invoke_agent"]
    stats = relay.observer.stats()["export"]
    assert stats == {
        "spans_exported": 2,
        "spans_failed": 0,
        "spans_dropped": 0,
        "spans_unsampled": 0,
        "spans_waiting": 0,
        "failing": None,
    }


def test_without_a_store_spans_are_exported_all_the_same(new_relay, collector):
    relay = new_relay(store=None, otlp_endpoint=collector.endpoint)
    relay.call(PLAIN, ANSWER)
    relay.observer.close()
    assert len(collector.received.names) == 2
    assert relay.observer.stats()["store"] is None


def test_spans_reach_a_collector_over_grpc(grpc_collector):
    endpoint, received = grpc_collector
    export = made(otlp_endpoint=endpoint, otlp_protocol="grpc")
    export.export(span(1), sampled=True)
    export.close()
    assert received.names == ["chat m"]
    assert export.stats()["spans_exported"] == 1


def test_the_environment_configures_the_export(collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    export = made()
    export.export(span(1), sampled=True)
    export.close()
    assert collector.received.names == ["chat m"]
    assert collector.received.headers["x-team"] == "blue"
    assert collector.received.headers["content-encoding"] == "gzip"


def test_the_environment_chooses_the_protocol(grpc_collector, monkeypatch):
    endpoint, received = grpc_collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    export = made()
    export.export(span(1), sampled=True)
    export.close()
    assert received.names == ["chat m"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
    ],
)
def test_no_export_unless_asked(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert create_export(config()) is None


@pytest.mark.parametrize("endpoint", ["collector:4317", "ftp://x", "http://", "nonsense"])
def test_an_endpoint_that_is_no_url(endpoint):
    with pytest.raises(UsageError, match="must be a URL"):
        create_export(config(otlp_endpoint=endpoint))


def test_a_bare_host_and_port_in_the_environment_is_grpc(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
    target = find_target(config())
    assert target is not None
    assert (target.protocol, target.configured) == ("grpc", False)


def test_a_protocol_that_is_not_there(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    with pytest.raises(UsageError, match="use http/protobuf or grpc"):
        create_export(config(otlp_endpoint="http://127.0.0.1:1"))


def test_failures_are_counted_and_said_once(failing_collector, caplog):
    export = made(otlp_endpoint=failing_collector.endpoint)
    for number in range(1, 4):
        failing_collector.received.came.clear()
        export.export(span(number), sampled=True)
        assert failing_collector.received.came.wait(WAIT_S)
    export.close()
    stats = export.stats()
    assert (stats["spans_exported"], stats["spans_failed"]) == (0, 3)
    assert "400" in stats["failing"]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "cannot export to" in warnings[0].getMessage()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("where", ["silent", "refused"])
def test_a_dead_collector_blocks_neither_the_calls_nor_the_end(request, monkeypatch, caplog, where, protocol):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    # What is left of an attempt ends soon after the test.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    export = made(otlp_endpoint=request.getfixturevalue(where), otlp_protocol=protocol)
    began = monotonic()
    for number in range(1, 101):
        export.export(span(number), sampled=True)
    offered = monotonic()
    export.close(timeout_s=0.5)
    closed = monotonic()
    assert offered - began < SHUTDOWN_S
    assert closed - offered < SHUTDOWN_S
    stats = export.stats()
    assert stats["spans_exported"] == 0
    assert stats["spans_dropped"] >= 80
    assert sum("the export is behind" in record.getMessage() for record in caplog.records) == 1


def test_the_store_keeps_what_sampling_leaves_out_of_the_export(new_relay, collector, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    relay = new_relay(otlp_endpoint=collector.endpoint)
    relay.call(PLAIN, ANSWER)
    assert len(relay.spans()) == 2
    assert collector.received.names == []
    assert relay.observer.stats()["export"]["spans_unsampled"] == 2


def test_the_clients_decision_counts(new_relay, collector):
    relay = new_relay(otlp_endpoint=collector.endpoint)
    relay.call(PLAIN, ANSWER, parent_span_id=b"\0" * 7 + b"\1", sampled=False)
    relay.call(PLAIN.replace(b"Hi", b"Ho"), ANSWER, parent_span_id=b"\0" * 7 + b"\1", sampled=True)
    assert len(relay.spans()) == 4
    assert sorted(collector.received.names) == ["chat m-8b", "invoke_agent"]


@pytest.fixture
def sampling() -> Iterator[Export]:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    export = Export(InMemorySpanExporter(), endpoint="memory", sampler=TraceIdRatioBased(0.5))
    yield export
    export.close()


def test_a_ratio_decides_by_trajectory(sampling):
    decisions = [sampling.sampled(f"trajectory {number}", None) for number in range(2000)]
    assert decisions == [sampling.sampled(f"trajectory {number}", None) for number in range(2000)]
    assert 850 < sum(decisions) < 1150


def test_a_parent_based_sampler_asks_the_parent(sampling):
    sampling._sampler = DEFAULT_ON
    assert [sampling.sampled("x", parent) for parent in (None, True, False)] == [True, True, False]
