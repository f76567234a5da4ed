"""What a trace source is: it gives spans as rows of one schema, and counts what it cannot read."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from otel_agentperf_analyzers.sources import rows

if TYPE_CHECKING:
    from otel_agentperf_analyzers.database import Database
    from otel_agentperf_analyzers.inputs import Inputs
    from otel_agentperf_analyzers.sources.whole import Seal

EXAMPLES: Final = 5
"""Broken lines that are named; all are counted."""

ROWS_IN_MEMORY: Final = 50_000
"""Spans that are held in memory; more go to a file of the scratch directory."""


@dataclass(slots=True)
class Skipped:
    """What could not be read, and why. Empty when the source is clean."""

    lines: int = 0
    """Lines of files and records of backends that were left out: torn, not JSON, not OTLP, or lost in the rest of a
    damaged archive (counted as one)."""
    duplicates: int = 0
    """Spans that were there twice (an export retried, a segment read while it was being sealed): one copy is kept."""
    _examples: list[str] = field(default_factory=list)

    @property
    def examples(self) -> tuple[str, ...]:
        """The first broken lines, each `file:line: reason`."""
        return tuple(self._examples)

    def line(self, name: str, number: int, reason: str) -> None:
        """Count one broken line."""
        self.record(f"{name}:{number}", reason)

    def record(self, where: str, reason: str) -> None:
        """Count one broken record of a backend."""
        self.add(1, (f"{where}: {reason}",))

    def add(self, lines: int, examples: Sequence[str]) -> None:
        """Count what another reader has counted."""
        self.lines += lines
        self._examples.extend(examples[: EXAMPLES - len(self._examples)])

    def clear(self) -> None:
        """Count from zero."""
        self.lines = self.duplicates = 0
        self._examples.clear()

    def __bool__(self) -> bool:
        return bool(self.lines or self.duplicates)


@dataclass(slots=True, frozen=True)
class Period:
    """Which spans are asked for, by their start; nanoseconds since 1970, None for no bound."""

    since_ns: int | None = None
    until_ns: int | None = None
    """The first moment that is not asked for."""

    @property
    def is_bounded(self) -> bool:
        """There is a bound."""
        return self.since_ns is not None or self.until_ns is not None

    def meets(self, first_ns: int, last_ns: int) -> bool:
        """Whether a span that is asked for can start between these, both included."""
        return (self.since_ns is None or last_ns >= self.since_ns) and (
            self.until_ns is None or first_ns < self.until_ns
        )


class Intake:
    """Where a source puts its spans. Sources may give more than the period holds: the database looks again.

    Args:
        scratch: an empty directory of this reader alone.
    """

    def __init__(self, scratch: Path, period: Period, skipped: Skipped) -> None:
        self.scratch = scratch
        self.period = period
        self.skipped = skipped
        self.files: list[Path] = []
        """Parquet files of `rows.SCHEMA`."""
        self.batches: list[pa.RecordBatch] = []
        self.selects: list[str] = []
        """SELECTs that give rows of `rows.SCHEMA`, over `originals`."""
        self.originals: list[Path] = []
        """Files of the user that are read when a query needs them."""
        self.spans = 0
        self._in_memory = 0

    def reset(self) -> None:
        """Forget all spans, and what was skipped."""
        self.files, self.batches, self.selects, self.originals = [], [], [], []
        self.spans = self._in_memory = 0
        self.skipped.clear()

    def batch(self, batch: pa.RecordBatch) -> None:
        """Take spans, a batch of `rows.SCHEMA`."""
        if not batch.num_rows:
            return
        self.spans += batch.num_rows
        self._in_memory += batch.num_rows
        self.batches.append(batch)
        if self._in_memory >= ROWS_IN_MEMORY:
            path = self.scratch / f"spans-{len(self.files):05}.parquet"
            write(path, self.batches)
            self.files.append(path)
            self.batches, self._in_memory = [], 0

    def file(self, path: Path, spans: int) -> None:
        """Take the spans of a Parquet file of `rows.SCHEMA`, which stays where it is."""
        if spans:
            self.spans += spans
            self.files.append(path)

    def select(self, sql: str, path: Path, spans: int) -> None:
        """Take what a SELECT over a file gives."""
        self.spans += spans
        self.selects.append(sql)
        self.originals.append(path)


def write(path: Path, batches: Sequence[pa.RecordBatch]) -> None:
    """Batches of `rows.SCHEMA` as a Parquet file."""
    table = pa.Table.from_batches(batches, rows.SCHEMA)
    pq.write_table(table, path, compression="zstd", row_group_size=max(table.num_rows, 1))


class Kept(Protocol):
    """A place where results over exactly the spans that a source gave may be kept for the next reader."""

    @property
    def directory(self) -> Path:
        """Files in it are written whole, under another name first; it may hold those of earlier readers. Directories
        beside it hold results over what the source gave earlier."""

    @property
    def spans(self) -> Path:
        """Where the files of spans lie."""

    @property
    def parts(self) -> Mapping[str, int]:
        """Names of these files, of those that were read, and how many spans each holds."""

    @property
    def seals(self) -> "Mapping[str, Seal]":
        """What these files are like."""

    @property
    def damaged(self) -> list[Path]:
        """Files that were missing or not as they were written, and are made anew."""

    def check(self) -> list[Path]:
        """Read all files, and remove those that are not as they were written; which these are."""

    def close(self) -> None:
        """Nothing of it is read or written any more."""


class Source(Protocol):
    """One trace source."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def read(self, intake: Intake) -> Kept | None:
        """Give all spans.

        Raises:
            SourceError: it cannot be read, or holds no span at all.
        """


@runtime_checkable
class Executing(Protocol):
    """A source that can compute the relations itself."""

    def database(self, *, since: datetime | None, until: datetime | None, inputs: "Inputs") -> "Database":
        """The relations over it."""


def remove(path: Path) -> None:
    """Remove a file or a directory, if it is there and may be removed."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            path.unlink()
        except OSError:
            return
