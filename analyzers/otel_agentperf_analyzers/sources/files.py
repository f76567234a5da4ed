"""Files of OTLP JSON lines: plain, gzip or zstd, told apart by their first bytes."""

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

import pyarrow as pa
import zstandard

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers.sources import otlp
from otel_agentperf_analyzers.sources.base import Skipped

MAX_LINE: Final = 256 * 2**20
"""Bytes; a longer line is skipped, so that a file that holds no lines at all does not fill the memory."""

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_PARQUET: Final = b"PAR1"
_DAMAGED: Final = (zstandard.ZstdError, EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(slots=True, frozen=True)
class Files:
    """One or more files, read in order."""

    name: str
    paths: Sequence[Path]

    def batches(self, skipped: Skipped) -> Iterator[pa.RecordBatch]:
        """The spans of all files."""
        yield from read(self.name, (_opened(path) for path in self.paths), skipped)


@dataclass(slots=True, frozen=True)
class StandardInput:
    """What is piped in."""

    name: str = "standard input"

    def batches(self, skipped: Skipped) -> Iterator[pa.RecordBatch]:
        """The spans that come in until the end of the input."""
        yield from read(self.name, iter([(self.name, sys.stdin.buffer)]), skipped)


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
        raise SourceError(f"{missing}; name a store directory, a file or glob of OTLP JSON lines, or - for stdin")
    return Files(pattern, found)


def read(
    name: str, streams: Iterator[tuple[str, BinaryIO]], skipped: Skipped, *, hint: str = ""
) -> Iterator[pa.RecordBatch]:
    """The spans of streams, each given with its name; they are closed.

    Raises:
        SourceError: one cannot be read, or there is no span in any. `hint` says what to do about an empty source.
    """
    broken_before, spans, lines = skipped.lines, 0, _Counted()
    try:
        for batch in otlp.batches(lines.of(streams, skipped), skipped):
            spans += batch.num_rows
            yield batch
    except OSError as problem:
        raise SourceError(f"cannot read {problem.filename or name}: {problem.strerror or problem}") from problem
    if spans:
        return
    if skipped.lines > broken_before:
        example = f" ({skipped.examples[0]})" if skipped.examples else ""
        raise SourceError(f"{name} holds no OTLP JSON lines{example}; write them with the collector's file exporter")
    empty = "holds no spans" if lines.count else "is empty"
    raise SourceError(f"{name} {empty}{hint and '; ' + hint}")


class _Counted:
    """The lines of streams, with their number in the stream; blank ones are left out."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, streams: Iterator[tuple[str, BinaryIO]], skipped: Skipped) -> Iterator[tuple[str, int, bytes]]:
        for name, stream in streams:
            number = 0
            with nullcontext() if stream is sys.stdin.buffer else stream:
                try:
                    for line in _lines(_plain(name, stream)):
                        number += 1
                        if len(line) > MAX_LINE:
                            skipped.line(name, number, f"longer than {MAX_LINE >> 20} MiB")
                        elif not line.isspace():
                            self.count += 1
                            yield name, number, line
                except _DAMAGED as problem:
                    skipped.line(name, number + 1, f"damaged archive, the rest is lost: {problem}")


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines; of one that is too long only its start, one byte longer than allowed."""
    while line := stream.readline(MAX_LINE + 1):
        yield line
        rest = line
        while len(line) > MAX_LINE and rest and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE)


def _opened(path: Path) -> tuple[str, BinaryIO]:
    if path.is_dir():
        raise SourceError(f"{path} is a directory; name a store directory or its files by a glob, not both")
    return str(path), path.open("rb")


def _plain(name: str, stream: BinaryIO) -> BinaryIO:
    """The stream without its compression.

    Raises:
        UsageError: it is of a kind that is not read.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
    start = buffered.peek(4)[:4]
    if start.startswith(_GZIP):
        return cast("BinaryIO", gzip.GzipFile(fileobj=buffered))
    if start == _ZSTD:
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(buffered, read_across_frames=True)
        return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", reader), 2**20))
    if start == _PARQUET:
        raise UsageError(f"{name} is a Parquet file; spans are read from OTLP JSON lines (plain, .gz, .zst)")
    return buffered
