"""A closed-loop agent: one trajectory at a time, one request in flight, the next when answer and tools are done.

A turn whose answer started sub-agents in the recording starts them here: each plays its own trajectory beside its
parent's, and the turn of the parent that had to wait for it waits.
"""

import asyncio
from itertools import count
from random import Random
from typing import Final

from otel_agentperf import semconv
from otel_agentperf.replay.benchmark import AgentsLevel, Benchmark, PreparedBranch, PreparedTask
from otel_agentperf.replay.dialects import OutputLimit, Prefix
from otel_agentperf.replay.exchange import Exchange, Failure
from otel_agentperf.replay.schedule import backoff_s, prefix_text
from otel_agentperf.replay.settings import Placement

__all__ = ["Agent"]

RETRY_WAIT_S: Final = 60.0
"""Longest wait before a retry that a server can ask for; above it the wait is cut and counted."""

_TAG: Final = {name: f"{semconv.TAG_HEADER_PREFIX}{name.replace('.', '-')}".encode() for name in semconv.LAUNCHER_TAGS}


class Agent:
    """One agent of a level."""

    def __init__(self, index: int, benchmark: Benchmark, level: AgentsLevel) -> None:
        self.index = index
        self._open = 0
        self._began = False
        self._benchmark = benchmark
        self._level = level
        self._random = Random(f"{benchmark.settings.seed}/retry/{level.agents}/{index}")

    @property
    def in_flight(self) -> bool:
        """Requests of it or of its sub-agents are on their way; else it may be cancelled without anyone noticing."""
        return self._open > 0

    async def run(self) -> None:
        """Play one trajectory after the other until the level halts."""
        benchmark, level, settings = self._benchmark, self._level, self._benchmark.settings
        due_ns = benchmark.clock.now_ns()
        again = f"r{settings.resumed}" if settings.resumed else ""
        for number in count():
            if level.halted:
                return
            task = benchmark.deck.card(number * level.agents + self.index)
            identity = f"{settings.benchmark_id}-{level.agents}{again}-{self.index}-{number}"
            prefix = None
            if settings.cache_prefix is not Placement.NONE:
                prefix = Prefix(prefix_text(settings.seed, identity))
            random = Random(f"{settings.seed}/tools/{level.agents}/{self.index}/{number}")
            trajectory = _Trajectory(self, task, identity, prefix, random)
            failure = await trajectory.play(due_ns)
            due_ns = trajectory.end_ns
            if failure is None and trajectory.finished:
                level.completed(due_ns)
            elif failure is not None and not level.halted:
                level.aborted(failure)

    async def send(self, headers: list[tuple[bytes, bytes]], body: bytes, phase: str, due_ns: int) -> Exchange:
        """One request and its answer."""
        benchmark, level = self._benchmark, self._level
        if not self._began:
            self._began = True
            level.began()
        level.sent(phase, benchmark.clock.now_ns() - due_ns)
        self._open += 1
        try:
            return await benchmark.transport.exchange(
                headers, body, benchmark.dialect.reader(), benchmark.settings.request_timeout_s
            )
        finally:
            self._open -= 1
            level.left(phase)

    async def turn(
        self, body: bytes, limit: OutputLimit, tags: list[tuple[bytes, bytes]], request_id: str, due_ns: int
    ) -> Exchange:
        """One turn with its retries: its last attempt comes back."""
        benchmark, level = self._benchmark, self._level
        for attempt in count():
            phase = level.phase
            headers = [
                *benchmark.headers,
                *tags,
                (_TAG["phase"], phase.encode()),
                (b"x-request-id", f"{request_id}.{attempt}".encode()),
            ]
            answer = await self.send(headers, body, phase, due_ns)
            level.ended(phase, answer, limit)
            failure = answer.failure
            if failure is None or not failure.retry or attempt >= benchmark.settings.max_retries or level.halted:
                break
            level.retried()
            due_ns = answer.end_ns + round(self._retry_wait_s(attempt, failure) * 1e9)
            await self.wait_until(due_ns)
            if level.halted:
                break
        return answer

    async def probe(self) -> Failure | None:
        """One request outside of what is measured, with retries: why the endpoint does not answer it, if so."""
        benchmark = self._benchmark
        task = benchmark.deck.card(0)
        identity = f"{benchmark.settings.benchmark_id}-{self._level.agents}-probe"
        tags = [*self.tags(task, identity, None), (_TAG["phase"], semconv.PHASE_DRAIN.encode())]
        body = benchmark.dialect.body(task.turns[0], task.limits[0], None)
        attempt = 0
        while True:
            headers = [*benchmark.headers, *tags, (b"x-request-id", f"{identity}.{attempt}".encode())]
            answer = await benchmark.transport.exchange(
                headers, body, benchmark.dialect.reader(), benchmark.settings.request_timeout_s
            )
            if answer.failure is None or not answer.failure.retry or attempt >= benchmark.settings.max_retries:
                return answer.failure
            await benchmark.clock.sleep(self._retry_wait_s(attempt, answer.failure))
            attempt += 1

    async def wait_until(self, due_ns: int) -> None:
        """Sleep until a time of the benchmark's clock."""
        clock = self._benchmark.clock
        left_ns = due_ns - clock.now_ns()
        if left_ns > 0:
            await clock.sleep(left_ns / 1e9)

    def tags(self, task: PreparedTask, identity: str, parent: str | None) -> list[tuple[bytes, bytes]]:
        """The launcher tags that all requests of a trajectory carry."""
        settings, recorded = self._benchmark.settings, task.recorded
        tags = {
            "trajectory.id": identity,
            "benchmark.id": settings.benchmark_id,
            "level": str(self._level.agents),
            "agent.index": str(self.index),
            "agent.name": recorded.agent or settings.agent_name,
            "task.id": recorded.id,
        }
        if parent is not None:
            tags["parent.id"] = parent
        if recorded.domain:
            tags["task.domain"] = recorded.domain
        return [(_TAG[name], _field(value)) for name, value in tags.items()]

    def _retry_wait_s(self, attempt: int, failure: Failure) -> float:
        asked_s = failure.retry_after_s or 0.0
        if asked_s > RETRY_WAIT_S:
            self._level.retry_wait_capped()
            asked_s = RETRY_WAIT_S
        return max(backoff_s(attempt, self._random), asked_s)

    @property
    def benchmark(self) -> Benchmark:
        """What the agent plays."""
        return self._benchmark

    @property
    def level(self) -> AgentsLevel:
        """The level that it plays in."""
        return self._level


