"""The simulated endpoint under uvicorn, on a socket that the caller has opened."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import uvicorn

from otel_agentperf.simulate.app import create_app
from otel_agentperf.simulate.config import SimulateConfig
from otel_agentperf.simulate.truth import TruthLog

__all__ = ["serve"]

KEEP_ALIVE_S: Final = 300
"""Agents pause for tools, and a connection that closes as the next request comes in looks like a failure."""

GRACE_S: Final = 1
"""Time for clients to take in what was sent when the server ends; one that does not read is not waited for."""


class _Server(uvicorn.Server):
    """Signals belong to the caller."""

    on_listening: Callable[[], None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.on_listening is not None:
            self.on_listening()


async def serve(
    config: SimulateConfig,
    sock: socket.socket,
    truth_path: Path | None,
    stop: asyncio.Event,
    *,
    on_listening: Callable[[], None] | None = None,
) -> None:
    """Serve on a bound socket until `stop` is set; requests under way are broken off then.

    Args:
        config: the deployment.
        sock: bound; closed at the end.
        truth_path: where the truth log goes, None for none.
        stop: ends it.
        on_listening: called when requests are accepted.

    Raises:
        StoreError: the truth log cannot be written.
    """
    truth = None if truth_path is None else TruthLog.open(truth_path)
    app = create_app(config, truth=truth)
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="critical",
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    server.on_listening = on_listening

    async def end() -> None:
        await stop.wait()
        app.close()
        server.should_exit = True

    ending = asyncio.ensure_future(end())
    try:
        await server.serve([sock])
    finally:
        ending.cancel()
        app.close()
        if truth is not None:
            truth.close()
