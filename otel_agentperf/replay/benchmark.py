"""What the agents of a benchmark share, and what those of one level share."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from otel_agentperf import semconv
from otel_agentperf._version import __version__
from otel_agentperf.http1 import Origin
from otel_agentperf.replay.clock import Clock
from otel_agentperf.replay.delays import Delay, Delays
from otel_agentperf.replay.dialects import OutputLimit, PreparedTurn, dialect_for
from otel_agentperf.replay.exchange import RETRYABLE, Exchange, Failure, HTTPTransport, Transport
from otel_agentperf.replay.outlook import Outlook
from otel_agentperf.replay.recording import Recording, Task, Turn
from otel_agentperf.replay.schedule import Deck
from otel_agentperf.replay.settings import OUTPUT_GUARD_TOKENS, OutputPolicy, ReplaySettings
from otel_agentperf.replay.tally import Tally

__all__ = ["GONE", "AgentsLevel", "Benchmark", "Level", "PreparedBranch", "PreparedTask", "output_limit"]

GIVE_UP_TRAJECTORIES: Final = 3
"""A level is given up when its agents have aborted this many trajectories each without one whole answer between. One
that waits for completed trajectories is also given up when they aborted so many, and twice as many as there are tasks,
and completed none between."""

_WRONG_FROM_THE_START: Final = frozenset(
    ("connect", "connect_timeout", "http_401", "http_403", "http_404", "http_405", "not_streamed")
)
"""Failures that end a benchmark at once while it has no whole answer yet: the address, key or model is wrong."""


_TOO_MUCH: Final = frozenset(f"http_{status}" for status in RETRYABLE)
"""Failures by which an endpoint says that there are too many agents, where it has served fewer."""


GONE: Final = frozenset(
    ("connect", "connect_timeout", "reset", "timeout", "truncated", "http_500", "http_502", "http_503", "http_504")
)
"""Failures by which an endpoint with nothing else to do is gone: not those of one that asks to wait."""


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task whose turns the dialect has written."""

    recorded: Task
    turns: tuple[PreparedTurn, ...]
    limits: tuple[OutputLimit, ...]
    branches: Mapping[int, tuple["PreparedBranch", ...]]
    """By the index of the turn whose answer starts them."""


@dataclass(frozen=True, slots=True)
class PreparedBranch:
    """A sub-agent of a task: when it starts, and which turn waits for it."""

    task: PreparedTask
    delay_s: float
    joins: int


def output_limit(turn: Turn, policy: OutputPolicy) -> OutputLimit:
    """How long the answer to a turn may be; one of unknown length is left to the model."""
    target = turn.target_output_tokens
    if policy is OutputPolicy.NATURAL or target is None:
        unknown = policy is not OutputPolicy.NATURAL
        return OutputLimit(turn.max_output_tokens or OUTPUT_GUARD_TOKENS, exact=False, unknown=unknown)
    return OutputLimit(max(target, 1), exact=policy is OutputPolicy.EXACT)


