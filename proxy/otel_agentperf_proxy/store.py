"""The embedded trace store: a directory of OTLP/JSON lines, the format of the OpenTelemetry collector's file exporter.

    store.json                          format version and the key of hashes, mode 0600
    spans-<instance>-<seq>.jsonl        being written; its writer holds an flock on it
    spans-<instance>-<seq>.jsonl.zst    sealed; where both are there, this one is complete and the other on its way out

Each line is one `{"resourceSpans": [...]}`. Every writer has an instance name of its own, so any number of them can
share a directory. A writer that dies leaves its last line torn at most: readers skip and count it.
"""

import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, Final

import msgspec
from opentelemetry.sdk.trace import ReadableSpan

from otel_agentperf.errors import StoreError
from otel_agentperf_proxy.otlp_json import encode
from otel_agentperf_proxy.segments import Sealer, Segment, new_instance

FORMAT: Final = 1
"""Version of the directory's layout."""

INFO: Final = "store.json"
SALT_BYTES: Final = 32

SPANS_PER_LINE: Final = 256
"""A torn line costs no more than this."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store that can be written to."""

    directory: Path
    salt_hex: str
    """Key of the hashes of credentials, 32 random bytes: equal credentials have equal hashes within one store only."""


class _Info(msgspec.Struct):
    format: int
    salt: str


def prepare(directory: Path) -> StoreInfo:
    """Open a store, made when it is not there.

    Raises:
        StoreError: the directory cannot be written, or holds a store of another format.
    """
    path = directory / INFO
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create_info(path)
        info = _read_info(path)
        # Only trying tells whether a file can be made: permissions, a read-only or a full file system.
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as exc:
        raise _unwritable(directory, exc) from exc
    if info.format != FORMAT:
        raise StoreError(f"{path} is of format {info.format}, not {FORMAT}: name another store with --store DIR")
    return StoreInfo(directory, info.salt)


def _unwritable(directory: Path, exc: OSError) -> StoreError:
    reason = (exc.strerror or str(exc)).lower()
    return StoreError(f"cannot write the trace store {directory}: {reason}; name another one with --store DIR")


