"""The control routes, on an address of their own: never on the proxied port.

`/livez` the supervisor runs; `/startupz` the relays have started once; `/readyz` requests are taken, whatever a
collector does; `/status` what the processes tell of themselves, as JSON; `/metrics` all metrics for Prometheus, with
exemplars in OpenMetrics. `POST /outcome` tells how a trajectory's task came out.
"""

import asyncio
import math
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from otel_agentperf import __version__
from otel_agentperf_proxy.frames import TaskOutcome
from otel_agentperf_proxy.metrics.prometheus import exposition
from otel_agentperf_proxy.metrics.series import Family

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

    async def metrics(self) -> list[Family]:
        """As `Supervisor.metrics`."""
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
        families = await proxy.metrics()
        # Thousands of series take their time; the probes are answered meanwhile.
        body, content_type = await asyncio.to_thread(exposition, families, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

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
