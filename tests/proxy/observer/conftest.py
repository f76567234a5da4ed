"""A relay on paper: it tells an observer of calls, frame by frame, and reads the spans back out of the store.

Times are milliseconds from the call's t0; ids and clocks are pinned, so whole spans can be compared.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

from otel_agentperf_proxy.clock import WallClock
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import End, Frame, Kind, Open, Outcome, ResponseHead, RunTrace, encode_record
from otel_agentperf_proxy.observer import Observer
from otel_agentperf_proxy.trajectory import identify, identity_key

MS = 1_000_000
SECOND = 1000 * MS

WALL_NS = 1_800_000_000 * SECOND
"""Wall-clock time at monotonic 0."""

TENANT = "1111aaaa2222bbbb"
UPSTREAM = "http://llm.internal:8000"


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


@dataclass
class Told:
    """A call being told."""

    relay: "PaperRelay"
    number: int
    t0_ns: int
    request_bytes: int = 0
    response_bytes: int = 0
    status: int | None = None
    first_chunk_ns: int | None = None
    last_chunk_ns: int | None = None
    record: Open | None = None

    def _send(self, kind: Kind, at_ms: float, payload: bytes = b"") -> None:
        time_ns = self.t0_ns + round(at_ms * MS)
        self.relay.now_ns = max(self.relay.now_ns, time_ns)
        self.relay.observer.feed(self.relay.worker, Frame(kind, self.number, time_ns, payload))

    def body(self, data: bytes, at_ms: float = 1, *, whole: bool = True, lost: bool = False) -> None:
        """A part of the request's body, or all of it."""
        self.request_bytes += len(data)
        if not lost:
            self._send(Kind.REQUEST_BODY, at_ms, data)
        if whole:
            self._send(Kind.REQUEST_END, at_ms)

    def gap(self, at_ms: float) -> None:
        self._send(Kind.GAP, at_ms)

    def head(self, status: int = 200, headers: dict[str, str] | None = None, at_ms: float = 5) -> None:
        fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.status = status
        self._send(Kind.RESPONSE_HEAD, at_ms, encode_record(ResponseHead(status, fields)))

    def chunk(self, at_ms: float, data: bytes | str, *, lost: bool = False) -> None:
        """A part of the response's body; a lost one never reaches the observer."""
        data = data.encode() if isinstance(data, str) else data
        time_ns = self.t0_ns + round(at_ms * MS)
        self.first_chunk_ns = self.first_chunk_ns or time_ns
        self.last_chunk_ns = time_ns
        self.response_bytes += len(data)
        if not lost:
            self._send(Kind.RESPONSE_BODY, at_ms, data)

    def end(self, at_ms: float, outcome: str = Outcome.COMPLETE, error_type: str | None = None, **changes: Any) -> None:
        values: dict[str, Any] = {
            "outcome": outcome,
            "error_type": error_type,
            "status": self.status,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "sent_ns": self.t0_ns + 2 * MS,
            "upload_ns": MS // 2,
            "first_chunk_ns": self.first_chunk_ns,
            "last_chunk_ns": self.last_chunk_ns,
            "overhead_ns": MS // 4 if self.first_chunk_ns else None,
            "dropped_frames": 0,
            "unread_bytes": 0,
        }
        self._send(Kind.END, at_ms, encode_record(End(**{**values, **changes})))


