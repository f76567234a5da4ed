"""From relay to observer: a bounded, counted, never-awaited channel.

The byte path only appends to a list; a timer of a few milliseconds hands what has gathered to a non-blocking socket.
When the observer is slow the list grows up to a bound, then body frames are dropped and counted on their call. When it
is dead, or so far behind that not even an OPEN fits, the relay keeps each open call's OPEN record and, for calls that
end meanwhile, their END: the observer gets them when it is back, so every call still leaves its span.
"""

import asyncio
import logging
import os
import socket
from collections import deque
from time import monotonic_ns
from typing import Final

import msgspec

from otel_agentperf_proxy.frames import (
    HEADER,
    End,
    FrameDecoder,
    Hello,
    Kind,
    Open,
    RunTrace,
    encode_batch,
    encode_record,
)
from otel_agentperf_proxy.sinks import note

FLUSH_S: Final = 0.01
"""How long frames gather before they are sent; ten thousand chunks per second make a hundred frames a batch."""

FLUSH_BYTES: Final = 256 * 1024
"""More than this is sent without waiting; also the size of one send, so that a backlog never holds the loop up."""

COPIED_BYTES: Final = 16 * 1024
"""A longer payload is handed to the kernel from where it lies; shorter ones go into batches."""

SOCKET_BYTES: Final = 1024 * 1024
"""Send buffer asked of the kernel."""

RETRY_S: Final = 0.05

CLOSE_S: Final = 8.0
"""How long the observer may take to read what waits in the end: on a machine that is overloaded it comes last."""

WARN_S: Final = 10.0
"""How often a channel that drops says so."""

MISSED_LIMIT: Final = 100_000
"""Ended calls kept for an observer that is not there; the oldest go, counted as lost."""

MISSED_BATCH: Final = 64
"""Of these, how many are told in one go."""

_HEADER_BYTES: Final = HEADER.size
_OPEN: Final = Kind.OPEN.value
_GAP: Final = Kind.GAP.value
_END: Final = Kind.END.value

_decode_open = msgspec.msgpack.Decoder(Open).decode
_decode_run_trace = msgspec.msgpack.Decoder(RunTrace).decode

_Ended = tuple[int, int, bytes, int, bytes]
"""A call that ended: its number, t0, OPEN, te, END; the records as they are sent."""

_Frame = tuple[int, int, int, bytes]
"""The fields of `Frame`. The encoder takes plain numbers at a fraction of an enum's cost."""

logger = logging.getLogger(__name__)


