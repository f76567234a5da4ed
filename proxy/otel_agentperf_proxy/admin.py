"""The control routes, on an address of their own: never on the proxied port.

`/livez` the supervisor runs; `/startupz` the relays have started once; `/readyz` requests are taken, whatever a
collector does; `/status` everything that is counted, as JSON; `/metrics` the same for Prometheus. `POST /outcome` tells
how a trajectory's task came out.
"""

import math
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from msgspec import Meta
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from otel_agentperf import __version__
from otel_agentperf_proxy.frames import TaskOutcome

MAX_BODY_BYTES: Final = 16 * 1024


class State(StrEnum):
    """Of a proxy."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Supervised(Protocol):
    """What the routes tell about."""

    state: State

    async def status(self) -> dict[str, Any]:
        """As `Supervisor.status`."""
        ...

    async def tell(self, told: TaskOutcome) -> bool:
        """As `Supervisor.tell`."""
        ...


class _Told(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /outcome`."""

    trajectory_id: Annotated[str, Meta(min_length=1, max_length=512)]
    outcome: Literal["success", "failure"]
    score: float | None = None
    tenant: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")] | None = None


def create_admin(proxy: Supervised) -> Starlette:
    """The control routes of a proxy as a Starlette application."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def startupz(_: Request) -> Response:
        return _verdict(proxy.state is not State.STARTING, proxy.state)

    async def readyz(_: Request) -> Response:
        return _verdict(proxy.state is State.READY, proxy.state)

    async def status(_: Request) -> Response:
        return JSONResponse({"version": __version__, **await proxy.status()})

    async def metrics(request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(_Snapshot(await proxy.status()))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    async def outcome(request: Request) -> Response:
        if "origin" in request.headers:
            # Browsers send it with every POST to another site: no page may tell outcomes.
            return _refusal(403, "outcomes are not told by web pages")
        try:
            told = await _read_outcome(request)
        except ValueError as exc:
            return _refusal(400, str(exc))
        if not await proxy.tell(told):
            return _refusal(503, "the observer does not answer; tell it again")
        return JSONResponse({"trajectory_id": told.trajectory_id, "outcome": told.outcome})

    routes = {"/livez": livez, "/startupz": startupz, "/readyz": readyz, "/status": status, "/metrics": metrics}
    told = Route("/outcome", outcome, methods=["POST"])
    return Starlette(routes=[*(Route(path, endpoint) for path, endpoint in routes.items()), told])


async def _read_outcome(request: Request) -> TaskOutcome:
    """The outcome that a request tells. Raises ValueError with what is wrong."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        told = msgspec.json.decode(body, type=_Told)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(f"the body is no outcome: {exc}") from exc
    if told.score is not None and not math.isfinite(told.score):
        raise ValueError("the body is no outcome: the score is no finite number")
    return TaskOutcome(told.trajectory_id, told.outcome, told.score, told.tenant)


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status_code=status)


def _verdict(good: bool, state: State) -> Response:
    return PlainTextResponse(f"{'ok' if good else state}\n", status_code=200 if good else 503)


_RELAY_COUNTERS: Final = {
    "outcomes": ("agentperf_proxy_exchanges", "Exchanges that ended, by how they ended.", "outcome"),
    "statuses": ("agentperf_proxy_responses", "Response heads sent to clients, by HTTP status.", "status"),
    "errors": ("agentperf_proxy_errors", "Failures of upstreams and of the relay itself, by type.", "type"),
    "usage": (
        "agentperf_proxy_usage_chunks",
        "Chunks with token counts that clients did not ask for: asked for, and hidden.",
        "step",
    ),
}

_CHANNEL: Final = {
    "frames": ("agentperf_channel_frames", "Observations handed to the observer.", CounterMetricFamily),
    "frames_dropped": (
        "agentperf_channel_frames_dropped",
        "Observations that did not fit, or that no observer took; the bytes went on.",
        CounterMetricFamily,
    ),
    "calls_lost": ("agentperf_channel_calls_lost", "Calls that leave no span.", CounterMetricFamily),
    "waiting_bytes": ("agentperf_channel_waiting_bytes", "Observations that wait for the observer.", GaugeMetricFamily),
}


_OBSERVER_COUNTERS: Final = {
    "calls": ("agentperf_calls", "Calls that left a span, by their status.", "status"),
    "problems": ("agentperf_unreadable_bodies", "Bodies that came whole and could not be read, by dialect.", "dialect"),
    "errors": ("agentperf_observer_errors", "Failures of the observer itself, by kind.", "kind"),
}