class Benchmark:
    """Everything that stays the same from level to level. `answered` tells whether any request ever was."""

    def __init__(
        self, recording: Recording, settings: ReplaySettings, clock: Clock, transport: Transport | None = None
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.dialect = dialect_for(settings)
        origin, base = Origin.parse(settings.endpoint.rstrip("/").removesuffix("/v1"))
        target = base + (settings.path or self.dialect.path).encode()
        self.transport = transport or HTTPTransport(origin, target)
        self.headers = [
            (b"host", origin.authority),
            (b"user-agent", f"otel-agentperf-replay/{__version__}".encode()),
            (b"accept", b"text/event-stream"),
            (b"accept-encoding", b"identity"),
            (b"content-type", b"application/json"),
            *self.dialect.headers(settings.api_key),
            *((name.lower().encode(), value.encode()) for name, value in settings.headers),
        ]
        self.tasks = len(recording.tasks)
        self.deck = Deck([self._prepare(task) for task in recording.tasks], settings.seed)
        self.delays = Delays(recording.tasks, settings.tool_delays)
        self.answered = False

    def _prepare(self, task: Task) -> PreparedTask:
        return PreparedTask(
            task,
            self.dialect.prepare(task),
            tuple(output_limit(turn, self.settings.output) for turn in task.turns),
            {
                index: tuple(
                    PreparedBranch(self._prepare(branch.task), branch.delay_s, branch.joins) for branch in turn.branches
                )
                for index, turn in enumerate(task.turns)
                if turn.branches
            },
        )


class AgentsLevel(Protocol):
    """A level as its agents know it, and what they tell it."""

    agents: int
    """All of the level, in whichever process."""
    phase: str
    halted: bool
    """No further request may be sent."""

    @property
    def inflight(self) -> Counter[str]:
        """Requests of the agents of this process in flight now, by the phase in which they were sent."""

    def began(self) -> None:
        """An agent sends its first request."""

    def sent(self, phase: str, late_ns: int) -> None:
        """A request starts, so much later than it was due."""

    def left(self, phase: str) -> None:
        """A request is no longer in flight."""

    def ended(self, phase: str, answer: Exchange, limit: OutputLimit) -> None:
        """A request has an answer, or failed."""

    def completed(self, end_ns: int) -> None:
        """A trajectory's last answer has ended."""

    def aborted(self, failure: Failure) -> None:
        """A trajectory is given up."""

    def branch_aborted(self) -> None:
        """A sub-agent is given up."""

    def retried(self) -> None:
        """A turn gets another attempt."""

    def delayed(self, delay: Delay) -> None:
        """A tool takes its time."""

    def retry_wait_capped(self) -> None:
        """The server asked for a longer wait before a retry than it gets."""


class Level:
    """One level while it is played: its phase, its counts, and what can end it."""

    def __init__(self, agents: int, benchmark: Benchmark, outlook: Outlook | None = None) -> None:
        self.agents = agents
        self.outlook = outlook
        """Tells when the level is lost; None plays it to its end whatever it shows."""
        self.phase = semconv.PHASE_WARMUP
        self.tally = Tally()
        self.halted = False
        """No further request may be sent."""
        self.stopped: str | None = None
        """Why the level ends before its stop rules are met."""
        self.fatal: Failure | None = None
        """The failure that no benchmark can go on from."""
        self.abandoned: str | None = None
        """Why the steady window was closed early: the level is lost."""
        self.lost = asyncio.Event()
        """Set with `abandoned`."""
        self.started = asyncio.Event()
        """Every agent has sent its first request."""
        self.over = asyncio.Event()
        """Set with `stopped`."""
        self.enough = asyncio.Event()
        """The steady window has its number of completed trajectories."""
        self.settled = asyncio.Event()
        """The steady window is closed and all its requests have ended."""
        self._benchmark = benchmark
        self._opened_ns = 0
        self._steady_completed = 0
        self._wanted = benchmark.settings.trajectories_of(agents)
        self._not_started = agents

    def end(self, reason: str) -> None:
        """End the level before its time, at once; the first reason stands."""
        if self.stopped is None:
            self.stopped = reason
            self.halted = True
            self.over.set()

    def enter(self, phase: str, time_ns: int) -> None:
        """Requests sent from now on belong to this phase."""
        self.phase = phase
        if phase == semconv.PHASE_STEADY:
            self._opened_ns = time_ns
        self._settle()

    def abandon(self, reason: str) -> None:
        """Close the steady window: no tier that matters can be held any more."""
        if self.abandoned is None:
            self.abandoned = reason
            self.lost.set()

    @property
    def wanted(self) -> int | None:
        """Trajectories to complete in the steady window."""
        return self._wanted

    @property
    def steady_completed(self) -> int:
        """Trajectories completed since the steady window opened."""
        return self._steady_completed

    @property
    def inflight(self) -> Counter[str]:
        """Requests in flight now, by the phase in which they were sent."""
        return self.tally.inflight

    # Told by the agents.

    def began(self) -> None:
        """An agent sends its first request."""
        self._not_started -= 1
        if not self._not_started:
            self.started.set()

    def sent(self, phase: str, late_ns: int, generator: int = 0) -> None:
        """A request of this generator starts, so much later than it was due."""
        self.tally.sent(phase, late_ns, generator)

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
        self.tally.aborted_since_completed = 0
        if self.phase == semconv.PHASE_STEADY and end_ns >= self._opened_ns:
            self._steady_completed += 1
            if self._steady_completed == self._wanted:
                self.enough.set()

    def aborted(self, failure: Failure) -> None:
        """A trajectory is given up."""
        self.tally.aborted += 1
        self.tally.aborted_in_a_row += 1
        self.tally.aborted_since_completed += 1
        many = GIVE_UP_TRAJECTORIES * self.agents
        if self.tally.aborted_in_a_row >= many:
            self._give_up(failure)
        elif self._wanted is not None and self.tally.aborted_since_completed >= max(many, 2 * self._benchmark.tasks):
            self._give_up(failure, "stuck")

    def branch_aborted(self) -> None:
        """A sub-agent is given up."""
        self.tally.aborted_branches += 1

    def retried(self) -> None:
        """A turn gets another attempt."""
        self.tally.retries += 1

    def delayed(self, delay: Delay) -> None:
        """A tool takes its time."""
        self.tally.capped_tool_delays += delay.capped
        self.tally.drawn_tool_delays += delay.drawn

    def retry_wait_capped(self) -> None:
        """The server asked for a longer wait before a retry than it gets."""
        self.tally.capped_retry_waits += 1

    def _give_up(self, failure: Failure, reason: str = "failing") -> None:
        if self.outlook is not None and self._benchmark.answered and failure.kind in _TOO_MUCH:
            self.abandon(f"the endpoint turns requests away: {failure.words}")
            return
        self.fatal = failure
        self.end(reason)

    def _settle(self) -> None:
        if self.phase == semconv.PHASE_DRAIN and not self.tally.inflight[semconv.PHASE_STEADY]:
            self.settled.set()
