"""What a relay needs of the way to its observer, and the ways that are not a channel: in one process, and none."""

from collections.abc import Callable
from typing import Final, Protocol

from otel_agentperf_proxy.frames import End, Frame, Kind, Open, RunTrace, encode_record

TRACES_LIMIT: Final = 200_000
"""Identities whose trace a relay remembers."""


class Sink(Protocol):
    """What a relay needs of the way to its observer."""

    traces: dict[str, bytes]
    """Trace of the open agent run of an identity key, as far as known."""

    def open(self, call: int, time_ns: int, record: Open) -> None:
        """A call began."""

    def put(self, kind: int, call: int, time_ns: int, payload: bytes) -> bool:
        """Something happened to a call, a `Kind` as a plain number; False when it had to be dropped."""

    def end(self, call: int, time_ns: int, record: End) -> None:
        """A call ended."""

    def stats(self) -> dict[str, int]:
        """Counters since the start, and the present state."""


class Consumer(Protocol):
    """An observer in the same process."""

    on_run_trace: Callable[[RunTrace], None]
    """Called with the trace of a run that opened, moved to another trace or closed."""

    def feed(self, worker: str, frame: Frame) -> None:
        """Take one frame."""


class InlineChannel:
    """Hands frames to an observer in the same process, at once: for tests and for embedding."""

    def __init__(self, observer: Consumer, worker: str = "inline") -> None:
        self._observer = observer
        self._worker = worker
        self.traces: dict[str, bytes] = {}
        self.frames = 0
        observer.on_run_trace = self._run_trace

    def open(self, call: int, time_ns: int, record: Open) -> None:
        self.put(Kind.OPEN, call, time_ns, encode_record(record))

    def put(self, kind: int, call: int, time_ns: int, payload: bytes) -> bool:
        self.frames += 1
        self._observer.feed(self._worker, Frame(kind, call, time_ns, payload))
        return True

    def end(self, call: int, time_ns: int, record: End) -> None:
        self.put(Kind.END, call, time_ns, encode_record(record))

    def stats(self) -> dict[str, int]:
        return {"connected": 1, "frames": self.frames, "frames_dropped": 0}

    def _run_trace(self, record: RunTrace) -> None:
        note(self.traces, record)


class Nowhere:
    """The sink of a relay that observes nothing."""

    def __init__(self) -> None:
        self.traces: dict[str, bytes] = {}

    def open(self, call: int, time_ns: int, record: Open) -> None:
        pass

    def put(self, kind: int, call: int, time_ns: int, payload: bytes) -> bool:
        return True

    def end(self, call: int, time_ns: int, record: End) -> None:
        pass

    def stats(self) -> dict[str, int]:
        return {"connected": 0, "frames": 0, "frames_dropped": 0}


def note(traces: dict[str, bytes], record: RunTrace) -> None:
    """Take over what the observer tells of a run."""
    if record.trace_id is None:
        traces.pop(record.identity_key, None)
    else:
        remember(traces, record.identity_key, record.trace_id)


def remember(traces: dict[str, bytes], key: str, trace_id: bytes) -> None:
    """Note the trace of an identity; the oldest entries go when there are too many."""
    traces.pop(key, None)
    if len(traces) >= TRACES_LIMIT:
        del traces[next(iter(traces))]
    traces[key] = trace_id
