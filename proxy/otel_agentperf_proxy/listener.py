"""The proxied port of one relay: accepts clients, and lets go of them in the end."""

import asyncio
import contextlib
import select
import socket
import ssl
import sys
from time import monotonic
from typing import Final

from otel_agentperf.errors import UsageError
from otel_agentperf.http1 import find_dead_peers
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.protocol import ClientConnection
from otel_agentperf_proxy.relay import Relay

SWEEP_S: Final = 1.0
"""How often connections are looked at that wait for their client."""


class Listener:
    """Serves a relay on a listening socket.

    Args:
        relay: that the exchanges belong to.
    """

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self._tls = server_tls(relay.config)
        self._server: asyncio.Server | None = None
        self._sock: socket.socket | None = None
        self._connections: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._ends: select.epoll | None = None
        """Tells which of the connections that are not read have been ended by their client; Linux only."""
        self._unread: dict[int, ClientConnection] = {}

    @property
    def clients(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def start(self, sock: socket.socket) -> None:
        """Accept from a listening socket."""
        loop = asyncio.get_running_loop()
        self._sock = sock
        # Connections have it from the socket that they are accepted from.
        find_dead_peers(sock)
        if sys.platform == "linux":
            self._ends = select.epoll()
            loop.add_reader(self._ends.fileno(), self._look_for_ends)
        self._server = await loop.create_server(lambda: ClientConnection(self), sock=sock, ssl=self._tls)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    async def stop(self, drain_s: float, cut: asyncio.Event) -> None:
        """Accept no more, let open exchanges end for so long, or until `cut`, and break off what is left."""
        if self._server is not None and self._sock is not None:
            self._server.close()
            self._sock.close()
        for connection in list(self._connections):
            connection.finish_up()
        waits = {asyncio.ensure_future(self._empty.wait()), asyncio.ensure_future(cut.wait())}
        await asyncio.wait(waits, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        for connection in list(self._connections):
            connection.cut()
        await self._empty.wait()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._ends is not None:
            asyncio.get_running_loop().remove_reader(self._ends.fileno())
            self._ends.close()

    # Called by the connections.

    def add(self, connection: ClientConnection) -> bool:
        """Count a connection; whether it may stay."""
        self._connections.add(connection)
        self._empty.clear()
        limit = self.relay.config.max_connections
        return limit is None or len(self._connections) <= limit

    def remove(self, connection: ClientConnection) -> None:
        """It is closed."""
        self.unwatch(connection)
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def watch(self, connection: ClientConnection) -> None:
        """It is not read for a while: tell it when its client leaves."""
        if self._ends is not None:
            self._unread[connection.descriptor] = connection
            self._ends.register(connection.descriptor, select.EPOLLRDHUP)

    def unwatch(self, connection: ClientConnection) -> None:
        """It is read again, or closed."""
        if self._ends is not None and self._unread.get(connection.descriptor) is connection:
            del self._unread[connection.descriptor]
            # A closed one is gone from there by itself.
            with contextlib.suppress(OSError):
                self._ends.unregister(connection.descriptor)

    def _look_for_ends(self) -> None:
        assert self._ends is not None
        for descriptor, _ in self._ends.poll(0):
            connection = self._unread[descriptor]
            self.unwatch(connection)
            connection.ended_unread()

    def _sweep(self) -> None:
        now_s = monotonic()
        for connection in [found for found in self._connections if 0 < found.deadline_s < now_s]:
            connection.expire()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


def server_tls(config: ProxyConfig) -> ssl.SSLContext | None:
    """What clients are met with; None: without TLS.

    Raises:
        UsageError: the certificate or its key cannot be used.
    """
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as exc:
        raise UsageError(f"cannot use the certificate {config.tls_cert}: {exc.strerror or exc}") from exc
    context.set_alpn_protocols(["http/1.1"])
    return context
