"""OTLP export: the official exporters behind a batch processor, on only when an endpoint is configured.

The standard OTEL_* variables are the SDK's to read. Whatever a collector does, nothing here blocks: the queue is
bounded, what does not fit is dropped and counted, and the end of the process waits a few seconds at most.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import xxhash
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.config import ProxyConfig

OTEL_TRACES_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
"""Standard, but no constant of the SDK."""

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
GRPC_PORT: Final = 4317
TRACES_PATH: Final = "/v1/traces"

DEFAULT_QUEUE: Final = 8192
"""Spans that may wait for export, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise; the SDK's 2048 are one busy second."""

WARN_S: Final = 60.0
"""How often an export that is behind says so: against a dead collector the queue is full every other moment."""

_EXPORTER_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Where spans are exported to, and how."""

    endpoint: str
    protocol: str
    configured: bool
    """Named by the configuration; else the SDK reads it from its variables again, with all that belongs to it."""

    @property
    def address(self) -> str:
        """Host and port, without what may be secret in a URL."""
        url = urlsplit(self.endpoint if "://" in self.endpoint else f"//{self.endpoint}")
        return f"{url.hostname}:{url.port}" if url.port else str(url.hostname)


def find_target(config: ProxyConfig) -> Target | None:
    """The export that the configuration and the environment ask for; None when they ask for none.

    Raises:
        UsageError: the endpoint or the protocol cannot be used.
    """
    if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return None
    exporters = {name.strip() for name in os.environ.get(OTEL_TRACES_EXPORTER, "otlp").split(",")}
    if config.otlp_endpoint is None and "otlp" not in exporters:
        return None
    told = config.otlp_endpoint or _environment(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT)
    if told is None:
        return None
    url = urlsplit(told if "://" in told else f"//{told}")
    try:
        port = url.port
    except ValueError:
        port = None
    protocol = (
        config.otlp_protocol
        or _environment(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL)
        or (GRPC if port == GRPC_PORT else HTTP)
    )
    if protocol not in (HTTP, GRPC):
        raise UsageError(f"the OTLP protocol {protocol!r} is not supported: use {HTTP} or {GRPC}")
    # For gRPC a bare host and port is common in the environment.
    schemes = ("http", "https", "") if protocol == GRPC and config.otlp_endpoint is None else ("http", "https")
    if url.scheme not in schemes or not url.hostname:
        raise UsageError(f"the OTLP endpoint must be a URL such as http://127.0.0.1:4318, not {told!r}")
    return Target(told, protocol, configured=config.otlp_endpoint is not None)


def create_export(config: ProxyConfig) -> "Export | None":
    """Start the export of `find_target`. Raises UsageError as that does."""
    target = find_target(config)
    return Export(_exporter(target), endpoint=target.address) if target is not None else None


def _environment(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)


def _exporter(target: Target) -> SpanExporter:
    """The official exporter."""
    endpoint = target.endpoint if target.configured else None
    if target.protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GRPCExporter

        return GRPCExporter(endpoint=endpoint)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPExporter

    if endpoint is not None and not endpoint.rstrip("/").endswith(TRACES_PATH):
        endpoint = endpoint.rstrip("/") + TRACES_PATH
    return HTTPExporter(endpoint=endpoint)


class _Counted(SpanExporter):
    """Counts what an exporter does, and says once when it begins to fail and once when it works again.

    The exporters log every failed attempt; while ours exports, that goes into the one warning instead.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._mine = threading.local()
        self._reason = ""
        self._failing = self._closed = False
        self.taken = 0
        """Spans that left the queue."""
        self.exported = 0
        self.failed = 0
        for name in _EXPORTER_LOGGERS:
            logging.getLogger(name).addFilter(self._overhear)

    @property
    def failing(self) -> str | None:
        """Why the last batch could not be exported."""
        return self._reason if self._failing else None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        self._mine.exporting = True
        try:
            result = self._exporter.export(spans)
        except Exception as exc:
            self._reason = f"{type(exc).__name__}: {exc}"
            result = SpanExportResult.FAILURE
        finally:
            self._mine.exporting = False
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
            if self._failing:
                logger.warning("the export to %s works again; %d spans were not exported", self._endpoint, self.failed)
            self._failing = False
        else:
            self.failed += len(spans)
            if not self._failing:
                logger.warning("cannot export to %s: %s; the store keeps all spans", self._endpoint, self._reason)
            self._failing = True
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def release(self) -> None:
        """No export is under way any more."""
        for name in _EXPORTER_LOGGERS:
            logging.getLogger(name).removeFilter(self._overhear)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _overhear(self, record: logging.LogRecord) -> bool:
        if not getattr(self._mine, "exporting", False):
            return True
        self._reason = record.getMessage()
        return False


