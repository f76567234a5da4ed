"""What a trace source is: it yields spans as Arrow batches of one schema, and counts what it cannot read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa

EXAMPLES: Final = 5
"""Broken lines that are named; all are counted."""


@dataclass(slots=True)
class Skipped:
    """What could not be read, and why. Empty when the source is clean."""

    lines: int = 0
    """Lines left out: torn, not JSON, not OTLP, or lost in the rest of a damaged archive (counted as one)."""
    duplicates: int = 0
    """Spans that were there twice (an export retried, a segment read while it was being sealed): one copy is kept."""
    _examples: list[str] = field(default_factory=list)

    @property
    def examples(self) -> tuple[str, ...]:
        """The first broken lines, each `file:line: reason`."""
        return tuple(self._examples)

    def line(self, name: str, number: int, reason: str) -> None:
        """Count one broken line."""
        self.lines += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(f"{name}:{number}: {reason}")

    def __bool__(self) -> bool:
        return bool(self.lines or self.duplicates)


class Source(Protocol):
    """One trace source."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def batches(self, skipped: Skipped) -> Iterator[pa.RecordBatch]:
        """The spans, in batches of `rows.SCHEMA`.

        Raises:
            SourceError: it cannot be read, or holds no span at all.
        """
