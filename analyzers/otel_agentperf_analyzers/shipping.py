"""Sealed segments of a store as Parquet in a bucket, one object per segment and hour.

    PREFIX/date=YYYY-MM-DD/hour=HH/SEGMENT.parquet

An object holds the spans of the segment that start in that hour, as rows of `sources/rows.py`. Its name and its content
follow from the segment alone, so sending a segment again changes nothing. That a segment is there is noted in the store
when all its objects are (`.shipped/`): what is interrupted is sent again. Nothing here is near a proxy: a store is read
as anybody reads it.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from otel_agentperf.errors import SourceError, StoreError
from otel_agentperf_analyzers.sources import chunks, rows
from otel_agentperf_analyzers.sources.base import Skipped
from otel_agentperf_analyzers.sources.bucket import Place, reason
from otel_agentperf_analyzers.sources.files import DAMAGED, plain
from otel_agentperf_analyzers.sources.s3 import HOUR_NS, partition

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

NOTES: Final = ".shipped"
"""Directory of the store with the names of segments that are in a bucket, by bucket and prefix."""

SEALED: Final = ".jsonl.zst"

TRIES: Final = 3
"""Times that an object is sent, beside what the client itself tries again."""

FIRST_WAIT_S: Final = 0.5
LEVEL: Final = 6
"""zstd level."""

_LASTING: Final = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch")
"""What no other try will change."""


@dataclass(slots=True)
class Shipped:
    """What was sent."""

    segments: int = 0
    """Segments that are now whole in the bucket."""
    objects: int = 0
    spans: int = 0
    bytes: int = 0
    """Of the objects."""
    retries: int = 0
    failed: int = 0
    """Segments that could not be sent, and will be another time."""
    problem: str | None = None
    """Why the last of these failed."""
    skipped: Skipped = field(default_factory=Skipped)
    """Lines that could not be read."""


class Shipper:
    """Sends the sealed segments of a store that are not in the bucket yet.

    Args:
        store: its directory.
        place: where to.
        sleep: waits between tries, in seconds.

    Raises:
        SourceError: there is no store.
        StoreError: it cannot be noted in the store what was sent.
    """

    def __init__(self, store: Path, place: Place, *, sleep: Callable[[float], None] = time.sleep) -> None:
        if not store.is_dir():
            raise SourceError(f"no trace store at {store}")
        self._store = store
        self._place = place
        self._sleep = sleep
        self._client: S3FileSystem = place.connect()
        self._notes = store / NOTES / hashlib.sha256(place.url.encode()).hexdigest()[:16]
        try:
            self._notes.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise StoreError(f"cannot note in {store} what was shipped: {problem.strerror}") from problem

    def waiting(self) -> list[Path]:
        """Sealed segments that are not noted as sent, in the order of their names."""
        sealed = self._store.glob(f"spans-*{SEALED}")
        return [path for path in sorted(sealed) if not (self._notes / _stem(path)).exists()]

    def run(self) -> Shipped:
        """Send what waits. A segment that fails does not hold up the others; a bucket that is gone does."""
        done = Shipped()
        waiting = self.waiting()
        for number, path in enumerate(waiting):
            try:
                self._send(path, done)
            except FileNotFoundError:
                continue  # retention took it
            except OSError as problem:
                done.failed += 1
                done.problem = reason(problem)
                if not self._answers():
                    # Nor will the others be taken.
                    done.failed += len(waiting) - number - 1
                    break
        self._forget()
        return done

    def _send(self, path: Path, done: Shipped) -> None:
        stem, spans, objects, size = _stem(path), 0, 0, 0
        for hour, table in sorted(by_hour(path, done.skipped).items()):
            data = parquet(table)
            self._put(self._place.key(partition(hour), f"{stem}.parquet"), data, done)
            spans, objects, size = spans + table.num_rows, objects + 1, size + len(data)
        note = self._notes / stem
        partial = note.with_name(f".{stem}.{os.getpid()}")
        partial.write_text(f"{spans}\n")
        partial.rename(note)
        done.segments += 1
        done.objects, done.spans, done.bytes = done.objects + objects, done.spans + spans, done.bytes + size

    def _put(self, key: str, data: bytes, done: Shipped) -> None:
        """Send an object; it appears whole or not at all."""
        for number in range(1, TRIES + 1):
            try:
                with self._client.open_output_stream(key) as stream:
                    stream.write(data)
                return
            except OSError as problem:
                if number == TRIES or any(sign in str(problem) for sign in _LASTING):
                    raise
                done.retries += 1
                self._sleep(FIRST_WAIT_S * 2 ** (number - 1))

    def _answers(self) -> bool:
        try:
            return self._place.has_bucket(self._client)
        except OSError:
            return False

    def _forget(self) -> None:
        """Notes of segments that retention took are of no use."""
        there = {_stem(path) for path in self._store.glob(f"spans-*{SEALED}")}
        for note in self._notes.iterdir():
            if note.name not in there:
                note.unlink(missing_ok=True)


def _stem(path: Path) -> str:
    return path.name.removesuffix(SEALED)


def by_hour(path: Path, skipped: Skipped) -> dict[int, pa.Table]:
    """The spans of a segment by the hour in which they start, counted since 1970."""
    found: dict[int, list[pa.RecordBatch]] = {}
    for batch in _batches(path, skipped):
        hours = batch.column("start_unix_ns").to_numpy(zero_copy_only=False) // HOUR_NS
        for hour in np.unique(hours):
            found.setdefault(int(hour), []).append(batch.filter(pa.array(hours == hour)))
    return {hour: pa.Table.from_batches(batches, rows.SCHEMA) for hour, batches in found.items()}


def _batches(path: Path, skipped: Skipped) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as stream:
        try:
            for chunk in chunks.cut(str(path), plain(stream)):
                yield from chunks.batches(chunk, skipped)
        except DAMAGED as problem:
            skipped.line(str(path), 0, f"damaged archive, the rest is lost: {problem}")


def parquet(table: pa.Table) -> bytes:
    """The spans of an object as it is sent."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.sort_by([("start_unix_ns", "ascending"), ("trace_id", "ascending"), ("span_id", "ascending")]),
        sink,
        compression="zstd",
        compression_level=LEVEL,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data
