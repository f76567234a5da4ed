"""What the processes tell of themselves, and what the observer counted, under the names of the instruments."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from otel_agentperf import __version__, semconv
from otel_agentperf import instruments as metric
from otel_agentperf.instruments import Generation, Instrument
from otel_agentperf_proxy.metrics.series import Family, Point
from otel_agentperf_proxy.metrics.slo import ERROR_RATE, Judge

_OPERATION: Final = 0
"""Where the operation stands among the values of calls."""

_RENAMED: Final = {
    metric.CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK.name: metric.CLIENT_OPERATION_TIME_TO_FIRST_CHUNK,
    metric.CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK.name: metric.CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK,
}
"""Of the new generation to the old."""

_TOKEN_TYPES: Final = {
    metric.CLIENT_INFERENCE_OPERATION_INPUT_TOKENS.name: "input",
    metric.CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS.name: "output",
}

_RELAY_TABLES: Final = {
    "outcomes": metric.PROXY_EXCHANGES,
    "statuses": metric.PROXY_RESPONSES,
    "errors": metric.PROXY_ERRORS,
    "usage": metric.PROXY_USAGE_CHUNKS,
}
"""Counts of a relay by some name."""

_RELAY_VALUES: Final = {"inflight": metric.PROXY_EXCHANGES_INFLIGHT, "tunnels": metric.PROXY_WEBSOCKETS_OPEN}

_CHANNEL_VALUES: Final = {
    "frames": metric.CHANNEL_FRAMES,
    "frames_dropped": metric.CHANNEL_FRAMES_DROPPED,
    "calls_lost": metric.CHANNEL_CALLS_LOST,
    "waiting_bytes": metric.CHANNEL_WAITING,
}

_OBSERVER_TABLES: Final = {"problems": metric.UNREADABLE_BODIES, "errors": metric.OBSERVER_ERRORS}

_OBSERVER_VALUES: Final = {
    "spans": metric.SPANS,
    "outcomes": metric.OUTCOMES,
    "open_calls": metric.OPEN_CALLS,
    "linker.trajectories": metric.TRAJECTORIES_KNOWN,
    "linker.evictions": metric.TRAJECTORY_EVICTIONS,
    "store.spans_written": metric.STORE_SPANS_WRITTEN,
    "store.spans_lost": metric.STORE_SPANS_LOST,
    "export.spans_exported": metric.EXPORT_SPANS_EXPORTED,
    "export.spans_failed": metric.EXPORT_SPANS_FAILED,
    "export.spans_dropped": metric.EXPORT_SPANS_DROPPED,
    "export.spans_unsampled": metric.EXPORT_SPANS_UNSAMPLED,
    "export.spans_waiting": metric.EXPORT_SPANS_WAITING,
    "keeping.runs_kept": metric.EXPORT_RUNS_KEPT,
    "keeping.runs_let_go": metric.EXPORT_RUNS_LET_GO,
    "logs.records_dropped": metric.EXPORT_LOGS_DROPPED,
}
"""Of the observer's statistics, by part and key."""


def of_processes(status: Mapping[str, Any]) -> list[Family]:
    """What the supervisor knows of the relays, of itself, and of whether the observer answers; see its `status`."""
    relays = status["relays"]
    observer = status["observer"]
    answered = [(str(at), relay["stats"]) for at, relay in enumerate(relays) if relay["stats"] is not None]
    up = {str(at): relay["stats"] is not None for at, relay in enumerate(relays)}
    families = [
        _single(metric.BUILD_INFO, 1, __version__),
        _single(metric.PROXY_UPTIME, status["uptime_s"]),
        _family(metric.RELAY_UP, [Point((worker,), float(answers)) for worker, answers in up.items()]),
        _single(metric.RELAY_RESTARTS, status["relay_restarts"]),
        _single(metric.OBSERVER_UP, float(observer["stats"] is not None)),
        _single(metric.OBSERVER_RESTARTS, observer["restarts"]),
    ]
    for key, instrument in _RELAY_TABLES.items():
        points = [Point((worker, str(told)), n) for worker, stats in answered for told, n in stats[key].items()]
        families.append(_family(instrument, points))
    for key, instrument in _RELAY_VALUES.items():
        families.append(_family(instrument, [Point((worker,), stats[key]) for worker, stats in answered]))
    for key, instrument in _CHANNEL_VALUES.items():
        points = [Point((worker,), stats["channel"].get(key, 0)) for worker, stats in answered]
        families.append(_family(instrument, points))
    return families


