"""The proxy's embedded store: a directory of segments, read while proxies write to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.sources.base import Skipped
from otel_agentperf_analyzers.sources.files import read

_OPEN: Final = ".jsonl"
_SEALED: Final = ".jsonl.zst"
_SEGMENTS: Final = "spans-*"


@dataclass(slots=True, frozen=True)
class StoreDirectory:
    """Segments `spans-<instance>-<sequence>.jsonl`, with `.zst` when sealed; other files are not looked at."""

    path: Path

    @property
    def name(self) -> str:
        """The directory."""
        return str(self.path)

    def batches(self, skipped: Skipped) -> Iterator[pa.RecordBatch]:
        """The spans of all segments."""
        hint = "send traffic through the proxy first (otel-agentperf proxy --help), or try otel-agentperf demo"
        try:
            names = {entry.name for entry in self.path.glob(_SEGMENTS)}
        except OSError as problem:
            raise SourceError(f"cannot read {self.path}: {problem.strerror}") from problem
        stems = {name.removesuffix(".zst") for name in names if name.endswith((_OPEN, _SEALED))}
        if not stems and any(self.path.glob("*.jsonl*")):
            hint = f"name the files of another program by a glob: '{self.path}/*.jsonl'"
        yield from read(self.name, self._segments(sorted(stems)), skipped, hint=hint)

    def _segments(self, stems: list[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Each segment once: sealed when it is, as it is written otherwise; one that retention took is left out."""
        for stem in stems:
            for name in (f"{stem}.zst", stem, f"{stem}.zst"):
                try:
                    stream = (self.path / name).open("rb")
                except FileNotFoundError:
                    continue
                yield str(self.path / name), stream
                break
