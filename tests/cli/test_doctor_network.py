"""What the doctor says of endpoints and collectors, over real sockets."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from time import time
from typing import Any

import backend_shapes as shapes
import grpc
import pytest
import trustme
from backend_shapes import Request, Response
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from otel_agentperf.cli.doctor import network
from otel_agentperf.cli.doctor.endpoint import Upstream, upstream
from otel_agentperf.cli.doctor.export import export
from otel_agentperf.cli.doctor.findings import Finding, Verdict
from otel_agentperf_proxy.config import ProxyConfig

OWN = {"listen": ("127.0.0.1", 4000), "admin": ("127.0.0.1", 4001)}
MODELS = {"data": [{"id": "small"}, {"id": "large"}]}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.delenv(name, raising=False)


def models(path: str = "/v1/models", **response: Any) -> Callable[[Request], Response]:
    """An endpoint with a list of models at one path only."""
    return lambda request: Response(MODELS, **response) if request.path == path else Response({}, status=404)


def asked(url: str, **options: Any) -> list[Finding]:
    return list(upstream(Upstream(url, None, False), OWN, **{"key": None, "model": None} | options))


def last(findings: list[Finding], verdict: Verdict) -> Finding:
    assert findings[-1].verdict is verdict, findings
    assert verdict is Verdict.OK or findings[-1].advice
    return findings[-1]


def test_an_endpoint_that_answers_is_good_and_its_models_are_told():
    with shapes.serving(models()) as server:
        finding = last(asked(f"http://{server.base}", model="large"), Verdict.OK)
    assert "small, large" in finding.found


def test_a_model_that_is_not_listed_is_told():
    with shapes.serving(models()) as server:
        assert "'huge'" in last(asked(f"http://{server.base}", model="huge"), Verdict.WARNING).found


def test_v1_in_the_upstream_is_a_doubled_prefix():
    with shapes.serving(models()) as server:
        finding = last(asked(f"http://{server.base}/v1"), Verdict.PROBLEM)
        assert "/v1/v1/" in finding.found
        assert finding.advice == f"write --upstream http://{server.base}"


def test_a_path_that_belongs_there_is_good():
    with shapes.serving(models("/openai/v1/models")) as server:
        last(asked(f"http://{server.base}/openai"), Verdict.OK)


def test_an_api_without_v1_is_told():
    with shapes.serving(models("/api/models")) as server:
        assert "without /v1" in str(last(asked(f"http://{server.base}/api"), Verdict.WARNING).advice)


def test_the_control_routes_of_a_proxy_are_no_endpoint():
    control = {"relays": [], "observer": {}, "state": "ready"}

    def answer(request: Request) -> Response:
        return Response(control) if request.path == "/status" else Response({}, status=404)

    with shapes.serving(answer) as server:
        assert "control address" in last(asked(f"http://{server.base}"), Verdict.PROBLEM).found


def test_an_endpoint_without_a_list_of_models_is_no_problem():
    with shapes.serving(lambda _: Response({}, status=404)) as server:
        assert "no list of models" in last(asked(f"http://{server.base}"), Verdict.NOTE).found


@pytest.mark.parametrize(
    ("response", "key", "verdict", "words"),
    [
        (Response({}, status=401), None, Verdict.OK, "wants an API key"),
        (Response({}, status=401), "secret", Verdict.PROBLEM, "refuses the API key"),
        (Response({}, status=302, headers={"location": "https://x.example/"}), None, Verdict.PROBLEM, "x.example"),
        (Response({"error": "Loading model"}, status=503), None, Verdict.WARNING, "Loading model"),
        (Response(b"<html>", headers={"content-type": "text/html"}), None, Verdict.WARNING, "web page"),
        (Response(b"\xff not JSON"), None, Verdict.OK, "answers"),
    ],
)
def test_what_an_endpoint_answers(response, key, verdict, words):
    with shapes.serving(lambda _: response) as server:
        assert words in last(asked(f"http://{server.base}", key=key), verdict).found
        if key is not None:
            assert {server.requests[0].headers[name] for name in ("authorization", "x-api-key")} == {
                "Bearer secret",
                "secret",
            }


@pytest.mark.parametrize(("ahead_s", "verdict"), [(0, Verdict.OK), (90, Verdict.WARNING), (-90, Verdict.WARNING)])
def test_clocks_are_compared(ahead_s, verdict):
    answer = serve_once(
        lambda: f"HTTP/1.1 200 OK\r\ndate: {formatdate(time() + ahead_s, usegmt=True)}\r\ncontent-length: 2\r\n\r\n{{}}"
    )
    with answer as address:
        clock = next(finding for finding in asked(f"http://{address}") if finding.check == "clock")
    assert clock.verdict is verdict


@pytest.mark.parametrize("url", ["http://127.0.0.1:4000", "http://localhost:4001/v1"])
def test_the_proxy_as_its_own_upstream_is_told(url):
    assert "is the proxy itself" in last(asked(url), Verdict.PROBLEM).found


def test_nothing_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert f"nothing listens on port {port}" in last(asked(f"http://127.0.0.1:{port}"), Verdict.PROBLEM).found
    findings = asked(f"http://127.0.0.1:{port}/v1")
    assert "/v1/v1/" in last(findings, Verdict.WARNING).found


def test_a_name_that_is_none_is_told():
    assert "there is no host no-such.invalid" in last(asked("http://no-such.invalid:8000"), Verdict.PROBLEM).found


def test_a_url_that_is_none_is_told():
    assert "not an http or https URL" in last(asked("ftp://x"), Verdict.PROBLEM).found


def test_a_server_that_is_silent_is_told(monkeypatch):
    monkeypatch.setattr(network, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert "does not answer within" in last(asked(url), Verdict.PROBLEM).found


def test_certificates_are_looked_at(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    with shapes.serving(models(), encrypted=certificate.configure_cert) as server:
        url = f"https://{server.base}"
        finding = last(asked(url), Verdict.PROBLEM)
        assert "is not trusted" in finding.found
        assert "--upstream-ca" in str(finding.advice)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        trusting = Upstream(url, str(tmp_path / "ca.pem"), False)
        last(list(upstream(trusting, OWN, key=None, model=None)), Verdict.OK)
        last(list(upstream(Upstream(url, None, True), OWN, key=None, model=None)), Verdict.OK)


def test_https_to_a_plain_server_is_told():
    with shapes.serving(models()) as server:
        assert "does not speak TLS" in last(asked(f"https://{server.base}"), Verdict.PROBLEM).found


class serve_once:
    """A server that answers every connection with some bytes; gives `HOST:PORT`."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536):
                    connection.sendall(self._text().encode())

    def __enter__(self) -> str:
        self._thread.start()
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


