"""The proxy's processes: a supervisor with the control routes, relay workers on one listening socket, one observer.

The supervisor starts the observer first and ends it last, so that it gets the end of every call. Relays that die are
replaced; their listening socket is the supervisor's, so no connection is refused meanwhile.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

import msgspec
import uvicorn

from otel_agentperf.logs import use_format
from otel_agentperf.processes import ChildProcess, Control, address_of
from otel_agentperf_proxy.admin import State, create_admin
from otel_agentperf_proxy.channel import Channel
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import TaskOutcome
from otel_agentperf_proxy.listener import Listener
from otel_agentperf_proxy.log_records import Forwarding, attach, detach
from otel_agentperf_proxy.metrics.families import of_processes
from otel_agentperf_proxy.metrics.series import Family
from otel_agentperf_proxy.observing import ObserverProcess, with_salt
from otel_agentperf_proxy.otlp import Signal, find_target, interval_ns
from otel_agentperf_proxy.relay import Relay
from otel_agentperf_proxy.sinks import Nowhere

KEEP_ALIVE_S: Final = 75
"""How long a client's idle connection is kept, as by nginx: longer than clients keep theirs."""

CUT_S: Final = 10.0
"""Time beyond the drain that a relay gets to end."""

STEADY_S: Final = 10.0
LONGEST_PAUSE_S: Final = 5.0

SHORTEST_TELL_S: Final = 0.1
LONGEST_TELL_S: Final = 10.0
"""How often the observer is told of the other processes."""

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without hands of its own on the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: Any, *, drain_s: float, http: type[asyncio.Protocol] | str = "httptools") -> _Server:
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    return _Server(config)