@dataclass
class PaperRelay:
    """One relay of an observer. Calls are ten seconds apart."""

    observer: Observer
    store: Path
    worker: str = "0-1"
    now_ns: int = 100 * SECOND
    count: int = 0
    traces: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.observer.on_run_trace = self.told_trace

    def told_trace(self, record: RunTrace) -> None:
        if record.trace_id is None:
            self.traces.pop(record.identity_key, None)
        else:
            self.traces[record.identity_key] = record.trace_id

    def open(
        self,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        *,
        headers: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        **changes: Any,
    ) -> Told:
        self.count += 1
        told = Told(self, self.count, self.now_ns + 10 * SECOND)
        fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        identity = identify(fields, tags or {})
        key = identity_key(identity, TENANT) if identity else None
        values: dict[str, Any] = {
            "method": method,
            "path": path,
            "headers": fields,
            "tags": tags or {},
            "tenant": TENANT,
            "server_address": "llm.internal",
            "server_port": 8000,
            "trace_id": self.traces.get(key or "", trace_id(0xA0 + self.count)),
            "span_id": span_id(0xB0 + self.count),
            "identity_key": key,
        }
        told.record = Open(**{**values, **changes})
        told._send(Kind.OPEN, 0, encode_record(told.record))
        return told

    def resume(self, told: Told) -> None:
        """Tell of an open call again, as to a restarted observer."""
        assert told.record is not None
        told._send(Kind.OPEN, 0, encode_record(Open(**{**_fields(told.record), "resumed": True})))

    def call(self, body: bytes, answer: bytes, *, path: str = "/v1/chat/completions", **options: Any) -> Told:
        """A whole call that is not streamed, 30 ms long."""
        told = self.open(path=path, **options)
        told.body(body)
        told.head(headers={"content-type": "application/json"})
        told.chunk(20, answer)
        told.end(30)
        return told

    def spans(self) -> list[dict[str, Any]]:
        """Close the observer and read what it wrote, in order."""
        self.observer.close()
        return read_spans(self.store)

    def span(self, name: str) -> dict[str, Any]:
        """The only span whose name starts so."""
        (found,) = [span for span in self.spans() if span["name"].startswith(name)]
        return found


def _fields(record: Open) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Open.__struct_fields__}


def read_lines(store: Path) -> Iterator[bytes]:
    """The lines of all segments, oldest segment first."""
    for path in sorted(store.glob("spans-*")):
        data = path.read_bytes()
        yield from (zstandard.decompress(data) if path.suffix == ".zst" else data).splitlines()


def read_spans(store: Path) -> list[dict[str, Any]]:
    """The spans of a store in plain form."""
    batches = [json.loads(line) for line in read_lines(store)]
    return [
        plain(span)
        for batch in batches
        for resource in batch["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def plain(span: dict[str, Any]) -> dict[str, Any]:
    """A span with ids as numbers where they are small, times in ms since `WALL_NS`, attributes as Python values."""
    return {
        "name": span["name"],
        "kind": {1: "INTERNAL", 3: "CLIENT"}[span["kind"]],
        "trace": span["traceId"],
        "span": span["spanId"],
        "parent": span.get("parentSpanId"),
        "start_ms": (int(span["startTimeUnixNano"]) - WALL_NS) / MS,
        "end_ms": (int(span["endTimeUnixNano"]) - WALL_NS) / MS,
        "attributes": {item["key"]: value(item["value"]) for item in span.get("attributes", ())},
        "links": [(link["traceId"], link["spanId"]) for link in span.get("links", ())],
        "status": {0: "UNSET", 2: "ERROR"}[span.get("status", {}).get("code", 0)],
    }


def value(encoded: dict[str, Any]) -> Any:
    """The value of an attribute, of the type that its encoding names."""
    ((kind, content),) = encoded.items()
    match kind:
        case "intValue":
            assert isinstance(content, str)
            return int(content)
        case "doubleValue":
            assert isinstance(content, int | float)
            return float(content)
        case "arrayValue":
            return tuple(value(item) for item in content["values"])
    return content


def typed(attributes: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """Attributes with the types of their values, since 1 == 1.0 == True."""
    return {name: (type(content).__name__, content) for name, content in sorted(attributes.items())}


def sse(*events: object) -> str:
    """Events as OpenAI streams them."""
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)


def delta(content: Iterable[tuple[str, Any]] | dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk of an OpenAI stream."""
    return {"id": "c1", "model": "m-8b", "choices": [{"index": 0, "delta": dict(content), "finish_reason": finish}]}


@pytest.fixture
def clock() -> WallClock:
    return WallClock(monotonic=lambda: 0, wall=lambda: WALL_NS)


@pytest.fixture
def new_relay(tmp_path: Path, clock: WallClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PaperRelay]]:
    """Makes relays with an observer each; options are those of the configuration."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    observers: list[Observer] = []

    def make(**options: Any) -> PaperRelay:
        config = ProxyConfig(**{"upstream": UPSTREAM, "store": str(tmp_path / "store"), **options})
        observer = Observer(config, clock=clock)
        observers.append(observer)
        return PaperRelay(observer, Path(config.store or tmp_path))

    yield make
    for observer in observers:
        observer.close()


@pytest.fixture
def relay(new_relay: Callable[..., PaperRelay]) -> PaperRelay:
    return new_relay()
