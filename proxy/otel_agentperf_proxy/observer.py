"""The observer: frames in, spans out.

One observer serves all relays of a proxy, so all of them share one view of the trajectories, and it is the only writer
of the store and the only exporter. It never raises: what goes wrong with one call is counted, said once per kind, and
costs that call its details.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

import msgspec

from otel_agentperf.semconv import WEBSOCKET
from otel_agentperf_proxy.calls import Call, header
from otel_agentperf_proxy.clock import WallClock
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.dialects import MessageCache
from otel_agentperf_proxy.frames import End, Frame, Hello, Kind, Open, RunTrace, TaskOutcome
from otel_agentperf_proxy.intake import run_observer
from otel_agentperf_proxy.journal import Journal
from otel_agentperf_proxy.metrics.series import Family
from otel_agentperf_proxy.outlet import Failures, Outlet
from otel_agentperf_proxy.trajectory import Linker, Run
from otel_agentperf_proxy.tunnel import dialect_of
from otel_agentperf_proxy.waiting import Waiting
from otel_agentperf_proxy.websocket_calls import WebSocket

__all__ = ["Observer", "run_observer"]

TICK_S: Final = 0.25

LOST_NS: Final = 2 * 10**9
"""How long the calls of a relay whose connection broke wait for it to come back."""

FINISHED: Final = 16_384
"""Numbers of finished calls that are remembered per relay."""

SWITCHING_PROTOCOLS: Final = 101

_decode_open = msgspec.msgpack.Decoder(Open).decode
_decode_end = msgspec.msgpack.Decoder(End).decode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_outcome = msgspec.msgpack.Decoder(TaskOutcome).decode


class _Relay:
    """What is known of a relay."""

    __slots__ = ("calls", "finished", "lost_ns", "told_ns", "websockets")

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.websockets: dict[int, WebSocket] = {}
        """Of the calls, those that became one whose messages are calls themselves."""
        self.finished: dict[int, None] = {}
        """The latest finished calls: after a broken connection a relay may tell an end twice."""
        self.lost_ns: int | None = None
        """When its connection broke."""
        self.told_ns = 0
        """The latest time of which it told; what it tells comes in the order of time."""

    def finish(self, number: int) -> None:
        self.calls.pop(number, None)
        self.websockets.pop(number, None)
        self.finished[number] = None
        if len(self.finished) > FINISHED:
            del self.finished[next(iter(self.finished))]


class Observer:
    """The calls of all relays of a proxy. Not thread-safe.

    Args:
        config: says where spans go.
        clock: anchors monotonic times.
        linker: of trajectories.

    Raises:
        StoreError: the store cannot be written.
        UsageError: the export cannot be configured.
    """

    def __init__(self, config: ProxyConfig, *, clock: WallClock | None = None, linker: Linker | None = None) -> None:
        self.on_run_trace: Callable[[RunTrace], None] = lambda record: None
        """Called with the trace of a run that opened, moved to another trace or closed."""
        self._content = config.capture == "content"
        self._body_limit = config.observed_body_bytes
        self._flush_ns = round(config.flush_interval_s * 1e9)
        self.tick_s = min(TICK_S, config.flush_interval_s)
        """How often `tick` is wanted."""
        self._clock = clock or WallClock()
        self._linker = linker or Linker(idle_limit_s=config.idle_limit_s)
        self._cache = MessageCache()
        self._failures = Failures()
        self._outlet = Outlet(config, self._clock, self._failures, self._remember)
        self._relays: dict[str, _Relay] = {}
        self._waiting = Waiting()
        self._journal = Journal(Path(config.store)) if config.store else None
        self._journal_ns = 0
        self._run_traces = self._recall()
        self._counts: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()
        self._closed = False

    def _recall(self) -> dict[str, bytes]:
        """Take up the trajectories that an observer before this one knew; the traces of the open runs among them."""
        if self._journal is None:
            return {}
        now_ns = monotonic_ns()
        now_unix_ns = self._clock.unix_ns(now_ns)
        runs = self._linker.recall(self._journal.open(), lambda unix_ns: now_ns - max(now_unix_ns - unix_ns, 0))
        return {run.identity_key: run.trace_id for run in runs if run.identity_key is not None}

    # What relays tell.

    def feed(self, worker: str, frame: Frame) -> None:
        """Take one frame of a relay, or of somebody who tells an outcome."""
        if frame.kind == Kind.TASK_OUTCOME:
            self._guarded("outcome", self._take_outcome, frame)
            return
        relay = self._relays.get(worker)
        if relay is None:
            relay = self._relays[worker] = _Relay()
        relay.told_ns = max(relay.told_ns, frame.time_ns)
        try:
            self._take(relay, frame)
        except Exception as exc:
            self._failures.note("frame", exc)

    def disconnected(self, worker: str, now_ns: int) -> None:
        """The relay's connection broke. Its calls wait for a while whether it comes back."""
        relay = self._relays.get(worker)
        if relay is not None:
            relay.lost_ns = now_ns

    def tick(self, now_ns: int) -> None:
        """Do what time asks for: place and end what waits, close idle runs, write."""
        if self._closed:
            return
        self._clock.tick(now_ns)
        self._release(now_ns)
        self._guarded("relay", self._give_up_lost, now_ns)
        self._guarded("expire", self._expire, now_ns)
        # As late as the next tick would be too late.
        if self._outlet.is_due(now_ns + round(self.tick_s * 1e9)):
            self.flush()
        elif now_ns - self._journal_ns >= self._flush_ns:
            self._journal_ns = now_ns
            self._remember()
        self._outlet.tick()
        if self._outlet.meter.is_due(now_ns):
            self._guarded("metrics", self._export_metrics)

    def flush(self) -> None:
        """Write the spans that wait, and before them what they count."""
        self._outlet.flush()

    def close(self) -> None:
        """End all calls and runs with what is known, write and export everything. Takes seconds at most."""
        if self._closed:
            return
        self._release(None)
        for relay in self._relays.values():
            for number, call in tuple(relay.calls.items()):
                self._lose(relay, number, call)
        self._guarded("expire", self._close_all)
        self._guarded("metrics", self._export_metrics)
        self._closed = True
        self._outlet.close()
        if self._journal is not None:
            self._guarded("journal", self._journal.close)

    @property
    def holds(self) -> bool:
        """Whether a call waits for its place: `tick` is wanted soon."""
        return bool(self._waiting)

    def run_traces(self) -> list[RunTrace]:
        """The traces of all open runs with an explicit identity, for a relay that is new."""
        return [RunTrace(key, trace_id) for key, trace_id in self._run_traces.items()]

    def metrics(self) -> list[Family]:
        """What was counted, and what there is now, by the instruments of `otel_agentperf.instruments`."""
        calls = [call for relay in self._relays.values() for call in relay.calls.values()]
        inflight = [call.request.model for call in calls if call.request is not None]
        return self._outlet.meter.families(self.stats(), self._linker.active(), inflight)

    def take_log(self, payload: bytes) -> None:
        """A log record of another process, for the export of logs."""
        self._guarded("log", self._outlet.log, payload)

    def take_processes(self, processes: list[Family]) -> None:
        """What the supervisor tells of the relays and of itself, for the export of metrics."""
        self._outlet.meter.told(processes)

    def stats(self) -> dict[str, Any]:
        """Counts since the start, and the present state; JSON.

        `calls` by status, `problems` (bodies that came whole and could not be read) by dialect, `errors` (of the
        observer itself) by kind, and what store, export, access log and linker tell of themselves.
        """
        return {
            "relays": sum(relay.lost_ns is None for relay in self._relays.values()),
            "open_calls": sum(len(relay.calls) for relay in self._relays.values()),
            "calls": dict(self._statuses),
            "outcomes": self._counts["outcomes"],
            "calls_resumed": self._counts["resumed"],
            "calls_without_open": self._counts["orphans"],
            "problems": dict(self._problems),
            "errors": dict(self._failures.counts),
            **self._outlet.stats(),
            "linker": self._linker.stats(),
        }

    # Frames.

    def _take(self, relay: _Relay, frame: Frame) -> None:
        kind, number, time_ns, payload = frame
        call = relay.calls.get(number)
        if kind == Kind.RESPONSE_BODY:
            if call is not None:
                call.response_body(time_ns, payload)
                if relay.websockets and number in relay.websockets:
                    self._pass(relay, number, call, lambda websocket: websocket.received(time_ns, payload))
        elif kind == Kind.OPEN:
            self._open(relay, number, time_ns, payload)
        elif kind == Kind.END:
            self._end(relay, number, call, time_ns, payload)
        elif kind == Kind.HELLO:
            _decode_hello(payload)
            relay.lost_ns = None
        elif call is None:
            return
        elif kind == Kind.REQUEST_BODY:
            call.request_body(time_ns, payload)
            if relay.websockets and number in relay.websockets:
                self._pass(relay, number, call, lambda websocket: websocket.sent(time_ns, payload))
        elif kind == Kind.REQUEST_END:
            call.request_end(time_ns)
            self._request_came(call, time_ns)
            self._pass(relay, number, call, WebSocket.client_ended)
        elif kind == Kind.RESPONSE_HEAD:
            call.response_head(time_ns, payload)
            if call.http_status == SWITCHING_PROTOCOLS:
                self._switch(relay, number, call)
        elif kind == Kind.GAP:
            call.gap(time_ns)
            self._pass(relay, number, call, WebSocket.lose)
            if call.request is not None:
                self._request_came(call, time_ns)

    def _take_outcome(self, frame: Frame) -> None:
        self._outlet.outcome(_decode_outcome(frame.payload), frame.time_ns)
        self._counts["outcomes"] += 1

    def _open(self, relay: _Relay, number: int, time_ns: int, payload: bytes) -> None:
        opened = _decode_open(payload)
        if opened.resumed:
            self._counts["resumed"] += 1
            if number in relay.finished:
                return
            if (known := relay.calls.get(number)) is not None:
                # The relay's connection broke, and this observer is still the same.
                known.gap(time_ns)
                return
        relay.calls[number] = Call(opened, time_ns, content=self._content, cache=self._cache)

    # WebSockets.

    def _switch(self, relay: _Relay, number: int, call: Call) -> None:
        """The call became a WebSocket; read its messages when they are calls."""
        opened, head = call.opened, call.head
        dialect = dialect_of(opened.path)
        if head is None or dialect is None or call.missed:
            return
        relay.websockets[number] = WebSocket(
            opened,
            [value.decode("latin-1") for name, value in head.headers if name == b"sec-websocket-extensions"],
            dialect,
            content=self._content,
            cache=self._cache,
            limit_bytes=self._body_limit,
            trace_of=self._run_traces.get,
            came=self._request_came,
            ended=self._ended,
        )

    def _pass(self, relay: _Relay, number: int, call: Call, action: Callable[[WebSocket], None]) -> None:
        """Tell a WebSocket of something, if the call is one that is read."""
        websocket = relay.websockets.get(number)
        if websocket is None:
            return
        try:
            action(websocket)
        except Exception as exc:
            self._failures.note("websocket", exc)
            websocket.lose()
        if websocket.broken:
            self._problems[WEBSOCKET] += 1
        if websocket.lost:
            # The rest of the connection is only counted.
            call.missed = True
            del relay.websockets[number]

    def _end(self, relay: _Relay, number: int, call: Call | None, time_ns: int, payload: bytes) -> None:
        if call is None:
            if number not in relay.finished:
                relay.finish(number)
                self._counts["orphans"] += 1
                self._statuses["partial"] += 1
                self._outlet.orphan(_decode_end(payload), time_ns)
            return
        try:
            call.finish(time_ns, payload)
        except Exception as exc:
            self._failures.note("end", exc)
            self._guarded("lose", call.lose)
        end = call.end
        if end is not None:
            self._pass(relay, number, call, lambda websocket: websocket.finish(time_ns, end))
        relay.finish(number)
        self._ended(call)

    def _lose(self, relay: _Relay, number: int, call: Call) -> None:
        """The call's END will not come."""
        self._guarded("lose", call.lose)
        self._pass(relay, number, call, WebSocket.lose)
        relay.finish(number)
        self._ended(call)

    # Places.

    def _request_came(self, call: Call, time_ns: int) -> None:
        """The call's request is there, as far as it will ever be."""
        if call.placement is not None or call.dialect is None or call.held:
            return
        if len(self._relays) > 1:
            call.held = True
            self._waiting.add(time_ns, call)
        else:
            self._place(call)

    def _release(self, now_ns: int | None) -> None:
        """Place the calls that waited for it long enough; all of them when None."""
        for call in self._waiting.ready(now_ns, self._is_told):
            call.held = False
            self._guarded("place", self._place, call)
            if call.ended:
                self._finish(call)

    def _is_told(self, time_ns: int) -> bool:
        """Whether nothing that relays with open calls have to tell can be older."""
        return all(
            not relay.calls or relay.told_ns >= time_ns or relay.lost_ns is not None for relay in self._relays.values()
        )

    def _place(self, call: Call) -> None:
        opened, request = call.opened, call.request
        if request is None or call.placement is not None:
            return
        placement = self._linker.place(
            tenant=opened.tenant,
            identity=call.identity,
            request=request,
            tags=opened.tags,
            t0_ns=call.t0_ns,
            trace_id=opened.trace_id,
            span_id=opened.span_id,
            parent_span_id=opened.parent_span_id,
            identity_key=opened.identity_key,
            client=header(opened.headers, b"user-agent") or "",
        )
        call.placement = placement
        self._guarded("metrics", self._outlet.meter.placed, placement, request.model, call.t0_ns)
        run = placement.run
        if opened.parent_span_id is not None and not opened.sampled and placement.opened_run:
            self._outlet.unsampled_runs.add(run.run_id)
        self._close_runs(placement.closed_runs)
        if placement.opened_run and run.identity_key is not None:
            self._run_traces[run.identity_key] = run.trace_id
            self.on_run_trace(RunTrace(run.identity_key, run.trace_id))
        for tool in placement.finished_tools:
            self._outlet.tool(tool)

    def _ended(self, call: Call) -> None:
        """Nothing more comes of the call."""
        call.ended = True
        if not call.held:
            self._finish(call)

    def _finish(self, call: Call) -> None:
        self._guarded("place", self._place, call)
        self._statuses[call.status] += 1
        if call.dialect is not None and (problems := call.problems()):
            self._problems[call.dialect.name] += problems
        closed: Sequence[Run] = ()
        if call.placement is not None:
            try:
                closed = self._linker.finish(call.placement, call.response, call.status, call.end_ns or call.last_ns)
            except Exception as exc:
                self._failures.note("finish", exc)
        self._outlet.call(call)
        self._close_runs(closed)

    def _close_runs(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._outlet.run(run)
            key = run.identity_key
            if key is not None and self._run_traces.get(key) == run.trace_id:
                del self._run_traces[key]
                self.on_run_trace(RunTrace(key, None))

    def _give_up_lost(self, now_ns: int) -> None:
        for worker, relay in tuple(self._relays.items()):
            if relay.lost_ns is not None and now_ns - relay.lost_ns >= LOST_NS:
                for number, call in tuple(relay.calls.items()):
                    self._lose(relay, number, call)
                del self._relays[worker]

    def _expire(self, now_ns: int) -> None:
        self._close_runs(self._linker.expire(now_ns))

    def _remember(self) -> None:
        """Note in the journal what is new of the trajectories."""
        self._guarded("journal", self._journalize)

    def _journalize(self) -> None:
        memos = self._linker.take_memos(self._clock.unix_ns)
        if self._journal is not None:
            self._journal.append(memos)

    def _export_metrics(self) -> None:
        if self._outlet.meter.is_exporting:
            self._outlet.meter.export(self.metrics())

    def _close_all(self) -> None:
        self._close_runs(self._linker.close_all())

    def _guarded(self, kind: str, action: Callable[..., None], *arguments: object) -> None:
        self._failures.guarded(kind, action, *arguments)