async def _serve_until(server: _Server, sock: socket.socket, stop: asyncio.Event, cut: asyncio.Event) -> None:
    """Serve until told to stop; then let open exchanges end, unless it is cut short."""
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    cutting = asyncio.create_task(cut.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await asyncio.wait((serving, cutting), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            server.force_exit = True
            for task in tuple(server.server_state.tasks):
                task.cancel()
        await serving
    finally:
        stopping.cancel()
        cutting.cancel()


async def relay_child(control: Control) -> None:
    """A relay's process: sockets are the listening one; the payload names the configuration and the observer."""
    config = msgspec.convert(control.payload["config"], ProxyConfig)
    use_format(config.log_format)
    # A stream needs two connections, and what shells and services may open (1024) is a limit for programs that select.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems have a hard limit that none may have.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if control.payload["tells_logs"]:
        attach(Forwarding(control.payload["observer"]))
    worker = f"{control.payload['worker']}-{os.getpid()}"
    channel = Channel(control.payload["observer"], worker, limit_bytes=config.channel_bytes)
    if config.observe:
        channel.start()
    relay = Relay(config, channel if config.observe else Nowhere())
    listener = Listener(relay)
    control.answer("stats", lambda: {**relay.stats(), "clients": listener.clients})
    await listener.start(control.sockets[0])
    # What a call leaves behind has no cycles: looking for some through all that was imported is a pause for nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    control.ready()
    try:
        await control.stop.wait()
        await listener.stop(config.drain_s, control.cut)
    finally:
        await relay.aclose()
        await channel.close()


class Supervisor:
    """Starts, watches and ends the processes of one proxy.

    Args:
        config: with its salt.
        listening: the proxied port's socket.
    """

    def __init__(self, config: ProxyConfig, listening: socket.socket) -> None:
        self.config = config
        self.observer = ObserverProcess(config)
        self.state = State.STARTING
        self.relay_restarts = 0
        self._began = monotonic()
        self._listening = listening
        self._relays: list[ChildProcess | None] = [None] * config.workers
        self._watchers: list[asyncio.Task[None]] = []
        self._tells_metrics = config.observe and find_target(config, Signal.METRICS) is not None
        self._forwarding: Forwarding | None = None
        if config.observe and find_target(config, Signal.LOGS) is not None:
            self._forwarding = Forwarding(self.observer.path)
        self._payload = {
            "config": msgspec.to_builtins(config),
            "observer": self.observer.path,
            "tells_logs": self._forwarding is not None,
        }

    async def start(self) -> None:
        """Start all processes; returns when the relays take requests."""
        if self._forwarding is not None:
            attach(self._forwarding)
        if self.config.observe:
            self.observer.start()
        loop = asyncio.get_running_loop()
        self._watchers = [loop.create_task(self._keep_alive(index)) for index in range(len(self._relays))]
        if self._tells_metrics:
            self._watchers.append(loop.create_task(self._tell_processes()))
        await asyncio.sleep(0)
        await asyncio.gather(*(relay.ready() for relay in self._relays if relay is not None))
        self.state = State.READY

    async def stop(self, cut: asyncio.Event) -> None:
        """Take no more requests, let the open ones end (unless `cut` is set), write what is known, end."""
        self.state = State.STOPPING
        for watcher in self._watchers:
            watcher.cancel()
        if self._tells_metrics:
            # While the relays can still be asked.
            await self.observer.tell_processes(of_processes(await self.status()))
        relays = [relay for relay in self._relays if relay is not None]
        for relay in relays:
            relay.terminate()
        ended = [asyncio.create_task(relay.wait(self.config.drain_s + CUT_S)) for relay in relays]
        cutting = asyncio.create_task(cut.wait())
        while pending := [task for task in ended if not task.done()]:
            await asyncio.wait((*pending, cutting), return_when=asyncio.FIRST_COMPLETED)
            if cutting.done():
                for relay in relays:
                    if relay.exit_code is None:
                        relay.terminate()
                await asyncio.wait(pending)
        cutting.cancel()
        if self._forwarding is not None:
            detach(self._forwarding)
        await self.observer.stop()

    async def tell(self, told: TaskOutcome) -> bool:
        """Have the outcome of a task recorded; whether it was."""
        return self.config.observe and await self.observer.tell(told)

    async def status(self) -> dict[str, Any]:
        """Everything that is counted, by process; see `admin`."""
        relays, observer = await asyncio.gather(
            asyncio.gather(*(self._relay_status(relay) for relay in self._relays)), self.observer.stats()
        )
        return {
            "state": self.state,
            "uptime_s": round(monotonic() - self._began, 3),
            "upstream": self.config.upstream,
            "upstreams": [table.url for table in self.config.upstreams],
            "store": self.config.store,
            "relays": relays,
            "relay_restarts": self.relay_restarts,
            "observer": {"pid": self.observer.pid, "restarts": self.observer.restarts, "stats": observer},
        }

    async def metrics(self) -> list[Family]:
        """All metrics, of the observer too when it answers."""
        status, own = await asyncio.gather(self.status(), self._observer_metrics())
        return [*of_processes(status), *own]

    async def _observer_metrics(self) -> list[Family]:
        return (await self.observer.metrics() or []) if self.config.observe else []

    async def _tell_processes(self) -> None:
        """Keep the observer, which exports the metrics, told of the other processes."""
        pause_s = min(max(interval_ns() / 2e9, SHORTEST_TELL_S), LONGEST_TELL_S)
        while True:
            await self.observer.tell_processes(of_processes(await self.status()))
            await asyncio.sleep(pause_s)

    async def _relay_status(self, relay: ChildProcess | None) -> dict[str, Any]:
        stats = await relay.ask("stats") if relay is not None else None
        return {"pid": relay.pid if relay is not None and relay.exit_code is None else None, "stats": stats}

    async def _keep_alive(self, index: int) -> None:
        pause_s = 0.0
        payload = {**self._payload, "worker": str(index)}
        while True:
            began = monotonic()
            relay = ChildProcess("otel_agentperf_proxy.server:relay_child", payload, [self._listening])
            self._relays[index] = relay
            code = await relay.wait()
            pause_s = 0.0 if monotonic() - began > STEADY_S else min(max(pause_s * 2, 0.1), LONGEST_PAUSE_S)
            logger.warning("relay %d ended (exit code %d) and is replaced; its open exchanges broke off", index, code)
            self.relay_restarts += 1
            await asyncio.sleep(pause_s)


async def supervise(
    config: ProxyConfig,
    sockets: Sequence[socket.socket],
    stop: asyncio.Event,
    cut: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Run a proxy until `stop`; `cut` ends open exchanges too.

    Args:
        config: what the proxy does; its addresses are not looked at.
        sockets: of the proxied port and of the control routes.
        stop: when to take no more requests.
        cut: when to break open exchanges off.
        on_ready: called when requests are taken.

    Raises:
        StoreError: the store cannot be written.
    """
    listening, admin = sockets
    supervisor = Supervisor(with_salt(config), listening)
    admin_stop = asyncio.Event()
    admin_server = _server(create_admin(supervisor), drain_s=1)
    serving = asyncio.create_task(_serve_until(admin_server, admin, admin_stop, admin_stop))
    starting = asyncio.create_task(supervisor.start())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            on_ready()
        await stopped
    finally:
        starting.cancel()
        stopped.cancel()
        listening.close()
        await supervisor.stop(cut)
        admin_stop.set()
        await serving


async def run(config: ProxyConfig, sockets: Sequence[socket.socket]) -> None:
    """`supervise` until SIGTERM or SIGINT; a second one breaks open exchanges off.

    Raises:
        StoreError: the store cannot be written.
        UsageError: the export cannot be configured.
    """
    stop, cut = asyncio.Event(), asyncio.Event()
    listening, admin = map(address_of, sockets)
    targets = [target for signal in Signal if (target := find_target(config, signal)) is not None]

    def ask_to_stop() -> None:
        if stop.is_set():
            cut.set()
        else:
            logger.info("stopping: open exchanges have %g s to end; once more to break them off", config.drain_s)
            stop.set()

    def announce() -> None:
        store = f"store {config.store}" if config.store else "no store"
        scheme = "https" if config.tls_cert else "http"
        upstreams = ", ".join(filter(None, (*(table.url for table in config.upstreams), config.upstream)))
        logger.info("proxy: listening on %s://%s, upstream %s, %s", scheme, listening, upstreams, store)
        logger.info("proxy: control routes on http://%s", admin)
        for target in targets:
            logger.info("proxy: %s go by OTLP (%s) to %s", target.signal, target.protocol, target.address)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    await supervise(config, sockets, stop, cut, announce)


async def supervisor_child(control: Control) -> None:
    """A whole proxy as the child of a process; see `supervise` for the sockets."""
    config = msgspec.convert(control.payload["config"], ProxyConfig)
    await supervise(config, control.sockets, control.stop, control.cut, control.ready)
