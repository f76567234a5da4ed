"""Numbers by attributes, bounded: what the observer counts into, and what is told of it.

An observation is a few additions on objects that were looked up before, because the observer makes some twenty of them
for each call. Not thread-safe.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, cast

import msgspec
from opentelemetry.trace import SpanContext

from otel_agentperf.instruments import LIMITS, MAX_SERIES, OTHER, Instrument, Kind
from otel_agentperf_proxy.attributes import text

MAX_CHARS: Final = 128
"""Of an attribute's value that a client or a server chose."""

SERIES: Final = "series"
"""What has no room, where it is the combination of values."""

Values = tuple[str, ...]
"""Of an instrument's attributes, in their order; empty for those that are not set."""


class Exemplar(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A measurement in a bucket, and the span that it was taken on."""

    value: float
    trace_id: bytes
    span_id: bytes
    unix_ns: int


class Point(msgspec.Struct, array_like=True):
    """What was counted for one combination of values."""

    values: Values
    value: float = 0
    """Of histograms the sum of all measurements."""
    counts: tuple[int, ...] = ()
    """Of histograms: measurements in each bucket, the infinite one last; not cumulative."""
    exemplars: tuple[Exemplar | None, ...] = ()
    """Of histograms: the latest one of each bucket; empty when there is none at all."""


class Family(msgspec.Struct, array_like=True):
    """All points of an instrument."""

    name: str
    points: list[Point]


class Number:
    """A sum."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def point(self, values: Values) -> Point:
        return Point(values, self.value)


Moment = tuple[SpanContext, int]
"""The span that a measurement was taken on, and when (Unix nanoseconds)."""


class Histogram:
    """Measurements by bucket."""

    __slots__ = ("bounds", "counts", "moments", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.moments: list[tuple[float, Moment] | None] = []
        """The latest measurement of each bucket that an exemplar can be made of; empty when there is none at all."""
        self.sum: float = 0

    def observe(self, value: float, moment: Moment | None = None) -> None:
        """Take a measurement, in the instrument's unit; with the moment, it may become an exemplar."""
        at = bisect_left(self.bounds, value)
        self.counts[at] += 1
        self.sum += value
        if moment is not None:
            if not self.moments:
                self.moments = [None] * len(self.counts)
            self.moments[at] = (value, moment)

    def observe_sorted(self, values: Sequence[float], unit: float) -> None:
        """Take many measurements in ascending order; `unit` is how many of theirs are one of the instrument's."""
        before = 0
        for at, bound in enumerate(self.bounds):
            if before == len(values):
                break
            until = bisect_right(values, bound * unit, before)
            self.counts[at] += until - before
            before = until
        self.counts[-1] += len(values) - before
        self.sum += sum(values) / unit

    def point(self, values: Values) -> Point:
        exemplars = tuple([_exemplar(*one) if one is not None else None for one in self.moments])
        return Point(values, self.sum, tuple(self.counts), exemplars)


class Registry:
    """The series of all instruments, and which values of attributes are told apart (`instruments.LIMITS`)."""

    def __init__(self) -> None:
        self.overflows: Counter[str] = Counter()
        """Values that had no room, by attribute, or `SERIES`."""
        self._known: dict[str, dict[object, str]] = {name: {} for name in LIMITS}
        self._tables: defaultdict[str, dict[Values, Number | Histogram]] = defaultdict(dict)

    def admit(self, name: str, value: object, *, trusted: bool = True) -> str:
        """The value as it stands on metrics.

        Args:
            name: of the attribute.
            value: None where the attribute is not set.
            trusted: False for what anybody may have made up, as the model of a call that failed: such values leave
                half of the room to others.
        """
        if value is None or value == "":
            return ""
        known = self._known.get(name)
        if known is not None and (found := known.get(value)) is not None:
            return found
        told = text(str(value))[:MAX_CHARS]
        if known is None or told in known:
            return told
        if len(known) >= (LIMITS[name] if trusted else LIMITS[name] // 2):
            self.overflows[name] += 1
            return OTHER
        known[told] = told
        return told

    def number(self, instrument: Instrument, values: Values) -> Number:
        """The sum for these values of the instrument's attributes."""
        found = self._tables[instrument.name].get(values)
        return cast("Number", found or self._make(instrument, values))

    def histogram(self, instrument: Instrument, values: Values) -> Histogram:
        """The histogram for these values of the instrument's attributes."""
        found = self._tables[instrument.name].get(values)
        return cast("Histogram", found or self._make(instrument, values))

    def zero(self, instrument: Instrument) -> None:
        """Begin to count anew what is there now; the series stay."""
        for one in self._tables[instrument.name].values():
            cast("Number", one).value = 0

    def family(self, instrument: Instrument) -> Family:
        """What was counted of an instrument."""
        table = self._tables.get(instrument.name, {})
        return Family(instrument.name, [one.point(values) for values, one in table.items()])

    def _make(self, instrument: Instrument, values: Values) -> Number | Histogram:
        table = self._tables[instrument.name]
        if len(table) >= MAX_SERIES:
            self.overflows[SERIES] += 1
            named = zip(instrument.attributes, values, strict=True)
            values = tuple([OTHER if value and name in LIMITS else value for name, value in named])
            if (found := table.get(values)) is not None:
                return found
        made = table[values] = Histogram(instrument.buckets) if instrument.kind is Kind.HISTOGRAM else Number()
        return made


def _exemplar(value: float, moment: Moment) -> Exemplar:
    context, unix_ns = moment
    return Exemplar(value, context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"), unix_ns)
