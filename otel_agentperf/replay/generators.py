"""Several generator processes that share the agents of each level.

Agent `i` plays the same trajectories under the same ids in whichever process: both follow from the seed and its number.
All that decides about a level (its phases, its end, whether it is lost) stays with the one `Level` of the benchmark,
which hears of each request, and in the order in which its generator told.
"""

import asyncio
import contextlib
import pickle
import signal
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypeVar

from otel_agentperf.errors import UnavailableError
from otel_agentperf.processes import ChildProcess
from otel_agentperf.replay import line as said
from otel_agentperf.replay.benchmark import Level
from otel_agentperf.replay.crew import cancelled, carry, cpu_share
from otel_agentperf.replay.recording import Recording
from otel_agentperf.replay.settings import ReplaySettings

__all__ = ["Generators", "shares"]

START_S: Final = 120.0
"""For an interpreter to start, and for a recording to be written in the dialect."""

ANSWER_S: Final = 30.0
"""For a generator to say that it knows of a phase, or has ended its agents: one that is alive does so at once."""

STOP_S: Final = 10.0

R = TypeVar("R", bound=said.Reply)


def shares(agents: int, generators: int) -> list[range]:
    """Which agents each generator plays: every N-th, so that shares differ by one agent at most. None is empty."""
    used = min(agents, generators)
    return [range(first, agents, used) for first in range(used)]


class Generators:
    """The processes of a benchmark."""

    def __init__(self, generators: Sequence["_Generator"]) -> None:
        self._generators = generators

    @classmethod
    async def start(cls, recording: Recording, settings: ReplaySettings) -> "Generators":
        """Start as many as the settings say.

        Raises:
            UnavailableError: one did not start.
        """
        job = pickle.dumps((recording, settings), protocol=pickle.HIGHEST_PROTOCOL)
        count = settings.generators
        opened: list[_Generator] = []
        try:
            for number in range(count):
                opened.append(await _Generator.open(f"generator process {number + 1} of {count}", job))
            await asyncio.gather(*(each.ready() for each in opened))
        except BaseException:
            await cls(opened).aclose()
            raise
        return cls(opened)

    def crew(self, level: Level) -> "_RemoteCrew":
        """The agents of a level, shared out."""
        return _RemoteCrew(level, self._generators)

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [each.pid for each in self._generators]

    async def aclose(self) -> None:
        """End all processes."""
        await asyncio.gather(*(each.aclose() for each in self._generators))


class _RemoteCrew:
    """The agents of a level, each played by one of the generators."""

    def __init__(self, level: Level, generators: Sequence["_Generator"]) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._agents = level.agents
        self._shares = shares(level.agents, len(generators))
        self._members = generators[: len(self._shares)]
        self._marks: list[list[tuple[int, float]]] = [[] for _ in self._members]
        for number, member in enumerate(self._members):
            member.told = (level, number)
        for each in generators:
            each.gone.add_done_callback(partial(carry, failed=self.failed))

    def start(self) -> None:
        for member, share in zip(self._members, self._shares, strict=True):
            member.say(said.Begin(self._agents, share.start, share.step))

    async def enter(self, phase: str) -> None:
        waiting = [member.ask(said.Enter(phase), said.Entered) for member in self._members]
        for marks, entered in zip(self._marks, await _answers(waiting), strict=True):
            marks.append((entered.time_ns, entered.cpu_s))

    async def finish(self) -> None:
        waiting = [member.ask(said.Finish(), said.Finished) for member in self._members]
        await asyncio.gather(*waiting)

    async def halt(self) -> int:
        waiting = [member.ask(said.Halt(), said.Halted) for member in self._members]
        return sum(halted.cut for halted in await _answers(waiting))

    def spent(self) -> list[tuple[int, float | None]]:
        return [(len(share), cpu_share(marks)) for share, marks in zip(self._shares, self._marks, strict=True)]


async def _answers(waiting: Sequence["asyncio.Future[R]"]) -> list[R]:
    """The answers of all that are asked; the first exception only when none is still waited for."""
    done, late = await asyncio.wait(waiting, timeout=ANSWER_S)
    for future in done:
        future.result()
    if late:
        raise UnavailableError(f"{len(late)} of {len(waiting)} generator processes do not answer; the level is lost")
    return [future.result() for future in waiting]


class _Generator:
    """The benchmark's end of the line to one process.

    Attributes:
        gone: raises UnavailableError when the process has ended by itself.
        told: the level that hears what happens, and the number by which it knows this generator.
    """

    def __init__(self, name: str, process: ChildProcess, line: said.Line) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told: tuple[Level, int] | None = None
        self._name = name
        self._process = process
        self._line = line
        self._waiting: dict[type, asyncio.Future[Any]] = {}
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, name: str, job: bytes) -> "_Generator":
        ours, theirs = socket.socketpair()
        with theirs:
            process = ChildProcess("otel_agentperf.replay.generator:generator_child", {}, [theirs])
        line = await said.Line.over(ours)
        line.pass_on(job)
        return cls(name, process, line)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        if not await self._process.ready(START_S):
            raise UnavailableError(f"{self._name} did not start")
        self._listening = asyncio.create_task(self._listen())

    def say(self, message: said.Message) -> None:
        self._line.say(message)

    def ask(self, question: said.Message, kind: type[R]) -> "asyncio.Future[R]":
        """The reply to come; it raises UnavailableError when the process has ended."""
        reply: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if self.gone.done():
            reply.set_exception(self.gone.exception() or asyncio.CancelledError())
            return reply
        self._waiting[kind] = reply
        self.say(question)
        return reply

    async def _listen(self) -> None:
        try:
            await self._hear()
            code = await self._process.wait(STOP_S)
            end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            lost: Exception = UnavailableError(f"{self._name} ended ({end}); the level that it played is lost")
        except Exception as exc:
            lost = exc
        for future in (self.gone, *self._waiting.values()):
            if not future.done():
                future.set_exception(lost)
                # It may be between two levels, or nobody is waiting any more.
                future.exception()

    async def _hear(self) -> None:
        while (messages := await self._line.heard()) is not None:
            for message in messages:
                if isinstance(message, said.Event):
                    assert self.told is not None
                    level, number = self.told
                    message.tell(level, number)
                elif (reply := self._waiting.pop(type(message), None)) is not None and not reply.done():
                    reply.set_result(message)

    async def aclose(self) -> None:
        if self._listening is not None:
            await cancelled(self._listening)
        self._line.close()
        with contextlib.suppress(ProcessLookupError):
            await self._process.wait(STOP_S)