class Channel:
    """The channel to an observer process listening on a Unix socket.

    Args:
        path: the socket.
        worker: unique name of this relay.
        limit_bytes: frames that may wait; above it body frames are dropped.
    """

    def __init__(self, path: str, worker: str, *, limit_bytes: int) -> None:
        self._path = path
        self._hello = encode_record(Hello(worker=worker, pid=os.getpid()))
        self._limit = limit_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sock: socket.socket | None = None
        self._frames: list[_Frame] = []
        """The short frames of the batch that gathers."""
        self._ready: deque[tuple[list[_Frame], int]] = deque()
        """Batches before it, and long frames by themselves, with what part of `_waiting` they are."""
        self._waiting = 0
        """Bytes of the frames that the socket has not taken, each with a header of its own."""
        self._closed = 0
        """Part of `_waiting` that gathers no more."""
        self._sending: deque[tuple[bytes | memoryview, int, int]] = deque()
        """What is being sent, piece by piece: the bytes, and what part of `_waiting` and how many frames they are."""
        self._timer: asyncio.Handle | None = None
        self._decoder = FrameDecoder()
        self._open: dict[int, tuple[int, bytes]] = {}
        self._unopened: set[int] = set()
        """Open calls whose OPEN did not fit."""
        self._gapped: set[int] = set()
        self._hindered = True
        """There is no connection, or a call's frames have gone missing."""
        self._taken = 0
        """Bytes of frames that sockets took, as `_waiting` counts them."""
        self._unsent_ends: deque[tuple[int, _Ended]] = deque()
        """Ends that the socket did not take yet, with what `_taken` will be after them."""
        self._missed: deque[_Ended] = deque(maxlen=MISSED_LIMIT)
        self._reconnect: asyncio.TimerHandle | None = None
        self._warning: asyncio.TimerHandle | None = None
        self._told_drops = 0
        self._closing = False
        self.traces: dict[str, bytes] = {}
        self._batched_frames = 0
        self.dropped_frames = 0
        self.calls_lost = 0
        self.connects = 0

    # The byte path. What is done for each frame is written out, for it costs more than all the rest.

    def open(self, call: int, time_ns: int, record: Open) -> None:
        payload = encode_record(record)
        self._open[call] = (time_ns, payload)
        if self._sock is None:
            return
        if self._waiting > self._limit:
            self._unopened.add(call)
            self._hindered = True
        else:
            self._append(_OPEN, call, time_ns, payload)

    def put(self, kind: int, call: int, time_ns: int, payload: bytes) -> bool:
        if (self._hindered or self._waiting > self._limit) and not self._makes_room(call, time_ns):
            return False
        size = _HEADER_BYTES + len(payload)
        if size > COPIED_BYTES:
            self._append_long((kind, call, time_ns, payload))
        else:
            self._frames.append((kind, call, time_ns, payload))
            self._waiting += size
        if self._timer is None:
            self._flush_later()
        elif self._waiting - size <= FLUSH_BYTES < self._waiting:
            self._flush_soon()
        return True

    def end(self, call: int, time_ns: int, record: End) -> None:
        opened_ns, opened = self._open.pop(call)
        ended = (call, opened_ns, opened, time_ns, encode_record(record))
        if self._hindered:
            if self._sock is None or call in self._unopened:
                self._unopened.discard(call)
                self._gapped.discard(call)
                self._miss(ended)
                self._note_hindrance()
                return
            if call in self._gapped:
                self._tell_gap(call, time_ns)
        self._append_end(ended)

    def _makes_room(self, call: int, time_ns: int) -> bool:
        """Whether a frame can be put all the same; counts it as dropped where it cannot."""
        if self._sock is None or self._waiting > self._limit:
            self.dropped_frames += 1
            self._gapped.add(call)
            self._hindered = True
            if self._warning is None:
                self._warn()
            return False
        if call in self._unopened:
            self._unopened.discard(call)
            self._resume(call, *self._open[call])
        if call in self._gapped:
            self._tell_gap(call, time_ns)
        self._note_hindrance()
        return True

    def _note_hindrance(self) -> None:
        self._hindered = self._sock is None or bool(self._unopened) or bool(self._gapped)

    @property
    def frames(self) -> int:
        """Frames that were taken on."""
        return self._batched_frames + len(self._frames)

    def stats(self) -> dict[str, int]:
        return {
            "connected": int(self._sock is not None),
            "connects": self.connects,
            "frames": self.frames,
            "frames_dropped": self.dropped_frames,
            "calls_lost": self.calls_lost,
            "waiting_bytes": self._waiting,
            "open_calls": len(self._open),
        }

    def _tell_gap(self, call: int, time_ns: int) -> None:
        """Say where frames are missing, so that the observer trusts nothing across the gap."""
        self._gapped.discard(call)
        self._append(_GAP, call, time_ns, b"")
        self._note_hindrance()

    def _resume(self, call: int, opened_ns: int, opened: bytes) -> None:
        """Tell of a call whose earlier frames are lost."""
        record = msgspec.structs.replace(_decode_open(opened), resumed=True)
        self._append(_OPEN, call, opened_ns, encode_record(record))

    def _append(self, kind: int, call: int, time_ns: int, payload: bytes) -> None:
        """Take on a frame, whatever waits."""
        if len(payload) > COPIED_BYTES:
            self._append_long((kind, call, time_ns, payload))
        else:
            self._frames.append((kind, call, time_ns, payload))
            self._waiting += _HEADER_BYTES + len(payload)
        if self._timer is None:
            self._flush_later()

    def _append_long(self, frame: _Frame) -> None:
        self._close_batch()
        size = _HEADER_BYTES + len(frame[3])
        self._ready.append(([frame], size))
        self._batched_frames += 1
        self._waiting += size
        self._closed = self._waiting

    def _append_end(self, ended: _Ended) -> None:
        call, _, _, time_ns, payload = ended
        self._append(_END, call, time_ns, payload)
        self._unsent_ends.append((self._taken + self._waiting, ended))

    def _append_missed(self) -> None:
        """Tell of some of the calls that ended unobserved, where there is room."""
        for _ in range(min(MISSED_BATCH, len(self._missed))):
            if self._waiting > self._limit:
                break
            ended = self._missed.popleft()
            self._resume(*ended[:3])
            self._append_end(ended)

    # The connection.

    def start(self) -> None:
        """Connect, at once where the observer's socket is there; needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._connect()

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what waits, within a time limit, and close."""
        until = monotonic_ns() + int(timeout_s * 1e9)
        while (self._waiting or self._missed) and monotonic_ns() < until:
            self._flush()
            await asyncio.sleep(0.002)
        self._closing = True
        self._disconnect()
        self.calls_lost += len(self._missed)
        if self._missed:
            logger.warning("the observer is not there: %d ended calls leave no span", len(self._missed))
        for timer in (self._reconnect, self._warning):
            if timer is not None:
                timer.cancel()

    def _connect(self) -> None:
        self._reconnect = None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            # A local connection is made at once or refused at once, whether the observer accepts already or not.
            sock.connect(self._path)
        except OSError:
            sock.close()
            self._connect_later()
        else:
            self._connected(sock)

    def _connect_later(self) -> None:
        if not self._closing and self._reconnect is None and self._loop is not None:
            self._reconnect = self._loop.call_later(RETRY_S, self._connect)

    def _warn(self) -> None:
        """Say how many frames were dropped since the last warning, and again while it goes on."""
        self._warning = None
        count = self.dropped_frames - self._told_drops
        if count and self._loop is not None:
            why = "is behind" if self._sock is not None else "cannot be reached"
            logger.warning("the observer %s: %d frames dropped, some spans will be partial", why, count)
            self._told_drops = self.dropped_frames
            self._warning = self._loop.call_later(WARN_S, self._warn)

    def _connected(self, sock: socket.socket) -> None:
        assert self._loop is not None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self._sock = sock
        self.connects += 1
        self._decoder = FrameDecoder()
        self._note_hindrance()
        self._append(Kind.HELLO.value, 0, monotonic_ns(), self._hello)
        if self.connects > 1:
            for call, (opened_ns, opened) in self._open.items():
                self._resume(call, opened_ns, opened)
        else:
            for call, (opened_ns, opened) in self._open.items():
                # Calls that began before the first connection lost body frames, unless nothing was put yet; their END
                # tells how many.
                self._append(_OPEN, call, opened_ns, opened)
        self._loop.add_reader(sock.fileno(), self._readable)

    def _flush(self) -> None:
        """Hand one batch to the socket, and come back for more."""
        sock, loop = self._sock, self._loop
        if sock is None or loop is None:
            self._timer = None
            return
        self._append_missed()
        self._timer = None
        if not self._sending:
            if not self._waiting:
                return
            self._make_pieces()
        try:
            sent = sock.sendmsg([piece for piece, _, _ in self._sending])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._disconnect()
            return
        self._sent(sent)
        while self._unsent_ends and self._unsent_ends[0][0] <= self._taken:
            self._unsent_ends.popleft()
        if self._sending:
            loop.add_writer(sock.fileno(), self._writable)
        elif self._waiting or self._missed:
            self._flush_soon()

    def _close_batch(self) -> None:
        """Let no more gather in the present batch; one that is too much for one send becomes several."""
        frames, gathered = self._frames, self._waiting - self._closed
        if not frames:
            return
        self._frames = []
        self._closed = self._waiting
        self._batched_frames += len(frames)
        if gathered > FLUSH_BYTES:
            size = begin = 0
            for at, frame in enumerate(frames):
                if size > FLUSH_BYTES:
                    self._ready.append((frames[begin:at], size))
                    gathered -= size
                    size, begin = 0, at
                size += _HEADER_BYTES + len(frame[3])
            frames = frames[begin:]
        self._ready.append((frames, gathered))

    def _make_pieces(self) -> None:
        """What one send takes. The observer takes each piece whole, or not at all."""
        self._close_batch()
        ready, sending = self._ready, self._sending
        size = 0
        while ready and size < FLUSH_BYTES:
            frames, waited = ready.popleft()
            kind, call, time_ns, payload = frames[0]
            if len(payload) > COPIED_BYTES:
                sending.append((HEADER.pack(len(payload), kind, call, time_ns), 0, 0))
                sending.append((payload, waited, 1))
            else:
                sending.append((encode_batch(frames), waited, len(frames)))
            size += waited

    def _sent(self, size: int) -> None:
        """The socket took so many bytes."""
        sending = self._sending
        while sending:
            piece, waited, count = sending[0]
            if size < len(piece):
                if size:
                    sending[0] = (memoryview(piece)[size:], waited, count)
                return
            size -= len(piece)
            self._waiting -= waited
            self._closed -= waited
            self._taken += waited
            sending.popleft()

    def _flush_later(self) -> None:
        """Send what gathers in a while, unless the socket has to take something first."""
        if not self._sending and self._loop is not None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    def _flush_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._timer = self._loop.call_soon(self._flush)

    def _writable(self) -> None:
        if self._sock is not None and self._loop is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._flush()

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            return
        try:
            for frame in self._decoder.feed(data):
                if frame.kind == Kind.RUN_TRACE:
                    note(self.traces, _decode_run_trace(frame.payload))
        except (ValueError, msgspec.MsgspecError):
            self._disconnect()

    def _disconnect(self) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        if self._loop is not None:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
        sock.close()
        self.dropped_frames += len(self._frames) + sum(len(frames) for frames, _ in self._ready)
        self.dropped_frames += sum(count for _, _, count in self._sending)
        self._batched_frames += len(self._frames)
        self._frames.clear()
        self._ready.clear()
        self._sending.clear()
        self._waiting = self._closed = 0
        self._unopened.clear()
        self._hindered = True
        for _, ended in self._unsent_ends:
            self._miss(ended)
        self._unsent_ends.clear()
        self.traces.clear()
        self._connect_later()

    def _miss(self, ended: _Ended) -> None:
        if len(self._missed) == MISSED_LIMIT:
            self.calls_lost += 1
        self._missed.append(ended)
