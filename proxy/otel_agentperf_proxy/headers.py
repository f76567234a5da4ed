"""What happens to header fields between client and upstream: the only changes the proxy makes to an exchange.

Pure functions on header lists (names in lower case, wire order, duplicates kept).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from otel_agentperf import semconv

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields that concern one connection only (RFC 9110 7.6.1; RFC 9112 7.4 for te; proxy-connection by custom)."""

_NOT_TO_NAME: Final = frozenset((b"close", b"keep-alive", b"content-length", b"content-type", b"content-encoding"))
"""Connection options that take no field away: the two that are no field names, and fields without which the body would
be read as another; naming such a field is invalid (RFC 9110 7.6.1)."""

_REPLACED: Final = HOP_BY_HOP | {b"host", b"expect", b"traceparent", b"tracestate", b"baggage"}
"""Request fields looked at one by one. `expect` is answered by our own server (RFC 9110 10.1.1)."""

_TAG_HEADER: Final = semconv.TAG_HEADER_PREFIX.encode()

CREDENTIALS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
"""Fields that say who pays: they scope identities as a keyed hash and go nowhere else."""

_SECRET_NAME: Final = re.compile(rb"auth|key|token|secret|cookie|passw|credential|signature|jwt|assertion")
_NOT_SECRET: Final = frozenset((b"idempotency-key", b"x-stainless-retry-count"))
_COUNT: Final = re.compile(rb"(x|anthropic)-ratelimit-[a-z-]+")
"""Numbers of tokens of the other kind."""

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_HEADER_TAGS: Final = {name.replace(".", "-").encode(): name for name in semconv.LAUNCHER_TAGS}


@dataclass(slots=True)
class TraceParent:
    """A valid W3C `traceparent` of a client with its `tracestate`."""

    trace_id: bytes
    span_id: bytes
    sampled: bool
    tracestate: str


@dataclass(slots=True)
class ForwardedRequest:
    """A client's request head, taken apart."""

    headers: Headers = field(default_factory=list)
    """To forward; without host, trace context, framing of the hop and our own tags."""
    tags: dict[str, str] = field(default_factory=dict)
    """Launcher tags by the names of `semconv.LAUNCHER_TAGS`; unknown names are left out."""
    parent: TraceParent | None = None
    chunked: bool = False
    """The body has no known length."""
    host: bytes = b""
    credential: bytes = b""
    """The credentials joined; to be hashed and forgotten."""


def take_apart(headers: Iterable[tuple[bytes, bytes]]) -> ForwardedRequest:
    """Split a request's header fields into what is forwarded, what is ours, and what concerns the connection."""
    request = ForwardedRequest()
    forwarded = request.headers
    named_by_connection: set[bytes] = set()
    traceparents: list[bytes] = []
    tracestate: list[str] = []
    for pair in headers:
        name, value = pair
        if name in _REPLACED:
            if name == b"host":
                request.host = value
            elif name == b"connection":
                named_by_connection.update(token.strip().lower() for token in value.split(b","))
            elif name == b"transfer-encoding":
                request.chunked = True
            elif name == b"traceparent":
                traceparents.append(value)
            elif name == b"tracestate":
                tracestate.append(value.decode("latin-1"))
            elif name == b"baggage":
                rest = _take_tags_from_baggage(value, request.tags)
                if rest or not value:
                    forwarded.append((name, rest))
        elif name.startswith(_TAG_HEADER):
            tag = _HEADER_TAGS.get(name[len(_TAG_HEADER) :])
            if tag is not None:
                request.tags[tag] = value.decode("utf-8", "replace")
        else:
            if name in CREDENTIALS:
                request.credential += value + b"\n"
            forwarded.append(pair)
    named_by_connection -= _NOT_TO_NAME
    if named_by_connection:
        request.headers = [pair for pair in forwarded if pair[0] not in named_by_connection]
    if len(traceparents) == 1:
        request.parent = parse_traceparent(traceparents[0], ",".join(tracestate))
    return request


def parse_traceparent(traceparent: bytes, tracestate: str) -> TraceParent | None:
    """A client's context, if it is valid (W3C Trace Context 3.2.2: version 00 ends after the flags)."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if not match:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return TraceParent(
        bytes.fromhex(trace_id.decode()), bytes.fromhex(span_id.decode()), bool(int(flags, 16) & 1), tracestate
    )


def take_tags_from_path(raw_path: bytes, tags: dict[str, str]) -> bytes:
    """Remove a launcher prefix `/~/key=value;.../` from a path and add its entries to `tags`."""
    prefix = semconv.TAG_PATH_PREFIX.encode()
    if not raw_path.startswith(prefix):
        return raw_path
    entries, slash, rest = raw_path[len(prefix) :].partition(b"/")
    if b"=" not in entries:
        # Somebody's home directory, say: not ours to shorten.
        return raw_path
    for entry in entries.split(b";"):
        name, _, value = entry.partition(b"=")
        tag = unquote(name)
        if tag in semconv.LAUNCHER_TAGS:
            tags[tag] = unquote(value)
    return slash + rest or b"/"


def response_headers(headers: Headers) -> Headers:
    """The fields of an upstream's response that the client gets."""
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    drop = HOP_BY_HOP | (named - _NOT_TO_NAME)
    return [pair for pair in headers if pair[0] not in drop]


def without_secrets(headers: Headers) -> Headers:
    """The fields that may leave the relay for the observer: no credential, cookie, or anything named like one."""
    known = _secret_names
    return [pair for pair in headers if not (known[pair[0]] if pair[0] in known else _is_secret(pair[0]))]


_secret_names: dict[bytes, bool] = {}


def _is_secret(name: bytes) -> bool:
    known = _secret_names.get(name)
    if known is None:
        told = name in _NOT_SECRET or _COUNT.fullmatch(name) is not None
        known = not told and _SECRET_NAME.search(name) is not None
        if len(_secret_names) < 4096:
            _secret_names[name] = known
    return known


def _take_tags_from_baggage(value: bytes, tags: dict[str, str]) -> bytes:
    """Move our entries of a `baggage` field into `tags`; the others come back as they were written."""
    prefix = semconv.TAG_BAGGAGE_PREFIX
    if prefix.encode() not in value:
        return value
    kept = []
    for member in value.split(b","):
        name, _, rest = member.partition(b"=")
        key = name.strip().decode("latin-1")
        if key.startswith(prefix):
            tag = key[len(prefix) :]
            if tag in semconv.LAUNCHER_TAGS:
                tags[tag] = unquote(rest.partition(b";")[0].strip())
        else:
            kept.append(member)
    return b",".join(kept).strip()
