"""A generator process: it plays its share of a level's agents, and tells the benchmark all that happens."""

import asyncio
import pickle
from collections import Counter
from typing import Any, Final

from otel_agentperf import semconv
from otel_agentperf.processes import Control
from otel_agentperf.replay import line as said
from otel_agentperf.replay.benchmark import Benchmark
from otel_agentperf.replay.clock import SystemClock
from otel_agentperf.replay.crew import LocalCrew, cancelled
from otel_agentperf.replay.delays import Delay
from otel_agentperf.replay.dialects import OutputLimit
from otel_agentperf.replay.exchange import Exchange, Failure

__all__ = ["generator_child"]

TELL_DELAY_S: Final = 0.01
"""How long an event may wait for others: one frame for many costs both sides less."""


async def generator_child(control: Control) -> None:
    """The process: it plays levels until the benchmark hangs up."""
    line = await said.Line.over(control.sockets[0], TELL_DELAY_S)
    job = await line.taken()
    if job is None:
        return
    # It comes from the parent, over a socket that nobody else ever held.
    recording, settings = pickle.loads(job)
    benchmark = Benchmark(recording, settings, SystemClock())
    control.ready()
    generator = _Generator(line, benchmark)
    try:
        await generator.serve()
    finally:
        await generator.end()
        await benchmark.transport.aclose()
        line.close()


class _Generator:
    def __init__(self, line: said.Line, benchmark: Benchmark) -> None:
        self._line = line
        self._benchmark = benchmark
        self._crew: LocalCrew | None = None
        self._finishing: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Do as the benchmark says until it hangs up; an agent's own exception is raised here."""
        while True:
            hearing = asyncio.create_task(self._line.heard())
            watched: set[asyncio.Future[Any]] = {hearing}
            if self._crew is not None:
                watched.add(self._crew.failed)
            try:
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if self._crew is not None and self._crew.failed.done():
                    self._crew.failed.result()
                messages = hearing.result()
            finally:
                await cancelled(hearing)
            if messages is None:
                return
            for message in messages:
                await self._do(message)

    async def _do(self, message: said.Message) -> None:
        if isinstance(message, said.Begin):
            level = _Share(message.agents, self._line)
            self._crew = LocalCrew(level, self._benchmark, range(message.first, message.agents, message.step))
            self._crew.start()
            return
        assert self._crew is not None
        if isinstance(message, said.Enter):
            await self._crew.enter(message.phase)
            self._reply(said.Entered(*self._crew.mark()))
        elif isinstance(message, said.Finish):
            self._finishing = asyncio.create_task(self._finish(self._crew))
        elif isinstance(message, said.Halt):
            self._reply(said.Halted(await self.end()))

    async def _finish(self, crew: LocalCrew) -> None:
        await crew.finish()
        self._reply(said.Finished())

    async def end(self) -> int:
        """End the agents; how many requests of the steady window were cut off."""
        if self._finishing is not None:
            await cancelled(self._finishing)
            self._finishing = None
        crew, self._crew = self._crew, None
        return await crew.halt() if crew is not None else 0

    def _reply(self, reply: said.Reply) -> None:
        self._line.say(reply)
        self._line.flush()


class _Share:
    """A level as the agents of one process know it: what they tell it goes to the benchmark."""

    def __init__(self, agents: int, line: said.Line) -> None:
        self.agents = agents
        self.phase = semconv.PHASE_WARMUP
        self.halted = False
        self.inflight: Counter[str] = Counter()
        self._line = line

    def began(self) -> None:
        self._line.say(said.Began())

    def sent(self, phase: str, late_ns: int) -> None:
        self.inflight[phase] += 1
        self._line.say(said.Sent(phase, late_ns))

    def left(self, phase: str) -> None:
        self.inflight[phase] -= 1
        self._line.say(said.Left(phase))

    def ended(self, phase: str, answer: Exchange, limit: OutputLimit) -> None:
        self._line.say(said.Ended(phase, answer, limit))

    def completed(self, end_ns: int) -> None:
        self._line.say(said.Completed(end_ns))

    def aborted(self, failure: Failure) -> None:
        self._line.say(said.Aborted(failure))

    def branch_aborted(self) -> None:
        self._line.say(said.BranchAborted())

    def retried(self) -> None:
        self._line.say(said.Retried())

    def delayed(self, delay: Delay) -> None:
        if delay.capped or delay.drawn:
            self._line.say(said.Delayed(delay))

    def retry_wait_capped(self) -> None:
        self._line.say(said.RetryWaitCapped())
