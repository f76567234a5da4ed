"""Captured agent traffic, and its replay through an observer: what the linker makes of it, against what it is.

The captures are skeletons (`tests/data/captures/README.md`). They are replayed frame by frame, mixed and interleaved in
time, as relays would tell of them, and the answer is read off the spans in the store: what a user would see.
"""

import itertools
import json
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import zstandard

from otel_agentperf import semconv
from otel_agentperf_proxy.clock import WallClock
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import End, Frame, Kind, Open, Outcome, ResponseHead, RunTrace, encode_record
from otel_agentperf_proxy.headers import take_apart, without_secrets
from otel_agentperf_proxy.observer import Observer
from otel_agentperf_proxy.trajectory import identify, identity_key

DATA: Final = Path(__file__).parents[1] / "data" / "captures"

TENANT: Final = "1111aaaa2222bbbb"

ANONYMOUS: Final = frozenset(
    (b"host", b"accept", b"accept-encoding", b"content-type", b"content-length", b"user-agent", b"connection")
)
"""Header fields that are left when an agent does not say who it is."""

NAMING: Final = frozenset(("metadata", "client_metadata", "prompt_cache_key"))
"""Members of a body by which it says so."""

SECOND: Final = 10**9


@dataclass(frozen=True)
class Truth:
    """What an exchange is."""

    trajectory: str | None
    """Name of the trajectory, with the capture's; None for plain HTTP."""
    parent: str | None = None
    turn: int | None = None
    """None for auxiliary calls."""
    retry: int = 0
    segment: int = 0
    run: int = 0


@dataclass(frozen=True)
class Exchange:
    """A captured HTTP exchange. Times are seconds from the capture's first request."""

    capture: str
    seq: int
    t_request: float
    t_body: float
    t_end: float
    method: str
    path: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    status: int
    response_headers: Sequence[tuple[bytes, bytes]]
    chunks: Sequence[tuple[float, bytes]]
    dropped: bool
    """The server ended the connection in the middle of the response."""
    truth: Truth

    @property
    def agent(self) -> str:
        """Name and version."""
        return self.capture.partition("/")[0]

    def anonymous(self, *, body: bool = True) -> "Exchange":
        """The exchange without any word of who sends it, in the header and, unless told otherwise, in the body."""
        headers = [pair for pair in self.headers if pair[0].lower() in ANONYMOUS]
        if not self.body or not body:
            return replace(self, headers=headers)
        kept = {name: value for name, value in json.loads(self.body).items() if name not in NAMING}
        return replace(self, headers=headers, body=json.dumps(kept).encode())


@dataclass(frozen=True)
class Capture:
    """The exchanges of one run of one agent."""

    name: str
    exchanges: tuple[Exchange, ...]

    def anonymous(self, *, body: bool = True) -> "Capture":
        """The capture without any word of who sends it, in headers and, unless told otherwise, in bodies."""
        return Capture(self.name, tuple(one.anonymous(body=body) for one in self.exchanges))


@cache
def load() -> tuple[Capture, ...]:
    """All captures."""
    truths = _truths((DATA / "truth.txt").read_text(encoding="utf-8"))
    captures = []
    for path in sorted(DATA.glob("*/*.jsonl.zst")):
        name = f"{path.parent.name}/{path.name.removesuffix('.jsonl.zst')}"
        text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
        exchanges = [_exchange(name, json.loads(line), truths) for line in text.splitlines()]
        captures.append(Capture(name, tuple(exchanges)))
    return tuple(captures)


def _exchange(capture: str, record: dict[str, Any], truths: dict[tuple[str, int], Truth]) -> Exchange:
    return Exchange(
        capture,
        record["seq"],
        record["t_request"],
        record["t_body"],
        record["t_end"],
        record["method"],
        record["path"],
        _encoded(record["headers"]),
        json.dumps(record["body"]).encode() if record["body"] is not None else b"",
        record["status"],
        _encoded(record["response_headers"]),
        tuple((time, chunk.encode()) for time, chunk in record["chunks"]),
        record["note"] == "mock-drop",
        truths[capture, record["seq"]],
    )


