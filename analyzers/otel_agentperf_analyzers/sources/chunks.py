"""Streams of lines cut into chunks of whole lines, and chunks made into Parquet files, by several processes when there
is much to read.

Decoding is bound by the interpreter, so threads would not help; processes started here know nothing of the caller's
program, which need not guard its main module.
"""

import io
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

import msgspec
import pyarrow as pa

from otel_agentperf_analyzers.sources import otlp
from otel_agentperf_analyzers.sources.base import Intake, Skipped, remove, write

CHUNK: Final = 32 * 2**20
"""Bytes of lines that are decoded at once, and become one file."""

MAX_LINE: Final = 256 * 2**20
"""Bytes; a longer line is skipped, so that a file that holds no lines at all does not fill the memory."""

_READ: Final = 2**20
_MAX_PROCESSES: Final = 8


@dataclass(slots=True, frozen=True)
class Chunk:
    """Whole lines of a stream; the last chunk may end within a line."""

    name: str
    first_line: int
    begin: int
    """Bytes of the stream before this chunk."""
    end: int
    """Bytes of the stream up to its end; more than `data` has when a line was too long to keep."""
    data: bytes


class Part(msgspec.Struct, frozen=True):
    """What a chunk came to."""

    spans: int
    first_ns: int
    """The earliest start of its spans; 0 without spans."""
    last_ns: int
    lines: int
    """Lines that could not be read."""
    examples: tuple[str, ...]


def cut(name: str, stream: BinaryIO, *, first_line: int = 1, begin: int = 0) -> Iterator[Chunk]:
    """The stream in chunks. An error of the stream comes after the chunk of what could be read before."""
    pieces: list[bytes] = []
    held, has_end, number, at, taken = 0, False, first_line, begin, begin
    problem: Exception | None = None
    while True:
        try:
            piece = cast("io.BufferedReader", stream).read1(_READ)
        except Exception as raised:
            piece, problem = b"", raised
        pieces.append(piece)
        held += len(piece)
        taken += len(piece)
        has_end = has_end or b"\n" in piece
        if piece and (held < CHUNK or not has_end):
            if held > MAX_LINE + CHUNK:
                # One line, and too long: keep enough of it to be told from one that is not.
                pieces, held = [b"".join(pieces)[: MAX_LINE + 1]], MAX_LINE + 1
            continue
        data = b"".join(pieces)
        whole = data.rfind(b"\n") + 1 if piece else len(data)
        pieces, held, has_end = [data[whole:]], len(data) - whole, False
        if whole:
            yield Chunk(name, number, at, taken - held, data[:whole])
            number += data.count(b"\n", 0, whole)
            at = taken - held
        if not piece:
            break
    if problem is not None:
        raise problem


def lines(chunk: Chunk, skipped: Skipped) -> Iterator[tuple[str, int, bytes]]:
    """The lines of a chunk with their numbers; blank ones are left out."""
    for number, line in enumerate(io.BytesIO(chunk.data), chunk.first_line):
        if len(line) > MAX_LINE:
            skipped.line(chunk.name, number, f"longer than {MAX_LINE >> 20} MiB")
        elif not line.isspace():
            yield chunk.name, number, line


def batches(chunk: Chunk, skipped: Skipped) -> Iterator[pa.RecordBatch]:
    """The spans of a chunk."""
    return otlp.batches(lines(chunk, skipped), skipped)


def convert(chunk: Chunk, path: Path) -> Part:
    """Make a Parquet file of a chunk; it appears whole or not at all, and not when the chunk has no spans."""
    skipped = Skipped()
    found = list(batches(chunk, skipped))
    spans, first_ns, last_ns = sum(batch.num_rows for batch in found), 0, 0
    if found:
        starts = [start or 0 for batch in found for start in batch.column("start_unix_ns").to_pylist()]
        first_ns, last_ns = min(starts), max(starts)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            write(partial, found)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.rename(path)
        finally:
            remove(partial)
    return Part(spans, first_ns, last_ns, skipped.lines, skipped.examples)


