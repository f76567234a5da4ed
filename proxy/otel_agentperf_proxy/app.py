"""The proxy as an ASGI application, to be served by itself or mounted in somebody's Starlette or FastAPI application.

    app = FastAPI(lifespan=proxy.lifespan)
    app.mount("/llm", proxy)

A mounted application gets no lifespan from its host, so it starts with its first request, and offers `lifespan` to
hosts that want a clean end. Without that, its observer ends by itself when the process does, and writes what it has.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Literal

from otel_agentperf_proxy.asgi import Receive, Scope, Send
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import TaskOutcome
from otel_agentperf_proxy.metrics.families import of_processes
from otel_agentperf_proxy.metrics.prometheus import exposition
from otel_agentperf_proxy.observing import LocalObserver, with_salt
from otel_agentperf_proxy.relay import Relay


def create_app(config: ProxyConfig | str, *, observer: Literal["process", "inline"] = "process") -> "ProxyApp":
    """A transparent proxy as a raw ASGI application.

    Args:
        config: a `ProxyConfig`, or just the base URL of the upstream. `listen`, `admin`, `workers` and `drain_s` are
            the host's affair here.
        observer: `process` keeps parsing, trajectories and export out of this process; `inline` does all in it, which
            delays the bytes of other calls: for tests.

    Raises:
        UsageError: a value cannot work.
        StoreError: the store cannot be written.
    """
    if isinstance(config, str):
        config = ProxyConfig(upstream=config)
    config.check()
    return ProxyApp(with_salt(config), inline=observer == "inline")


class ProxyApp:
    """See `create_app`. For one event loop."""

    def __init__(self, config: ProxyConfig, *, inline: bool) -> None:
        self.config = config
        self._inline = inline
        self._running: tuple[Relay, LocalObserver] | None = None
        self._began = monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            relay, _ = self._running or self._start()
            await relay(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        else:
            # A WebSocket: the close before the handshake becomes a 403, on which clients fall back to HTTP.
            await receive()
            await send({"type": "websocket.close"})

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start and end the proxy with the application that it is mounted in: give it as that one's lifespan."""
        if self._running is None:
            self._start()
        try:
            yield
        finally:
            await self._stop()

    async def status(self) -> dict[str, Any]:
        """What the relay and the observer have counted; empty before the first request."""
        if self._running is None:
            return {}
        relay, observer = self._running
        return {"relay": relay.stats(), "observer": await observer.stats()}

    async def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics for Prometheus, to be served by the host: the text, and its content type.

        Args:
            accept: the field of the request; OpenMetrics, with exemplars, where it asks for that.
        """
        if self._running is None:
            return exposition([], accept)
        relay, observer = self._running
        own = await observer.metrics()
        status = {
            "uptime_s": monotonic() - self._began,
            "relays": [{"stats": relay.stats()}],
            "relay_restarts": 0,
            "observer": {"stats": own, "restarts": observer.restarts},
        }
        return exposition([*of_processes(status), *(own or [])], accept)

    async def tell_outcome(
        self, trajectory_id: str, outcome: Literal["success", "failure"], *, score: float | None = None
    ) -> bool:
        """Record how a trajectory's task came out, as the control route `/outcome` does; whether it was recorded."""
        _, observer = self._running or self._start()
        return await observer.tell(TaskOutcome(trajectory_id, outcome, score))

    def _start(self) -> tuple[Relay, LocalObserver]:
        observer = LocalObserver(self.config, inline=self._inline)
        observer.start()
        self._running = Relay(self.config, observer.sink), observer
        return self._running

    async def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            relay, observer = running
            await relay.aclose()
            await observer.stop()

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
