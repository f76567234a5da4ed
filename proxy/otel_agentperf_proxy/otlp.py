"""Where telemetry goes by OTLP, and how: what the configuration and OpenTelemetry's variables say, checked.

The exporters are the official ones, and read the variables themselves; here is decided whether there is one at all,
with which protocol, and whether what the variables name can be used: an observer that cannot start is no answer.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL, OTEL_SDK_DISABLED

from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.config import ProxyConfig

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
GRPC_PORT: Final = 4317
DEFAULT_INTERVAL_MS: Final = 60_000
TRACES_PATH: Final = "/v1/traces"

COMPRESSIONS: Final[Mapping[str, tuple[str, ...]]] = {HTTP: ("none", "gzip", "deflate"), GRPC: ("none", "gzip")}

_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_FILES: Final = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")


class Signal(StrEnum):
    """What is exported."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"

    @property
    def path(self) -> str:
        """Of its receiver, by HTTP."""
        return f"/v1/{self}"

    @property
    def exporter_variable(self) -> str:
        """The standard variable that names its exporters."""
        return f"OTEL_{self.upper()}_EXPORTER"

    def variables(self, name: str) -> tuple[str, str]:
        """The standard variables for a setting of its exporter, the more telling one first."""
        return f"OTEL_EXPORTER_OTLP_{self.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a signal is exported to, and how."""

    signal: Signal
    endpoint: str
    protocol: str
    configured: bool
    """Named by the configuration; else the exporter reads it from its variables again, with all that belongs to it."""

    @property
    def address(self) -> str:
        """Host and port, without what may be secret in a URL."""
        url = urlsplit(self.endpoint if "://" in self.endpoint else f"//{self.endpoint}")
        return f"{url.hostname}:{url.port}" if url.port else str(url.hostname)


def find_target(config: ProxyConfig, signal: Signal = Signal.TRACES) -> Target | None:
    """The export of a signal that the configuration and the environment ask for; None when they ask for none.

    Spans go to the configured endpoint, else to that of the variables. So do metrics, unless OTEL_METRICS_EXPORTER says
    otherwise, but a variable that names their own endpoint wins. Logs are only exported where they are asked for: by
    the configuration, by OTEL_LOGS_EXPORTER, or by an endpoint of their own.

    Raises:
        UsageError: the endpoint, the protocol, or another setting of the export cannot be used.
    """
    if environment(OTEL_SDK_DISABLED).lower() == "true":
        return None
    own, shared = map(environment, signal.variables("ENDPOINT"))
    exporters = environment(signal.exporter_variable)
    configured = config.otlp_endpoint
    wanted = "otlp" in [name.strip() for name in exporters.split(",")] if exporters else None
    if signal is Signal.TRACES:
        if wanted is False and configured is None:
            return None
        told = configured or own or shared
    else:
        if wanted is False:
            return None
        if signal is Signal.LOGS and not (wanted or own or config.otlp_logs):
            return None
        told = own or configured or shared
    if not told:
        return None
    target = Target(signal, told, _protocol(config, signal, told), configured=told == configured)
    _check(target)
    return target


def interval_ns() -> int:
    """Between two exports of metrics, as OTEL_METRIC_EXPORT_INTERVAL says in milliseconds."""
    told = environment(OTEL_METRIC_EXPORT_INTERVAL)
    return (int(told) if told.isascii() and told.isdecimal() and int(told) > 0 else DEFAULT_INTERVAL_MS) * 10**6


def environment(name: str) -> str:
    """The value of a variable; empty when it is not set."""
    return os.environ.get(name, "").strip()


def create_exporter(target: Target) -> Any:
    """The official exporter of a target."""
    endpoint = target.endpoint if target.configured else None
    if target.protocol == GRPC:
        return _grpc_exporter(target.signal)(endpoint=endpoint)
    if endpoint is not None:
        base = endpoint.rstrip("/")
        for signal in Signal:
            base = base.removesuffix(signal.path)
        endpoint = base + target.signal.path
    return _http_exporter(target.signal)(endpoint=endpoint, session=_session(target.signal))


