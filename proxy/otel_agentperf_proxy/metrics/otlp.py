"""Metrics as the SDK's data model, for the official exporters to send."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.metrics import Counter, Exemplar, Histogram, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_agentperf import __version__, semconv
from otel_agentperf.instruments import Instrument, Kind
from otel_agentperf_proxy.metrics.families import instrument_of
from otel_agentperf_proxy.metrics.series import Family, Point

SCOPE: Final = InstrumentationScope(semconv.SCOPE_NAME, __version__, semconv.SCHEMA_URL)

Temporalities = Mapping[type, AggregationTemporality]
"""By the SDK's class of the instrument."""

_CLASSES: Final = {Kind.COUNTER: Counter, Kind.UP_DOWN: UpDownCounter, Kind.HISTOGRAM: Histogram}

_INTEGERS: Final = frozenset((semconv.SERVER_PORT, semconv.HTTP_RESPONSE_STATUS_CODE))
_BOOLEANS: Final = frozenset((semconv.SLO_MET,))


class _Told(NamedTuple):
    """What was told of a series last."""

    start_ns: int
    time_ns: int
    value: float
    counts: tuple[int, ...]


class Converter:
    """Turns what was counted since the start into what is sent. For one exporter and one thread.

    Args:
        resource: of the proxy.
        temporalities: what the exporter prefers: sums since the start, or since the last time.
        start_ns: Unix nanoseconds since when is counted.
    """

    def __init__(self, resource: Resource, temporalities: Temporalities, *, start_ns: int) -> None:
        self._resource = resource
        self._temporalities = temporalities
        self._start_ns = start_ns
        self._last: dict[tuple[str, tuple[str, ...]], _Told] = {}
        self._last_ns = start_ns

    def convert(self, families: Iterable[Family], now_ns: int) -> MetricsData:
        """The metrics as of now (Unix nanoseconds).

        A sum that became smaller began anew, as that of a relay that was replaced.
        """
        metrics = [self._metric(instrument_of(family), family, now_ns) for family in families if family.points]
        self._last_ns = now_ns
        scope = ScopeMetrics(SCOPE, metrics, semconv.SCHEMA_URL)
        return MetricsData([ResourceMetrics(self._resource, [scope], self._resource.schema_url)])

    def _metric(self, instrument: Instrument, family: Family, now_ns: int) -> Metric:
        data: Any
        if instrument.kind is Kind.GAUGE:
            data = Gauge([self._number(instrument, point, now_ns, now_ns) for point in family.points])
        else:
            # Of a number that is there now the SDKs tell no differences, unless they are asked for it.
            temporality = self._temporalities.get(_CLASSES[instrument.kind], AggregationTemporality.CUMULATIVE)
            is_delta = temporality is AggregationTemporality.DELTA
            points = [self._since(instrument, point, now_ns, is_delta=is_delta) for point in family.points]
            if instrument.kind is Kind.HISTOGRAM:
                data = HistogramData([self._histogram(instrument, *one, now_ns) for one in points], temporality)
            else:
                numbers = [self._number(instrument, point, start_ns, now_ns) for point, start_ns in points]
                data = Sum(numbers, temporality, instrument.kind is Kind.COUNTER)
        return Metric(instrument.name, instrument.description, instrument.unit, data)

    def _since(self, instrument: Instrument, point: Point, now_ns: int, *, is_delta: bool) -> tuple[Point, int]:
        """A point, or its difference from the last time, and since when that is counted."""
        key = (instrument.name, point.values)
        last = self._last.get(key)
        if last is not None and instrument.kind is not Kind.UP_DOWN and _has_shrunk(last, point):
            last = _Told(last.time_ns, last.time_ns, 0, ())
        start_ns = last.start_ns if last is not None else self._start_ns
        self._last[key] = _Told(start_ns, now_ns, point.value, point.counts)
        if not is_delta:
            return point, start_ns
        if last is None:
            return point, self._last_ns
        counts = point.counts
        if last.counts:
            counts = tuple([now - before for now, before in zip(counts, last.counts, strict=True)])
        return Point(point.values, point.value - last.value, counts, point.exemplars), last.time_ns

    def _number(self, instrument: Instrument, point: Point, start_ns: int, now_ns: int) -> NumberDataPoint:
        return NumberDataPoint(_attributes(instrument, point), start_ns, now_ns, point.value)

    def _histogram(self, instrument: Instrument, point: Point, start_ns: int, now_ns: int) -> HistogramDataPoint:
        unknown: Any = None
        return HistogramDataPoint(
            attributes=_attributes(instrument, point),
            start_time_unix_nano=start_ns,
            time_unix_nano=now_ns,
            count=sum(point.counts),
            sum=point.value,
            bucket_counts=point.counts,
            explicit_bounds=instrument.buckets,
            min=unknown,
            max=unknown,
            exemplars=[
                Exemplar(
                    {},
                    exemplar.value,
                    exemplar.unix_ns,
                    int.from_bytes(exemplar.span_id, "big"),
                    int.from_bytes(exemplar.trace_id, "big"),
                )
                for exemplar in point.exemplars
                # Those that came since the last time.
                if exemplar is not None and exemplar.unix_ns > self._last_ns
            ],
        )


def _has_shrunk(last: _Told, point: Point) -> bool:
    return point.value < last.value or any(
        now < before for now, before in zip(point.counts, last.counts, strict=bool(point.counts and last.counts))
    )


def _attributes(instrument: Instrument, point: Point) -> dict[str, str | bool | int]:
    return {name: _typed(name, value) for name, value in zip(instrument.attributes, point.values, strict=True) if value}


def _typed(name: str, value: str) -> str | bool | int:
    if name in _BOOLEANS:
        return value == "true"
    return int(value) if name in _INTEGERS and value.isdecimal() else value