def _encoded(headers: Iterable[Sequence[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


_LINE: Final = re.compile(
    r"(?P<seq>\d+) (?P<who>\w+|-)(<(?P<parent>\w+))? (?:other|auxiliary|turn(?P<turn>\d+))"
    r"(?: retry(?P<retry>\d+))?(?: segment(?P<segment>\d+))?(?: run(?P<run>\d+))?"
)


def _truths(text: str) -> dict[tuple[str, int], Truth]:
    truths = {}
    capture = ""
    for line in text.splitlines():
        words = " ".join(line.split())
        if not words or words.startswith("#"):
            continue
        found = _LINE.fullmatch(words)
        if found is None:
            capture = words
            continue
        number = {name: int(found[name] or 0) for name in ("seq", "retry", "segment", "run")}
        who, parent = (f"{capture}/{found[name]}" if found[name] else None for name in ("who", "parent"))
        seq = number.pop("seq")
        truths[capture, seq] = Truth(
            None if found["who"] == "-" else who, parent, int(found["turn"]) if found["turn"] else None, **number
        )
    return truths


_HEX: Final = re.compile(r"(?<![0-9a-fA-F])[0-9a-f]{24}(?![0-9a-fA-F])")
"""The random part of the ids that the captures' server gave."""


def renamed(capture: Capture, copy: int) -> Capture:
    """The capture as if the server had given other ids; copy 0 has its own."""

    def rename(data: bytes) -> bytes:
        text = data.decode()
        return _HEX.sub(lambda match: f"{(int(match[0], 16) + copy * 0x1234567) % 16**24:024x}", text).encode()

    return Capture(
        capture.name,
        tuple(
            replace(
                one,
                body=rename(one.body),
                chunks=tuple((time, rename(chunk)) for time, chunk in one.chunks),
                truth=replace(
                    one.truth,
                    trajectory=one.truth.trajectory and f"{one.truth.trajectory}#{copy}",
                    parent=one.truth.parent and f"{one.truth.parent}#{copy}",
                ),
            )
            for one in capture.exchanges
        ),
    )


# Replay.


@dataclass
class Seen:
    """An exchange and the attributes of its span."""

    exchange: Exchange
    tenant: str
    t0_ns: int
    attributes: dict[str, Any] = field(default_factory=dict)
    span_id: str = ""

    @property
    def trajectory(self) -> str | None:
        """Id of the trajectory that it was given to."""
        return self.attributes.get(semconv.TRAJECTORY_ID)

    @property
    def true(self) -> str | None:
        """Name of the trajectory that it is of, with its tenant's; None for plain HTTP."""
        trajectory = self.exchange.truth.trajectory
        return f"{self.tenant}:{trajectory}" if trajectory is not None else None

    @property
    def source(self) -> str:
        """The rule that decided."""
        return str(self.attributes[semconv.TRAJECTORY_SOURCE])


@dataclass
class Replayed:
    """What an observer made of captures."""

    calls: list[Seen]
    """In the order of their requests."""
    spans: list[dict[str, Any]]
    """All spans as the store has them."""
    stats: dict[str, Any]

    @property
    def parents(self) -> dict[str, str]:
        """Trajectory to parent, as the spans of the runs tell in the end."""
        told = {}
        for span in self.spans:
            found = attributes(span)
            if span["name"].startswith(semconv.OPERATION_INVOKE_AGENT) and semconv.TRAJECTORY_PARENT_ID in found:
                told[found[semconv.TRAJECTORY_ID]] = found[semconv.TRAJECTORY_PARENT_ID]
        return told


def interleaved(captures: Sequence[Capture], seed: int, spread_s: float = 3.0) -> list[tuple[float, Capture, str]]:
    """Start times for the captures so that they overlap, all of one tenant."""
    chance = random.Random(seed)
    return [(chance.uniform(0, spread_s), capture, TENANT) for capture in captures]


def play(starts: Sequence[tuple[float, Capture, str]], *, relays: int = 2) -> Replayed:
    """Tell an observer of the captures (start in seconds, capture, tenant), in the order of time."""
    with tempfile.TemporaryDirectory() as directory:
        config = ProxyConfig(upstream="http://llm.internal:8000", store=directory)
        observer = Observer(config, clock=WallClock(monotonic=lambda: 0, wall=lambda: 1_800_000_000 * SECOND))
        return Stage(observer, relays).play(starts, Path(directory))


SALT: Final = "5a" * 32
"""Of a fleet."""


def play_fleet(
    starts: Sequence[tuple[float, Capture, str]],
    stores: Path,
    *,
    proxies: int = 4,
    replace_at: float | None = None,
    ahead_s: Sequence[float] = (),
) -> list[Seen]:
    """Tell the observers of several proxies of the captures, call by call in turn; each has a store of its own.

    Args:
        stores: the directory for these.
        replace_at: after this share of the calls the first proxy is gone, and another one takes its place.
        ahead_s: by how much the clocks of the proxies are wrong.

    Returns:
        The calls, whose attributes nobody has read yet.
    """
    made = itertools.count()

    def stage(proxy: int) -> "Stage":
        store = stores / f"proxy-{next(made)}"
        config = ProxyConfig(upstream="http://llm.internal:8000", store=str(store), salt=SALT)
        wall_ns = 1_800_000_000 * SECOND + round((ahead_s[proxy] if ahead_s else 0) * SECOND)
        return Stage(Observer(config, clock=WallClock(monotonic=lambda: 0, wall=lambda: wall_ns)), 1)

    stages = [stage(proxy) for proxy in range(proxies)]
    events: list[tuple[int, int, int, Kind, Any]] = []
    calls: dict[int, Seen] = {}
    for start_s, capture, tenant in starts:
        for exchange in capture.exchanges:
            number = len(calls) + 1
            span_id = number.to_bytes(8, "big").hex()
            calls[number] = Seen(exchange, tenant, _ns(start_s + exchange.t_request), span_id=span_id)
            for order, (time_ns, kind, payload) in enumerate(_frames(exchange, start_s)):
                events.append((time_ns, number, order, kind, payload))
    events.sort(key=lambda event: event[:3])
    opened = 0
    at: dict[int, Stage] = {}
    for time_ns, number, _, kind, payload in events:
        if kind == Kind.OPEN:
            if replace_at is not None and opened >= replace_at * len(calls):
                replace_at = None
                stages[0].observer.close()
                stages[0] = stage(0)
            at[number] = stages[opened % proxies]
            opened += 1
        at[number].tell(calls[number], number, time_ns, kind, payload)
    for one in stages:
        one.observer.close()
    return sorted(calls.values(), key=lambda seen: seen.t0_ns)


class Stage:
    """An observer and the relays that tell it of calls."""

    def __init__(self, observer: Observer, relays: int) -> None:
        self.observer = observer
        self.relays = relays
        self.traces: dict[str, bytes] = {}
        observer.on_run_trace = self._told_trace

    def _told_trace(self, record: RunTrace) -> None:
        if record.trace_id is None:
            self.traces.pop(record.identity_key, None)
        else:
            self.traces[record.identity_key] = record.trace_id

    def play(self, starts: Sequence[tuple[float, Capture, str]], store: Path) -> Replayed:
        events: list[tuple[int, int, int, Kind, Any]] = []
        calls: dict[int, Seen] = {}
        for start_s, capture, tenant in starts:
            for exchange in capture.exchanges:
                number = len(calls) + 1
                seen = calls[number] = Seen(exchange, tenant, _ns(start_s + exchange.t_request))
                for order, (time_ns, kind, payload) in enumerate(_frames(exchange, start_s)):
                    events.append((time_ns, number, order, kind, payload))
        events.sort(key=lambda event: event[:3])
        ticked_ns = 0
        for time_ns, number, _, kind, payload in events:
            if time_ns - ticked_ns > SECOND // 100:
                self.observer.tick(time_ns)
                ticked_ns = time_ns
            seen = calls[number]
            data = self._open(seen, number) if kind == Kind.OPEN else payload
            self.observer.feed(str(number % self.relays), Frame(kind, number, time_ns, data))
        self.observer.close()
        written = spans(store)
        by_id = {span["spanId"]: span for span in written}
        for number, seen in calls.items():
            span = by_id[number.to_bytes(8, "big").hex()]
            seen.attributes = attributes(span)
        ordered = sorted(calls.values(), key=lambda seen: seen.t0_ns)
        return Replayed(ordered, written, self.observer.stats())

    def tell(self, seen: Seen, number: int, time_ns: int, kind: Kind, payload: Any) -> None:
        """Tell the observer of one event of a call."""
        self.observer.tick(time_ns)
        data = self._open(seen, number) if kind == Kind.OPEN else payload
        self.observer.feed("relay", Frame(kind, number, time_ns, data))

    def _open(self, seen: Seen, number: int) -> bytes:
        exchange = seen.exchange
        request = take_apart((name.lower(), value) for name, value in exchange.headers)
        identity = identify(request.headers, request.tags)
        key = identity_key(identity, seen.tenant) if identity else None
        opened = Open(
            method=exchange.method,
            path=exchange.path.partition("?")[0],
            headers=without_secrets(request.headers),
            tags=request.tags,
            tenant=seen.tenant,
            server_address="llm.internal",
            server_port=8000,
            trace_id=self.traces.get(key or "", (1 << 96 | number).to_bytes(16, "big")),
            span_id=number.to_bytes(8, "big"),
            identity_key=key,
        )
        return encode_record(opened)


def _ns(seconds: float) -> int:
    return 100 * SECOND + round(seconds * 1e9)


def _frames(exchange: Exchange, start_s: float) -> Iterator[tuple[int, Kind, Any]]:
    """Time, kind and payload; that of OPEN is made when it is told."""
    yield _ns(start_s + exchange.t_request), Kind.OPEN, None
    body_ns = _ns(start_s + max(exchange.t_body, exchange.t_request))
    if exchange.body:
        yield body_ns, Kind.REQUEST_BODY, exchange.body
    yield body_ns, Kind.REQUEST_END, b""
    times = [_ns(start_s + time) for time, _ in exchange.chunks]
    headers = [(name.lower(), value) for name, value in exchange.response_headers]
    head_ns = times[0] if times else _ns(start_s + exchange.t_end)
    yield head_ns, Kind.RESPONSE_HEAD, encode_record(ResponseHead(exchange.status, headers))
    for time_ns, (_, chunk) in zip(times, exchange.chunks, strict=True):
        yield time_ns, Kind.RESPONSE_BODY, chunk
    end_ns = max([_ns(start_s + exchange.t_end), *times])
    end = End(
        outcome=Outcome.UPSTREAM_FAILED if exchange.dropped else Outcome.COMPLETE,
        error_type=semconv.ErrorType.UPSTREAM_RESET if exchange.dropped else None,
        status=exchange.status,
        request_bytes=len(exchange.body),
        response_bytes=sum(len(chunk) for _, chunk in exchange.chunks),
        sent_ns=body_ns,
        upload_ns=0,
        first_chunk_ns=times[0] if times else None,
        last_chunk_ns=times[-1] if times else None,
        overhead_ns=None,
        dropped_frames=0,
        unread_bytes=0,
    )
    yield end_ns, Kind.END, encode_record(end)


def spans(store: Path) -> list[dict[str, Any]]:
    """The spans of a store, as OTLP/JSON has them."""
    return list(_spans(store))


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a span."""
    return {item["key"]: _value(item["value"]) for item in span["attributes"]}


def _spans(store: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(store.glob("spans-*")):
        data = path.read_bytes()
        for line in (zstandard.decompress(data) if path.suffix == ".zst" else data).splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    yield from scope["spans"]


def _value(encoded: dict[str, Any]) -> Any:
    ((kind, content),) = encoded.items()
    return int(content) if kind == "intValue" else content


# Scores.


@dataclass
class Score:
    """How many decisions of one kind were right. A link is between a turn's attempt and the one before it in its
    trajectory; an edge between a sub-agent and the trajectory that started it."""

    true: int = 0
    """Links that are there."""
    right: int = 0
    """Links claimed and there."""
    wrong: int = 0
    """Links claimed, and the call belongs elsewhere."""

    @property
    def precision(self) -> float | None:
        """Share of the claimed that is right; None when nothing was claimed."""
        claimed = self.right + self.wrong
        return self.right / claimed if claimed else None

    @property
    def recall(self) -> float | None:
        """Share of the true that was found."""
        return self.right / self.true if self.true else None


LINK, EDGE, AUXILIARY = "link", "sub-agent", "auxiliary"


@dataclass
class Scores:
    """What was right and what was wrong."""

    by_agent: dict[tuple[str, str], Score] = field(default_factory=dict)
    """By kind and agent."""
    by_rule: dict[tuple[str, str], Score] = field(default_factory=dict)
    """By kind and rule."""
    mistaken: list[Seen] = field(default_factory=list)
    missed: list[Seen] = field(default_factory=list)

    def total(self, kind: str, *, without: str = "-") -> Score:
        """Of all agents but those whose name begins so."""
        total = Score()
        for (of, agent), one in self.by_agent.items():
            if of == kind and not agent.startswith(without):
                total.true, total.right, total.wrong = (
                    total.true + one.true,
                    total.right + one.right,
                    total.wrong + one.wrong,
                )
        return total

    def note(self, kind: str, seen: Seen, *, true: bool, found: str | None, wanted: str | None) -> None:
        """Take in one decision: whether there was something to find, what was found, what it should have been."""
        for now in (
            self.by_agent.setdefault((kind, seen.exchange.agent), Score()),
            self.by_rule.setdefault((kind, seen.source), Score()),
        ):
            now.true += true
            now.right += found is not None and found == wanted
            now.wrong += found is not None and found != wanted
        if found is not None and found != wanted:
            self.mistaken.append(seen)
        elif true and found is None:
            self.missed.append(seen)


def score(replayed: Replayed) -> Scores:
    """Compare what an observer made of calls with what they are."""
    scores = Scores()
    parents = replayed.parents
    turns = [seen for seen in replayed.calls if seen.exchange.truth.turn is not None]
    begun: set[str] = set()
    latest: dict[str, str] = {}
    """Trajectory as given, to the one that its latest turn really is of."""
    roots: dict[str, str] = {}
    """The same, of its first turn."""
    for seen in turns:
        true, given = seen.true, seen.trajectory
        assert true is not None
        assert given is not None
        scores.note(LINK, seen, true=true in begun, found=latest.get(given), wanted=true)
        begun.add(true)
        latest[given] = true
        roots.setdefault(given, true)
    for seen in turns:
        given = seen.trajectory
        if given in roots and roots.pop(given) == seen.true:
            true_parent = seen.exchange.truth.parent
            parent = parents.get(given)
            scores.note(
                EDGE,
                seen,
                true=true_parent is not None and seen.exchange.truth.turn == 0,
                found=None if parent is None else latest.get(parent, parent),
                wanted=None if true_parent is None else f"{seen.tenant}:{true_parent}",
            )
    for seen in replayed.calls:
        if seen.exchange.truth.turn is None and seen.true is not None and seen.trajectory is not None:
            scores.note(AUXILIARY, seen, true=True, found=latest.get(seen.trajectory), wanted=seen.true)
    return scores
