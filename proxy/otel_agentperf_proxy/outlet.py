"""Where the observer's spans go: the store, the export, the access log. And how its own failures are told."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from otel_agentperf import semconv
from otel_agentperf.logs import SPAN_ID, TRACE_ID
from otel_agentperf_proxy.access_log import AccessLog, entry
from otel_agentperf_proxy.calls import Call, trace_of
from otel_agentperf_proxy.clock import WallClock
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.export import create_export
from otel_agentperf_proxy.frames import End, TaskOutcome
from otel_agentperf_proxy.keeping import Keeping
from otel_agentperf_proxy.log_records import Entry
from otel_agentperf_proxy.metrics.meter import Meter
from otel_agentperf_proxy.metrics.slo import judges
from otel_agentperf_proxy.otlp import Signal, find_target
from otel_agentperf_proxy.resource import resource
from otel_agentperf_proxy.shape import shape_key
from otel_agentperf_proxy.spans import FAILED, Spans
from otel_agentperf_proxy.store import SegmentWriter, prepare
from otel_agentperf_proxy.trajectory import Run, ToolSpan

if TYPE_CHECKING:
    from otel_agentperf_proxy.log_export import LogExport

BATCH: Final = 512
"""Spans that are written without waiting for the flush interval."""

BROKEN: Final = frozenset((semconv.Status.ERROR, semconv.Status.TRUNCATED))
"""Statuses of calls that are the reason `error` to keep a run."""

REASON_ERROR: Final = "error"
REASON_SLO_MISS: Final = "slo_miss"

_decode_entry = msgspec.msgpack.Decoder(Entry).decode

logger = logging.getLogger(__name__)


class Failures:
    """Failures of the observer itself: each kind is counted, and said once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def guarded(self, kind: str, action: Callable[..., None], *arguments: object) -> None:
        """Do something; what it raises is noted."""
        try:
            action(*arguments)
        except Exception as exc:
            self.note(kind, exc, next((one for one in arguments if isinstance(one, Call)), None))

    def note(self, kind: str, exc: Exception, call: Call | None = None) -> None:
        """Something failed, with a call that it may concern."""
        name = f"{kind}: {type(exc).__name__}"
        self.counts[name] += 1
        if self.counts[name] == 1:
            of_call = {} if call is None else {TRACE_ID: trace_of(call).hex(), SPAN_ID: call.opened.span_id.hex()}
            logger.error(
                "the observer failed in %s: %s; further failures of the kind are counted only", name, exc, extra=of_call
            )


