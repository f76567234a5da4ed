"""The inference endpoints behind the proxy: whether they answer, at the path that clients will ask for."""

import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agentperf.cli.doctor.findings import Finding, note, ok, problem, warning
from otel_agentperf.cli.doctor.network import Reply, Unreachable, fetch, same_place
from otel_agentperf.errors import UsageError

if TYPE_CHECKING:
    from otel_agentperf_proxy.config import ProxyConfig

__all__ = ["Upstream", "api_key", "upstream", "upstreams_of"]

SKEW_S: Final = 2.0
"""The Date header has whole seconds, and the answer takes its time."""

_MODELS: Final = "/v1/models"
_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Upstream:
    """An endpoint of the configuration."""

    url: str
    ca: str | None
    insecure: bool


def upstreams_of(config: "ProxyConfig") -> tuple[Upstream, ...]:
    """All endpoints that a configuration names."""
    first = (Upstream(config.upstream, config.upstream_ca, config.upstream_insecure),) if config.upstream else ()
    return first + tuple(Upstream(table.url, table.ca, table.insecure) for table in config.upstreams)


def api_key(variable: str | None) -> str | None:
    """The key that a variable holds.

    Raises:
        UsageError: it holds none.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment variable {variable} is not set; it should hold the API key")
    return key


def upstream(
    asked: Upstream, own: Mapping[str, tuple[str, int]], *, key: str | None, model: str | None
) -> Iterator[Finding]:
    """What an endpoint answers.

    Args:
        asked: the endpoint.
        own: the addresses of the proxy, by the option that sets them.
        key: an API key to ask with.
        model: a model that it should have.
    """
    from otel_agentperf.http1 import Origin, client_tls

    try:
        origin, path = Origin.parse(asked.url)
        tls = client_tls(asked.ca, insecure=asked.insecure) if origin.scheme == "https" else None
    except UsageError as exc:
        yield problem("upstream", str(exc), "write it like http://127.0.0.1:8000")
        return
    for option, address in own.items():
        if same_place((origin.host, origin.port), address):
            yield problem(
                "upstream",
                f"{asked.url} is the proxy itself (--{option})",
                "name the inference server with --upstream, and give the proxy a port of its own with --listen",
            )
            return
    base = f"{origin}{path.decode()}"
    headers = _credentials(key)
    try:
        reply = fetch(base + _MODELS, headers=headers, tls=tls)
    except Unreachable as exc:
        yield problem("upstream", f"{asked.url} does not answer: {exc}", exc.advice)
        if path.endswith(b"/v1"):
            yield _doubled(asked.url, certain=False)
        return
    yield from _clock(reply, asked.url)
    if reply.status == 404:
        yield from _elsewhere(asked.url, base, headers, tls)
        return
    yield from _judged(reply, asked.url, key, model)


def _credentials(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}", "x-api-key": key}


def _judged(reply: Reply, url: str, key: str | None, model: str | None) -> Iterator[Finding]:
    if reply.status in (401, 403):
        if key is not None:
            yield problem("upstream", f"{url} refuses the API key ({reply.status})", "name another with --api-key-env")
        else:
            yield ok("upstream", f"{url} answers, and wants an API key: clients send theirs, --api-key-env tries one")
    elif 300 <= reply.status < 400:
        place = reply.headers.get("location", "another address")
        yield problem(
            "upstream", f"{url} sends clients on to {place}", "name that in --upstream: clients would leave the proxy"
        )
    elif reply.status >= 500 or reply.status == 429:
        told = reply.body[:200].decode("utf-8", "replace").strip()
        yield warning(
            "upstream", f"{url} answers {reply.status}: {told}", "a server that loads its model answers so: wait for it"
        )
    elif reply.status == 200 and reply.headers.get("content-type", "").startswith("text/html"):
        yield warning("upstream", f"{url} answers with a web page", "name the address of the API, not of a console")
    else:
        names = _models(reply.body)
        listed = f"; it has {', '.join(names[:_SHOWN])}{' …' if len(names) > _SHOWN else ''}" if names else ""
        yield ok("upstream", f"{url} answers{listed}")
        if model is not None and names and model not in names:
            yield warning("upstream", f"it does not list a model {model!r}", f"ask for one of {', '.join(names)}")


def _elsewhere(url: str, base: str, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> Iterator[Finding]:
    """There is no list of models under the path; see whether there is one elsewhere."""

    def status_at(place: str) -> int:
        try:
            return fetch(place, headers=headers, tls=tls).status
        except Unreachable:
            return 0

    if base.endswith("/v1"):
        if status_at(f"{base}/models") not in (0, 404):
            yield _doubled(url, certain=True)
            return
    elif status_at(f"{base}/models") in (200, 401, 403):
        yield warning(
            "upstream",
            f"{url} has its API at {base}/models, not at {base}{_MODELS}",
            "give clients the proxy's address without /v1",
        )
        return
    if _is_control(base, tls):
        yield problem(
            "upstream", f"{url} is the control address of a proxy", "name the inference server itself with --upstream"
        )
        return
    yield note(
        "upstream", f"{url} answers; it has no list of models at {_MODELS}", "try a call with --model NAME to be sure"
    )


def _is_control(base: str, tls: ssl.SSLContext | None) -> bool:
    try:
        found = msgspec.json.decode(fetch(f"{base}/status", tls=tls).body)
    except (Unreachable, msgspec.DecodeError):
        return False
    return isinstance(found, dict) and {"relays", "observer"} <= found.keys()


def _doubled(url: str, *, certain: bool) -> Finding:
    short = url.rstrip("/").removesuffix("/v1")
    make = problem if certain else warning
    return make(
        "upstream",
        f"{url} ends in /v1 and clients put /v1 before their paths too: the server gets /v1/v1/...",
        f"write --upstream {short}",
    )


def _clock(reply: Reply, url: str) -> Iterator[Finding]:
    if reply.skew_s is None:
        return
    if abs(reply.skew_s) > SKEW_S:
        way = "ahead of" if reply.skew_s > 0 else "behind"
        yield warning(
            "clock",
            f"the clock of {url} is {abs(reply.skew_s):.0f} s {way} ours",
            "let both synchronise (NTP): durations stay right, but its spans and ours do not line up",
        )
    else:
        yield ok("clock", f"ours and that of {url} agree to {SKEW_S:g} s")


def _models(body: bytes) -> list[str]:
    try:
        listed: Any = msgspec.json.decode(body)["data"]
        return [str(model["id"]) for model in listed]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return []
