"""The observer's process: it takes the frames of all relays over a Unix socket, and ticks."""

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Final, Protocol, cast

import msgspec

from otel_agentperf_proxy.frames import Frame, FrameDecoder, Hello, Kind, RunTrace, encode, encode_record
from otel_agentperf_proxy.metrics.series import Family

HOLD_TICK_S: Final = 0.005
"""How often to tick while a call waits for its place."""

DRAIN_S: Final = 4.0
"""After the signal to stop, how long relays may take to close their connections."""

TRACES_BYTES: Final = 4 * 1024 * 1024
"""Traces of runs that may wait for a relay that does not read; it does without those above."""

_OF_NO_CALL: Final = frozenset((Kind.TASK_OUTCOME, Kind.METRICS, Kind.PROCESSES, Kind.LOG))

_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_encode_families = msgspec.msgpack.Encoder().encode
_decode_families = msgspec.msgpack.Decoder(list[Family]).decode

logger = logging.getLogger(__name__)


class Fed(Protocol):
    """What the intake needs of an observer."""

    on_run_trace: Callable[[RunTrace], None]
    tick_s: float

    @property
    def holds(self) -> bool: ...
    def feed(self, worker: str, frame: Frame) -> None: ...
    def disconnected(self, worker: str, now_ns: int) -> None: ...
    def tick(self, now_ns: int) -> None: ...
    def close(self) -> None: ...
    def run_traces(self) -> list[RunTrace]: ...
    def metrics(self) -> list[Family]: ...
    def take_processes(self, processes: list[Family]) -> None: ...
    def take_log(self, payload: bytes) -> None: ...


class Intake:
    """The connections of an observer."""

    def __init__(self, observer: Fed) -> None:
        self.observer = observer
        self.connections: dict[str, _Connection] = {}
        self.idle = asyncio.Event()
        """No connection is open."""
        self._ticks: asyncio.TimerHandle | None = None
        self._open = 0
        observer.on_run_trace = self._broadcast
        self.idle.set()

    def start(self) -> None:
        """Begin to tick."""
        self._tick()

    def stop(self) -> None:
        """No more ticks."""
        if self._ticks is not None:
            self._ticks.cancel()

    def opened(self) -> None:
        """A connection was made."""
        self._open += 1
        self.idle.clear()

    def closed(self, connection: "_Connection") -> None:
        """A connection has ended."""
        self._open -= 1
        if not self._open:
            self.idle.set()
        worker = connection.worker
        if worker is not None and self.connections.get(worker) is connection:
            del self.connections[worker]
            self.observer.disconnected(worker, monotonic_ns())

    def greeted(self, connection: "_Connection", worker: str) -> None:
        """A relay said its name."""
        self.connections[worker] = connection
        for record in self.observer.run_traces():
            connection.tell(record)

    def _broadcast(self, record: RunTrace) -> None:
        for connection in self.connections.values():
            connection.tell(record)

    def _tick(self) -> None:
        self.observer.tick(monotonic_ns())
        pause_s = HOLD_TICK_S if self.observer.holds else self.observer.tick_s
        self._ticks = asyncio.get_running_loop().call_later(pause_s, self._tick)

    def hurry(self) -> None:
        """A call waits for its place: tick sooner."""
        self.stop()
        self._ticks = asyncio.get_running_loop().call_later(HOLD_TICK_S, self._tick)


class _Connection(asyncio.Protocol):
    """One relay."""

    def __init__(self, intake: Intake) -> None:
        self.worker: str | None = None
        self._intake = intake
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._intake.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.closed(self)

    def data_received(self, data: bytes) -> None:
        observer = self._intake.observer
        held = observer.holds
        try:
            for frame in self._decoder.feed(data):
                if frame.kind in _OF_NO_CALL:
                    self._answer(observer, frame)
                    continue
                if self.worker is None or frame.kind == Kind.HELLO:
                    self._greet(frame)
                observer.feed(self.worker or "", frame)
        except (ValueError, msgspec.MsgspecError) as exc:
            logger.warning("a relay's frames cannot be read (%s): its connection is closed", exc)
            if self._transport is not None:
                self._transport.abort()
        if observer.holds and not held:
            self._intake.hurry()

    def _answer(self, observer: Fed, frame: Frame) -> None:
        """Take what is told, and answer what is asked, by others than relays."""
        if frame.kind == Kind.METRICS:
            self._send(Kind.ALL_METRICS, _encode_families(observer.metrics()))
            return
        if frame.kind == Kind.LOG:
            observer.take_log(frame.payload)
            return
        if frame.kind == Kind.PROCESSES:
            observer.take_processes(_decode_families(frame.payload))
        else:
            observer.feed("", frame)
        self._send(Kind.TAKEN)

    def tell(self, record: RunTrace) -> None:
        """Send the trace of a run."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() < TRACES_BYTES:
            self._send(Kind.RUN_TRACE, encode_record(record))

    def _send(self, kind: Kind, payload: bytes = b"") -> None:
        if self._transport is not None:
            self._transport.write(encode(kind, 0, monotonic_ns(), payload))

    def _greet(self, frame: Frame) -> None:
        if frame.kind != Kind.HELLO:
            raise ValueError("no greeting")
        self.worker = _decode_hello(frame.payload).worker
        self._intake.greeted(self, self.worker)


async def run_observer(observer: Fed, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve relays until `stop`; then take what they still send, and close the observer.

    Args:
        listener: a listening Unix socket.
    """
    gc.collect()
    gc.freeze()
    # Spans are many small objects without cycles: encoding them must not set off a collection each time.
    gc.set_threshold(50_000, 20, 20)
    intake = Intake(observer)
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(intake), sock=listener)
    intake.start()
    try:
        await stop.wait()
        # A relay that connected just now is accepted before the loop comes to rest.
        await asyncio.sleep(0.02)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(intake.idle.wait(), DRAIN_S)
    finally:
        intake.stop()
        server.close()
        await asyncio.to_thread(observer.close)
