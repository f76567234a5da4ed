"""What formats of files have in common: a recording is one file, or all files of the format in a directory."""

import hashlib
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources.abc import Traversable
from typing import Any, Final, TypeVar

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.recording import Pieces, Recording, Task

__all__ = ["FileFormat", "decode", "encode", "lines", "object_of", "read"]

HEAD_BYTES: Final = 64 * 1024
"""Of a file are looked at to tell its format."""

DEEPEST: Final = 8
"""Levels of directories that are searched for files."""

_T = TypeVar("_T")

encode: Final = msgspec.json.Encoder().encode


class FileFormat(ABC):
    """A format of one file with one or more tasks."""

    name: str

    @abstractmethod
    def knows(self, name: str, head: bytes) -> bool:
        """Whether a file looks like one of this format, by its name and its first bytes."""

    @abstractmethod
    def tasks(self, data: bytes, where: str, pieces: Pieces) -> Iterator[Task]:
        """The tasks of a file.

        Raises:
            SourceError: names what is wrong.
        """

    def recognises(self, place: Traversable) -> bool:
        if place.is_dir() and any(entry.name.startswith("manifest") for entry in place.iterdir()):
            # What lies in the directory of a manifest belongs to it.
            return False
        return next(self._files(place), None) is not None

    def load(self, place: Traversable) -> Recording:
        digest = hashlib.sha256()
        pieces = Pieces()
        tasks: dict[str, Task] = {}
        for path, file in self._files(place):
            data = read(file)
            digest.update(b"%b\0%d\0" % (path.encode(), len(data)))
            digest.update(data)
            for task in self.tasks(data, str(file), pieces):
                identity, number = task.id, 2
                while identity in tasks:
                    identity, number = f"{task.id}~{number}", number + 1
                tasks[identity] = replace(task, id=identity)
        if not tasks:
            raise SourceError(f"{place}: nothing to play")
        name = place.name.partition(".")[0] or self.name
        return Recording(name, self.name, digest.hexdigest(), str(place), tuple(tasks.values()))

    def _files(self, place: Traversable, path: str = "", depth: int = 0) -> Iterator[tuple[str, Traversable]]:
        """Files of this format at or below a place, by name, with their paths from there."""
        if place.is_file():
            if self.knows(place.name, _head(place)):
                yield path or place.name, place
        elif place.is_dir() and depth < DEEPEST:
            for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
                if not entry.name.startswith("."):
                    yield from self._files(entry, f"{path}/{entry.name}" if path else entry.name, depth + 1)


def read(path: Traversable) -> bytes:
    """A file.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, KeyError) as exc:
        raise SourceError(f"{path}: no such file") from exc
    except OSError as exc:
        raise SourceError(f"{path}: {exc.strerror or exc}") from exc
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise SourceError(f"{path}: the wheel is damaged: {exc}") from exc


def decode(decoder: "msgspec.json.Decoder[_T]", data: bytes | msgspec.Raw, at: str) -> _T:
    """JSON of a known shape.

    Raises:
        SourceError: it is not.
    """
    try:
        return decoder.decode(data)
    except UnicodeDecodeError as exc:
        raise SourceError(f"{at}: not UTF-8") from exc
    except msgspec.DecodeError as exc:
        raise SourceError(f"{at}: {exc}") from exc


def lines(data: bytes, where: str) -> Iterator[tuple[str, bytes]]:
    """The lines of a file that hold something, each with its place in words."""
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            yield f"{where}:{number}", line


def object_of(head: bytes) -> dict[str, Any]:
    """The JSON object that begins a file, when it is whole within its first bytes; else nothing."""
    line = head.partition(b"\n")[0]
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _head(place: Traversable) -> bytes:
    try:
        with place.open("rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, EOFError):
        return b""
