"""The proxy's embedded store: a directory of segments, read while proxies write to it.

What was read once is in the store's cache (`cache`) and is not read again: sealed segments whole, the one that is
being written up to the end of its last long run of new lines. Where the cache cannot be written, all is read each time.
"""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.sources import chunks
from otel_agentperf_analyzers.sources.base import Intake
from otel_agentperf_analyzers.sources.cache import Cache, Index, PartFile, Segment, digest
from otel_agentperf_analyzers.sources.chunks import Chunk, Converters
from otel_agentperf_analyzers.sources.files import DAMAGED, nothing, plain, read
from otel_agentperf_analyzers.sources.whole import Seal

_OPEN: Final = ".jsonl"
_SEALED: Final = ".jsonl.zst"
_SEGMENTS: Final = "spans-*"

_HEAD: Final = 4096
"""First bytes that tell a segment from another of its name."""

_WORTH_A_FILE: Final = 256 * 2**10
"""Bytes of new lines, in a segment that is being written, that go to the cache: no fewer than these, and no fewer than
a quarter of what is there, so that a segment does not come to very many files. Fewer are read anew each time."""


@dataclass(slots=True, frozen=True)
class StoreDirectory:
    """Segments `spans-<instance>-<sequence>.jsonl`, with `.zst` when sealed; other files are not looked at."""

    path: Path

    @property
    def name(self) -> str:
        """The directory."""
        return str(self.path)

    def read(self, intake: Intake) -> Cache | None:
        """Give the spans of all segments."""
        hint = "send traffic through the proxy first (otel-agentperf proxy --help), or try otel-agentperf demo"
        try:
            names = {entry.name for entry in self.path.glob(_SEGMENTS)}
        except OSError as problem:
            raise SourceError(f"cannot read {self.path}: {problem.strerror}") from problem
        stems = sorted({name.removesuffix(".zst") for name in names if name.endswith((_OPEN, _SEALED))})
        if not stems and any(self.path.glob("*.jsonl*")):
            hint = f"name the files of another program by a glob: '{self.path}/*.jsonl'"
        held = Cache.open(self.path) if stems else None
        if held is not None:
            try:
                _Reading(self, held, intake).run(stems, hint)
            except OSError:
                # A full disk, say. If it is the store that cannot be read, that shows again.
                held.close()
                intake.reset()
            except BaseException:
                held.close()
                raise
            else:
                return held
        streams = ((str(path), stream) for stem in stems for path, stream in self.opened(stem))
        read(self.name, streams, intake, hint=hint)
        return None

    def opened(self, stem: str) -> Iterator[tuple[Path, BinaryIO]]:
        """A segment: sealed when it is, as it is written otherwise; nothing when retention took it."""
        for name in (f"{stem}.zst", stem, f"{stem}.zst"):
            with suppress(FileNotFoundError):
                yield self.path / name, (self.path / name).open("rb")
                return


