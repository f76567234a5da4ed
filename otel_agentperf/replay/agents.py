"""A closed-loop agent: one trajectory at a time, one request in flight, the next when answer and tools are done."""

from itertools import count
from random import Random
from typing import Final

from otel_agentperf import semconv
from otel_agentperf.replay.benchmark import Benchmark, Level, PreparedTask
from otel_agentperf.replay.dialects import OutputLimit, Prefix
from otel_agentperf.replay.exchange import Exchange, Failure, exchange
from otel_agentperf.replay.schedule import backoff_s, prefix_text
from otel_agentperf.replay.settings import Placement

__all__ = ["Agent"]

RETRY_WAIT_S: Final = 60.0
"""Longest wait before a retry that a server can ask for; above it the wait is cut and counted."""

_TAG: Final = {name: f"{semconv.TAG_HEADER_PREFIX}{name.replace('.', '-')}".encode() for name in semconv.LAUNCHER_TAGS}


class Agent:
    """One agent of a level.

    Attributes:
        in_flight: a request of it is on its way; otherwise it may be cancelled without anyone noticing.
    """

    def __init__(self, index: int, benchmark: Benchmark, level: Level) -> None:
        self.index = index
        self.in_flight = False
        self._benchmark = benchmark
        self._level = level
        self._random = Random(f"{benchmark.settings.seed}/retry/{level.agents}/{index}")

    async def run(self) -> None:
        """Play one trajectory after the other until the level halts."""
        benchmark, level = self._benchmark, self._level
        due_ns = benchmark.clock.now_ns()
        for number in count():
            if level.halted:
                return
            task = benchmark.deck.card(number * level.agents + self.index)
            due_ns = await self._trajectory(task, number, due_ns)

    async def _trajectory(self, task: PreparedTask, number: int, due_ns: int) -> int:
        """Play a task from its first turn on; the time at which the next one is due comes back."""
        benchmark, level = self._benchmark, self._level
        settings = benchmark.settings
        identity = f"{settings.benchmark_id}-{level.agents}-{self.index}-{number}"
        tags = self._tags(task, identity)
        prefix = Prefix(prefix_text(settings.seed, identity)) if settings.cache_prefix is not Placement.NONE else None
        last = len(task.turns) - 1
        for index, turn in enumerate(task.turns):
            headers = [*tags, (_TAG["trajectory.final"], b"true")] if index == last else tags
            body = benchmark.dialect.body(turn, task.limits[index], prefix)
            answer = await self._turn(body, task.limits[index], headers, f"{identity}.{index}", due_ns)
            if answer.failure is not None:
                if not level.halted:
                    level.aborted(answer.failure)
                break
            if index == last:
                level.completed(answer.end_ns)
                return answer.end_ns
            delay_s, capped = settings.tool_delays.of(task.tool_delays_s[index])
            level.tally.capped_tool_delays += capped
            due_ns = answer.end_ns + round(delay_s * 1e9)
            await self._wait_until(due_ns)
            if level.halted:
                break
        return benchmark.clock.now_ns()

    async def _turn(
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
            answer = await self._send(headers, body, phase, due_ns)
            level.ended(phase, answer, limit)
            failure = answer.failure
            if failure is None or not failure.retry or attempt >= benchmark.settings.max_retries or level.halted:
                break
            level.tally.retries += 1
            due_ns = answer.end_ns + round(self._retry_wait_s(attempt, failure) * 1e9)
            await self._wait_until(due_ns)
            if level.halted:
                break
        return answer

    async def _send(self, headers: list[tuple[bytes, bytes]], body: bytes, phase: str, due_ns: int) -> Exchange:
        benchmark, level = self._benchmark, self._level
        level.sent(phase, benchmark.clock.now_ns() - due_ns)
        self.in_flight = True
        try:
            return await exchange(
                benchmark.client,
                benchmark.origin,
                benchmark.target,
                headers,
                body,
                benchmark.dialect.reader(),
                benchmark.settings.request_timeout_s,
            )
        finally:
            self.in_flight = False
            level.left(phase)

    def _retry_wait_s(self, attempt: int, failure: Failure) -> float:
        asked_s = failure.retry_after_s or 0.0
        if asked_s > RETRY_WAIT_S:
            self._level.tally.capped_retry_waits += 1
            asked_s = RETRY_WAIT_S
        return max(backoff_s(attempt, self._random), asked_s)

    async def _wait_until(self, due_ns: int) -> None:
        clock = self._benchmark.clock
        left_ns = due_ns - clock.now_ns()
        if left_ns > 0:
            await clock.sleep(left_ns / 1e9)

    def _tags(self, task: PreparedTask, identity: str) -> list[tuple[bytes, bytes]]:
        settings = self._benchmark.settings
        tags = {
            "trajectory.id": identity,
            "benchmark.id": settings.benchmark_id,
            "level": str(self._level.agents),
            "agent.index": str(self.index),
            "agent.name": settings.agent_name,
            "task.id": task.id,
        }
        if task.domain:
            tags["task.domain"] = task.domain
        return [(_TAG[name], _field(value)) for name, value in tags.items()]


def _field(value: str) -> bytes:
    """A header field's value: UTF-8, without the characters that would end it."""
    return "".join(each if each.isprintable() else "_" for each in value).encode()
