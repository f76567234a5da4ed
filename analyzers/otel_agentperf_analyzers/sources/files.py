"""Files: OTLP JSON lines, plain, gzip or zstd, and Parquet; told apart by their first bytes."""

import glob
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import zstandard

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.sources import chunks, parquet
from otel_agentperf_analyzers.sources.base import Intake, Skipped
from otel_agentperf_analyzers.sources.chunks import Chunk

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_PARQUET: Final = b"PAR1"
DAMAGED: Final = (zstandard.ZstdError, EOFError, gzip.BadGzipFile, zlib.error)
"""What a broken archive raises."""


@dataclass(slots=True, frozen=True)
class Files:
    """One or more files, read in order."""

    name: str
    paths: Sequence[Path]

    def read(self, intake: Intake) -> None:
        """Give the spans of all files."""
        tables = [path for path in self.paths if is_parquet(path)]
        for path in tables:
            parquet.read(path, intake)
        others = [path for path in self.paths if path not in tables]
        read(self.name, map(opened, others), intake, has_lines=bool(tables))


@dataclass(slots=True, frozen=True)
class StandardInput:
    """What is piped in."""

    name: str = "standard input"

    def read(self, intake: Intake) -> None:
        """Give the spans that come in until the end of the input."""
        read(self.name, iter([(self.name, sys.stdin.buffer)]), intake)


def matching(pattern: str) -> Files:
    """The file, or all files that a glob matches, in order of their names.

    Raises:
        SourceError: there is none.
    """
    path = Path(pattern)
    if path.exists():
        return Files(pattern, [path])
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(name)]
    if not found:
        is_glob = glob.has_magic(pattern)
        missing = f"no file matches {pattern}" if is_glob else f"no such file or directory: {pattern}"
        raise SourceError(
            f"{missing}; name a store directory, a file or glob of OTLP JSON lines or Parquet, or - for stdin"
        )
    return Files(pattern, found)


def read(
    name: str, streams: Iterator[tuple[str, BinaryIO]], intake: Intake, *, has_lines: bool = False, hint: str = ""
) -> None:
    """Give the spans of streams, each given with its name; they are closed.

    Args:
        has_lines: something was in the source before.
        hint: what to do about an empty one.

    Raises:
        SourceError: one cannot be read, or there is no span in any.
    """
    broken_before = intake.skipped.lines
    try:
        has_lines |= chunks.take(intake, _chunks(streams, intake.skipped))
    except OSError as problem:
        raise SourceError(f"cannot read {problem.filename or name}: {problem.strerror or problem}") from problem
    if not intake.spans:
        raise nothing(name, intake.skipped, broken_before=broken_before, has_lines=has_lines, hint=hint)


def nothing(name: str, skipped: Skipped, *, broken_before: int, has_lines: bool, hint: str) -> SourceError:
    """Why a source has no spans."""
    if skipped.lines > broken_before:
        example = f" ({skipped.examples[0]})" if skipped.examples else ""
        return SourceError(f"{name} holds no OTLP JSON lines{example}; write them with the collector's file exporter")
    empty = "holds no spans" if has_lines else "is empty"
    return SourceError(f"{name} {empty}{hint and '; ' + hint}")


def _chunks(streams: Iterator[tuple[str, BinaryIO]], skipped: Skipped) -> Iterator[Chunk]:
    for name, stream in streams:
        number = 1
        with nullcontext() if stream is sys.stdin.buffer else stream:
            try:
                for chunk in chunks.cut(name, plain(stream)):
                    number = chunk.first_line + chunk.data.count(b"\n")
                    yield chunk
            except DAMAGED as problem:
                skipped.line(name, number, f"damaged archive, the rest is lost: {problem}")


def opened(path: Path) -> tuple[str, BinaryIO]:
    """The file's name and its bytes."""
    if path.is_dir():
        raise SourceError(f"{path} is a directory; name a store directory or its files by a glob, not both")
    return str(path), path.open("rb")


def is_parquet(path: Path) -> bool:
    """Whether the file is one; what cannot be read is not."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_PARQUET)) == _PARQUET
    except OSError:
        return False


def plain(stream: BinaryIO) -> BinaryIO:
    """The stream without its compression; it stays open."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
    start = buffered.peek(4)[:4]
    if start.startswith(_GZIP):
        return cast("BinaryIO", gzip.GzipFile(fileobj=buffered))
    if start == _ZSTD:
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
        reader = decompressor.stream_reader(buffered, read_across_frames=True, closefd=False)
        return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", reader), 2**20))
    return buffered