class _Reading:
    """One reading of a store with its cache."""

    def __init__(self, store: StoreDirectory, held: Cache, intake: Intake) -> None:
        self._store = store
        self._held = held
        self._intake = intake
        self._known = {
            stem: whole for stem, each in held.index.segments.items() if (whole := held.whole(each)) is not None
        }
        self._segments: dict[str, Segment] = {}
        self._waiting: deque[Segment] = deque()
        """Whose chunks are being converted."""
        self._rest: list[bytes] = []
        """Lines that go to no file."""
        self._is_changed = self._known != held.index.segments
        self._has_gap = False
        """Lines of the segment at hand went to no file: those after them cannot."""

    def run(self, stems: list[str], hint: str) -> None:
        """Bring the cache up to date, and give all spans."""
        self._update(stems)
        parts = [each for segment in self._segments.values() for each in segment.parts]
        for each in parts:
            self._intake.skipped.add(each.part.lines, each.part.examples)
            if each.file is not None and self._intake.period.meets(each.part.first_ns, each.part.last_ns):
                self._intake.file(self._held.spans / each.file, each.part.spans)
        if self._is_changed or self._held.index.segments.keys() != self._segments.keys():
            self._held.write(Index(self._segments))
        files = [each.file for each in parts if each.file is not None]
        spans = {each.file: each.part.spans for each in parts if each.file is not None}
        seals = {each.file: each.seal for each in parts if each.file is not None and each.seal is not None}
        self._held.keep(digest(*(file.encode() for file in files), *self._rest), spans, seals)
        if not files and not self._intake.spans:
            has_lines = any(not data.isspace() for data in self._rest) or bool(parts)
            raise nothing(self._store.name, self._intake.skipped, broken_before=0, has_lines=has_lines, hint=hint)

    def _update(self, stems: list[str]) -> None:
        unread, size = [], 0
        for stem in stems:
            sealed = self._stat(f"{stem}.zst")
            known = self._known.get(stem)
            if sealed is not None and known is not None and known.sealed == (sealed.st_size, sealed.st_mtime_ns):
                self._segments[stem] = known
                continue
            unread.append(stem)
            if sealed is not None:
                size += sealed.st_size
            elif (growing := self._stat(stem)) is not None:
                size += growing.st_size - (known.end if known is not None else 0)
        if size < chunks.CHUNK:
            for chunk, path in self._jobs(unread):
                self._keep(chunk, path, chunks.convert(chunk, path))
            return
        with Converters() as converters:
            for chunk, path, part in converters.run(self._jobs(unread)):
                self._keep(chunk, path, part)

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return (self._store.path / name).stat()
        except FileNotFoundError:
            return None

    def _keep(self, chunk: Chunk, path: Path, part: chunks.Part) -> None:
        segment = self._waiting.popleft()
        name, seal = (path.name, Seal.of(path)) if part.spans else (None, None)
        segment.parts.append(PartFile(chunk.end, name, seal, part))
        segment.next_line = chunk.first_line + chunk.data.count(b"\n")
        self._is_changed = True

    def _jobs(self, stems: list[str]) -> Iterator[tuple[Chunk, Path]]:
        """Chunks that go to the cache, and their files; what does not is given to the intake."""
        for stem in stems:
            for path, stream in self._store.opened(stem):
                is_sealed = path.name.endswith(_SEALED)
                stat = os.fstat(stream.fileno())
                with stream:
                    segment, lines = self._resumed(stem, stream)
                    self._segments[stem], self._has_gap = segment, False
                    try:
                        for chunk in chunks.cut(str(path), lines, first_line=segment.next_line, begin=segment.end):
                            if is_sealed:
                                yield self._job(stem, segment, chunk)
                            else:
                                yield from self._growing(stem, segment, chunk)
                    except DAMAGED as problem:
                        self._intake.skipped.line(str(path), 0, f"damaged archive, the rest is lost: {problem}")
                    else:
                        if is_sealed:
                            segment.sealed = (stat.st_size, stat.st_mtime_ns)
                            self._is_changed = True

    def _resumed(self, stem: str, stream: BinaryIO) -> tuple[Segment, BinaryIO]:
        """What is cached of a segment, and its bytes from there on."""
        known = self._known.get(stem)
        if known is not None and known.parts:
            lines = plain(stream)
            with suppress(*DAMAGED):
                if digest(lines.read(known.head_bytes)) == known.head and _is_passed(lines, known, stream):
                    return known, lines
            stream.seek(0)
        return Segment(), plain(stream)

    def _job(self, stem: str, segment: Segment, chunk: Chunk) -> tuple[Chunk, Path]:
        if not segment.head:
            segment.begin(chunk.data[:_HEAD])
        self._waiting.append(segment)
        return chunk, self._held.spans / f"{stem}.{segment.head[:8]}.{chunk.begin}-{chunk.end}.parquet"

    def _growing(self, stem: str, segment: Segment, chunk: Chunk) -> Iterator[tuple[Chunk, Path]]:
        """The chunk up to the end of its last whole line, when that is much; the rest is not kept."""
        whole = chunk.data.rfind(b"\n") + 1
        if whole >= max(_WORTH_A_FILE, min(chunk.begin // 4, chunks.CHUNK // 2)) and not self._has_gap:
            cut = chunk.end - (len(chunk.data) - whole)
            yield self._job(stem, segment, Chunk(chunk.name, chunk.first_line, chunk.begin, cut, chunk.data[:whole]))
            number = chunk.first_line + chunk.data.count(b"\n")
            chunk = Chunk(chunk.name, number, cut, chunk.end, chunk.data[whole:])
        if chunk.data:
            self._has_gap = True
            self._rest.append(chunk.data)
            for batch in chunks.batches(chunk, self._intake.skipped):
                self._intake.batch(batch)


def _is_passed(lines: BinaryIO, known: Segment, stream: BinaryIO) -> bool:
    """Pass over what is cached; False when there are not so many bytes."""
    if lines is stream:
        stream.seek(known.end)
        return os.fstat(stream.fileno()).st_size >= known.end
    left = known.end - known.head_bytes
    while left > 0 and (data := lines.read(min(left, 2**20))):
        left -= len(data)
    return left == 0
