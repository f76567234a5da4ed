"""The times of a call as attributes: seconds from t0, and the gaps between output chunks."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from operator import sub
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import AttributeValue, ResponseFacts

_GAPS: Final = (
    (semconv.CHUNK_GAP_P50_S, 0.50),
    (semconv.CHUNK_GAP_P95_S, 0.95),
    (semconv.CHUNK_GAP_P99_S, 0.99),
    (semconv.CHUNK_GAP_MAX_S, 1.0),
)

_STALL_NS: Final = round(semconv.STALL_S * 1e9)


def seconds(duration_ns: int) -> float:
    """Nanoseconds as seconds."""
    return duration_ns / 1e9


def percentile(ordered: Sequence[int], p: float) -> float:
    """Linear interpolation at rank (n-1)p of values in ascending order, as DuckDB's `quantile_cont` has it."""
    rank = (len(ordered) - 1) * p
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low + (high - low) * (rank - math.floor(rank))


def output_gaps(facts: ResponseFacts) -> list[int]:
    """Nanoseconds between the output chunks of a response, in ascending order; worked out once."""
    if facts.gaps_ns is None:
        output = facts.output_ns
        facts.gaps_ns = sorted(map(sub, islice(output, 1, None), output))
    return facts.gaps_ns


def output_times(facts: ResponseFacts, t0_ns: int) -> dict[str, AttributeValue]:
    """First output, first answer, last output, and the gaps in between, of a streamed response.

    Where parts of the response were not seen, only the times that these parts cannot change.
    """
    output = facts.output_ns
    if not output:
        return {}
    times: dict[str, AttributeValue] = {}
    before = facts.outputs_before_gap
    if before is None:
        times[semconv.TIME_FIRST_OUTPUT] = seconds(output[0] - t0_ns)
        if facts.first_answer_ns is not None:
            times[semconv.TIME_FIRST_ANSWER] = seconds(facts.first_answer_ns - t0_ns)
        times[semconv.TIME_LAST_OUTPUT] = seconds(output[-1] - t0_ns)
        times[semconv.CHUNK_COUNT] = len(output)
        gaps = output_gaps(facts)
        if gaps:
            times |= {name: round(percentile(gaps, p)) / 1e9 for name, p in _GAPS}
            times[semconv.CHUNK_STALL_COUNT] = len(gaps) - bisect_right(gaps, _STALL_NS)
        return times
    if before:
        times[semconv.TIME_FIRST_OUTPUT] = seconds(output[0] - t0_ns)
        if facts.first_answer_ns is not None and facts.first_answer_ns <= output[before - 1]:
            times[semconv.TIME_FIRST_ANSWER] = seconds(facts.first_answer_ns - t0_ns)
    if facts.terminal and len(output) > facts.outputs_at_last_gap:
        times[semconv.TIME_LAST_OUTPUT] = seconds(output[-1] - t0_ns)
    return times
