"""A request on its way in, and whether it can be one: what the parser takes, and a proxy must not."""

import re
from typing import Any, Final

from otel_agentperf_proxy.client_side import RequestHead
from otel_agentperf_proxy.headers import Headers

_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
"""What a host and a port are written with (RFC 9110 7.2)."""


class Incoming:
    """A request as far as it has come."""

    __slots__ = ("complete", "continues", "head", "http10", "is_head", "keep_alive", "length", "parts", "refusal")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.is_head = head.method == b"HEAD"
        self.parts: list[bytes] = []
        self.complete = False
        self.length = 0
        """Of its body, where it is told."""
        self.keep_alive = True
        self.http10 = False
        self.continues = False
        """It waits for a 100 before it sends its body."""
        self.refusal: tuple[int, str] | None = None
        """Why it is no request to forward."""

    def take(self) -> bytes:
        """What came of the body since the last call."""
        parts = self.parts
        if not parts:
            return b""
        self.parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def head_bytes(self) -> int:
        """The size of its head, about."""
        head = self.head
        return len(head.path) + len(head.query) + sum(len(name) + len(value) + 4 for name, value in head.headers)


def read_head(parser: Any, url: bytes, headers: Headers, read_ns: int, peer: str) -> Incoming:
    """The request whose head an httptools parser has read; its `refusal` says why it cannot be forwarded.

    Args:
        parser: at the end of the head.
        url: the target, as it came.
        headers: names in lower case.
        read_ns: monotonic time of the read.
        peer: the client's address.
    """
    method: bytes = parser.get_method()
    version: str = parser.get_http_version()
    refusal: tuple[int, str] | None = None
    if not url.startswith(b"/"):
        url, headers, refusal = _other_form(method, url, headers)
    path, _, query = url.partition(b"?")
    hosts = 0
    length: int | None = None
    chunked = continues = False
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                refusal = (400, "invalid Host field")
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
            if value.lower() != b"chunked":
                refusal = (501, "the only transfer coding of a request is chunked")
            elif version == "1.0":
                refusal = (400, "HTTP/1.0 has no transfer codings")
        elif name == b"expect":
            continues = value.lower() == b"100-continue"
    framing = (length, chunked)
    head = RequestHead(method, path, query, headers, read_ns, client=peer, framing=framing)
    incoming = Incoming(head)
    incoming.length = length or 0
    incoming.continues = continues
    incoming.http10 = version == "1.0"
    incoming.keep_alive = parser.should_keep_alive() and not incoming.http10
    if version not in ("1.0", "1.1"):
        refusal = (505, f"HTTP/{version} is not spoken here")
    elif hosts > 1 or (not hosts and not incoming.http10):
        refusal = (400, "a request has one Host field")
    elif b"#" in url:
        refusal = (400, "invalid request target")
    incoming.refusal = refusal
    return incoming


def _other_form(method: bytes, url: bytes, headers: Headers) -> tuple[bytes, Headers, tuple[int, str] | None]:
    """A target that is no path: of a client that takes us for a forward proxy, which we are not."""
    if method == b"CONNECT":
        return b"/", headers, (405, "this is no forward proxy")
    scheme, found, rest = url.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return b"/", headers, (400, "invalid request target")
    # Its authority stands for the Host field (RFC 9112 3.2.2), and only for that.
    authority, slash, path = rest.partition(b"/")
    authority, _, query = authority.partition(b"?")
    headers = [(b"host", authority), *(pair for pair in headers if pair[0] != b"host")]
    return (slash + path if slash else b"/?" + query if query else b"/"), headers, None
