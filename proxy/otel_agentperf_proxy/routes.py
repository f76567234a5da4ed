"""Which upstream a request goes to: the first table that matches its host and path, else the default."""

import ssl
from dataclasses import dataclass

from otel_agentperf.errors import UsageError
from otel_agentperf.http1 import Origin, client_tls
from otel_agentperf_proxy.config import ProxyConfig


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests can go.

    Attributes:
        origin: to connect to.
        authority: for the Host field.
        base_path: put before the client's path.
        name: the origin as text.
        host: of requests that go here, in lower case and without port; empty for all.
        prefix: of their path, without a slash at its end; empty for all.
        strip: the prefix is taken off.
    """

    origin: Origin
    authority: bytes
    base_path: bytes
    name: bytes
    host: bytes = b""
    prefix: bytes = b""
    strip: bool = False

    def takes(self, host: bytes, path: bytes) -> bool:
        """Whether a request with this host and path (both as the client wrote them) goes here."""
        return self.takes_host(host) and (
            not self.prefix
            or (path.startswith(self.prefix) and path[len(self.prefix) : len(self.prefix) + 1] in (b"", b"/"))
        )

    def takes_host(self, host: bytes) -> bool:
        """Whether requests with this host may go here."""
        return not self.host or _without_port(host) == self.host

    def stripped(self, path: bytes) -> bytes:
        """The path that the upstream gets, without its base path."""
        return path[len(self.prefix) :] or b"/" if self.strip else path


class Routes:
    """The upstreams of a proxy.

    Raises:
        UsageError: an address cannot be used, or certificates cannot be read.
    """

    def __init__(self, config: ProxyConfig) -> None:
        self.default = _upstream(config.upstream) if config.upstream else None
        self._tables = tuple(
            _upstream(
                table.url,
                host=table.host.lower().encode() if table.host else b"",
                prefix=table.path.rstrip("/").encode() if table.path else b"",
                strip=table.strip_path,
            )
            for table in config.upstreams
        )
        self.tls: dict[Origin, ssl.SSLContext] = {}
        """Contexts of origins that are not met with the platform's defaults."""
        told: dict[Origin, tuple[str | None, bool]] = {}
        for url, ca, insecure in [
            (config.upstream, config.upstream_ca, config.upstream_insecure),
            *((table.url, table.ca, table.insecure) for table in config.upstreams),
        ]:
            if not url:
                continue
            origin = Origin.parse(url)[0]
            if told.setdefault(origin, (ca, insecure)) != (ca, insecure):
                raise UsageError(f"{origin} is named twice with different certificates")
            if (ca or insecure) and origin.scheme == "https":
                self.tls[origin] = client_tls(ca, insecure=insecure)

    def find(self, host: bytes, path: bytes) -> Upstream | None:
        """The upstream of a request; None when there is none for it."""
        for table in self._tables:
            if table.takes(host, path):
                return table
        return self.default

    def refusal(self, host: bytes) -> int:
        """Status of the answer to a request that has no upstream: 404 for its path, 421 for its host."""
        return 404 if any(table.takes_host(host) for table in self._tables) else 421


def _upstream(url: str, *, host: bytes = b"", prefix: bytes = b"", strip: bool = False) -> Upstream:
    origin, base_path = Origin.parse(url)
    return Upstream(origin, origin.authority, base_path, str(origin).encode(), host, prefix, strip)


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host).lower()