class Overhearing:
    """Listens to what an exporter logs of its failures, which then goes into one message of ours instead.

    The exporters log every failed attempt; while ours exports, that is not passed on.
    """

    def __init__(self, signal: Signal) -> None:
        self.reason = ""
        """What was said last."""
        self._mine = threading.local()
        self._names = (
            f"opentelemetry.exporter.otlp.proto.http.{_EXPORTER_MODULES[signal]}",
            "opentelemetry.exporter.otlp.proto.grpc.exporter",
        )
        for name in self._names:
            logging.getLogger(name).addFilter(self._overhear)

    @contextmanager
    def listen(self) -> Iterator[None]:
        """While this thread exports."""
        self._mine.exporting = True
        try:
            yield
        finally:
            self._mine.exporting = False

    def release(self) -> None:
        """No export is under way any more."""
        for name in self._names:
            logging.getLogger(name).removeFilter(self._overhear)

    def _overhear(self, record: logging.LogRecord) -> bool:
        if not getattr(self._mine, "exporting", False):
            return True
        self.reason = record.getMessage()
        return False


_EXPORTER_MODULES: Final = {
    Signal.TRACES: "trace_exporter",
    Signal.METRICS: "metric_exporter",
    Signal.LOGS: "_log_exporter",
}


def _grpc_exporter(signal: Signal) -> Any:
    match signal:
        case Signal.TRACES:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter
        case Signal.METRICS:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

            return OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    return OTLPLogExporter


def _http_exporter(signal: Signal) -> Any:
    match signal:
        case Signal.TRACES:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter
        case Signal.METRICS:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

            return OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter


def _session(signal: Signal) -> Any:
    """The session of an exporter by HTTP; None for its own.

    `requests` prefers the certificates of its own variables to those that the exporter was told.
    """
    if not (_told(signal, "CERTIFICATE")[1] and any(map(environment, _BUNDLES))):
        return None
    import requests

    class Session(requests.Session):
        def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
            verify = self.verify if verify is None else verify
            return super().merge_environment_settings(url, proxies, stream, verify, cert)

    return Session()


def _protocol(config: ProxyConfig, signal: Signal, endpoint: str) -> str:
    url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    try:
        port = url.port
    except ValueError:
        port = None
    own, shared = map(environment, signal.variables("PROTOCOL"))
    told = (
        (config.otlp_protocol or own or shared) if signal is Signal.TRACES else (own or config.otlp_protocol or shared)
    )
    protocol = told or (GRPC if port == GRPC_PORT else HTTP)
    if protocol not in (HTTP, GRPC):
        raise UsageError(f"the OTLP protocol {protocol!r} is not supported: use {HTTP} or {GRPC}")
    # For gRPC a bare host and port is common in the environment.
    is_configured = endpoint == config.otlp_endpoint
    schemes = ("http", "https", "") if protocol == GRPC and not is_configured else ("http", "https")
    if url.scheme not in schemes or not url.hostname:
        raise UsageError(f"the OTLP endpoint must be a URL such as http://127.0.0.1:4318, not {endpoint!r}")
    return protocol


def _check(target: Target) -> None:
    """Raise UsageError for settings that the exporter could not use, and would fail on or pass over."""
    for name in _FILES:
        variable, path = _told(target.signal, name)
        if path and not os.access(path, os.R_OK):
            raise UsageError(f"{variable}: cannot read {path}")
    variable, timeout = _told(target.signal, "TIMEOUT")
    if timeout and not _is_positive(timeout):
        raise UsageError(f"{variable} must be a positive number of seconds, not {timeout!r}")
    variable, compression = _told(target.signal, "COMPRESSION")
    known = COMPRESSIONS[target.protocol]
    if compression and compression.lower() not in known:
        raise UsageError(f"{variable} must be one of {', '.join(known)} for {target.protocol}, not {compression!r}")


def _told(signal: Signal, name: str) -> tuple[str, str]:
    """The variable that a setting comes from, and its value; both empty when none is set."""
    return next(((one, value) for one in signal.variables(name) if (value := environment(one))), ("", ""))


def _is_positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
