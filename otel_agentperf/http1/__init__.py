"""A small HTTP/1.1 client on asyncio protocols and httptools: the byte path of the proxy and of the replay.

It forwards what it is given: no header is added, merged, decoded or stored, no redirect followed, no cookie kept, no
body decompressed. Chunks of a response are handed over with the monotonic time of the socket read that brought them.
"""

from otel_agentperf.http1.client import Client, Origin, client_tls, find_dead_peers, framing_of, request_head
from otel_agentperf.http1.connection import Connection
from otel_agentperf.http1.errors import ConnectError, HTTPError, ProtocolError, ResetError, UpstreamTimeout
from otel_agentperf.http1.exchange import Exchange, Response

__all__ = [
    "Client",
    "ConnectError",
    "Connection",
    "Exchange",
    "HTTPError",
    "Origin",
    "ProtocolError",
    "ResetError",
    "Response",
    "UpstreamTimeout",
    "client_tls",
    "find_dead_peers",
    "framing_of",
    "request_head",
]