_OBSERVER_VALUES: Final = {
    "spans": ("agentperf_spans", "Spans made.", CounterMetricFamily),
    "outcomes": ("agentperf_outcomes", "Outcomes told by `POST /outcome`.", CounterMetricFamily),
    "open_calls": ("agentperf_open_calls", "Calls whose end has not come.", GaugeMetricFamily),
    "linker.active_trajectories": (
        "agentperf_active_trajectories",
        "Trajectories within a run that has not given its final answer.",
        GaugeMetricFamily,
    ),
    "linker.trajectories": ("agentperf_known_trajectories", "Trajectories remembered.", GaugeMetricFamily),
    "linker.evictions": ("agentperf_trajectory_evictions", "Trajectories forgotten for room.", CounterMetricFamily),
    "store.spans_written": ("agentperf_store_spans_written", "Spans written to the store.", CounterMetricFamily),
    "store.spans_lost": ("agentperf_store_spans_lost", "Spans the store could not take.", CounterMetricFamily),
    "export.spans_exported": ("agentperf_export_spans_exported", "Spans exported by OTLP.", CounterMetricFamily),
    "export.spans_failed": ("agentperf_export_spans_failed", "Spans that no collector took.", CounterMetricFamily),
    "export.spans_dropped": (
        "agentperf_export_spans_dropped",
        "Spans the export had no room for.",
        CounterMetricFamily,
    ),
}


class _Snapshot(Collector):
    """One answer of the processes as metric families."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("agentperf_proxy", "The proxy.", value={"version": __version__})
        yield GaugeMetricFamily("agentperf_proxy_uptime_seconds", "Since the start.", value=self._status["uptime_s"])
        yield from self._relays()
        yield from self._observer()

    def _relays(self) -> Iterator[Metric]:
        relays = self._status["relays"]
        up = GaugeMetricFamily("agentperf_relay_up", "Whether the relay answers.", labels=["worker"])
        inflight = GaugeMetricFamily("agentperf_proxy_inflight_exchanges", "Exchanges now open.", labels=["worker"])
        tunnels = GaugeMetricFamily("agentperf_proxy_open_websockets", "Of these, WebSockets.", labels=["worker"])
        for worker, relay in enumerate(relays):
            up.add_metric([str(worker)], float(relay["stats"] is not None))
            if relay["stats"] is not None:
                inflight.add_metric([str(worker)], relay["stats"]["inflight"])
                tunnels.add_metric([str(worker)], relay["stats"]["tunnels"])
        yield up
        yield inflight
        yield tunnels
        yield CounterMetricFamily(
            "agentperf_relay_restarts", "Relays that died and were replaced.", value=self._status["relay_restarts"]
        )
        answered = [(str(at), relay["stats"]) for at, relay in enumerate(relays) if relay["stats"] is not None]
        for key, (name, help_text, label) in _RELAY_COUNTERS.items():
            family = CounterMetricFamily(name, help_text, labels=["worker", label])
            for name_of_relay, stats in answered:
                for told, number in stats[key].items():
                    family.add_metric([name_of_relay, told], number)
            yield family
        for key, (name, help_text, kind) in _CHANNEL.items():
            by_relay = kind(name, help_text, labels=["worker"])
            for name_of_relay, stats in answered:
                by_relay.add_metric([name_of_relay], stats["channel"].get(key, 0))
            yield by_relay

    def _observer(self) -> Iterator[Metric]:
        observer = self._status["observer"]
        stats: dict[str, Any] | None = observer["stats"]
        yield GaugeMetricFamily(
            "agentperf_observer_up", "Whether the observer answers.", value=float(stats is not None)
        )
        yield CounterMetricFamily(
            "agentperf_observer_restarts", "Observers that died and were replaced.", value=observer["restarts"]
        )
        if stats is None:
            return
        for key, (name, help_text, label) in _OBSERVER_COUNTERS.items():
            family = CounterMetricFamily(name, help_text, labels=[label])
            for told, number in stats[key].items():
                family.add_metric([told], number)
            yield family
        for path, (name, help_text, kind) in _OBSERVER_VALUES.items():
            part, _, key = path.rpartition(".")
            values = stats[part] if part else stats
            if values is not None:
                yield kind(name, help_text, value=float(values[key]))
