"""Metrics as Prometheus reads them: its text format, or OpenMetrics with exemplars, as the reader asks for."""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from otel_agentperf.instruments import Instrument, Kind, prometheus_label
from otel_agentperf_proxy.metrics.families import instrument_of
from otel_agentperf_proxy.metrics.series import Exemplar, Family, Point

_le: Callable[[float], str] = floatToGoString


def exposition(families: Iterable[Family], accept: str) -> tuple[bytes, str]:
    """The text and its content type.

    Args:
        families: each instrument at most once.
        accept: the request's header field.
    """
    registry = CollectorRegistry()
    registry.register(_Told(families))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Told(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            if family.points:
                yield _metric(instrument_of(family), family.points)


def _metric(instrument: Instrument, points: Iterable[Point]) -> Metric:
    labels = [prometheus_label(name) for name in instrument.attributes]
    name, text = instrument.prometheus_name, instrument.description
    if instrument.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, text, labels=labels)
        bounds = [_le(bound) for bound in (*instrument.buckets, float("inf"))]
        for point in points:
            exemplars = point.exemplars or (None,) * len(bounds)
            rows = zip(bounds, accumulate(point.counts), exemplars, strict=True)
            histogram.add_metric(point.values, buckets=[_bucket(*row) for row in rows], sum_value=point.value)
        return histogram
    kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(name, text, labels=labels)
    for point in points:
        family.add_metric(point.values, point.value)
    return family


def _bucket(
    le: str, count: int, exemplar: Exemplar | None
) -> tuple[str, float] | tuple[str, float, PrometheusExemplar]:
    if exemplar is None:
        return le, count
    ids = {"trace_id": exemplar.trace_id.hex(), "span_id": exemplar.span_id.hex()}
    return le, count, PrometheusExemplar(ids, exemplar.value, exemplar.unix_ns / 1e9)
