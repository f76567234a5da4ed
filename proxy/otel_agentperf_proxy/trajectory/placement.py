"""Where a call belongs: what the linker tells of it."""

from dataclasses import dataclass, field

from otel_agentperf_proxy.trajectory.records import Run, Trajectory, Turn
from otel_agentperf_proxy.trajectory.tools import ToolSpan


@dataclass(slots=True)
class Placement:
    """Where a call belongs."""

    run: Run
    source: str
    """The rule that decided, one of `semconv.Source`."""
    confidence: float
    segment_index: int
    turn_index: int | None
    """None for auxiliary calls."""
    turn_id: str
    kind: str
    attempt_index: int
    first_attempt: tuple[bytes, bytes] | None
    """Trace id and span id of the turn's first attempt, for attempts above 0."""
    shared_prefix_bytes: int | None
    """Bytes of the leading messages that the trajectory's previous turn sent too; None for auxiliary calls."""
    summarizes: bool
    """The call asks for a summary of the trajectory's conversation, as far as can be told."""
    trajectory: Trajectory = field(repr=False)
    turn: Turn | None = field(repr=False)
    finished_tools: list[ToolSpan] = field(default_factory=list)
    chain: bytes = field(default=b"", repr=False)
    """Prefix chain of the request's messages (`history`)."""
    scope: tuple[tuple[str, str], ...] = ()
    """Launcher tags that do not change while one agent works."""
    closed_runs: list[Run] = field(default_factory=list)
    """Runs (or parts of runs, at a change of trace) that this call ended: their root spans can be written."""
    opened_run: bool = False
    """The call opened its run, or moved it to a new trace."""
    final: bool = False
    """The client says that it is the last call of its trajectory."""
    finished: bool = False