# --- Export


def exported(url: str, **options: Any) -> Finding:
    (finding,) = export(ProxyConfig(upstream="http://127.0.0.1:1", otlp_endpoint=url, **options))
    assert finding.verdict is Verdict.OK or finding.advice
    return finding


def test_no_export_is_no_problem():
    (finding,) = export(ProxyConfig(upstream="http://127.0.0.1:1"))
    assert finding.verdict is Verdict.NOTE


def test_a_collector_that_takes_spans_is_good(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x")
    with shapes.serving(lambda _: Response({})) as server:
        assert exported(f"http://{server.base}").verdict is Verdict.OK
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/traces")
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize(
    ("status", "words"), [(401, "credentials"), (404, "no OTLP receiver"), (503, "refuses spans (503: {}")]
)
def test_a_collector_that_refuses_is_told(status, words):
    with shapes.serving(lambda _: Response({}, status=status)) as server:
        finding = exported(f"http://{server.base}")
    assert finding.verdict is Verdict.PROBLEM
    assert words in finding.found


def test_a_collector_that_is_not_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    assert "takes no spans: nothing listens" in exported(url).found
    assert "takes no spans by gRPC" in exported(url, otlp_protocol="grpc").found


@pytest.fixture
def grpc_collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector for gRPC, and the metadata of its requests."""
    metadata: list[Any] = []

    class Service(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            metadata.append(dict(context.invocation_metadata()))
            if "authorization" not in metadata[-1]:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", metadata
    server.stop(None).wait()


def test_a_collector_for_grpc(grpc_collector, monkeypatch):
    url, metadata = grpc_collector
    assert "credentials (UNAUTHENTICATED: who are you)" in exported(url, otlp_protocol="grpc").found
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x")
    assert exported(url, otlp_protocol="grpc").verdict is Verdict.OK
    assert metadata[-1]["authorization"] == "Bearer x"


def test_the_wrong_protocol_is_told(grpc_collector):
    assert "--otlp-protocol grpc" in str(exported(grpc_collector[0], otlp_protocol="http/protobuf").advice)
    with shapes.serving(lambda _: Response({})) as server:
        finding = exported(f"http://{server.base}", otlp_protocol="grpc")
    assert finding.verdict is Verdict.PROBLEM
    assert "http/protobuf" in str(finding.advice)


def test_an_endpoint_that_is_no_url_is_told():
    assert "must be a URL" in exported("collector").found


def test_tls_of_a_collector(monkeypatch, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")

    def encrypted(context: ssl.SSLContext) -> None:
        certificate.configure_cert(context)

    with shapes.serving(lambda _: Response({}), encrypted=encrypted) as server:
        assert "is not trusted" in exported(f"https://{server.base}").found
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca.pem"))
        assert exported(f"https://{server.base}").verdict is Verdict.OK
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "none.pem"))
        assert exported(f"https://{server.base}").verdict is Verdict.PROBLEM
