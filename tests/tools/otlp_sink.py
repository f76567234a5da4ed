"""An OTLP receiver on the loopback, by HTTP or gRPC, plain or with TLS: takes all signals, and tells how they came."""

import gzip
import threading
import zlib
from collections import defaultdict
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any

import grpc
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

WAIT_S = 60.0

REQUESTS: dict[str, type[Message]] = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
}


class Received:
    """What came, by signal."""

    def __init__(self) -> None:
        self.requests: defaultdict[str, list[Any]] = defaultdict(list)
        self.headers: dict[str, dict[str, str]] = {}
        self.clients: list[Any] = []
        """Certificates of clients, where they show any."""
        self._came = threading.Condition()

    def take(self, signal: str, request: Any, headers: dict[str, str]) -> None:
        with self._came:
            self.requests[signal].append(request)
            self.headers[signal] = headers
            self._came.notify_all()

    def wait(self, signal: str, count: int = 1) -> list[Any]:
        """The requests of a signal when there are so many."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests[signal]) >= count, WAIT_S), dict(self.requests)
            return list(self.requests[signal])

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests["traces"]
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metrics(self, at: int = -1) -> dict[str, Any]:
        """Metrics of one request by name."""
        return {
            metric.name: metric
            for resource in self.requests["metrics"][at].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def logs(self) -> list[Any]:
        return [
            record
            for request in self.requests["logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


class HTTPSink:
    """By HTTP; `statuses` answers for signals that are not taken, by path."""

    def __init__(self, tls: SSLContext | None = None, statuses: dict[str, int] | None = None) -> None:
        received = self.received = Received()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                match self.headers.get("content-encoding"):
                    case "gzip":
                        body = gzip.decompress(body)
                    case "deflate":
                        body = zlib.decompress(body)
                status = (statuses or {}).get(self.path, 200)
                signal = self.path.removeprefix("/v1/")
                if status == 200 and signal in REQUESTS:
                    if tls is not None:
                        received.clients.append(self.connection.getpeercert())  # type: ignore[attr-defined]
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    received.take(signal, REQUESTS[signal].FromString(body), headers)  # type: ignore[attr-defined]
                self.send_response(status if signal in REQUESTS else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.endpoint = f"{'https' if tls else 'http'}://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class GRPCSink:
    """By gRPC."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        received = self.received = Received()

        def take(signal: str, request: Any, context: Any) -> None:
            if credentials is not None:
                received.clients.append(context.auth_context().get("x509_common_name"))
            headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
            received.take(signal, request, headers)

        class Traces(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                take("traces", request, context)
                return trace_service_pb2.ExportTraceServiceResponse()

        class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                take("metrics", request, context)
                return metrics_service_pb2.ExportMetricsServiceResponse()

        class Logs(logs_service_pb2_grpc.LogsServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                take("logs", request, context)
                return logs_service_pb2.ExportLogsServiceResponse()

        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), self._server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), self._server)
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(), self._server)
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{port}"
        self.endpoint = f"{'https' if credentials else 'http'}://{self.address}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()
