"""Segments of the embedded store: one file each, its sealing, and what becomes of it later."""

import contextlib
import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from time import time
from typing import Final

import zstandard

SEALED: Final = ".zst"
PATTERN: Final = "spans-*.jsonl"
LEVEL: Final = 3
"""zstd level: spans shrink to less than a tenth at some hundreds of MB per second."""

SWEEP_S: Final = 30.0
"""How often the directory is looked through."""

logger = logging.getLogger(__name__)


def new_instance() -> str:
    """A name for a writer that no other one has, in the order of the starts."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}_{secrets.token_hex(4)}"


class Segment:
    """A file that this process writes lines to, locked as long as it is open."""

    def __init__(self, path: Path, descriptor: int, opened_s: float) -> None:
        self.path = path
        self.descriptor = descriptor
        self.opened_s = opened_s
        self.size = 0
        """Bytes of whole lines."""

    @classmethod
    def create(cls, path: Path, *, opened_s: float) -> "Segment | None":
        """A new segment; None when the name is taken. Raises OSError when no file can be made."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            return None
        try:
            # Another process may take the new file for one that a dead writer left, until it is locked.
            stolen = not lock(descriptor) or is_gone(path, descriptor)
        except OSError:
            # A file system without locks: nobody takes over anything there.
            stolen = False
        if stolen:
            os.close(descriptor)
            return None
        return cls(path, descriptor, opened_s)

    def append(self, line: bytes) -> None:
        """Write a whole line; raises OSError, and then a part of it may have been written."""
        view = memoryview(line)
        while view:
            view = view[os.write(self.descriptor, view) :]
        self.size += len(line)

    def undo(self) -> bool:
        """Take back what was written of a line; whether that worked."""
        try:
            os.ftruncate(self.descriptor, self.size)
        except OSError:
            return False
        return True

    def is_gone(self) -> bool:
        """Whether somebody removed the file."""
        return is_gone(self.path, self.descriptor)


def lock(descriptor: int) -> bool:
    """Take the lock of a segment; False when its writer lives. The kernel lets go of it when a process ends.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_gone(path: Path, descriptor: int) -> bool:
    """Whether the path leads to another file than the open one, or to none."""
    try:
        return not os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return True


class Sealer:
    """Compresses segments in a thread of its own, takes over those of dead writers, deletes those past the limits.

    Nothing here raises; what could not be sealed stays as it is, readable, and is tried again later.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int | None,
        max_age_s: float | None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._swept_s = clock()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._sealed = self._deleted = self._errors = 0

    def seal(self, segment: Segment) -> None:
        """Compress a segment of this process; an empty one is removed."""
        self._run(lambda: self._seal(segment.path, segment.descriptor, own=True))

    def sweep(self) -> None:
        """Look for work in the directory."""
        self._swept_s = self._clock()
        self._run(self._sweep)

    def tick(self) -> None:
        """`sweep`, when it is time to."""
        if not 0 <= self._clock() - self._swept_s < SWEEP_S:
            self.sweep()

    def close(self) -> None:
        """Wait until all is done."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None

    def stats(self) -> dict[str, int]:
        """Counts since the start."""
        return {"segments_sealed": self._sealed, "segments_deleted": self._deleted, "seal_errors": self._errors}

    def _run(self, task: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="store-sealer", daemon=True)
            self._thread.start()
        self._tasks.put(task)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except OSError as exc:
                self._failed(exc)

    def _failed(self, exc: OSError) -> None:
        self._errors += 1
        if self._errors == 1:
            reason = (exc.strerror or str(exc)).lower()
            logger.warning("cannot seal segments of the trace store %s: %s", self._directory, reason)

    def _sweep(self) -> None:
        for path in sorted(self._directory.glob(PATTERN)):
            try:
                self._seal(path, os.open(path, os.O_RDWR), own=False)
            except FileNotFoundError:
                continue
            except OSError as exc:
                self._failed(exc)
        self._delete()

    def _seal(self, path: Path, descriptor: int, *, own: bool) -> None:
        """Compress an open file to its sealed name, then remove it; the descriptor is closed."""
        with os.fdopen(descriptor, "rb") as source:
            # Whoever holds the lock is the only one to do this, and did not when the file is still there.
            if not (own or lock(descriptor)) or is_gone(path, descriptor):
                return
            sealed = path.with_name(path.name + SEALED)
            if sealed.exists() or not (size := os.fstat(descriptor).st_size):
                path.unlink()
                return
            source.seek(0)
            partial = path.with_name(f".{path.name}{SEALED}.tmp")
            try:
                with partial.open("wb") as target:
                    zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).copy_stream(source, target, size=size)
                    target.flush()
                    os.fsync(target.fileno())
                # The time of its last span, for the limit of the age.
                stat = os.fstat(descriptor)
                os.utime(partial, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                partial.rename(sealed)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            path.unlink()
            self._sealed += 1
        self._delete()

    def _delete(self) -> None:
        """Delete sealed segments, the oldest first."""
        if self._max_bytes is None and self._max_age_s is None:
            return
        found = []
        for path in self._directory.glob(PATTERN + "*"):
            with contextlib.suppress(OSError):
                found.append((path.stat(), path))
        total = sum(stat.st_size for stat, _ in found)
        for stat, path in sorted(found, key=lambda item: item[0].st_mtime_ns):
            too_old = self._max_age_s is not None and self._clock() - stat.st_mtime > self._max_age_s
            too_much = self._max_bytes is not None and total > self._max_bytes
            if path.suffix == SEALED and (too_old or too_much):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    self._deleted += 1
                    total -= stat.st_size
