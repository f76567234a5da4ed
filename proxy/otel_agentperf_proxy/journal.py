"""Where explicit trajectories outlive the observer: a small file of memos in the store's directory.

    trajectories-<instance>.memo   its writer holds an flock on it; one memo per line, the last one of a key counts

Memos are appended before the spans that they count, so after a crash an index may be missing and none is there twice. A
torn line at the end is skipped. A new observer takes over what dead ones left, those of other proxies on the directory
included; what living ones write is theirs. Past its bounds the file is written anew, with the latest memos only.
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import time_ns
from typing import Final

import msgspec

from otel_agentperf_proxy.segments import is_gone, lock, new_instance
from otel_agentperf_proxy.trajectory.memos import Memo

PATTERN: Final = "trajectories-*.memo"

MAX_MEMOS: Final = 10_000
"""Trajectories that outlive a restart, those that were active last: some 5 MB."""

MAX_AGE_NS: Final = 172_800 * 10**9
"""A trajectory without activity for so long begins anew."""

REWRITE_LINES: Final = 4 * MAX_MEMOS
"""The file is written anew when it has so many lines."""

logger = logging.getLogger(__name__)

_decode: Final = msgspec.json.Decoder(Memo).decode
_encode: Final = msgspec.json.Encoder().encode


class Journal:
    """The memos of one observer. Nothing raises: what cannot be written is warned about once, and not remembered."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / f"trajectories-{new_instance()}.memo"
        self._descriptor: int | None = None
        self._memos: dict[str, Memo] = {}
        """By key, what was told of last at the end."""
        self._lines = 0
        self._failing = False

    def open(self) -> list[Memo]:
        """Begin a file with what dead observers left; returns that, what was active last at the end."""
        left: list[Memo] = []
        taken: list[tuple[Path, int]] = []
        for path in sorted(self._directory.glob(PATTERN)):
            with contextlib.suppress(OSError):
                if (descriptor := _take(path)) is not None:
                    taken.append((path, descriptor))
                    left += _read(path)
        oldest_ns = time_ns() - MAX_AGE_NS
        for memo in sorted(left, key=lambda memo: memo.last_activity_unix_ns):
            if memo.last_activity_unix_ns >= oldest_ns:
                self._note(memo)
        self._append(b"")
        for path, descriptor in taken:
            if self._descriptor is not None:
                path.unlink(missing_ok=True)
            os.close(descriptor)
        return list(self._memos.values())

    def append(self, memos: Iterable[Memo]) -> None:
        """Remember trajectories as they are now."""
        lines = []
        for memo in memos:
            self._note(memo)
            lines.append(_line(memo))
        if lines:
            self._lines += len(lines)
            self._append(b"".join(lines))

    def close(self) -> None:
        """Let go of the file; it stays for the next observer."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _note(self, memo: Memo) -> None:
        self._memos.pop(memo.key, None)
        self._memos[memo.key] = memo
        if len(self._memos) > MAX_MEMOS:
            del self._memos[next(iter(self._memos))]

    def _append(self, lines: bytes) -> None:
        try:
            if self._descriptor is None or self._lines > REWRITE_LINES or is_gone(self._path, self._descriptor):
                self._rewrite()
            else:
                _write(self._descriptor, lines)
        except OSError as exc:
            if not self._failing:
                logger.warning("cannot write %s: %s; trajectories begin anew after a restart", self._path, exc)
            self._failing = True
        else:
            self._failing = False

    def _rewrite(self) -> None:
        """Write the file anew. It appears whole, and locked."""
        temporary = self._path.with_name(f".{self._path.name}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: nobody takes over anything there
                lock(descriptor)
            _write(descriptor, b"".join(map(_line, self._memos.values())))
            os.replace(temporary, self._path)
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self._lines = descriptor, len(self._memos)


def _take(path: Path) -> int | None:
    """Lock the file of a dead observer; None when its writer lives. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR)
    if lock(descriptor) and not is_gone(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _read(path: Path) -> Iterator[Memo]:
    for line in path.read_bytes().splitlines():
        try:
            yield _decode(line)
        except msgspec.MsgspecError:
            continue  # torn, or of another version


def _line(memo: Memo) -> bytes:
    return _encode(memo) + b"\n"


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