def of_observer(stats: Mapping[str, Any]) -> list[Family]:
    """What the observer tells of itself; see its `stats`."""
    families = [
        _family(instrument, [Point((told,), number) for told, number in stats[key].items()])
        for key, instrument in _OBSERVER_TABLES.items()
    ]
    for path, instrument in _OBSERVER_VALUES.items():
        part, _, key = path.rpartition(".")
        values = stats[part] if part else stats
        if values is not None:
            families.append(_single(instrument, values[key]))
    return families


def of_capacity(active: int, capacity: int | None) -> list[Family]:
    """How many agents the deployment holds, where that was told, and how many more there could be."""
    if capacity is None:
        return []
    return [_single(metric.CAPACITY, capacity), _single(metric.CAPACITY_HEADROOM, capacity - active)]


def of_tiers(judges: Sequence[Judge]) -> list[Family]:
    """What the tiers want."""
    bounds, objectives = [], []
    for judge in judges:
        tier = judge.tier
        bounds += [Point((tier.label, bound.name), bound.value) for bound in judge.bounds]
        objectives += [Point((tier.label, bound.name), bound.objective) for bound in judge.bounds]
        objectives.append(Point((tier.label, ERROR_RATE), 1 - tier.max_error_rate))
    return [_family(metric.SLO_BOUND, bounds), _family(metric.SLO_OBJECTIVE, objectives)]


def of_overflows(overflows: Mapping[str, int]) -> Family:
    """How often attributes had no room for a value."""
    return _family(metric.METRICS_OVERFLOWS, [Point((name,), number) for name, number in overflows.items()])


def of_generation(families: Iterable[Family], generation: Generation) -> Iterator[Family]:
    """The families under the names of a generation of the conventions, or of both.

    The observer counts under the new names, but for the duration of calls, which the new generation splits in two.
    """
    usage: list[Point] = []
    for family in families:
        name = family.name
        if name == metric.CLIENT_OPERATION_DURATION.name:
            inference = [point for point in family.points if point.values[_OPERATION] != semconv.OPERATION_EMBEDDINGS]
            if generation is not Generation.OLD:
                yield _family(metric.CLIENT_INFERENCE_DURATION, inference)
            if generation is Generation.NEW:
                rest = [point for point in family.points if point.values[_OPERATION] == semconv.OPERATION_EMBEDDINGS]
                yield _family(metric.CLIENT_OPERATION_DURATION, rest)
            else:
                yield family
            continue
        if generation is not Generation.NEW:
            if (renamed := _RENAMED.get(name)) is not None:
                yield _family(renamed, family.points)
            if (token_type := _TOKEN_TYPES.get(name)) is not None:
                usage += [_with(point, token_type) for point in family.points]
        if generation is not Generation.OLD or _BY_NAME[name].generation is Generation.BOTH:
            yield family
    if usage:
        yield _family(metric.CLIENT_TOKEN_USAGE, usage)


def instrument_of(family: Family) -> Instrument:
    """The instrument that a family is of."""
    return _BY_NAME[family.name]


_BY_NAME: Final = {instrument.name: instrument for instrument in metric.instruments()}


def _with(point: Point, value: str) -> Point:
    return Point((*point.values, value), point.value, point.counts, point.exemplars)


def _family(instrument: Instrument, points: list[Point]) -> Family:
    return Family(instrument.name, points)


def _single(instrument: Instrument, value: float, *values: str) -> Family:
    return Family(instrument.name, [Point(values, value)])
