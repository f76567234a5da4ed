"""What a benchmark and its generator processes tell each other, over a socket that only the two hold.

Frames are a length of four bytes and a list of messages. What is said before control goes back to the event loop, or
within the line's delay, travels in one frame, and is read without a pause.
"""

import asyncio
import socket
from typing import Final, Protocol

import msgspec

from otel_agentperf.replay.delays import Delay
from otel_agentperf.replay.dialects import OutputLimit
from otel_agentperf.replay.exchange import Exchange, Failure

__all__ = [
    "Aborted",
    "Began",
    "Begin",
    "BranchAborted",
    "Completed",
    "Delayed",
    "Ended",
    "Enter",
    "Entered",
    "Event",
    "Finish",
    "Finished",
    "Halt",
    "Halted",
    "Left",
    "Line",
    "Listener",
    "Message",
    "Reply",
    "Retried",
    "RetryWaitCapped",
    "Sent",
]

_LENGTH_BYTES: Final = 4


class Listener(Protocol):
    """The level that all generators tell what happens."""

    def began(self) -> None: ...

    def sent(self, phase: str, late_ns: int, generator: int) -> None: ...

    def left(self, phase: str) -> None: ...

    def ended(self, phase: str, answer: Exchange, limit: OutputLimit) -> None: ...

    def completed(self, end_ns: int) -> None: ...

    def aborted(self, failure: Failure) -> None: ...

    def branch_aborted(self) -> None: ...

    def retried(self) -> None: ...

    def delayed(self, delay: Delay) -> None: ...

    def retry_wait_capped(self) -> None: ...


class Begin(msgspec.Struct, tag=True, frozen=True):
    """To a generator: play every `step`-th agent of a level, from `first` on."""

    agents: int
    first: int
    step: int


class Enter(msgspec.Struct, tag=True, frozen=True):
    """To a generator: a phase begins."""

    phase: str


class Finish(msgspec.Struct, tag=True, frozen=True):
    """To a generator: no agent sends any more; say when those in flight have ended."""


class Halt(msgspec.Struct, tag=True, frozen=True):
    """To a generator: end all agents."""


class Entered(msgspec.Struct, tag=True, frozen=True):
    """From a generator: what it sends from now on belongs to the phase."""

    time_ns: int
    cpu_s: float


class Finished(msgspec.Struct, tag=True, frozen=True):
    """From a generator: nothing is in flight any more."""


class Halted(msgspec.Struct, tag=True, frozen=True):
    """From a generator: all agents have ended."""

    cut: int


class Event(msgspec.Struct, tag=True, frozen=True):
    """From a generator: something that its agents told their level."""

    def tell(self, level: Listener, generator: int) -> None:
        """Tell the level of all generators."""
        raise NotImplementedError


class Began(Event, frozen=True):
    def tell(self, level: Listener, generator: int) -> None:
        level.began()


class Sent(Event, frozen=True):
    phase: str
    late_ns: int

    def tell(self, level: Listener, generator: int) -> None:
        level.sent(self.phase, self.late_ns, generator)


class Left(Event, frozen=True):
    phase: str

    def tell(self, level: Listener, generator: int) -> None:
        level.left(self.phase)


class Ended(Event, frozen=True):
    phase: str
    answer: Exchange
    limit: OutputLimit

    def tell(self, level: Listener, generator: int) -> None:
        level.ended(self.phase, self.answer, self.limit)


class Completed(Event, frozen=True):
    end_ns: int

    def tell(self, level: Listener, generator: int) -> None:
        level.completed(self.end_ns)


class Aborted(Event, frozen=True):
    failure: Failure

    def tell(self, level: Listener, generator: int) -> None:
        level.aborted(self.failure)


class BranchAborted(Event, frozen=True):
    def tell(self, level: Listener, generator: int) -> None:
        level.branch_aborted()


class Retried(Event, frozen=True):
    def tell(self, level: Listener, generator: int) -> None:
        level.retried()


class Delayed(Event, frozen=True):
    delay: Delay

    def tell(self, level: Listener, generator: int) -> None:
        level.delayed(self.delay)


class RetryWaitCapped(Event, frozen=True):
    def tell(self, level: Listener, generator: int) -> None:
        level.retry_wait_capped()


Reply = Entered | Finished | Halted
Message = (
    Begin
    | Enter
    | Finish
    | Halt
    | Reply
    | Began
    | Sent
    | Left
    | Ended
    | Completed
    | Aborted
    | BranchAborted
    | Retried
    | Delayed
    | RetryWaitCapped
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[list[Message]]] = msgspec.msgpack.Decoder(list[Message])


class Line:
    """One end of the line.

    Args:
        delay_s: how long a message may wait for others.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float = 0.0) -> None:
        self._reader = reader
        self._writer = writer
        self._delay_s = delay_s
        self._unsent: list[Message] = []
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def over(cls, sock: socket.socket, delay_s: float = 0.0) -> "Line":
        """A line over one end of a pair of sockets."""
        return cls(*await asyncio.open_connection(sock=sock), delay_s)

    def say(self, message: Message) -> None:
        """Send a message soon. One that nobody is there to read is lost."""
        self._unsent.append(message)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self.flush)

    def flush(self) -> None:
        """Send what was said."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._unsent:
            self.pass_on(_encoder.encode(self._unsent))
            self._unsent.clear()

    def pass_on(self, data: bytes) -> None:
        """Send a frame of bytes."""
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    async def heard(self) -> list[Message] | None:
        """The messages of the next frame; None when the other side has gone."""
        data = await self.taken()
        return None if data is None else _decoder.decode(data)

    async def taken(self) -> bytes | None:
        """The bytes of the next frame; None when the other side has gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        """Hang up."""
        self.flush()
        self._writer.close()
