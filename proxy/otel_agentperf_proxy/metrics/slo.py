"""Calls judged by SLO tiers, as the analyzers' `goodput` judges turns.

A failed call misses, and so does one without time to first token or token count. A call too short to have a speed is
judged by its other figures, and so is one with tool calls where the policy leaves these out. Of several targets for one
metric the loosest counts for a single call.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from otel_agentperf import semconv
from otel_agentperf.policies import Target, Tier, select

ERROR_RATE: Final = "error_rate"
"""Name of the target that failed calls miss."""

_SPEEDS: Final = frozenset(("output_speed", "tpot"))
_COUNTED: Final = frozenset(("output_speed", "tpot", "e2e_speed"))
"""Metrics that need a count of tokens."""


class Figures(NamedTuple):
    """What a call is judged by; seconds, and tokens per second. None where it is undefined."""

    failed: bool
    estimated: bool
    """Nobody but an estimate counted the tokens."""
    has_tool_calls: bool
    speedless: bool
    """Too short to have a speed: one token, or all output at one instant."""
    values: Mapping[str, float | None]
    """By the metric's name in `policies.METRICS`."""


def figures(attributes: Mapping[str, Any], *, failed: bool) -> Figures:
    """The figures of a call span's attributes."""
    get = attributes.get
    first, last, end = get(semconv.TIME_FIRST_OUTPUT), get(semconv.TIME_LAST_OUTPUT), get(semconv.TIME_END)
    sent, tokens = get(semconv.TIME_SENT), get(semconv.GEN_AI_USAGE_OUTPUT_TOKENS)
    generation: float | None = last - first if first is not None and last is not None else None
    speed = _speed_tps(tokens, generation)
    return Figures(
        failed,
        get(semconv.USAGE_SOURCE) == semconv.USAGE_ESTIMATED,
        bool(get(semconv.TOOL_CALL_COUNT)),
        (tokens is not None and tokens < 2) or (generation is not None and generation <= 0),
        {
            "ttft": first,
            "server_ttft": first - sent if first is not None and sent is not None else None,
            "time_to_first_chunk": get(semconv.TIME_FIRST_CHUNK),
            "ttfot": get(semconv.TIME_FIRST_ANSWER),
            "tpot": 1 / speed if speed else None,
            "e2e_latency": end,
            "output_speed": speed,
            "e2e_speed": tokens / end if tokens is not None and end else None,
        },
    )


def output_speed_tps(attributes: Mapping[str, Any]) -> float | None:
    """The output speed of a call span's attributes; None where it is undefined, or nobody but an estimate counted."""
    get = attributes.get
    first, last = get(semconv.TIME_FIRST_OUTPUT), get(semconv.TIME_LAST_OUTPUT)
    if first is None or last is None or get(semconv.USAGE_SOURCE) == semconv.USAGE_ESTIMATED:
        return None
    return _speed_tps(get(semconv.GEN_AI_USAGE_OUTPUT_TOKENS), last - first)


def _speed_tps(tokens: int | None, generation_s: float | None) -> float | None:
    if tokens is None or tokens < 2 or generation_s is None or generation_s <= 0:
        return None
    return (tokens - 1) / generation_s


class Bound(NamedTuple):
    """A target of a tier as single calls are judged by it."""

    name: str
    """The metric's; with the percentile where the tier has several targets for the metric."""
    metric: str
    value: float
    at_least: bool
    objective: float
    """Share of calls that has to keep it."""
    decides: bool
    """Counts for goodput: it is the metric's loosest of its kind."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A tier that judges calls."""

    tier: Tier
    only_its_models: bool
    bounds: tuple[Bound, ...]

    def fits(self, model: str) -> bool:
        """Whether calls of that model are judged."""
        return not self.only_its_models or self.tier.fits(model)

    def verdicts(self, call: Figures) -> list[bool | None]:
        """Whether the call keeps each of `bounds`; None where it has no figure to judge."""
        tier = self.tier
        found: list[bool | None] = []
        for bound in self.bounds:
            metric = bound.metric
            value = call.values[metric]
            skipped = tier.skip_tool_call_turns and call.has_tool_calls and metric in _SPEEDS
            if value is None or call.failed or skipped or (metric in _COUNTED and self._is_guessed(call)):
                found.append(None)
            else:
                found.append(value >= bound.value if bound.at_least else value <= bound.value)
        return found

    def meets(self, call: Figures, verdicts: Sequence[bool | None]) -> bool:
        """Whether the call meets the tier, by its verdicts."""
        if call.failed:
            return False
        excused = call.speedless or (self.tier.skip_tool_call_turns and call.has_tool_calls)
        excused = excused and not self._is_guessed(call)
        return all(
            verdict if verdict is not None else excused and bound.metric in _SPEEDS
            for bound, verdict in zip(self.bounds, verdicts, strict=True)
            if bound.decides
        )

    def _is_guessed(self, call: Figures) -> bool:
        return call.estimated and not self.tier.use_estimated_tokens


def judges(names: Sequence[str]) -> tuple[Judge, ...]:
    """Judges of the tiers that names mean, as `policies.select` has it; each tier once.

    A tier that is named by itself judges every model; those of a name that means several, the models they were made
    for.

    Raises:
        UsageError: a name means nothing.
    """
    found: dict[str, Judge] = {}
    for name in names:
        tiers = select(name)
        for tier in tiers:
            judge = Judge(tier, len(tiers) > 1, tuple(_bounds(tier.targets)))
            if tier.label not in found or found[tier.label].only_its_models:
                found[tier.label] = judge
    return tuple(found.values())


def _bounds(targets: Sequence[Target]) -> Iterator[Bound]:
    for target in targets:
        of_metric = [other for other in targets if other.metric == target.metric]
        alike = [other.value for other in of_metric if other.bound == target.bound]
        at_least = target.bound == "min"
        name: str = target.metric
        if len(of_metric) > 1:
            name = f"{target.metric}_p{target.percentile:g}_{target.bound}"
        share = target.percentile / 100
        yield Bound(
            name=name,
            metric=target.metric,
            value=target.value,
            at_least=at_least,
            objective=1 - share if at_least else share,
            decides=target.value == (min(alike) if at_least else max(alike)),
        )