def _create_info(path: Path) -> None:
    """Write `store.json` unless another process does at the same time: it appears whole, and once."""
    text = msgspec.json.encode(_Info(FORMAT, secrets.token_hex(SALT_BYTES))) + b"\n"
    descriptor, name = tempfile.mkstemp(prefix=".store-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            try:
                os.link(name, path)
            except FileExistsError:
                raise
            except OSError:
                # A file system without hard links.
                _create_exclusively(path, text)
    finally:
        os.unlink(name)


def _create_exclusively(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)


def _read_info(path: Path) -> _Info:
    # Where there are no hard links, the process that makes the file may be about to write it.
    for _ in range(20):
        if text := path.read_bytes():
            break
        sleep(0.01)
    try:
        info = msgspec.json.decode(text, type=_Info)
        if len(bytes.fromhex(info.salt)) < 16:
            raise ValueError("short key")
    except ValueError as exc:
        raise StoreError(f"{path} is damaged ({exc}): remove it, or name another store with --store DIR") from exc
    return info


def lines(spans: Sequence[ReadableSpan]) -> Iterator[tuple[bytes | None, int]]:
    """The spans as lines, each with the number of its spans; None for spans that cannot be encoded."""
    for start in range(0, len(spans), SPANS_PER_LINE):
        batch = spans[start : start + SPANS_PER_LINE]
        try:
            yield encode(batch), len(batch)
        except Exception as exc:
            if len(batch) == 1:
                logger.error("cannot encode the span %r: %s", batch[0].name, exc)
                yield None, 1
            else:
                # One span must not cost the others.
                for span in batch:
                    yield from lines([span])


class SegmentWriter:
    """Writes the spans of one process into a store. Not thread-safe. After the start nothing raises: what cannot be
    written is lost, counted, and warned about once until it works again.

    Args:
        directory: of the store, prepared.
        rotate_bytes: a segment of this size is sealed.
        rotate_s: a segment of this age is sealed.
        max_bytes: the oldest sealed segments are deleted while the store is larger than this; None keeps all.
        max_age_s: sealed segments whose last span is older than this are deleted; None keeps all.

    Raises:
        StoreError: no segment can be made.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rotate_bytes: int = 64 * 1024 * 1024,
        rotate_s: float = 3600.0,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self._directory = directory
        self._rotate_bytes = rotate_bytes
        self._rotate_s = rotate_s
        self._clock = clock
        self._instance = new_instance()
        self._sequence = 0
        self._sealer = Sealer(directory, max_bytes=max_bytes, max_age_s=max_age_s, clock=wall_clock)
        self._failing: str | None = None
        self._lost_since = 0
        self._counts = {"spans_written": 0, "spans_lost": 0, "bytes_written": 0, "write_errors": 0}
        try:
            self._segment: Segment | None = self._open()
        except OSError as exc:
            raise _unwritable(directory, exc) from exc
        self._sealer.sweep()

    def write(self, spans: Sequence[ReadableSpan]) -> None:
        """Append spans, so that they survive the end of this process, however it comes."""
        for line, count in lines(spans):
            if line is None:
                self._counts["spans_lost"] += count
                continue
            try:
                self._append(line)
            except OSError as exc:
                self._failed(exc, count)
            else:
                self._counts["spans_written"] += count
                self._counts["bytes_written"] += len(line)
                self._works()

    def tick(self) -> None:
        """Seal by age, take over what dead writers left, delete what is past the limits."""
        segment = self._segment
        if segment is not None and (self._clock() - segment.opened_s >= self._rotate_s or segment.is_gone()):
            self._seal(segment)
        self._sealer.tick()

    def close(self) -> None:
        """Seal the segment and wait for what is being sealed."""
        if self._segment is not None:
            self._seal(self._segment)
        self._sealer.close()

    def stats(self) -> dict[str, Any]:
        """Counts since the start; `failing` says why nothing can be written at present."""
        return {**self._counts, **self._sealer.stats(), "failing": self._failing}

    def _append(self, line: bytes) -> None:
        segment = self._segment
        if segment is not None and segment.size and segment.size + len(line) > self._rotate_bytes:
            self._seal(segment)
        if self._segment is None:
            self._segment = self._open()
        self._segment.append(line)

    def _open(self) -> Segment:
        self._directory.mkdir(parents=True, exist_ok=True)
        while True:
            path = self._directory / f"spans-{self._instance}-{self._sequence:06d}.jsonl"
            self._sequence += 1
            if (segment := Segment.create(path, opened_s=self._clock())) is not None:
                return segment

    def _seal(self, segment: Segment) -> None:
        self._segment = None
        self._sealer.seal(segment)

    def _failed(self, exc: OSError, spans: int) -> None:
        self._counts["write_errors"] += 1
        self._counts["spans_lost"] += spans
        self._lost_since += spans
        reason = (exc.strerror or str(exc)).lower()
        if self._failing is None:
            logger.warning(
                "cannot write the trace store %s: %s; spans are lost until it works again", self._directory, reason
            )
        self._failing = reason
        # The torn end of a line must not swallow the next one.
        if self._segment is not None and not self._segment.undo():
            self._seal(self._segment)

    def _works(self) -> None:
        if self._failing is not None:
            logger.warning("the trace store %s works again; %d spans were lost", self._directory, self._lost_since)
            self._failing, self._lost_since = None, 0


def append_spans(directory: Path, spans: Sequence[ReadableSpan]) -> None:
    """Add spans to a store, in a segment of their own.

    Raises:
        StoreError: the store cannot be written.
    """
    prepare(directory)
    writer = SegmentWriter(directory)
    writer.write(spans)
    writer.close()
    if lost := writer.stats()["spans_lost"]:
        raise StoreError(f"{lost} of {len(spans)} spans could not be written to the trace store {directory}")
