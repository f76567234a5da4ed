"""What a store's growth changes: relations that hold trajectories are made anew only for those that spans came to, or
went from; the other rows are read from files of an earlier state of the store.

A state is what a store held when it was read: which files of spans, and lines that were in no file yet. Its directory
(`results/<key>` in the cache) holds

    state.json                   its files of spans, with how many each holds
    rest.parquet                 spans that were in no file
    NAME.parquet                 a relation, whole; NAME says what it is made by (`relations.py`). Of very many spans
                                 a directory of files, each of some of the trajectories
    NAME.since-<key>.parquet     its rows of the trajectories that changed since an earlier state; all others are there
    touched.since-<key>.parquet  these trajectories
    *.parquet.seal               what such a file was like when it was written (`whole.py`)

So a relation is a whole file and layers above it, each four times smaller than the one below, or it is made whole: that
keeps both the layers and what is made again few, however a store grows.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from otel_agentperf_analyzers import catalog
from otel_agentperf_analyzers.sources.base import Kept, remove
from otel_agentperf_analyzers.sources.build import sql_text
from otel_agentperf_analyzers.sources.cache import SINCE, State
from otel_agentperf_analyzers.sources.whole import is_whole, publish

__all__ = ["Growth", "Layer", "Touched", "files"]

_SHRINK: Final = 4
"""A layer is at least so many times smaller than the one below it."""

_NO_CONTENT: Final = "SELECT * REPLACE (MAP {} AS content)"
"""Prompts and answers are in no relation that is made by trajectory."""


@dataclass(slots=True, frozen=True)
class Layer:
    """A file of a relation; above the first, which trajectories it holds instead of those below."""

    path: Path
    touched: Path | None = None


@dataclass(slots=True, frozen=True)
class Touched:
    """What changed since an earlier state."""

    since: str
    """Key of that state."""
    trajectories: Path
    spans: Path
    """Spans of this state that are in a trace of such a trajectory; rows as `raw_spans` has them."""


@dataclass(slots=True)
class Growth:
    """The earlier states of the store that is read, and what has changed since each.

    Args:
        rest: Parquet files of this reader alone with what is in none of the store's; the table `spans_in_memory` holds
            more of it.
        has_doubles: the tables `doubled` and `originals` say which spans are there twice, and which copies count.
    """

    connection: duckdb.DuckDBPyConnection
    kept: Kept
    scratch: Path
    rest: Sequence[Path]
    has_doubles: bool
    _state: State | None = None
    _touched: dict[str, Touched] = field(default_factory=dict)

    def layers(self, name: str) -> list[Layer] | None:
        """The files of a relation over this state; None when it is not made."""
        return self._layers(self.kept.directory, name, set())

    def bases(self, name: str, others: Sequence[str]) -> Iterator[str]:
        """Keys of earlier states from which it pays to go on, the latest first.

        Args:
            others: files that must be there too.
        """
        now, found = self._now(), []
        for directory in self.kept.directory.parent.iterdir():
            state = None if directory == self.kept.directory else State.read(directory)
            layers = None if state is None else self._layers(directory, name, set())
            if state is None or layers is None:
                continue
            if not all(is_whole(directory / other, self.kept.damaged) for other in ("rest.parquet", *others)):
                continue
            if not all(self._is_there(file, state) for file in state.files.keys() - now.files.keys()):
                continue
            below = sum(state.files.values()) + state.rest
            if layers[-1].touched is not None:
                older = State.read(layers[-1].path.parent.parent / layers[-1].path.stem.rpartition(SINCE)[2])
                below = _changed(state, older) if older is not None else 0
            changed = _changed(now, state)
            if changed * _SHRINK <= below:
                found.append((changed, len(layers), directory.name))
        for _, _, key in sorted(found):
            yield key

    def touched(self, since: str, crossing: Iterable[str]) -> Touched:
        """The trajectories that changed since an earlier state, and their spans.

        Args:
            crossing: files, of one name in both states, of relations through which a span can tell of trajectories
                beside its own, in columns `...trajectory_id`.
        """
        if since not in self._touched:
            self._touched[since] = self._compared(since, crossing)
        return self._touched[since]

    def note(self) -> None:
        """Write down what this state is, so that later ones can go on from it."""
        directory = self.kept.directory
        if is_whole(directory / "rest.parquet", self.kept.damaged) and State.read(directory) is not None:
            return
        self._copy("FROM " + self._rest_rows(), directory / "rest.parquet")
        partial = directory / f".{State.NAME}.{os.getpid()}"
        try:
            partial.write_bytes(msgspec.json.encode(self._now()))
            partial.rename(directory / State.NAME)
        finally:
            remove(partial)

    def _now(self) -> State:
        if self._state is None:
            [(rest,)] = self.connection.execute(f"SELECT count(*) FROM {self._rest_rows()}").fetchall()
            self._state = State(dict(self.kept.parts), dict(self.kept.seals), rest)
        return self._state

    def _is_there(self, file: str, state: State) -> bool:
        """Whether a file of spans is as an earlier state had it."""
        return file in state.seals and state.seals[file].found(self.kept.spans / file) is not None

    def _layers(self, directory: Path, name: str, seen: set[str]) -> list[Layer] | None:
        damaged = self.kept.damaged
        if is_whole(directory / f"{name}.parquet", damaged):
            return [Layer(directory / f"{name}.parquet")]
        with suppress(OSError):
            for path in sorted(directory.glob(f"{name}{SINCE}*.parquet")):
                since = path.stem.rpartition(SINCE)[2]
                touched = directory / f"touched{SINCE}{since}.parquet"
                below = None if since in seen else self._layers(directory.parent / since, name, {*seen, since})
                if below is not None and is_whole(touched, damaged) and is_whole(path, damaged):
                    return [*below, Layer(path, touched)]
        return None

    def _rest_rows(self) -> str:
        sources = ["FROM spans_in_memory", *(f"FROM {files([path])}" for path in self.rest)]
        return f"({' UNION ALL '.join(sources)})"

    def _compared(self, since: str, crossing: Iterable[str]) -> Touched:
        """Which trajectories changed: those of spans that came or went, and of all others in their traces, since what a
        trace holds is put together; and those that other trajectories tell something else of."""
        directory, now = self.kept.directory.parent / since, self._now()
        before = State.read(directory) or State()
        gone = [self.kept.spans / name for name in before.files.keys() - now.files.keys()]
        came = [self.kept.spans / name for name in now.files.keys() - before.files.keys()]
        lost = f"FROM {files([*gone, directory / 'rest.parquet'])}"
        changed = f"({lost} UNION ALL FROM {self._rest_rows()}{f' UNION ALL FROM {files(came)}' if came else ''})"
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE traces_changed AS SELECT DISTINCT trace_id FROM {changed}"
        )
        here = [self.kept.spans / name for name in now.files]
        near = self._rows_of(here, "traces_changed", "raw_spans.trace_id")
        tellings = [
            f"SELECT trajectory_id FROM ({_spans_of(f'{near} UNION ALL {lost}')})",
            *self._crossed(directory, crossing),
        ]
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE touched AS {' UNION '.join(tellings)}")
        trajectories = self.kept.directory / f"touched{SINCE}{since}.parquet"
        self._copy("SELECT trajectory_id FROM touched WHERE trajectory_id IS NOT NULL", trajectories)
        everything = f"FROM {files(here)}" if here else "FROM spans_in_memory WHERE FALSE"
        self.connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE traces_touched AS
            SELECT DISTINCT trace_id
            FROM ({_spans_of(f"{everything} UNION ALL FROM {self._rest_rows()}")})
            SEMI JOIN touched USING (trajectory_id)
        """)
        spans = self.scratch / f"touched{SINCE}{since}.parquet"
        rows = self._rows_of(here, "traces_touched", "raw_spans.trace_id")
        if self.has_doubles:
            rows = f"""
                FROM ({rows}) WHERE hash(trace_id, span_id) NOT IN (FROM doubled)
                UNION ALL FROM originals SEMI JOIN traces_touched USING (trace_id)
            """
        self._copy(f"{_NO_CONTENT} FROM ({rows})", spans)
        return Touched(since, trajectories, spans)

    def _rows_of(self, here: Sequence[Path], traces: str, column: str) -> str:
        """A SELECT of all spans, copies included, in these traces. Of files that hold none no other column is read."""
        rows = [f"FROM {self._rest_rows()} AS raw_spans SEMI JOIN {traces} ON {traces}.trace_id = {column}"]
        if here:
            holding = self.connection.execute(
                f"SELECT DISTINCT filename FROM {files(here, 'filename = true')} SEMI JOIN {traces} USING (trace_id)"
            ).fetchall()
            if holding:
                chosen = files([Path(name) for (name,) in holding])
                rows.append(f"FROM {chosen} AS raw_spans SEMI JOIN {traces} ON {traces}.trace_id = {column}")
        return " UNION ALL ".join(rows)

    def _crossed(self, directory: Path, crossing: Iterable[str]) -> Iterator[str]:
        for name in crossing:
            new, old = (f"FROM {files([each / name])}" for each in (self.kept.directory, directory))
            described = self.connection.execute(f"DESCRIBE {new}").fetchall()
            for column in (row[0] for row in described if row[0].endswith("trajectory_id")):
                yield f"SELECT {column} FROM (({new} EXCEPT {old}) UNION ALL ({old} EXCEPT {new}))"

    def _copy(self, query: str, path: Path) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.connection.execute(f"COPY ({query}) TO {sql_text(str(partial))} (FORMAT parquet, COMPRESSION zstd)")
            publish(partial, path)
        finally:
            remove(partial)


