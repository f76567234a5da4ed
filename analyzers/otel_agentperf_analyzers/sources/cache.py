"""The cache of a store: its segments as Parquet, and results over them.

    .cache/lock                              readers hold it shared; who cleans up, exclusively
    .cache/<version>/index.json              which bytes of which segment are in which file, and what that file was like
    .cache/<version>/spans/*.parquet         spans of these bytes, `rows.SCHEMA`
    .cache/<version>/results/<key>/*         relations over all spans of the store, when there were these (`growth.py`)

All of it can be deleted at any time. The version names the schema, so that readers of two versions do not meet. Files
appear whole, under names that say what is in them: readers that make the same one at once make it twice, no more. A
file that is not as it was written is made anew (`whole.py`).
"""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

import msgspec
import xxhash

from otel_agentperf_analyzers.sources import rows
from otel_agentperf_analyzers.sources.base import remove
from otel_agentperf_analyzers.sources.chunks import Part
from otel_agentperf_analyzers.sources.whole import Seal, is_whole

DIRECTORY: Final = ".cache"

_FORMAT: Final = 2
"""Grows when the same bytes come to other rows, or files are written in another form."""

_INDEX: Final = "index.json"

SINCE: Final = ".since-"
"""In the name of a file of results, before the key of the earlier results that it needs."""


class PartFile(msgspec.Struct, frozen=True):
    """A stretch of a segment, and the file that its spans are in."""

    end: int
    """Bytes of the segment up to its end, decompressed."""
    file: str | None
    """None when these bytes hold no spans."""
    seal: Seal | None
    """What the file was like when it was written."""
    part: Part


class Segment(msgspec.Struct):
    """What the cache has of a segment."""

    parts: list[PartFile] = []
    next_line: int = 1
    head_bytes: int = 0
    head: str = ""
    """Hash of that many first bytes: a segment of the same name that begins otherwise is another one."""
    sealed: tuple[int, int] | None = None
    """Size and time of change, in ns, of the sealed file when it was read to its end; None when it was not."""

    @property
    def end(self) -> int:
        """Bytes that are cached, decompressed."""
        return self.parts[-1].end if self.parts else 0

    def begin(self, head: bytes) -> None:
        """Remember how the segment begins."""
        self.head_bytes, self.head = len(head), digest(head)


class Index(msgspec.Struct):
    """All segments, by the names they have while they are written."""

    segments: dict[str, Segment] = {}


class _Written(msgspec.Struct, frozen=True):
    """The index as it is written: a digit that changed would be another place in a segment."""

    hash: str
    index: msgspec.Raw


class State(msgspec.Struct, frozen=True):
    """What a store held when results were made."""

    NAME: ClassVar[str] = "state.json"

    files: dict[str, int] = {}
    """Files of spans, and how many each holds."""
    seals: dict[str, Seal] = {}
    """What these files were like."""
    rest: int = 0
    """Spans that were in no file."""

    @classmethod
    def read(cls, directory: Path) -> "State | None":
        """The state that results are of; None where it is not told."""
        try:
            return msgspec.json.decode((directory / cls.NAME).read_bytes(), type=cls)
        except (OSError, ValueError):
            return None