class _Trajectory:
    """One task played by an agent, and the sub-agents that it starts.

    Attributes:
        finished: the last turn has its answer, and so have those of all sub-agents.
        end_ns: when the trajectory was over, whichever way.
    """

    def __init__(
        self, agent: Agent, task: PreparedTask, identity: str, prefix: Prefix | None, random: Random, parent: str = ""
    ) -> None:
        self.finished = False
        self.end_ns = 0
        self._agent = agent
        self._task = task
        self._identity = identity
        self._prefix = prefix
        """Shared with the sub-agents, which may share leading parts of the prompt."""
        self._random = random
        self._tags = agent.tags(task, identity, parent or None)
        self._branches: dict[int, list[asyncio.Task[int]]] = {}

    async def play(self, due_ns: int) -> Failure | None:
        """Play the task from its first turn on, `due_ns` being when that is due; what made it end early comes back."""
        try:
            return await self._play(due_ns)
        finally:
            started = [branch for group in self._branches.values() for branch in group]
            for branch in started:
                branch.cancel()
            await asyncio.gather(*started, return_exceptions=True)
            self.end_ns = self.end_ns or self._agent.benchmark.clock.now_ns()

    async def _play(self, due_ns: int) -> Failure | None:
        agent, task = self._agent, self._task
        benchmark, level = agent.benchmark, agent.level
        last = len(task.turns) - 1
        for index, turn in enumerate(task.turns):
            tags = [*self._tags, (_TAG["trajectory.final"], b"true")] if index == last else self._tags
            body = benchmark.dialect.body(turn, task.limits[index], self._prefix)
            answer = await agent.turn(body, task.limits[index], tags, f"{self._identity}.{index}", due_ns)
            if answer.failure is not None:
                return answer.failure
            due_ns = answer.end_ns
            self._start_branches(index, due_ns)
            if index < last and not level.halted:
                delay = benchmark.delays.after(task.recorded.turns[index], self._random)
                level.delayed(delay)
                due_ns = max(due_ns, await self._joined(index + 1)) + round(delay.seconds * 1e9)
                await agent.wait_until(due_ns)
            if index < last and level.halted:
                await self._let_branches_end()
                return None
        ends = [await self._joined(at) for at in sorted(self._branches)]
        self.finished = not (ends and level.halted)
        self.end_ns = max([due_ns, *ends])
        return None

    def _start_branches(self, index: int, answered_ns: int) -> None:
        """Start the sub-agents of a turn's answer."""
        for number, branch in enumerate(self._task.branches.get(index, ())):
            identity = f"{self._identity}-s{index}.{number}"
            playing = asyncio.create_task(self._branch(branch, identity, answered_ns))
            self._branches.setdefault(branch.joins, []).append(playing)

    async def _branch(self, branch: PreparedBranch, identity: str, answered_ns: int) -> int:
        """Play a sub-agent; its end comes back. One that fails ends, and its parent goes on."""
        agent = self._agent
        due_ns = answered_ns + round(branch.delay_s * 1e9)
        await agent.wait_until(due_ns)
        child = _Trajectory(
            agent, branch.task, identity, self._prefix, Random(self._random.random()), parent=self._identity
        )
        if not agent.level.halted and await child.play(due_ns) is not None and not agent.level.halted:
            agent.level.branch_aborted()
        return child.end_ns

    async def _let_branches_end(self) -> None:
        """The level has halted: sub-agents get the answers that are on their way."""
        playing = {branch for group in self._branches.values() for branch in group}
        while self._agent.in_flight and (playing := {branch for branch in playing if not branch.done()}):
            await asyncio.wait(playing, return_when=asyncio.FIRST_COMPLETED)

    async def _joined(self, index: int) -> int:
        """Wait for the sub-agents that the turn of this index needs; the end of the last of them, 0 without any."""
        return max([await branch for branch in self._branches.get(index, ())], default=0)


def _field(value: str) -> bytes:
    """A header field's value: UTF-8, without the characters that would end it."""
    return "".join(each if each.isprintable() else "_" for each in value).encode()
