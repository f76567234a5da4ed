"""`export`: recorded traffic in the formats that other tools replay, or its spans as Parquet."""

import gzip
import os
from collections.abc import Iterable
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from otel_agentperf.cli.common import console
from otel_agentperf.cli.options import Source
from otel_agentperf.cli.output import destination
from otel_agentperf.errors import StoreError, UsageError

if TYPE_CHECKING:
    from otel_agentperf.replay.exports import Files

__all__ = ["register"]


class ExportFormat(StrEnum):
    """What can be written."""

    WEKA = "weka"
    AIPERF = "aiperf"
    GUIDELLM_OTEL = "guidellm-otel"
    AGENTPERF_LOCAL = "agentperf-local"
    ATIF = "atif"
    OPENINFERENCE = "openinference"
    PERFETTO = "perfetto"
    PARQUET = "parquet"


_DIRECTORIES: Final = (ExportFormat.WEKA, ExportFormat.AGENTPERF_LOCAL, ExportFormat.ATIF)
"""Formats of several files."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(export)


def export(
    source: Source = None,
    *,
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            "-f",
            help="`weka`: kv-cache-tester's traces, token counts and prefix blocks (needs `proxy --capture shape`). "
            "`aiperf`: mooncake-trace with sessions; `guidellm-otel`: GenAI spans by trajectory; `agentperf-local`: a "
            "replay; `atif`: a trajectory document each, version 1.8 (all four need `--capture content`). "
            "`openinference`: OTLP JSON lines with the attributes that Phoenix and Arize read. `perfetto`: a trace for "
            "ui.perfetto.dev. `parquet`: all spans.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A new directory for weka, agentperf-local and atif, else a file; compressed where it ends in .gz.",
        ),
    ],
) -> None:
    """Write recorded traffic in a format that other tools replay or show.

    Where a format is replayed, turns that failed and calls beside the work are left out and counted; `openinference`,
    `perfetto` and `parquet` have everything, the latter two of any source.

    Example:

        otel-agentperf export agentperf-store --format perfetto -o trace.json.gz
    """
    if form in _OTHERS:
        _OTHERS[form](source, out)
        return
    from otel_agentperf.replay.atif_export import atif
    from otel_agentperf.replay.exports import EXPORTS
    from otel_agentperf.replay.recorded import read_calls

    name = _place(source)
    calls = read_calls(name)
    files = {**EXPORTS, ExportFormat.ATIF: atif}[form.value](calls, name)
    written = _directory(out, files) if form in _DIRECTORIES else _write(out, next(iter(files))[1])
    turns = sum(1 for _ in calls.all())
    console.print(
        f"{len(calls.trajectories)} trajectories with {turns} turns, {written:,} bytes in {out}",
        soft_wrap=True,
        markup=False,
    )
    for reason, number in sorted(calls.left_out.items()):
        if number:
            console.print(f"left out: {number} calls ({reason})", soft_wrap=True, markup=False)
    if calls.broken_lines:
        console.print(f"skipped {calls.broken_lines} unreadable lines")


def _place(source: str | None) -> str:
    """Where the spans are.

    Raises:
        UsageError: a kind of source that only the reading commands take.
    """
    name = source or os.environ.get("OTEL_AGENTPERF_STORE") or "./agentperf-store"
    if name == "-" or "://" in name:
        raise UsageError(
            f"{name}: these formats are written from a store directory, a file or a glob of OTLP JSON lines"
        )
    return name


def _parquet(source: str | None, out: Path) -> None:
    import pyarrow.parquet as parquet

    from otel_agentperf_analyzers import open_source

    with open_source(source) as database:
        table = database.relation("spans")
    try:
        parquet.write_table(table, out)
    except OSError as exc:
        raise StoreError(f"cannot write {out}: {exc.strerror or exc}") from exc
    console.print(f"{len(table):,} spans in {out}", soft_wrap=True, markup=False)


def _perfetto(source: str | None, out: Path) -> None:
    from otel_agentperf_analyzers import open_source
    from otel_agentperf_analyzers.perfetto import written

    with open_source(source) as database:
        size = _pieces(written(database), out)
    console.print(f"{size:,} bytes for ui.perfetto.dev in {out}", soft_wrap=True, markup=False)


def _openinference(source: str | None, out: Path) -> None:
    from otel_agentperf.replay.openinference import Converted, converted
    from otel_agentperf.replay.recorded import read_lines

    counted = Converted()
    _pieces(converted(read_lines(_place(source)), counted), out)
    kinds = ", ".join(f"{number:,} {kind or 'other'}" for kind, number in sorted(counted.kinds.items()))
    console.print(f"{counted.spans:,} spans ({kinds}) in {out}", soft_wrap=True, markup=False)
    if counted.broken_lines:
        console.print(f"skipped {counted.broken_lines} unreadable lines")


def _pieces(pieces: Iterable[bytes], out: Path) -> int:
    """Write a file piece by piece, compressed where its name says so; it appears whole or not at all."""
    size = 0
    with destination(out) as file, gzip.open(file, "wb", 6) if out.suffix == ".gz" else nullcontext(file) as stream:
        for piece in pieces:
            stream.write(piece)
            size += len(piece)
    return size


_OTHERS: Final = {
    ExportFormat.PARQUET: _parquet,
    ExportFormat.PERFETTO: _perfetto,
    ExportFormat.OPENINFERENCE: _openinference,
}
"""Formats that are made from spans, not from calls."""


def _directory(out: Path, files: "Files") -> int:
    """Write files into a new or empty directory; their bytes in all come back."""
    written = 0
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} is there already; name a new directory")
        for name, data in files:
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            written += len(data)
    except OSError as exc:
        raise StoreError(f"cannot write {out}: {exc.strerror}") from exc
    return written


def _write(out: Path, data: bytes) -> int:
    try:
        out.write_bytes(data)
    except OSError as exc:
        raise StoreError(f"cannot write {out}: {exc.strerror}") from exc
    return len(data)
