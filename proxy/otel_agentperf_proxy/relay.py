"""The relay of one process: what its exchanges share, and what it has counted."""

import os
from collections import Counter
from hashlib import blake2b
from itertools import count
from typing import Any, Final

from otel_agentperf.http1 import Client
from otel_agentperf_proxy import asgi
from otel_agentperf_proxy.asgi import Receive, Scope, Send
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.routes import Routes, Upstream
from otel_agentperf_proxy.sinks import Sink

_RANDOM_BYTES: Final = 4096


class Relay:
    """The relay of one process; also an ASGI application for the scope type `http`.

    Args:
        config: see `ProxyConfig`.
        sink: the way to the observer.

    Raises:
        UsageError: an upstream cannot be used.
    """

    def __init__(self, config: ProxyConfig, sink: Sink) -> None:
        self.config = config
        self.sink = sink
        self.routes = Routes(config)
        self.client = Client(connect_timeout_s=config.connect_timeout_s, ssl_contexts=self.routes.tls)
        self.random_bytes = RandomBytes()
        self.calls = count(1)
        self.inflight = 0
        self.tunnels = 0
        self.outcomes: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.usage: Counter[str] = Counter()
        self._tenants = blake2b(key=bytes.fromhex(config.salt), digest_size=8)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asgi.serve(self, scope, receive, send)

    def tenant(self, credential: bytes, upstream: Upstream | None) -> str:
        """Keyed hash of the credential and the upstream, 16 hex digits."""
        tenant = self._tenants.copy()
        tenant.update(credential + b"\0" + (upstream.name if upstream is not None else b""))
        return tenant.hexdigest()

    def stats(self) -> dict[str, Any]:
        """Counters since the start, and the present state."""
        return {
            "inflight": self.inflight,
            "tunnels": self.tunnels,
            "outcomes": dict(self.outcomes),
            "statuses": {str(status): number for status, number in self.statuses.items()},
            "errors": dict(self.errors),
            "usage": dict(self.usage),
            "upstream": self.client.stats(),
            "channel": self.sink.stats(),
        }

    async def aclose(self) -> None:
        """Close the connections to the upstreams."""
        await self.client.aclose()


class RandomBytes:
    """Random bytes, some thousand per system call."""

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def __call__(self, size: int) -> bytes:
        """So many, never given before."""
        at = self._at
        if at + size > len(self._bytes):
            self._bytes = os.urandom(_RANDOM_BYTES)
            at = 0
        self._at = at + size
        return self._bytes[at : at + size]
