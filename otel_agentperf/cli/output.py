"""Writes rows to standard output or a file, in every format of the reading commands."""

import csv
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from otel_agentperf.cli.common import console
from otel_agentperf.cli.display import Cells, cells, lines, record, that_fit
from otel_agentperf.cli.options import Format, Output
from otel_agentperf.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["destination", "emit", "emit_record", "note", "restrict"]

_BATCH: Final = 10_000
"""Rows turned into Python objects at a time."""

_BLOCK: Final = 1 << 20
"""Characters of CSV gathered before they are written."""

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
"""Times as ISO 8601, NULL and numbers that are not finite as null."""


def emit(table: "pa.Table", output: Output, *, main_columns: Sequence[str] | None = None) -> None:
    """Write a table as the options ask.

    Args:
        table: the rows, already restricted.
        main_columns: what `table` and `markdown` show when no columns are asked for, the most telling first; on a
            terminal those that fit. All when None.

    Raises:
        UsageError: an unknown column, a file that cannot be written, a type that the format cannot hold, or Parquet for
            a terminal.
    """
    form = output.form
    if form is Format.PARQUET and _terminal_width(output) is not None:
        raise UsageError("Parquet is binary: write it to a file with -o FILE")
    if not table.num_rows:
        note("no rows")
    human = form in (Format.TABLE, Format.MARKDOWN)
    try:
        table = _pick(_plain(table), output.columns, main_columns if human else None)
        with destination(output.file) as file:
            _WRITERS[form](table, file, output)
    except (OverflowError, ValueError, NotImplementedError, TypeError) as exc:
        # Arrow's own errors are among these: types and values of SQL that Python or the format does not have.
        reason = str(exc).splitlines()[0].partition(". ")[0]
        raise UsageError(f"cannot write this as {form}: {reason}; cast the column to VARCHAR in the SQL") from exc


def emit_record(fields: dict[str, Any], output: Output) -> None:
    """Write one row as a list of its fields, for reading."""
    with destination(output.file) as file:
        for line in record(fields, _terminal_width(output)):
            file.write(line.encode() + b"\n")


def note(text: str) -> None:
    """A message beside the data, on standard error."""
    console.print(f"otel-agentperf: {text}", markup=False, soft_wrap=True)


def _pick(table: "pa.Table", columns: str | None, main_columns: Sequence[str] | None) -> "pa.Table":
    """The table with the columns asked for (`a,b,c` or `all`), else with the main ones, else whole.

    Raises:
        UsageError: an unknown column.
    """
    if columns is None:
        return table if main_columns is None else table.select([n for n in main_columns if n in table.column_names])
    if columns == "all":
        return table
    names = [name.strip() for name in columns.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--columns: names no column; there is {', '.join(table.column_names)}")
    for name in names:
        if name not in table.column_names:
            near = get_close_matches(name, table.column_names, 3) or table.column_names
            raise UsageError(f"--columns: no column {name!r}; there is {', '.join(near)}")
    return table.select(names)


def restrict(table: "pa.Table", where: str | None, limit: int | None) -> "pa.Table":
    """Rows of a computed table for which the SQL condition holds, and no more than `limit` of them.

    Raises:
        UsageError: not a condition over the columns.
    """
    if where is not None:
        import duckdb

        from otel_agentperf_analyzers import selecting

        with duckdb.connect(config={"enable_external_access": "false"}) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET errors_as_json = true")
            selecting.checked_condition(connection, where)
            connection.register("result", table)
            start = "SELECT * FROM result WHERE (\n"
            with selecting.told(where, shift=len(start), what="condition"):
                table = connection.sql(f"{start}{where}\n)").to_arrow_table()
    return table if limit is None else table.slice(0, limit)


@contextmanager
def destination(path: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears whole or not at all.

    A reader of standard output that has left (`| head`) ends the writing quietly.

    Raises:
        UsageError: the file cannot be written.
    """
    if path is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Typer would make this exit code 1, which says no. What is still buffered has to go somewhere when the
            # interpreter flushes at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with draft.open("xb") as file:
                yield file
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror or exc}") from exc


def _plain(table: "pa.Table") -> "pa.Table":
    """The table in types that every format holds: times in UTC microseconds, intervals as text, unique names."""
    import pyarrow as pa

    names: list[str] = []
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        elif pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
        elif pa.types.is_interval(kind):
            column = pa.chunked_array([[value and _interval(*value) for value in column.to_pylist()]], pa.string())
        while name in names:
            name += "_"
        names.append(name)
        columns.append(column)
    return pa.Table.from_arrays(columns, names=names)


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """An SQL interval as an ISO 8601 duration."""
    return f"P{months}M{days}DT{nanoseconds / 1e9:g}S"


def _rows(table: "pa.Table") -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist(maps_as_pydicts="lossy")


def _write_json(table: "pa.Table", file: IO[bytes], _output: Output) -> None:
    start = b"["
    for row in _rows(table):
        file.write(start + _encode(row))
        start = b",\n "
    file.write(b"[]\n" if start == b"[" else b"]\n")


def _write_jsonl(table: "pa.Table", file: IO[bytes], _output: Output) -> None:
    for row in _rows(table):
        file.write(_encode(row) + b"\n")


def _write_csv(table: "pa.Table", file: IO[bytes], _output: Output) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in _rows(table):
        writer.writerow([_csv_cell(value) for value in row.values()])
        if text.tell() > _BLOCK:
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
    file.write(text.getvalue().encode())


def _csv_cell(value: Any) -> Any:
    """Empty for NULL and for what is not finite, otherwise text as JSON has it, without its quotes."""
    if value is None or isinstance(value, str):
        return value
    encoded = _encode(value).decode()
    return None if encoded == "null" else encoded.strip('"')


def _write_parquet(table: "pa.Table", file: IO[bytes], _output: Output) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    file.write(sink.getvalue())


def _write_markdown(table: "pa.Table", file: IO[bytes], _output: Output) -> None:
    columns = _cells(table)
    file.write(f"| {' | '.join(_escaped(column.name) for column in columns)} |\n".encode())
    file.write(f"| {' | '.join('---:' if column.right else '---' for column in columns)} |\n".encode())
    for row in zip(*(column.values for column in columns), strict=True):
        file.write(f"| {' | '.join(map(_escaped, row))} |\n".encode())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _write_table(table: "pa.Table", file: IO[bytes], output: Output) -> None:
    columns, width = _cells(table), _terminal_width(output)
    shown = columns if width is None or output.columns is not None else that_fit(columns, width)
    for line in lines(shown, width):
        file.write(line.encode() + b"\n")
    if left := [column.name for column in columns[len(shown) :]]:
        file.flush()
        note(f"{len(left)} more columns do not fit here: {', '.join(left)}; choose with --columns")


def _terminal_width(output: Output) -> int | None:
    """Columns of the terminal that is written to, None when it is none."""
    return shutil.get_terminal_size().columns if output.file is None and sys.stdout.isatty() else None


def _cells(table: "pa.Table") -> list[Cells]:
    units = table["unit"].to_pylist() if "unit" in table.column_names else None
    return [
        cells(name, column.to_pylist(maps_as_pydicts="lossy"), units)
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]


_WRITERS: Final[dict[Format, Callable[["pa.Table", IO[bytes], Output], None]]] = {
    Format.TABLE: _write_table,
    Format.JSON: _write_json,
    Format.JSONL: _write_jsonl,
    Format.CSV: _write_csv,
    Format.MARKDOWN: _write_markdown,
    Format.PARQUET: _write_parquet,
}
