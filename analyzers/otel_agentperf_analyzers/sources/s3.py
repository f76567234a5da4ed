"""Objects of a bucket: Parquet that `ship` wrote, or exports, or OTLP JSON lines, such as the collector's.

    s3://BUCKET/PREFIX            all objects below it
    s3://BUCKET/PREFIX/*.parquet  those that a glob matches

Objects under `date=YYYY-MM-DD/hour=HH/` hold the spans that start in that hour, UTC; those of other hours than are
asked for are not read, and other days are not even listed. What is read is copied first: a bucket that goes away on the
way gives an error and nothing else.
"""

import fnmatch
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers.sources.base import Intake, Period
from otel_agentperf_analyzers.sources.bucket import Place
from otel_agentperf_analyzers.sources.files import Files

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, S3FileSystem

__all__ = ["S3", "partition", "partition_bounds_ns"]

HOUR_NS: Final = 3600 * 10**9
DAY_NS: Final = 24 * HOUR_NS

SUFFIXES: Final = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")

COPIES: Final = 8
"""Objects that are copied at one time."""

_DATE: Final = re.compile(r"date=(\d{4})-(\d{2})-(\d{2})")
_HOUR: Final = re.compile(r"hour=(\d{2})")


def partition(hour: int) -> str:
    """The path of an hour, counted since 1970."""
    return f"{datetime.fromtimestamp(hour * 3600, UTC):date=%Y-%m-%d/hour=%H}"


def partition_bounds_ns(key: str) -> tuple[int, int] | None:
    """First and last nanosecond that spans of an object can start at, as its path says; None when it says nothing."""
    names = key.split("/")
    date = next((found for name in names if (found := _DATE.fullmatch(name))), None)
    if date is None:
        return None
    try:
        day = datetime(int(date[1]), int(date[2]), int(date[3]), tzinfo=UTC)
    except ValueError:
        return None
    first = round(day.timestamp()) * 10**9
    hour = next((found for name in names if (found := _HOUR.fullmatch(name))), None)
    if hour is None or int(hour[1]) > 23:
        return first, first + DAY_NS - 1
    first += int(hour[1]) * HOUR_NS
    return first, first + HOUR_NS - 1


@dataclass(slots=True, frozen=True)
class S3:
    """One or more objects of a bucket."""

    place: Place

    @classmethod
    def named(cls, url: str) -> "S3":
        """The source of a URL."""
        return cls(Place.parse(url))

    @property
    def name(self) -> str:
        """The URL."""
        return self.place.url

    def read(self, intake: Intake) -> None:
        """Give the spans of all objects whose hour may hold what is asked for."""
        client = self.place.connect()
        with self.place.told("list"):
            found = sorted(self._objects(client, intake.period), key=lambda info: info.path)
            if not found and not self.place.has_bucket(client):
                raise SourceError(f"cannot list {self.name}: no such bucket")
        if not found:
            hint = " of these hours" if intake.period.is_bounded else ""
            raise SourceError(f"{self.name} holds no Parquet and no OTLP JSON lines{hint}")
        directory = intake.scratch / "objects"
        directory.mkdir()
        copies = [
            directory / f"{number:06}{''.join(PurePosixPath(info.path).suffixes[-2:])}"
            for number, info in enumerate(found)
        ]
        with self.place.told("read"), ThreadPoolExecutor(COPIES) as threads:
            jobs = [threads.submit(_copy, client, info, copy) for info, copy in zip(found, copies, strict=True)]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        try:
            Files(self.name, copies).read(intake)
        except SourceError as problem:
            words = str(problem)
            for info, copy in zip(found, copies, strict=True):
                words = words.replace(str(copy), f"s3://{info.path}")
            raise SourceError(words) from problem

    def _objects(self, client: "S3FileSystem", period: Period) -> "Iterator[FileInfo]":
        from pyarrow.fs import FileType

        prefix = self.place.prefix
        glob = next((at for at, letter in enumerate(prefix) if letter in "*?["), None)
        if glob is None:
            info = client.get_file_info(self.place.key())
            if info.type == FileType.File:
                yield info
                return
            pattern, base = None, self.place.key()
        else:
            pattern, base = self.place.key(), self.place.bucket
            if (folder := prefix[:glob].rpartition("/")[0]) != "":
                base = f"{base}/{folder}"
        for info in _below(client, base, period):
            if fnmatch.fnmatchcase(info.path, pattern) if pattern else info.path.endswith(SUFFIXES):
                yield info


def _below(client: "S3FileSystem", path: str, period: Period) -> "Iterator[FileInfo]":
    """All objects below a path whose hour the period meets."""
    from pyarrow.fs import FileSelector, FileType

    for info in client.get_file_info(FileSelector(path, allow_not_found=path.count("/") > 0)):
        bounds = partition_bounds_ns(info.path)
        if bounds is not None and not period.meets(*bounds):
            continue
        if info.type == FileType.Directory:
            yield from _below(client, info.path, period)
        elif info.size:
            yield info


def _copy(client: "S3FileSystem", info: "FileInfo", to: Path) -> None:
    with client.open_input_stream(info.path) as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
    if (size := to.stat().st_size) != info.size:
        raise OSError(f"{info.path} broke off after {size} of {info.size} bytes")