def files(paths: Sequence[Path], options: str = "") -> str:
    """Parquet files, or directories of these, as a table in SQL."""
    listed = ", ".join(sql_text(str(path / "*.parquet" if path.is_dir() else path)) for path in paths)
    return f"read_parquet([{listed}]{options and ', ' + options})"


def _spans_of(rows: str) -> str:
    """Relation `spans` over these rows."""
    return f"WITH raw_spans AS NOT MATERIALIZED ({rows}) {catalog.internal('spans').query}"


def _changed(one: State, other: State) -> int:
    """Spans that are in files of one of two states only, or in no file."""
    apart = one.files.keys() ^ other.files.keys()
    return sum({**one.files, **other.files}[name] for name in apart) + one.rest + other.rest


def stacked(layers: Sequence[Layer]) -> str:
    """A relation from its layers, as SQL."""
    sql = f"FROM {files([layers[0].path])}"
    for layer in layers[1:]:
        assert layer.touched is not None
        sql = (
            f"FROM ({sql}) ANTI JOIN {files([layer.touched])} USING (trajectory_id)"
            f" UNION ALL BY NAME FROM {files([layer.path])}"
        )
    return sql


def restricted(relation: catalog.Relation, known: Mapping[str, catalog.Relation], touched: Touched) -> str:
    """The query of a relation, for the trajectories that changed: what it reads are the tables of these trajectories,
    and over their spans the views between."""
    only = "SEMI JOIN touched_now USING (trajectory_id)"
    parts = {"raw_spans": f"FROM {files([touched.spans])}"} | _inlined(relation, known, only)
    parts = {"touched_now": f"FROM {files([touched.trajectories])}"} | parts
    return f"{_with(parts)} FROM ({relation.query}) {only}"


