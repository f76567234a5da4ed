"""A proxy and a simulated endpoint as children of a command, ended with it."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agentperf.errors import UnavailableError
from otel_agentperf.processes import ChildProcess, Control, address_of, listen

if TYPE_CHECKING:
    from otel_agentperf.simulate import SimulateConfig

STOP_S: Final = 60.0
"""Time that a child gets to end: its open exchanges, then what its observer still writes and exports."""


@contextmanager
def proxy_in_front(upstream: str, store: Path | None, **settings: Any) -> Iterator[str]:
    """Run a proxy in front of an endpoint for as long as the block; gives its base URL.

    When the block has ended, everything that the proxy saw is in the store.

    Args:
        upstream: base URL of the endpoint.
        store: directory of the trace store, or None for no store.
        settings: further fields of `ProxyConfig`.

    Raises:
        UsageError: a value cannot work.
        StoreError: the store cannot be written.
        UnavailableError: the proxy did not start.
    """
    from otel_agentperf_proxy.config import ProxyConfig
    from otel_agentperf_proxy.observing import with_salt

    config = ProxyConfig(upstream=upstream, store=str(store) if store else None, **settings)
    config.check()
    payload = {"config": msgspec.to_builtins(with_salt(config))}
    with listen("127.0.0.1", 0) as listening, listen("127.0.0.1", 0) as admin:
        url = f"http://{address_of(listening)}"
        with _child("otel_agentperf_proxy.server:supervisor_child", payload, [listening, admin], "proxy"):
            listening.close()
            admin.close()
            yield url


@contextmanager
def simulated_endpoint(config: "SimulateConfig", truth: Path | None = None) -> Iterator[str]:
    """Run a simulated endpoint for as long as the block; gives its base URL.

    Args:
        config: the model of serving.
        truth: where its truth log goes.
    """
    payload = {"config": msgspec.to_builtins(config), "truth": str(truth) if truth else None}
    with listen("127.0.0.1", 0) as sock:
        url = f"http://{address_of(sock)}"
        with _child("otel_agentperf.cli.embed:simulator_child", payload, [sock], "simulated endpoint"):
            sock.close()
            yield url


async def simulator_child(control: Control) -> None:
    """The process of a simulated endpoint."""
    from otel_agentperf.simulate import SimulateConfig, serve

    config = msgspec.convert(control.payload["config"], SimulateConfig)
    truth = control.payload["truth"]
    control.ready()
    await serve(config, control.sockets[0], Path(truth) if truth else None, control.stop)


@contextmanager
def _child(target: str, payload: dict[str, Any], sockets: Sequence[socket.socket], name: str) -> Iterator[None]:
    child = ChildProcess(target, payload, sockets)
    try:
        if not child.block_until_ready():
            raise UnavailableError(f"the {name} did not start")
        yield
    finally:
        child.block_until_ended(STOP_S)
