"""The OTLP endpoint that spans are exported to: whether it takes an export without spans."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from otel_agentperf.cli.doctor.findings import Finding, note, ok, problem
from otel_agentperf.cli.doctor.network import TIMEOUT_S, Unreachable, fetch
from otel_agentperf.errors import UsageError

if TYPE_CHECKING:
    from otel_agentperf_proxy.config import ProxyConfig

__all__ = ["export"]

_HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_CERTIFICATES: Final = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")


def export(config: "ProxyConfig") -> Iterator[Finding]:
    """Whether the export that a configuration and the environment ask for can work."""
    from otel_agentperf_proxy.otlp import GRPC, TRACES_PATH, find_target

    try:
        target = find_target(config)
    except UsageError as exc:
        yield problem("export", str(exc), "write for example --otlp-endpoint http://127.0.0.1:4318")
        return
    if target is None:
        yield note("export", "spans go to the store only; --otlp-endpoint URL exports them too")
        return
    headers = _told_headers()
    if target.protocol == GRPC:
        yield _grpc(target.endpoint, target.address, headers)
        return
    url = target.endpoint
    # The variable for traces alone holds the whole URL; the other ones, and our option, the base.
    whole = not target.configured and os.environ.get(_TRACES_ENDPOINT, "").strip() == url
    if not whole and not url.rstrip("/").endswith(TRACES_PATH):
        url = url.rstrip("/") + TRACES_PATH
    yield _http(url, target.address, headers)


def _told_headers() -> dict[str, str]:
    from opentelemetry.util.re import parse_env_headers

    told = next((value for name in _HEADERS if (value := os.environ.get(name, "").strip())), "")
    return dict(parse_env_headers(told, liberal=True))


def _http(url: str, address: str, headers: dict[str, str]) -> Finding:
    from otel_agentperf.http1 import client_tls

    authority = next((value for name in _CERTIFICATES if (value := os.environ.get(name, "").strip())), None)
    try:
        tls = client_tls(authority) if url.startswith("https") else None
        reply = fetch(
            url,
            method="POST",
            headers={**headers, "content-type": "application/x-protobuf"},
            content=b"",
            tls=tls,
        )
    except UsageError as exc:
        return problem("export", str(exc), f"name a certificate with {_CERTIFICATES[-1]}")
    except Unreachable as exc:
        return problem("export", f"{address} takes no spans: {exc}", exc.advice)
    if reply.status < 300:
        return ok("export", f"{address} takes spans (OTLP over HTTP)")
    return _refused(address, str(reply.status), reply.body[:200].decode("utf-8", "replace").strip(), urlsplit(url).path)


def _refused(address: str, status: str, words: str, path: str) -> Finding:
    told = f": {words}" if words else ""
    if status in ("401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED"):
        return problem(
            "export",
            f"{address} refuses spans without the right credentials ({status}{told})",
            "set OTEL_EXPORTER_OTLP_HEADERS, for example Authorization=Bearer%20TOKEN",
        )
    if status in ("404", "405", "UNIMPLEMENTED"):
        return problem(
            "export",
            f"{address} is no OTLP receiver of traces at {path} ({status})",
            "name the collector's OTLP port (4318 for HTTP, 4317 for gRPC), and its path where it has one",
        )
    return problem("export", f"{address} refuses spans ({status}{told})", "see the collector's log")


def _grpc(endpoint: str, address: str, headers: dict[str, str]) -> Finding:
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

    place = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    where = place.netloc.rpartition("@")[2]
    if place.scheme == "https":
        authority = next((value for name in _CERTIFICATES if (value := os.environ.get(name, "").strip())), None)
        try:
            roots = None if authority is None else Path(authority).read_bytes()
        except OSError as exc:
            return problem("export", f"cannot read certificates from {authority}: {exc.strerror}", "mend that variable")
        channel = grpc.secure_channel(where, grpc.ssl_channel_credentials(roots))
    else:
        channel = grpc.insecure_channel(where)
    stub: Any = TraceServiceStub
    service = stub(channel)
    with channel:
        try:
            metadata = [(name.lower(), value) for name, value in headers.items()]
            service.Export(ExportTraceServiceRequest(), timeout=TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as exc:
            status, words = exc.code().name, (exc.details() or "").strip()
            if status == "DEADLINE_EXCEEDED" or (status == "UNAVAILABLE" and "http1" not in words.lower()):
                return problem(
                    "export",
                    f"{address} takes no spans by gRPC: {words}",
                    "start the collector, or name its port; for OTLP over HTTP use --otlp-protocol http/protobuf",
                )
            if "http1" in words.lower() or "http/1" in words.lower():
                return problem(
                    "export", f"{address} speaks HTTP/1.1, not gRPC", "use --otlp-protocol http/protobuf, or port 4317"
                )
            return _refused(address, status, words, "opentelemetry.proto.collector.trace.v1.TraceService")
    return ok("export", f"{address} takes spans (OTLP over gRPC)")