class Export:
    """Spans on their way to a collector. `export` is for one thread.

    Args:
        exporter: sends batches.
        endpoint: named in messages.
        sampler: decides by trajectory; None takes what OTEL_TRACES_SAMPLER says.
    """

    def __init__(self, exporter: SpanExporter, *, endpoint: str, sampler: Sampler | None = None) -> None:
        self._counted = _Counted(exporter, endpoint)
        self._sampler = sampler or TracerProvider(shutdown_on_exit=False).sampler
        self._queue_size = _size(OTEL_BSP_MAX_QUEUE_SIZE, DEFAULT_QUEUE)
        batch_size = min(_size(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, 512), self._queue_size)
        self._processor = BatchSpanProcessor(
            self._counted, max_queue_size=self._queue_size, max_export_batch_size=batch_size
        )
        self._offered = self._dropped = self._unsampled = 0
        self._quiet_until_s = 0.0
        self._closed = False

    def sampled(self, key: str, parent_sampled: bool | None) -> bool:
        """Whether spans of a trajectory are exported.

        Args:
            key: the trajectory's id, or the trace of a call that belongs to none.
            parent_sampled: what the client's `traceparent` says; None without one.
        """
        number = xxhash.xxh3_128_intdigest(key.encode("utf-8", "replace")) or 1
        context = None
        if parent_sampled is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if parent_sampled else TraceFlags.DEFAULT)
            context = set_span_in_context(NonRecordingSpan(SpanContext(number, 1, True, flags)))
        return self._sampler.should_sample(context, number, "").decision is Decision.RECORD_AND_SAMPLE

    def export(self, span: ReadableSpan, *, sampled: bool) -> None:
        """Queue a span for export."""
        if not sampled:
            self._unsampled += 1
            return
        # The SDK's queue drops the oldest one and logs each time; it never gets to that.
        if self._offered - self._counted.taken >= self._queue_size:
            self._dropped += 1
            if monotonic() >= self._quiet_until_s:
                logger.warning("the export is behind: spans are dropped from it; the store keeps all")
                self._quiet_until_s = monotonic() + WARN_S
            return
        self._offered += 1
        self._processor.on_end(span)

    def stats(self) -> dict[str, Any]:
        """Counts since the start; `failing` says why the last batch could not be exported."""
        return {
            "spans_exported": self._counted.exported,
            "spans_failed": self._counted.failed,
            "spans_dropped": self._dropped,
            "spans_unsampled": self._unsampled,
            "spans_waiting": self._offered - self._counted.taken,
            "failing": self._counted.failing,
        }

    def close(self, timeout_s: float = 5.0) -> None:
        """Export what waits, within a time limit; what is left then is counted as dropped."""
        if self._closed:
            return
        self._closed = True
        # The processor waits up to half a minute for an exporter that waits for its collector.
        closing = threading.Thread(target=self._processor.shutdown, name="export-shutdown", daemon=True)
        closing.start()
        closing.join(timeout_s)
        if not closing.is_alive():
            self._counted.release()
        else:
            with contextlib.suppress(Exception):
                self._counted.shutdown()
            waiting = self._offered - self._counted.exported - self._counted.failed
            logger.warning("the export was given up: %d spans were not exported; the store keeps all", waiting)
            self._dropped += self._offered - self._counted.taken
            self._offered = self._counted.taken


def _size(name: str, default: int) -> int:
    value = os.environ.get(name, "").strip()
    return int(value) if value.isascii() and value.isdigit() and int(value) > 0 else default
