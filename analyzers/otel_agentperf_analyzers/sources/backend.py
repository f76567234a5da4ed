"""HTTP APIs of trace backends: addresses, credentials, retries, and what a user is told when it does not work."""

import os
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from otel_agentperf.errors import SourceError, UsageError

HEADERS: Final = "OTEL_AGENTPERF_SOURCE_HEADERS"
"""Environment variable: headers of every request, `name=value,name=value`; values are percent-decoded."""

USER: Final = "OTEL_AGENTPERF_SOURCE_USER"
"""Environment variable: user of a backend that asks for one (HTTP Basic, ClickHouse)."""

PASSWORD: Final = "OTEL_AGENTPERF_SOURCE_PASSWORD"
"""Environment variable: the user's password."""

ATTEMPTS: Final = 4
"""Times that a request is sent before the source is given up."""

_FIRST_WAIT_S: Final = 0.25
_MAX_WAIT_S: Final = 10.0
_TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)
_PASSING: Final = frozenset((429, 500, 502, 503, 504))
"""Statuses that another attempt may not meet."""


@dataclass(slots=True, frozen=True)
class Address:
    """A source URL, `KIND+http[s]://HOST[:PORT][/PATH][?...]`."""

    url: str
    """As the user wrote it."""
    base: str
    """Scheme, host and port."""
    path: str
    """Without its slashes at the ends."""
    parameters: Mapping[str, list[str]]

    @classmethod
    def parse(cls, url: str, allowed: tuple[str, ...], *, verbatim: str | None = None) -> "Address":
        """Take a URL apart.

        Args:
            allowed: parameters that its query may have.
            verbatim: a parameter whose value is all that follows it, `&` included.

        Raises:
            UsageError: it has no host, holds credentials, or other parameters.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as problem:
            raise UsageError(f"{url}: {problem}") from problem
        if not parts.hostname:
            raise UsageError(f"{url} names no host; write {parts.scheme}://HOST:PORT")
        if parts.username is not None or parts.password is not None:
            raise UsageError(f"credentials do not belong into a URL; set {USER} and {PASSWORD}, or {HEADERS}")
        if verbatim is not None and parts.query.startswith(f"{verbatim}="):
            parameters = {verbatim: [unquote(parts.query.partition("=")[2])]}
        else:
            parameters = parse_qs(parts.query, keep_blank_values=True)
        unknown = sorted(parameters.keys() - set(allowed))
        if unknown:
            raise UsageError(f"{url}: no parameter {unknown[0]!r}; there is {', '.join(allowed)}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        scheme = parts.scheme.partition("+")[2]
        base = f"{scheme}://{host}" + (f":{port}" if port is not None else "")
        return cls(url, base, parts.path.strip("/"), parameters)

    def one(self, name: str) -> str | None:
        """The value of a parameter that stands once, if at all.

        Raises:
            UsageError: it stands more often.
        """
        values = [value for value in self.parameters.get(name, []) if value]
        if len(values) > 1:
            raise UsageError(f"{self.url}: {name} is given {len(values)} times")
        return values[0] if values else None


@dataclass(slots=True)
class Backend:
    """Requests to one backend. Nothing is followed to another address: credentials stay where they belong."""

    address: Address
    client: httpx.Client
    sleep: Callable[[float], None] = field(default=time.sleep)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: str | None = None,
        absent: tuple[int, ...] = (),
        answers: Callable[[httpx.Response], bool] = lambda response: False,
    ) -> httpx.Response:
        """Ask for something, again where that can help.

        Args:
            absent: statuses that are answers too.
            answers: whether a response of another status is one too.

        Raises:
            SourceError: no answer, or another status than 200.
        """
        for attempt in range(1, ATTEMPTS + 1):
            is_last = attempt == ATTEMPTS
            wait_s = random.uniform(0.5, 1.0) * _FIRST_WAIT_S * 2 ** (attempt - 1)
            try:
                response = self.client.request(method, path, params=params, headers=headers, content=content)
            except (httpx.TransportError, httpx.DecodingError) as problem:
                if is_last or isinstance(problem, httpx.UnsupportedProtocol):
                    reason = _reason(problem)
                    raise SourceError(f"cannot reach {self.address.url}: {reason}") from problem
            else:
                if response.status_code == 200 or response.status_code in absent or answers(response):
                    return response
                if is_last or response.status_code not in _PASSING:
                    raise self._refused(response)
                wait_s = _told_wait_s(response) or wait_s
            self.sleep(min(wait_s, _MAX_WAIT_S))
        raise AssertionError("unreachable")

    def _refused(self, response: httpx.Response) -> SourceError:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        said = " ".join(response.text.split())[:200] if "html" not in response.headers.get("content-type", "") else ""
        hint = ""
        if response.status_code in (401, 403):
            hint = f"; set {HEADERS}, or {USER} and {PASSWORD}"
        elif response.is_redirect:
            hint = f"; name the address that it points to: {response.headers.get('location', '')}"
        return SourceError(f"{self.address.url} answers {status}{said and ': ' + said}{hint}")

    def nonsense(self, what: str) -> SourceError:
        """The backend answers, but not as such a backend does."""
        return SourceError(f"{self.address.url} does not answer as expected: {what}")


@contextmanager
def connected(
    address: Address, *, user_headers: tuple[str, str] | None = None, timeout: httpx.Timeout = _TIMEOUT
) -> Iterator[Backend]:
    """A backend, for as long as it is needed.

    Args:
        user_headers: the headers that user and password go into; by default it is HTTP Basic.
        timeout: how long it may be silent.

    Raises:
        UsageError: an environment variable is wrong.
    """
    headers = _headers()
    auth = None
    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    if user is not None or password is not None:
        if user_headers is not None:
            headers |= {user_headers[0]: user or "", user_headers[1]: password or ""}
        else:
            auth = httpx.BasicAuth(user or "", password or "")
    # The system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR.
    verify = ssl.create_default_context() if address.base.startswith("https:") else False
    with httpx.Client(
        base_url=address.base, headers=headers, auth=auth, timeout=timeout, verify=verify, follow_redirects=False
    ) as client:
        yield Backend(address, client)


def _headers() -> dict[str, str]:
    found = {}
    for item in filter(None, (part.strip() for part in os.environ.get(HEADERS, "").split(","))):
        name, equals, value = item.partition("=")
        if not equals or not name.strip().isascii():
            raise UsageError(f"{HEADERS} is a list NAME=VALUE,NAME=VALUE")
        found[name.strip()] = unquote(value.strip())
    return found


def _reason(problem: Exception) -> str:
    text = " ".join(str(problem).split()) or type(problem).__name__
    return f"it takes too long ({text})" if isinstance(problem, httpx.TimeoutException) else text


def _told_wait_s(response: httpx.Response) -> float | None:
    told = response.headers.get("retry-after", "")
    return float(told) if told.isdigit() else None
