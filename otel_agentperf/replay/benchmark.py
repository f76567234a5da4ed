"""What the agents of a benchmark share, and what those of one level share."""

import asyncio
from dataclasses import dataclass
from typing import Final

from otel_agentperf import semconv
from otel_agentperf._version import __version__
from otel_agentperf.http1 import Client, Origin
from otel_agentperf.replay.clock import Clock
from otel_agentperf.replay.dialects import OutputLimit, PreparedTurn, dialect_for
from otel_agentperf.replay.exchange import Exchange, Failure
from otel_agentperf.replay.recording import Recording, Task, Turn
from otel_agentperf.replay.schedule import Deck
from otel_agentperf.replay.settings import OUTPUT_GUARD_TOKENS, OutputPolicy, ReplaySettings
from otel_agentperf.replay.tally import Tally

__all__ = ["Benchmark", "Level", "PreparedTask", "output_limit"]

GIVE_UP_TRAJECTORIES: Final = 3
"""A level is given up when its agents have aborted this many trajectories each without one whole answer between."""

_WRONG_FROM_THE_START: Final = frozenset(
    ("connect", "connect_timeout", "http_401", "http_403", "http_404", "http_405", "not_streamed")
)
"""Failures that end a benchmark at once while it has no whole answer yet: the address, key or model is wrong."""


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task whose turns the dialect has written."""

    id: str
    domain: str | None
    turns: tuple[PreparedTurn, ...]
    limits: tuple[OutputLimit, ...]
    tool_delays_s: tuple[float, ...]


def output_limit(turn: Turn, policy: OutputPolicy) -> OutputLimit:
    """How long the answer to a turn may be; one of unknown length is left to the model."""
    target = turn.target_output_tokens
    if policy is OutputPolicy.NATURAL or target is None:
        unknown = policy is not OutputPolicy.NATURAL
        return OutputLimit(turn.max_output_tokens or OUTPUT_GUARD_TOKENS, exact=False, unknown=unknown)
    return OutputLimit(max(target, 1), exact=policy is OutputPolicy.EXACT)


class Benchmark:
    """Everything that stays the same from level to level. `answered` tells whether any request ever was."""

    def __init__(self, recording: Recording, settings: ReplaySettings, client: Client, clock: Clock) -> None:
        self.settings = settings
        self.client = client
        self.clock = clock
        self.dialect = dialect_for(settings)
        self.origin, base = Origin.parse(settings.endpoint.rstrip("/").removesuffix("/v1"))
        self.target = base + (settings.path or self.dialect.path).encode()
        self.headers = [
            (b"host", self.origin.authority),
            (b"user-agent", f"otel-agentperf-replay/{__version__}".encode()),
            (b"accept", b"text/event-stream"),
            (b"accept-encoding", b"identity"),
            (b"content-type", b"application/json"),
            *self.dialect.headers(settings.api_key),
            *((name.lower().encode(), value.encode()) for name, value in settings.headers),
        ]
        self.deck = Deck([self._prepare(task) for task in recording.tasks], settings.seed)
        self.answered = False

    def _prepare(self, task: Task) -> PreparedTask:
        return PreparedTask(
            task.id,
            task.domain,
            self.dialect.prepare(task),
            tuple(output_limit(turn, self.settings.output) for turn in task.turns),
            tuple(turn.tool_delay_s for turn in task.turns),
        )


class Level:
    """One level while it is played: its phase, its counts, and what can end it."""

    def __init__(self, agents: int, benchmark: Benchmark) -> None:
        self.agents = agents
        self.phase = semconv.PHASE_WARMUP
        self.tally = Tally()
        self.halted = False
        """No further request may be sent."""
        self.stopped: str | None = None
        """Why the level ends before its stop rules are met."""
        self.fatal: Failure | None = None
        """The failure that no benchmark can go on from."""
        self.over = asyncio.Event()
        """Set with `stopped`."""
        self.enough = asyncio.Event()
        """The steady window has its number of completed trajectories."""
        self.settled = asyncio.Event()
        """The steady window is closed and all its requests have ended."""
        self._benchmark = benchmark
        self._steady_completed = 0

    def end(self, reason: str) -> None:
        """End the level before its time, at once; the first reason stands."""
        if self.stopped is None:
            self.stopped = reason
            self.halted = True
            self.over.set()

    def enter(self, phase: str) -> None:
        """Requests sent from now on belong to this phase."""
        self.phase = phase
        self._settle()

    # Told by the agents.

    def sent(self, phase: str, late_ns: int) -> None:
        """A request starts, so much later than it was due."""
        self.tally.sent(phase, late_ns)

    def left(self, phase: str) -> None:
        """A request is no longer in flight."""
        self.tally.inflight[phase] -= 1
        self._settle()

    def ended(self, phase: str, answer: Exchange, limit: OutputLimit) -> None:
        """A request has an answer, or failed."""
        self.tally.ended(phase, answer, limit)
        if answer.failure is None:
            self._benchmark.answered = True
        elif not self._benchmark.answered and answer.failure.kind in _WRONG_FROM_THE_START:
            self._give_up(answer.failure)

    def completed(self, end_ns: int) -> None:
        """A trajectory's last answer has ended."""
        self.tally.completed.append(end_ns)
        if self.phase == semconv.PHASE_STEADY:
            self._steady_completed += 1
            if self._steady_completed == self._benchmark.settings.trajectories:
                self.enough.set()

    def aborted(self, failure: Failure) -> None:
        """A trajectory is given up."""
        self.tally.aborted += 1
        self.tally.aborted_in_a_row += 1
        if self.tally.aborted_in_a_row >= GIVE_UP_TRAJECTORIES * self.agents:
            self._give_up(failure)

    def _give_up(self, failure: Failure) -> None:
        self.fatal = failure
        self.end("failing")

    def _settle(self) -> None:
        if self.phase == semconv.PHASE_DRAIN and not self.tally.inflight[semconv.PHASE_STEADY]:
            self.settled.set()
