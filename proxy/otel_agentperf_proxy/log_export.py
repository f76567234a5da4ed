"""The proxy's own log by OTLP, and a record of each call that failed, with the ids of its span."""

import contextlib
import logging
from collections.abc import Sequence
from time import time_ns
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.environment_variables import OTEL_BLRP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags

from otel_agentperf import __version__, semconv
from otel_agentperf_proxy.attributes import Attributes, clean, put
from otel_agentperf_proxy.calls import Call
from otel_agentperf_proxy.log_records import Entry, attach, detach, entry
from otel_agentperf_proxy.otlp import Overhearing, Signal, Target, create_exporter, environment

DEFAULT_QUEUE: Final = 2048

SCOPE: Final = InstrumentationScope(semconv.SCOPE_NAME, __version__)

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)

logger = logging.getLogger(__name__)


class _Counted(LogRecordExporter):
    """Counts what an exporter does, and says once when it begins to fail."""

    def __init__(self, exporter: LogRecordExporter, endpoint: str) -> None:
        self._exporter: Any = exporter
        self._endpoint = endpoint
        self._overhearing = Overhearing(Signal.LOGS)
        self._failing = False
        self.taken = self.exported = self.failed = 0

    @property
    def failing(self) -> str | None:
        return self._overhearing.reason if self._failing else None

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        self.taken += len(batch)
        overhearing = self._overhearing
        try:
            with overhearing.listen():
                result: LogRecordExportResult = self._exporter.export(batch)
        except Exception as exc:
            overhearing.reason = f"{type(exc).__name__}: {exc}"
            result = LogRecordExportResult.FAILURE
        if result is LogRecordExportResult.SUCCESS:
            self.exported += len(batch)
            self._failing = False
            return result
        self.failed += len(batch)
        if not self._failing:
            self._failing = True
            logger.warning("cannot export logs to %s: %s", self._endpoint, overhearing.reason)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        self._overhearing.release()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))


class LogExport(logging.Handler):
    """Log records on their way to a collector; as a handler, those of this process.

    Args:
        target: where to, and how.
        resource: of the proxy.
    """

    def __init__(self, target: Target, resource: Resource) -> None:
        super().__init__()
        self._counted = _Counted(create_exporter(target), target.address)
        self._resource = resource
        told = environment(OTEL_BLRP_MAX_QUEUE_SIZE)
        self._queue_size = int(told) if told.isascii() and told.isdecimal() and int(told) > 0 else DEFAULT_QUEUE
        self._processor: Any = BatchLogRecordProcessor(self._counted, max_queue_size=self._queue_size)
        self._offered = self._dropped = 0
        attach(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Export a record of this process."""
        self.take(entry(record))

    def take(self, told: Entry) -> None:
        """Export a record of some process of the proxy."""
        attributes: Attributes = {semconv.LOGGER_NAME: told.logger, semconv.PROCESS_PID: told.process_id}
        put(attributes, semconv.EXCEPTION_STACKTRACE, told.exception)
        self._export(
            told.unix_ns,
            _severity(told.level),
            told.message,
            attributes,
            int(told.trace_id, 16) if told.trace_id else None,
            int(told.span_id, 16) if told.span_id else None,
        )

    def failed_call(self, call: Call, trace_id: int, span_id: int, unix_ns: int) -> None:
        """Export a record of a call that ended badly.

        Args:
            call: ended.
            trace_id: of its span.
            span_id: of its span.
            unix_ns: wall-clock time of its end.
        """
        opened, placement, request = call.opened, call.placement, call.request
        status = call.http_status
        attributes: Attributes = {
            semconv.HTTP_REQUEST_METHOD: opened.method,
            semconv.URL_PATH: opened.path,
            semconv.SERVER_ADDRESS: opened.server_address,
            semconv.SERVER_PORT: opened.server_port,
            semconv.STATUS: call.status,
            semconv.REQUEST_ID: call.request_id,
        }
        put(attributes, semconv.HTTP_RESPONSE_STATUS_CODE, status)
        put(attributes, semconv.ERROR_TYPE, call.error_type)
        if request is not None:
            put(attributes, semconv.GEN_AI_REQUEST_MODEL, request.model)
        if placement is not None:
            attributes[semconv.TRAJECTORY_ID] = placement.run.trajectory_id
            put(attributes, semconv.GEN_AI_AGENT_NAME, placement.run.agent_name)
        # Whom a client has to thank for its own mistakes, or for leaving, is the client.
        is_clients = call.status == semconv.Status.CANCELLED or (status is not None and 400 <= status < 500)
        severity = SeverityNumber.WARN if is_clients else SeverityNumber.ERROR
        answer = f" with {status}" if status is not None else ""
        message = f"{opened.method} {opened.path} ended{answer}: {call.error_type or call.status}"
        self._export(unix_ns, severity, message, attributes, trace_id, span_id)

    def stats(self) -> dict[str, Any]:
        """Counts since the start; `failing` says why the last batch could not be exported."""
        return {
            "records_exported": self._counted.exported,
            "records_dropped": self._dropped + self._counted.failed,
            "records_waiting": self._offered - self._counted.taken,
            "failing": self._counted.failing,
        }

    def close(self) -> None:
        """Export what waits, within seconds."""
        detach(self)
        with contextlib.suppress(Exception):
            self._processor.shutdown()
        super().close()

    def _export(
        self,
        unix_ns: int,
        severity: SeverityNumber,
        message: str,
        attributes: Attributes,
        trace_id: int | None,
        span_id: int | None,
    ) -> None:
        # The SDK's queue drops the oldest one and logs each time; it never gets to that.
        if self._offered - self._counted.taken >= self._queue_size:
            self._dropped += 1
            return
        self._offered += 1
        record = LogRecord(
            timestamp=unix_ns,
            observed_timestamp=time_ns(),
            trace_id=trace_id,
            span_id=span_id,
            trace_flags=_SAMPLED if trace_id is not None else None,
            severity_text=severity.name,
            severity_number=severity,
            body=message,
            attributes=clean(attributes),
        )
        self._processor.on_emit(ReadWriteLogRecord(record, self._resource, SCOPE))


def _severity(level: int) -> SeverityNumber:
    if level >= logging.CRITICAL:
        return SeverityNumber.FATAL
    if level >= logging.ERROR:
        return SeverityNumber.ERROR
    if level >= logging.WARNING:
        return SeverityNumber.WARN
    return SeverityNumber.INFO if level >= logging.INFO else SeverityNumber.DEBUG
