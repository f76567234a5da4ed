"""Whether files of the cache are as they were written.

Parquet as it is written here has no checksums: bytes that change on a disk can come to other figures without an error.
So each file's size, time of change and hash are written down. Size and time are looked at whenever a file is used, the
hash where the time is another one (a copy of the store, say), and where reading fails.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import duckdb
import msgspec
import xxhash

from otel_agentperf_analyzers.sources.base import remove

_SEAL: Final = ".seal"
_LOCK: Final = ".lock"
_READ: Final = 2**20

_NOT_OF_FILES: Final = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.InterruptException,
    duckdb.OutOfMemoryException,
    duckdb.OutOfRangeException,
    duckdb.ParserException,
    duckdb.SyntaxException,
)


class Seal(msgspec.Struct, frozen=True):
    """What a file was like when it was written."""

    size: int
    changed_ns: int
    hash: str

    @classmethod
    def of(cls, path: Path) -> "Seal":
        """What a file is like."""
        hashed = xxhash.xxh3_128()
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            while data := file.read(_READ):
                hashed.update(data)
        return cls(stat.st_size, stat.st_mtime_ns, hashed.hexdigest())

    def found(self, path: Path, *, is_read: bool = False) -> "Seal | None":
        """The seal of a file that holds the same; None when it does not, or cannot be read.

        Args:
            is_read: read it, also when it seems untouched.
        """
        try:
            stat = path.stat()
            if stat.st_size != self.size:
                return None
            if stat.st_mtime_ns == self.changed_ns and not is_read:
                return self
            now = Seal.of(path)
        except OSError:
            return None
        return now if (now.size, now.hash) == (self.size, self.hash) else None


def publish(partial: Path, path: Path) -> None:
    """Let a file that was written appear under its name, with its seal beside it."""
    seal = Seal.of(partial)
    with _alone(path.parent):
        _write(seal, path)
        partial.rename(path)


def can_be_damage(problem: duckdb.Error) -> bool:
    """Whether reading a damaged file can come to this error; it comes to nearly any, and to some without a class."""
    return not isinstance(problem, _NOT_OF_FILES)


def part_name(number: int, parts: int) -> str:
    """Name of a file in a directory of so many."""
    return f"{number:03}-of-{parts:03}.parquet"


def is_whole(path: Path, damaged: list[Path], *, is_read: bool = False) -> bool:
    """Whether a file, or all files of a directory of parts, are there and as they were published. What is there and
    is not gets removed.

    Args:
        damaged: takes the path of what is removed.
        is_read: read it, also when it seems untouched.
    """
    if not path.exists():
        return False
    if _problem(path, is_read=is_read) is None:
        return True
    with suppress(OSError), _alone(path.parent):
        # Between a seal and its file there may have been another reader, which made the same.
        problem = _problem(path, is_read=is_read)
        if problem is None:
            return True
        remove(path)
        damaged.append(problem)
    return False


def _problem(path: Path, *, is_read: bool) -> Path | None:
    """What is not as it was published; None when all is."""
    if not path.is_dir():
        return None if _is_sealed(path, is_read=is_read) else path
    parts = sorted(path.glob("*.parquet"))
    if not parts or [each.name for each in parts] != [part_name(n, len(parts)) for n in range(len(parts))]:
        return path
    return next((each for each in parts if not _is_sealed(each, is_read=is_read)), None)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other process publishes here."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_sealed(path: Path, *, is_read: bool) -> bool:
    try:
        seal = msgspec.json.decode(path.with_name(path.name + _SEAL).read_bytes(), type=Seal)
    except (OSError, ValueError):
        return False
    now = seal.found(path, is_read=is_read)
    if now is None:
        return False
    if now != seal:
        # Where this fails, it is read again the next time.
        with suppress(OSError):
            _write(now, path)
    return True


def _write(seal: Seal, path: Path) -> None:
    partial = path.with_name(f".{path.name}{_SEAL}.{os.getpid()}")
    try:
        partial.write_bytes(msgspec.json.encode(seal))
        partial.rename(path.with_name(path.name + _SEAL))
    finally:
        remove(partial)