def part(relation: catalog.Relation, known: Mapping[str, catalog.Relation], number: int, parts: int) -> str:
    """The query of a relation, for one of as many parts of all trajectories."""
    only = f"WHERE hash(trajectory_id) % {parts} = {number}"
    inlined = _inlined(relation, known, only)
    if "spans" in inlined:
        inlined["spans"] = f"FROM ({inlined['spans']}) {only}"
    return f"{_with(inlined)} FROM ({relation.query}) {only}"


def _inlined(relation: catalog.Relation, known: Mapping[str, catalog.Relation], only: str) -> dict[str, str]:
    """Queries of what a relation reads of trajectories, in order: of tables some rows, of views their queries."""
    found: dict[str, str] = {}

    def add(name: str) -> None:
        if name in found or name not in known or not known[name].is_by_trajectory:
            return
        if known[name].is_table:
            found[name] = f'FROM main."{name}" {only}'
            return
        for each in known[name].reads:
            add(each)
        found[name] = known[name].query

    for name in relation.reads:
        add(name)
    return found


def _with(parts: Mapping[str, str]) -> str:
    """These as common table expressions."""
    listed = ", ".join(f'"{name}" AS NOT MATERIALIZED ({query})' for name, query in parts.items())
    return f"WITH {listed}" if parts else ""
