"""What an endpoint says about itself before a benchmark."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from otel_agentperf._version import __version__
from otel_agentperf.errors import EndpointError
from otel_agentperf.http1 import Client, HTTPError, Origin
from otel_agentperf.replay.dialects import dialect_for
from otel_agentperf.replay.settings import ReplaySettings

__all__ = ["EndpointFacts", "inspect"]

ANSWER_LIMIT_S: Final = 30.0
"""For the list of models; a server that is loading a model answers slowly."""

_BODY_BYTES: Final = 4 * 1024 * 1024
_CONTEXT_MEMBERS: Final = ("max_model_len", "context_length", "max_context_length")


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """From the endpoint's list of models, as far as it has one."""

    server: str | None = None
    """Its `server` header."""
    models: tuple[str, ...] = ()
    max_context_tokens: int | None = None
    """Of the model that will be asked."""


async def inspect(settings: ReplaySettings) -> EndpointFacts:
    """Ask the endpoint for its models. Any HTTP answer will do: many endpoints have no such list.

    Raises:
        EndpointError: nothing answers at the address.
        UsageError: the address is none.
    """
    origin, base = Origin.parse(settings.endpoint.rstrip("/").removesuffix("/v1"))
    headers = [
        (b"host", origin.authority),
        (b"user-agent", f"otel-agentperf-replay/{__version__}".encode()),
        (b"accept-encoding", b"identity"),
        *dialect_for(settings).headers(settings.api_key),
        *((name.lower().encode(), value.encode()) for name, value in settings.headers),
    ]
    client = Client()
    body = b""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            response = await client.request(origin, b"GET", base + b"/v1/models", headers)
            while len(body) < _BODY_BYTES and (chunks := await response.read()):
                body += b"".join(data for _, data in chunks)
    except TimeoutError as exc:
        raise EndpointError(f"{settings.endpoint} does not answer: nothing within {ANSWER_LIMIT_S:g} s") from exc
    except HTTPError as exc:
        raise EndpointError(f"no endpoint at {settings.endpoint}: {exc}") from exc
    finally:
        await client.aclose()
    server = next((value.decode("latin-1") for name, value in response.headers if name == b"server"), None)
    listed = _models(body) if response.status == 200 else []
    names = tuple(model["id"] for model in listed)
    return EndpointFacts(server, names, _context(listed, settings.model))


def _models(body: bytes) -> list[dict[str, Any]]:
    try:
        data = msgspec.json.decode(body)["data"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return []
    if not isinstance(data, list):
        return []
    return [model for model in data if isinstance(model, dict) and isinstance(model.get("id"), str)]


def _context(listed: list[dict[str, Any]], model: str) -> int | None:
    for each in listed:
        if each["id"] == model:
            meta = each.get("meta")
            sizes = [each.get(name) for name in _CONTEXT_MEMBERS] + [
                meta.get("n_ctx") if isinstance(meta, dict) else None
            ]
            return next((size for size in sizes if isinstance(size, int) and size > 0), None)
    return None
