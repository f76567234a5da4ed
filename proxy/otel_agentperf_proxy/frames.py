"""The wire format between relay and observer: length-prefixed frames over a local stream socket.

A frame is `HEADER` (payload length, kind, call number, time) and its payload. Kinds whose payload is a record carry it
as MessagePack; body kinds carry raw bytes. Call numbers are unique within one relay process (its `Hello.worker`).
Times are CLOCK_MONOTONIC nanoseconds of the host. A connection starts with HELLO from the relay.

Pure: bytes in, frames out; any split of the byte stream gives the same frames.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

HEADER: Final = struct.Struct("<IBQQ")
"""Payload length in bytes, kind, call number, time in ns."""

MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""A longer length field means that the stream is out of step."""


class Kind(IntEnum):
    """Frame kinds; from 100 on they go from observer to relay."""

    HELLO = 0
    OPEN = 1
    REQUEST_BODY = 2
    REQUEST_END = 3
    RESPONSE_HEAD = 4
    RESPONSE_BODY = 5
    END = 6
    GAP = 7
    """Frames of the call before this one did not fit the channel; no payload."""
    TASK_OUTCOME = 8
    """Concerns no call, and needs no greeting; answered with TAKEN when it is in the store."""
    BATCH = 9
    """Short frames in one: MessagePack of their list."""
    METRICS = 10
    """Asks for the observer's metrics, without a payload. Concerns no call, needs no greeting; answered with
    ALL_METRICS."""
    PROCESSES = 11
    """What the supervisor tells of the processes: MessagePack of metric families. Concerns no call, needs no greeting;
    answered with TAKEN."""
    LOG = 12
    """A log record of another process: MessagePack of `log_records.Entry`. Concerns no call, needs no greeting, is not
    answered."""
    RUN_TRACE = 100
    TAKEN = 101
    """No payload."""
    ALL_METRICS = 102
    """MessagePack of metric families."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """First frame of a connection."""

    worker: str
    """Unique name of this relay process over its lifetime."""
    pid: int


class Open(msgspec.Struct, frozen=True, array_like=True):
    """A request head was received; the frame's time is t0."""

    method: str
    path: str
    """As forwarded (launcher prefix removed), without the query."""
    headers: list[tuple[bytes, bytes]]
    """Request headers without credentials and cookies."""
    tags: dict[str, str]
    """Launcher tags by the names of `semconv.LAUNCHER_TAGS`."""
    tenant: str
    """Keyed hash of the credential and the upstream, 16 hex digits."""
    server_address: str
    server_port: int
    trace_id: bytes
    """16 bytes; of the context forwarded to the upstream."""
    span_id: bytes
    """8 bytes; the call's own span."""
    parent_span_id: bytes | None = None
    """8 bytes; the client's span when it sent a `traceparent`: the call's span is its child."""
    sampled: bool = True
    tracestate: str = ""
    identity_key: str | None = None
    """Key of the explicit identity under which the relay chose `trace_id`; None without one."""
    resumed: bool = False
    """Sent again to a restarted observer: earlier frames of this call are lost."""
    client: str = ""
    """Address of the client, without its port; empty when it is not known."""


class ResponseHead(msgspec.Struct, frozen=True, array_like=True):
    """The upstream's response head was read."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Without `set-cookie`."""


class Outcome:
    """How an exchange ended, as the relay saw it."""

    COMPLETE: Final = "complete"
    """The whole response reached the client."""
    CLIENT_DISCONNECTED: Final = "client_disconnected"
    UPSTREAM_FAILED: Final = "upstream_failed"
    """No or a broken response; `End.error_type` says which."""
    SHUTDOWN: Final = "shutdown"
    """The proxy was told to end before the exchange had."""


class End(msgspec.Struct, frozen=True, array_like=True):
    """The exchange is over; the frame's time is `te`. Complete by itself, whatever frames were lost before."""

    outcome: str
    error_type: str | None
    """One of `semconv.ErrorType`, or None."""
    status: int | None
    """HTTP status sent to the client (the upstream's, or 502/504 of our own); None when none was."""
    request_bytes: int
    response_bytes: int
    """Response body bytes read from the upstream."""
    sent_ns: int | None
    """Last request byte handed to the upstream's socket."""
    upload_ns: int
    """Time spent waiting for the client's request body."""
    first_chunk_ns: int | None
    """First response body bytes read from the upstream."""
    last_chunk_ns: int | None
    overhead_ns: int | None
    """See `semconv.PROXY_OVERHEAD_S`."""
    dropped_frames: int
    """Frames of this call that did not fit the channel."""
    unread_bytes: int
    """Body bytes past the observation limit, not sent to the observer."""


class TaskOutcome(msgspec.Struct, frozen=True, array_like=True):
    """Somebody judged what a trajectory came to; the frame's time is when it was told."""

    trajectory_id: str
    outcome: str
    """`semconv.OUTCOME_SUCCESS` or `OUTCOME_FAILURE`."""
    score: float | None = None
    tenant: str | None = None
    """As in `Open`."""


class RunTrace(msgspec.Struct, frozen=True, array_like=True):
    """Observer to relay: the trace of the open agent run of an identity; `trace_id` None when the run has closed."""

    identity_key: str
    trace_id: bytes | None


class Frame(NamedTuple):
    """One decoded frame."""

    kind: int
    call: int
    time_ns: int
    payload: bytes


class FrameDecoder:
    """Cuts a byte stream into frames; feed it any split.

    Raises:
        ValueError: a length field above `MAX_PAYLOAD`, or a batch that is none: the stream is out of step and the
            connection is of no more use.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes."""
        buffer = self._buffer
        buffer += data
        at = 0
        size = HEADER.size
        try:
            while len(buffer) - at >= size:
                length, kind, call, time_ns = HEADER.unpack_from(buffer, at)
                if length > MAX_PAYLOAD:
                    raise ValueError(f"frame of {length} bytes")
                stop = at + size + length
                if len(buffer) < stop:
                    break
                payload = bytes(memoryview(buffer)[at + size : stop])
                at = stop
                if kind == Kind.BATCH:
                    yield from _decode_batch(payload)
                else:
                    yield Frame(kind, call, time_ns, payload)
        finally:
            del buffer[:at]


def encode(kind: Kind, call: int, time_ns: int, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return HEADER.pack(len(payload), kind, call, time_ns) + payload


encode_record = msgspec.msgpack.Encoder().encode
"""MessagePack of one of the records above."""

_encode_batch: Final = msgspec.msgpack.Encoder().encode
_decode_batch: Final = msgspec.msgpack.Decoder(list[Frame]).decode


def encode_batch(frames: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """Frames, by the fields of `Frame`, as one: a fraction of the work of each for itself, on both ends."""
    return encode(Kind.BATCH, 0, 0, _encode_batch(frames))