def take(intake: Intake, found: Iterator[Chunk]) -> bool:
    """Give the spans of all chunks. Whether there was any line."""
    first = list(islice(found, 2))
    if len(first) < 2:
        for chunk in first:
            for batch in batches(chunk, intake.skipped):
                intake.batch(batch)
        return any(not chunk.data.isspace() for chunk in first)
    jobs = ((chunk, intake.scratch / f"lines-{number:05}.parquet") for number, chunk in enumerate(chain(first, found)))
    with Converters() as converters:
        for _, path, part in converters.run(jobs):
            intake.skipped.add(part.lines, part.examples)
            intake.file(path, part.spans)
    return True


class Converters:
    """Processes that make files of chunks, as many as there are processors; with one, it is done here."""

    def __init__(self) -> None:
        count = min(len(os.sched_getaffinity(0)), _MAX_PROCESSES)
        self._idle: SimpleQueue[_Process | None] = SimpleQueue()
        self._processes = [process for _ in range(count) if (process := _Process.start())] if count > 1 else []
        for process in self._processes:
            self._idle.put(process)
        if not self._processes:
            self._idle.put(None)
        self._threads = ThreadPoolExecutor(max(len(self._processes), 1))

    def run(self, jobs: Iterator[tuple[Chunk, Path]]) -> Iterator[tuple[Chunk, Path, Part]]:
        """The results in the order of the jobs; a few jobs are taken ahead."""
        waiting: deque[tuple[Chunk, Path, Future[Part]]] = deque()
        for chunk, path in jobs:
            waiting.append((chunk, path, self._threads.submit(self._convert, chunk, path)))
            if len(waiting) > len(self._processes) + 1:
                done_chunk, done_path, future = waiting.popleft()
                yield done_chunk, done_path, future.result()
        for chunk, path, future in waiting:
            yield chunk, path, future.result()

    def _convert(self, chunk: Chunk, path: Path) -> Part:
        process = self._idle.get()
        try:
            part = process.convert(chunk, path) if process is not None else None
        finally:
            self._idle.put(process)
        return part if part is not None else convert(chunk, path)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Job(msgspec.Struct, frozen=True):
    """What a process is asked to do; `size` bytes of lines follow."""

    name: str
    first_line: int
    path: str
    size: int


class _Process:
    """One process; see `convert_jobs`, which it runs."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    @classmethod
    def start(cls) -> "Self | None":
        """A process, or None when none can be had."""
        command = [sys.executable, "-c", f"from {__name__} import convert_jobs; convert_jobs()"]
        try:
            return cls(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    # Ctrl-C is the parent's business.
                    start_new_session=True,
                )
            )
        except OSError:
            return None

    def convert(self, chunk: Chunk, path: Path) -> Part | None:
        """What `convert` gives; None when the process is no more."""
        asked, told = self._popen.stdin, self._popen.stdout
        assert asked is not None
        assert told is not None
        job = Job(chunk.name, chunk.first_line, str(path), len(chunk.data))
        try:
            asked.write(msgspec.json.encode(job) + b"\n")
            asked.write(chunk.data)
            asked.flush()
            return msgspec.json.decode(told.readline(), type=Part)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """End it; it has no job."""
        for stream in (self._popen.stdin, self._popen.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()
        self._popen.wait()


def convert_jobs() -> None:
    """Run jobs from standard input until it ends: a line of JSON, then the bytes; each is answered with a line."""
    while header := sys.stdin.buffer.readline():
        job = msgspec.json.decode(header, type=Job)
        chunk = Chunk(job.name, job.first_line, 0, job.size, sys.stdin.buffer.read(job.size))
        part = convert(chunk, Path(job.path))
        sys.stdout.buffer.write(msgspec.json.encode(part) + b"\n")
        sys.stdout.buffer.flush()