class Outlet:
    """Makes spans and hands them on; none of this raises.

    Args:
        config: says where spans go.
        clock: anchors monotonic times.
        failures: takes what goes wrong.
        before_write: called before spans are written to the store.

    Raises:
        StoreError: the store cannot be written.
        UsageError: the export cannot be configured.
    """

    def __init__(
        self, config: ProxyConfig, clock: WallClock, failures: Failures, before_write: Callable[[], None]
    ) -> None:
        self.unsampled_runs: set[str] = set()
        """Runs whose client said, in its own context, that they are not sampled."""
        self._clock = clock
        self._failures = failures
        self._before_write = before_write
        self._flush_ns = round(config.flush_interval_s * 1e9)
        of_proxy = resource()
        self._spans = Spans(
            of_proxy,
            clock,
            provider=config.provider,
            shape_key=shape_key(config),
            link_key=bytes.fromhex(config.salt) if config.link_keys else None,
            judges=judges(config.slo),
        )
        self._store = _open_store(config) if config.store else None
        self._export = create_export(config)
        self._keeping = self._create_keeping(config)
        self._reasons = frozenset(config.export_keep)
        self._slow_ns = round(config.export_keep_slower_s * 1e9) if config.export_keep_slower_s is not None else None
        self.meter = Meter(config, of_proxy)
        self._logs = _log_export(config, of_proxy)
        self._access_log = AccessLog() if config.access_log == "json" else None
        self._made = 0
        self._pending: list[ReadableSpan] = []
        self._pending_ns = 0
        """When the first of the spans that wait came."""

    def call(self, call: Call) -> None:
        """An exchange ended, or a call inside one."""
        self._failures.guarded("span", self._call, call)
        if self._access_log is not None and call.connection is None:
            self._failures.guarded("access log", self._log, call)

    def log(self, payload: bytes) -> None:
        """A log record of another process."""
        if self._logs is not None:
            self._logs.take(_decode_entry(payload))

    def orphan(self, end: End, end_ns: int) -> None:
        """An exchange ended of which nothing else is known."""
        self._failures.guarded("span", lambda: self._emit(self._spans.orphan(end, end_ns), sampled=True))
        self.meter.orphan()

    def tool(self, tool: ToolSpan) -> None:
        """A tool's execution ended."""
        self._failures.guarded("span", self._tool, tool)

    def run(self, run: Run) -> None:
        """A run ended."""
        self._failures.guarded("span", self._run, run)
        self.unsampled_runs.discard(run.run_id)

    def outcome(self, told: TaskOutcome, time_ns: int) -> None:
        """The outcome of a task was told; it is in the store when this returns."""
        sampled = self._export is not None and self._export.sampled(told.trajectory_id, None)
        self._emit(self._spans.outcome(told, time_ns), sampled=sampled)
        self.flush()

    def is_due(self, until_ns: int) -> bool:
        """Whether spans wait that are to be written before that time."""
        return bool(self._pending) and until_ns - self._pending_ns >= self._flush_ns

    def flush(self) -> None:
        """Write the spans that wait."""
        self._before_write()
        spans, self._pending = self._pending, []
        if self._store is not None and spans:
            self._failures.guarded("store", self._store.write, spans)

    def tick(self) -> None:
        """Let the store do what time asks for."""
        if self._store is not None:
            self._failures.guarded("store", self._store.tick)

    def close(self) -> None:
        """Write and export everything. Takes seconds at most."""
        self.flush()
        parts = (
            ("store", self._store),
            ("metrics", self.meter),
            ("keeping", self._keeping),
            ("export", self._export),
            ("logs", self._logs),
            ("access log", self._access_log),
        )
        for kind, part in parts:
            if part is not None:
                self._failures.guarded(kind, part.close)

    def stats(self) -> dict[str, Any]:
        """Spans made, and what store, export and access log tell of themselves."""
        return {
            "spans": self._made,
            "store": self._store.stats() if self._store is not None else None,
            "export": self._export.stats() if self._export is not None else None,
            "keeping": self._keeping.stats() if self._keeping is not None else None,
            "metrics": self.meter.stats(),
            "logs": self._logs.stats() if self._logs is not None else None,
            "access_log": self._access_log.stats() if self._access_log is not None else None,
        }

    def _call(self, call: Call) -> None:
        span, sampled = self._spans.call(call), self._call_sampled(call)
        is_reason = call.status in BROKEN and REASON_ERROR in self._reasons
        try:
            has_missed = self.meter.call(call, span, self._is_traceable(sampled or is_reason))
        except Exception as exc:
            self._failures.note("metrics", exc, call)
        else:
            is_reason = is_reason or (has_missed and REASON_SLO_MISS in self._reasons)
        declined = call.opened.parent_span_id is not None and not call.opened.sampled
        run = call.placement.run if call.placement is not None and not declined else None
        self._emit(span, sampled=sampled or (is_reason and run is None and not declined), run=run, is_reason=is_reason)
        if self._logs is not None and call.status in FAILED:
            self._failures.guarded("log", self._log_failure, call, span)

    def _log_failure(self, call: Call, span: ReadableSpan) -> None:
        assert self._logs is not None
        assert span.context is not None
        self._logs.failed_call(call, span.context.trace_id, span.context.span_id, span.end_time or 0)

    def _tool(self, tool: ToolSpan) -> None:
        span, sampled = self._spans.tool(tool), self._run_sampled(tool.run)
        self._emit(span, sampled=sampled, run=self._open_to_keep(tool.run))
        self._failures.guarded("metrics", self.meter.tool, tool, span, self._is_traceable(sampled))

    def _run(self, run: Run) -> None:
        span, sampled = self._spans.run(run), self._run_sampled(run)
        is_slow = self._slow_ns is not None and run.last_activity_ns - run.started_ns >= self._slow_ns
        self._emit(span, sampled=sampled, run=self._open_to_keep(run), is_reason=is_slow)
        if self._keeping is not None:
            self._keeping.end(run.run_id)
        self._failures.guarded("metrics", self.meter.run, run, span, self._is_traceable(sampled))

    def _is_traceable(self, sampled: bool) -> bool:
        """Whether a span can be looked up where its trace would be looked for."""
        return sampled if self._export is not None else self._store is not None

    def _log(self, call: Call) -> None:
        assert self._access_log is not None
        self._access_log.write(entry(call, self._clock.unix_ns(call.t0_ns)))

    def _emit(self, span: ReadableSpan, *, sampled: bool, run: Run | None = None, is_reason: bool = False) -> None:
        """Hand a span on.

        Args:
            span: to be stored, and exported if it is sampled.
            sampled: what the sampler says.
            run: that the span is of, where it may be exported although it is not sampled.
            is_reason: it says that its whole run is to be exported.
        """
        self._made += 1
        if self._export is not None:
            if sampled or run is None or self._keeping is None:
                self._export.export(span, sampled=sampled)
            else:
                self._keeping.add(run.run_id, span, is_reason=is_reason)
        if self._store is not None:
            if not self._pending:
                self._pending_ns = monotonic_ns()
            self._pending.append(span)
            if len(self._pending) >= BATCH:
                self.flush()

    def _create_keeping(self, config: ProxyConfig) -> Keeping | None:
        export = self._export
        if export is None or not (config.export_keep or config.export_keep_slower_s is not None):
            return None
        return Keeping(lambda span, sampled: export.export(span, sampled=sampled))

    def _open_to_keep(self, run: Run) -> Run | None:
        """The run, unless its client said that it is not sampled."""
        return run if run.run_id not in self.unsampled_runs else None

    def _call_sampled(self, call: Call) -> bool:
        if self._export is None:
            return False
        opened = call.opened
        key = call.placement.run.trajectory_id if call.placement is not None else opened.trace_id.hex()
        return self._export.sampled(key, opened.sampled if opened.parent_span_id is not None else None)

    def _run_sampled(self, run: Run) -> bool:
        if self._export is None:
            return False
        parent_sampled = run.run_id not in self.unsampled_runs if run.parent_span_id is not None else None
        return self._export.sampled(run.trajectory_id, parent_sampled)


def _log_export(config: ProxyConfig, of_proxy: Resource) -> "LogExport | None":
    target = find_target(config, Signal.LOGS)
    if target is None:
        return None
    # The SDK's logs take their time to load.
    from otel_agentperf_proxy.log_export import LogExport

    return LogExport(target, of_proxy)


def _open_store(config: ProxyConfig) -> SegmentWriter:
    directory = Path(config.store or "")
    prepare(directory)
    return SegmentWriter(
        directory,
        rotate_bytes=config.store_rotate_bytes,
        rotate_s=config.store_rotate_s,
        max_bytes=config.store_max_bytes,
        max_age_s=config.store_max_age_s,
    )
