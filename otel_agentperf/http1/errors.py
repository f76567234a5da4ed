"""What can go wrong with an exchange.

HTTPError
├── ConnectError       no connection: refused, unreachable, name not found, TLS failed
├── UpstreamTimeout    connecting took too long
├── ResetError         the peer closed or reset the connection before the response was complete
└── ProtocolError      what came is not HTTP/1.1, or the request cannot be written as HTTP/1.1
"""


class HTTPError(Exception):
    """Base of the client's errors."""


class ConnectError(HTTPError):
    """No connection could be made."""


class UpstreamTimeout(HTTPError):
    """Connecting took longer than allowed."""


class ResetError(HTTPError):
    """The connection ended before the response was complete."""


class ProtocolError(HTTPError):
    """The bytes are not HTTP/1.1."""
