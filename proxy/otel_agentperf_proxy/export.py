"""The export of spans by OTLP: the official exporter behind a batch processor, on only when an endpoint is configured.

The standard OTEL_* variables are the SDK's to read. Whatever a collector does, nothing here blocks: the queue is
bounded, what does not fit is dropped and counted, and the end of the process waits a few seconds at most.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

import xxhash
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.otlp import Overhearing, Signal, create_exporter, find_target

DEFAULT_QUEUE: Final = 8192
"""Spans that may wait for export, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise; the SDK's 2048 are one busy second."""

WARN_S: Final = 60.0
"""How often an export that is behind says so: against a dead collector the queue is full every other moment."""

logger = logging.getLogger(__name__)


def create_export(config: ProxyConfig) -> "Export | None":
    """Start the export of spans that is asked for. Raises UsageError as `find_target` does."""
    target = find_target(config)
    return Export(create_exporter(target), endpoint=target.address) if target is not None else None


class _Counted(SpanExporter):
    """Counts what an exporter does, and says once when it begins to fail and once when it works again."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._overhearing = Overhearing(Signal.TRACES)
        self._failing = self._closed = False
        self.taken = 0
        """Spans that left the queue."""
        self.exported = 0
        self.failed = 0

    @property
    def failing(self) -> str | None:
        """Why the last batch could not be exported."""
        return self._overhearing.reason if self._failing else None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        overhearing = self._overhearing
        try:
            with overhearing.listen():
                result = self._exporter.export(spans)
        except Exception as exc:
            overhearing.reason = f"{type(exc).__name__}: {exc}"
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
            if self._failing:
                logger.warning("the export to %s works again; %d spans were not exported", self._endpoint, self.failed)
            self._failing = False
        else:
            self.failed += len(spans)
            if not self._failing:
                logger.warning("cannot export to %s: %s; the store keeps all spans", self._endpoint, overhearing.reason)
            self._failing = True
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def release(self) -> None:
        """No export is under way any more."""
        self._overhearing.release()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


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
