"""Metrics on their way to a collector: at intervals, by a thread of their own."""

import contextlib
import logging
import threading
from collections.abc import Sequence
from time import monotonic_ns, time_ns
from typing import Any, Final

from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource

from otel_agentperf_proxy.metrics.otlp import Converter
from otel_agentperf_proxy.metrics.series import Family
from otel_agentperf_proxy.otlp import Overhearing, Signal, Target, create_exporter, interval_ns

UNSUPPORTED: Final = ("404", "UNIMPLEMENTED")
"""What collectors say that take no metrics, in the words of the exporters."""

logger = logging.getLogger(__name__)


class Push:
    """Sends what `offer` gives. The latest offer counts: what is told are sums, so nothing is lost with one that waits.

    Args:
        target: where to, and how.
        resource: of the proxy.
    """

    def __init__(self, target: Target, resource: Resource) -> None:
        self.exports = self.failed = 0
        self._exporter = exporter = create_exporter(target)
        self._endpoint = target.address
        self._overhearing = Overhearing(Signal.METRICS)
        # As the SDK's own readers do.
        self._converter = Converter(resource, exporter._preferred_temporality, start_ns=time_ns())
        self._interval_ns = interval_ns()
        self._due_ns = monotonic_ns() + self._interval_ns
        self._failing = self._closing = False
        self._offered: Sequence[Family] | None = None
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._send_all, name="metrics-export", daemon=True)
        self._thread.start()

    def is_due(self, now_ns: int) -> bool:
        """Whether the next export is to be offered; says so once."""
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + self._interval_ns
        return True

    def offer(self, families: Sequence[Family]) -> None:
        """Export this; never waits."""
        with self._came:
            self._offered = families
            self._came.notify()

    def stats(self) -> dict[str, Any]:
        """Exports since the start; `failing` says why the last one failed."""
        return {
            "exports": self.exports,
            "failed": self.failed,
            "failing": self._overhearing.reason if self._failing else None,
        }

    def close(self, timeout_s: float = 5.0) -> None:
        """Export what was offered, within a time limit."""
        with self._came:
            self._closing = True
            self._came.notify()
        self._thread.join(timeout_s)
        with contextlib.suppress(Exception):
            self._exporter.shutdown()
        if not self._thread.is_alive():
            self._overhearing.release()

    def _send_all(self) -> None:
        while True:
            with self._came:
                self._came.wait_for(lambda: self._offered is not None or self._closing)
                families, self._offered = self._offered, None
            if families is None:
                return
            self._send(families)

    def _send(self, families: Sequence[Family]) -> None:
        overhearing = self._overhearing
        try:
            with overhearing.listen():
                result = self._exporter.export(self._converter.convert(families, time_ns()))
        except Exception as exc:
            overhearing.reason = f"{type(exc).__name__}: {exc}"
            result = MetricExportResult.FAILURE
        if result is MetricExportResult.SUCCESS:
            self.exports += 1
            if self._failing:
                logger.warning("the export of metrics to %s works again", self._endpoint)
            self._failing = False
            return
        self.failed += 1
        if not self._failing:
            if any(word in overhearing.reason for word in UNSUPPORTED):
                logger.warning(
                    "%s takes no metrics; OTEL_METRICS_EXPORTER=none sends it none (/metrics has them all)",
                    self._endpoint,
                )
            else:
                logger.warning("cannot export metrics to %s: %s", self._endpoint, overhearing.reason)
        self._failing = True
