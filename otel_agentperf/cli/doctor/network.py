"""Asks addresses for an answer, and says in words why there is none."""

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

__all__ = ["Reply", "Unreachable", "fetch", "is_this_machine", "same_place"]

TIMEOUT_S: Final = 10.0

_BODY_BYTES: Final = 4 * 1024 * 1024


class Unreachable(Exception):
    """Nothing answered. The text says why, `advice` what to do.

    Args:
        why: a part of a sentence.
        advice: what helps in this case, whoever was asked.
    """

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(why)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    skew_s: float | None
    """By how much the other's clock is ahead of ours, by its Date header, which has whole seconds; None without one."""


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Ask a URL as the proxy would: no proxy of the environment, no redirects followed.

    Raises:
        Unreachable: there is no HTTP answer.
    """
    parts = urlsplit(url)
    _connect(str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80))
    verify: ssl.SSLContext | bool = tls if tls is not None else True
    try:
        with (
            httpx.Client(verify=verify, trust_env=False, timeout=TIMEOUT_S) as client,
            client.stream(method, url, headers=dict(headers or {}), content=content) as response,
        ):
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _BODY_BYTES:
                    break
            arrived = datetime.now(UTC)
            return Reply(response.status_code, response.headers, body, _skew(response.headers.get("date"), arrived))
    except httpx.TimeoutException as exc:
        raise Unreachable(
            f"it takes the connection and does not answer within {TIMEOUT_S:g} s", "see what it is busy with"
        ) from exc
    except httpx.RemoteProtocolError as exc:
        raise Unreachable(*_no_http(parts.scheme, str(exc))) from exc
    except httpx.HTTPError as exc:
        raise Unreachable(*_broken(exc)) from exc


def _connect(host: str, port: int) -> None:
    """Raise Unreachable with the exact reason when no connection can be made."""
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except socket.gaierror as exc:
        raise Unreachable(f"there is no host {host}", "mend the name, or the resolver of this machine") from exc
    except ConnectionRefusedError as exc:
        raise Unreachable(
            f"nothing listens on port {port} of {host}",
            "start it, or name the right port; a server that listens on 127.0.0.1 of another machine or container "
            "cannot be reached from here",
        ) from exc
    except TimeoutError as exc:
        raise Unreachable(
            f"no connection to {host}:{port} within {TIMEOUT_S:g} s", "look at firewalls and network policies between"
        ) from exc
    except OSError as exc:
        raise Unreachable(f"no connection to {host}:{port}: {(exc.strerror or str(exc)).lower()}", "mend that") from exc


def _no_http(scheme: str, why: str) -> tuple[str, str]:
    if scheme == "http":
        return (
            "it does not answer in HTTP/1.1",
            "it may want https:// (TLS), or be a port for gRPC; for OTLP by gRPC use --otlp-protocol grpc",
        )
    return f"it does not answer in HTTP: {why}", "see what listens there"


def _broken(exc: httpx.HTTPError) -> tuple[str, str]:
    text = str(exc) or type(exc).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"its certificate is not trusted ({text.partition('failed: ')[2].partition(' (_ssl')[0] or text})",
            "name the authority's certificate with --upstream-ca FILE (of OTLP: OTEL_EXPORTER_OTLP_CERTIFICATE)",
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return "it does not speak TLS", "write http:// instead of https://"
    return f"the exchange broke off: {text}", "see its log"


def _skew(date: str | None, arrived: datetime) -> float | None:
    if date is None:
        return None
    with contextlib.suppress(ValueError, TypeError):
        told = parsedate_to_datetime(date)
        if told.tzinfo is not None:
            return (told - arrived).total_seconds()
    return None


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine: a wildcard, or an address that a socket can have here."""
    for address in _addresses(host):
        if ipaddress.ip_address(address).is_unspecified:
            return True
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family) as sock:
            sock.bind((address, 0))
            return True
    return False


def same_place(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether a connection to the first address reaches a server that listens on the second one."""
    if one[1] != other[1]:
        return False
    mine, theirs = _addresses(one[0]), _addresses(other[0])
    if mine & theirs:
        return True
    return any(ipaddress.ip_address(address).is_unspecified for address in theirs) and is_this_machine(one[0])


def _addresses(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {str(entry[4][0]).partition("%")[0] for entry in found}
