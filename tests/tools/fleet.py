"""What the analyzers make of the calls of several proxies, in the form in which captures are scored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from captures import Replayed, Seen

from otel_agentperf import semconv
from otel_agentperf_analyzers import Database

_ATTRIBUTES = {
    "trajectory_id": semconv.TRAJECTORY_ID,
    "trajectory_source": semconv.TRAJECTORY_SOURCE,
    "turn_index": semconv.TURN_INDEX,
    "attempt_index": semconv.ATTEMPT_INDEX,
    "segment": semconv.SEGMENT_INDEX,
    "run_index": semconv.RUN_INDEX,
}


@dataclass
class Stitched(Replayed):
    """The calls as relation `attempts` has them."""

    told: dict[str, str] = field(default_factory=dict)

    @property
    def parents(self) -> dict[str, str]:
        """Trajectory to parent."""
        return self.told


def stitched(database: Database, calls: Sequence[Seen]) -> Stitched:
    """The calls with the places that the relations give them; calls that are no attempts stay out."""
    rows = {row["span_id"]: row for row in database.query("SELECT * FROM attempts").to_pylist()}
    told = {
        row["trajectory_id"]: row["parent_trajectory_id"]
        for row in rows.values()
        if row["parent_trajectory_id"] is not None
    }
    found = []
    for seen in calls:
        row: dict[str, Any] | None = rows.get(seen.span_id)
        if row is not None:
            seen.attributes = {name: row[column] for column, name in _ATTRIBUTES.items()}
            found.append(seen)
    return Stitched(found, [], {}, told)


def places(calls: Sequence[Seen]) -> dict[str, tuple[Any, ...]]:
    """Span to what stands in the relations of its place, ids left out, and what does stand there by truth."""
    return {
        seen.span_id: (
            seen.attributes[semconv.TURN_INDEX],
            seen.attributes[semconv.ATTEMPT_INDEX],
            seen.attributes[semconv.SEGMENT_INDEX],
            seen.attributes[semconv.RUN_INDEX],
        )
        for seen in calls
    }


def true_places(calls: Sequence[Seen]) -> dict[str, tuple[Any, ...]]:
    """Span to its place by truth."""
    return {
        seen.span_id: (
            seen.exchange.truth.turn,
            seen.exchange.truth.retry,
            seen.exchange.truth.segment,
            seen.exchange.truth.run,
        )
        for seen in calls
    }
