"""Traffic of agents through a real proxy that exports to a backend, and what its own store has of it."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

from otel_agentperf import replay
from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.errors import SourceError
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import Database, open_source

PATIENCE_S = 60.0

RELATIONS = {
    "spans": ("trace_id", "span_id"),
    "turns": ("turn_id",),
    "attempts": ("span_id",),
    "tool_calls": ("trajectory_id", "turn_index", "tool_call_id"),
    "trajectories": ("trajectory_id",),
    "runs": ("trajectory_id", "run_index"),
}
"""What a backend must give back as the store does, and what names a row."""


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Base URL of a simulated endpoint."""
    config = SimulateConfig(prefill_tokens_per_s=200_000, decode_ms=1, reasoning_rate=0.5, tool_call_rate=1, seed=7)
    with simulated_endpoint(config) as url:
        yield url


@pytest.fixture
def traffic(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`traffic(otlp_endpoint, protocol=, environment=)`: three agents at once, a refused call and a plain request;
    returns the proxy's store when it has ended, and so has exported all.
    """

    def drive(otlp_endpoint: str, *, environment: dict[str, str] | None = None, **settings: Any) -> Path:
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        store = tmp_path / "store"
        recording = replay.load("mini").limited(4)
        with proxy_in_front(endpoint, store, otlp_endpoint=otlp_endpoint, **settings) as url:
            asyncio.run(
                replay.play(
                    recording,
                    replay.ReplaySettings(
                        endpoint=url,
                        model="simulated",
                        levels=(3,),
                        seconds=None,
                        trajectories=3,
                        warmup_s=0.0,
                        tool_delays=replay.ToolDelays(fixed_s=0.01),
                    ),
                )
            )
            assert httpx.get(f"{url}/v1/models").status_code == 200
            assert httpx.post(f"{url}/v1/chat/completions", json={"model": "simulated"}).status_code == 400
        return store

    return drive


def rows(database: Database, relation: str) -> list[dict[str, Any]]:
    """All of a relation, in an order that does not depend on times."""
    return sorted(
        database.query(f"FROM {relation}").to_pylist(), key=lambda row: [str(row[name]) for name in RELATIONS[relation]]
    )


def differences(ours: dict[str, Any], theirs: dict[str, Any], tolerance_ns: int) -> dict[str, tuple[Any, Any]]:
    """The columns in which two rows differ; times may differ by the tolerance, and nothing else may."""
    found = {}
    for name in ours.keys() | theirs.keys():
        mine, other = ours.get(name), theirs.get(name)
        if mine == other:
            continue
        if mine is not None and other is not None:
            if isinstance(mine, datetime) and abs(mine - other) <= timedelta(microseconds=tolerance_ns / 1000):
                continue
            if name.endswith("_ns") and abs(mine - other) <= tolerance_ns:
                continue
            if name.endswith("_s") and abs(mine - other) <= tolerance_ns / 1e9:
                continue
        found[name] = (mine, other)
    return found


@pytest.fixture
def same_rows() -> Callable[..., None]:
    """`same_rows(source, store, tolerance_ns=0)`: the source holds what the store holds, once all has arrived there."""

    def compare(source: str, store: Path, *, tolerance_ns: int = 0) -> None:
        with open_source(str(store)) as wanted:
            expected = {relation: rows(wanted, relation) for relation in RELATIONS}
        assert len(expected["turns"]) > 12
        assert expected["tool_calls"]
        until = time.monotonic() + PATIENCE_S
        arrived: list[dict[str, Any]] = []
        while len(arrived) < len(expected["spans"]) and time.monotonic() < until:
            # A source that holds nothing yet is an error to its readers.
            with contextlib.suppress(SourceError), open_source(source) as database:
                arrived = rows(database, "spans")
        with open_source(source) as database:
            assert not database.skipped.lines
            for relation in RELATIONS:
                got = rows(database, relation)
                assert len(got) == len(expected[relation]), relation
                for one, other in zip(got, expected[relation], strict=True):
                    assert differences(one, other, tolerance_ns) == {}, relation

    return compare


@dataclass(frozen=True)
class Span:
    """A span as a backend tells it, in plain values."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]


def _value(encoded: dict[str, Any]) -> Any:
    ((kind, value),) = encoded.items()
    if kind == "arrayValue":
        return [_value(item) for item in value.get("values", [])]
    return int(value) if kind == "intValue" else value


@pytest.fixture
def stored() -> Callable[[Path], dict[str, Span]]:
    """`stored(store)`: all its spans with all their attributes, by their ids."""

    def read(store: Path) -> dict[str, Span]:
        found = {}
        for path in store.glob("spans-*"):
            data = path.read_bytes()
            if path.suffix == ".zst":
                data = zstandard.ZstdDecompressor().stream_reader(data).read()
            for line in data.splitlines():
                for resource in json.loads(line)["resourceSpans"]:
                    for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                        found[span["spanId"]] = Span(
                            span["traceId"],
                            span["spanId"],
                            span.get("parentSpanId") or None,
                            span["name"],
                            int(span["startTimeUnixNano"]),
                            int(span["endTimeUnixNano"]),
                            {item["key"]: _value(item["value"]) for item in span["attributes"]},
                        )
        return found

    return read


@pytest.fixture
def same_spans() -> Callable[..., None]:
    """`same_spans(ask, wanted, tolerance_ns=, added=)`: a backend gives all spans back, with all their attributes.

    `ask` gives what it has so far; `added` are prefixes of attributes that the backend adds.
    """

    def compare(
        ask: Callable[[], list[Span]], wanted: dict[str, Span], *, tolerance_ns: int, added: tuple[str, ...]
    ) -> None:
        until = time.monotonic() + PATIENCE_S
        while len(found := ask()) < len(wanted):
            assert time.monotonic() < until, f"{len(found)} of {len(wanted)} spans have arrived"
            time.sleep(0.5)
        assert sorted(span.span_id for span in found) == sorted(wanted)
        for span in found:
            other = wanted[span.span_id]
            named = ("trace_id", "parent_span_id", "name")
            assert [getattr(span, name) for name in named] == [getattr(other, name) for name in named]
            assert abs(span.start_ns - other.start_ns) <= tolerance_ns
            assert abs(span.end_ns - other.end_ns) <= tolerance_ns
            theirs = {name: value for name, value in span.attributes.items() if not name.startswith(added)}
            assert theirs == other.attributes
            types = {name: type(value) for name, value in theirs.items()}
            assert types == {name: type(value) for name, value in other.attributes.items()}

    return compare


@pytest.fixture
def make_span() -> type[Span]:
    """`make_span(...)`: see `Span`."""
    return Span