class Cache:
    """A reader's hold on the cache of a store: what it has read of it stays until `close`."""

    def __init__(self, directory: Path, lock: int) -> None:
        self._directory = directory
        self._lock = lock
        self.index = _read_index(directory)
        self.damaged: list[Path] = []
        """Files that were missing or not as they were written; they are made anew."""
        self._parts: dict[str, int] = {}
        self._seals: dict[str, Seal] = {}
        self._results: Path | None = None

    @classmethod
    def open(cls, store: Path) -> "Cache | None":
        """The cache of a store, made when it is not there; None when that cannot be."""
        top = store / DIRECTORY
        directory = top / version()
        descriptor = -1
        try:
            top.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(top / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            (directory / "spans").mkdir(parents=True, exist_ok=True)
            (directory / "results").mkdir(exist_ok=True)
            if not os.access(directory / "spans", os.W_OK) or not os.access(directory / "results", os.W_OK):
                raise PermissionError
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                _clean(top, directory)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:
            if descriptor >= 0:
                os.close(descriptor)
            return None
        return cls(directory, descriptor)

    @property
    def spans(self) -> Path:
        """Where files of spans lie."""
        return self._directory / "spans"

    @property
    def directory(self) -> Path:
        """Where results over the spans that were read may be kept; see `Kept`."""
        assert self._results is not None
        return self._results

    @property
    def parts(self) -> dict[str, int]:
        """Files of the spans that were read, and how many each holds."""
        return self._parts

    @property
    def seals(self) -> dict[str, Seal]:
        """What these files are like."""
        return self._seals

    def whole(self, segment: Segment) -> Segment | None:
        """A segment all of whose files are there, and as they were written; None when one is not."""
        parts = []
        for each in segment.parts:
            if each.file is None or each.seal is None:
                parts.append(each)
                continue
            path = self.spans / each.file
            seal = each.seal.found(path)
            if seal is None:
                self.damaged.append(path)
                return None
            parts.append(each if seal is each.seal else msgspec.structs.replace(each, seal=seal))
        return msgspec.structs.replace(segment, parts=parts)

    def check(self) -> list[Path]:
        """Read all files, and remove those that are not as they were written; which these are."""
        damaged = [
            self.spans / name
            for name, seal in self._seals.items()
            if seal.found(self.spans / name, is_read=True) is None
        ]
        for path in damaged:
            remove(path)
        for path in (self._directory / "results").glob("*/*.parquet"):
            is_whole(path, damaged, is_read=True)
        return damaged

    def write(self, index: Index) -> None:
        """Tell other readers what there is now; when it cannot be told, they find out for themselves."""
        partial = self._directory / f".{_INDEX}.{os.getpid()}"
        with suppress(OSError):
            try:
                data = msgspec.json.encode(index)
                partial.write_bytes(msgspec.json.encode(_Written(digest(data), msgspec.Raw(data))))
                partial.rename(self._directory / _INDEX)
            finally:
                remove(partial)

    def keep(self, key: str, parts: Mapping[str, int], seals: Mapping[str, Seal]) -> None:
        """Say which spans were read; results over them are kept under this key."""
        self._parts, self._seals = dict(parts), dict(seals)
        self._results = self._directory / "results" / key
        with suppress(OSError):
            self._results.mkdir(exist_ok=True)
            os.utime(self._results)

    def close(self) -> None:
        """Let others clean up."""
        os.close(self._lock)


def version() -> str:
    """Names the form of the cached files."""
    return xxhash.xxh3_64_hexdigest(f"{_FORMAT} {rows.SCHEMA}".encode())


def digest(*data: bytes) -> str:
    """A name for these bytes."""
    hashed = xxhash.xxh3_128()
    for each in data:
        hashed.update(len(each).to_bytes(8, "big") + each)
    return hashed.hexdigest()


def _read_index(directory: Path) -> Index:
    """What was told there is; nothing when it cannot be read."""
    try:
        written = msgspec.json.decode((directory / _INDEX).read_bytes(), type=_Written)
        data = bytes(written.index)
        return msgspec.json.decode(data, type=Index) if digest(data) == written.hash else Index()
    except (OSError, ValueError):
        return Index()


def _clean(top: Path, directory: Path) -> None:
    """Remove what no reader needs. There is no other reader."""
    for entry in top.iterdir():
        if entry.is_dir() and entry != directory:
            remove(entry)
    index = _read_index(directory)
    results = sorted((directory / "results").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    states = {path.name: State.read(path) for path in results}
    needed = [path.name for path in results[-1:]] + [key for key, state in states.items() if state is not None][-1:]
    for key in needed:
        for path in (directory / "results" / key).glob(f"*{SINCE}*"):
            below = path.stem.rpartition(SINCE)[2]
            if below in states and below not in needed:
                needed.append(below)
    for path in results:
        if path.name not in needed:
            remove(path)
    known = {part.file for segment in index.segments.values() for part in segment.parts}
    for key in needed:
        known |= (states[key] or State()).files.keys()
    for path in (directory / "spans").iterdir():
        if path.name not in known:
            remove(path)
