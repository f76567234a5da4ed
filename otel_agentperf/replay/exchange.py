"""One request of an agent and its answer, as the client sees them."""

import asyncio
from dataclasses import dataclass
from time import monotonic_ns
from typing import Final, Protocol

import msgspec

from otel_agentperf.http1 import (
    Client,
    ConnectError,
    HTTPError,
    Origin,
    ProtocolError,
    ResetError,
    Response,
    UpstreamTimeout,
)
from otel_agentperf.replay.stream import AnswerFacts, EventReader, StreamReader

__all__ = ["Exchange", "Failure", "HTTPTransport", "Transport"]

Header = tuple[bytes, bytes]

RETRYABLE: Final = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""Statuses that may pass: timeouts, conflicts, rate limits, a server that is down or overloaded."""

ERROR_BODY_BYTES: Final = 4096
"""Bytes of an error's body that are read for its words."""

_KINDS: Final = {
    ConnectError: "connect",
    UpstreamTimeout: "connect_timeout",
    ResetError: "reset",
    ProtocolError: "protocol",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange gave no whole answer.

    Attributes:
        kind: `http_STATUS`, `connect`, `connect_timeout`, `reset`, `protocol`, `timeout`, `truncated`, `stream_error`
            or `not_streamed`.
        words: for the user, one line.
        retry: it may pass.
        retry_after_s: what the server asked to wait.
    """

    kind: str
    words: str
    retry: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """Times are monotonic ns; they start when the request was handed to the client, connecting included."""

    start_ns: int
    end_ns: int
    first_output_ns: int | None
    last_output_ns: int | None
    facts: AnswerFacts
    failure: Failure | None


class Transport(Protocol):
    """Carries requests to the endpoint."""

    async def exchange(self, headers: list[Header], body: bytes, events: EventReader, timeout_s: float) -> Exchange:
        """Send a request and drain its answer. Failures are part of what comes back; only a cancellation is raised."""

    async def aclose(self) -> None:
        """Close all connections."""


class HTTPTransport:
    """The transport of every benchmark: HTTP/1.1.

    Args:
        origin: of the endpoint.
        target: path of the requests.
    """

    def __init__(self, origin: Origin, target: bytes) -> None:
        self._client = Client()
        self._origin = origin
        self._target = target

    async def exchange(self, headers: list[Header], body: bytes, events: EventReader, timeout_s: float) -> Exchange:
        return await _exchange(self._client, self._origin, self._target, headers, body, events, timeout_s)

    async def aclose(self) -> None:
        await self._client.aclose()


async def _exchange(
    client: Client,
    origin: Origin,
    target: bytes,
    headers: list[Header],
    body: bytes,
    events: EventReader,
    timeout_s: float,
) -> Exchange:
    start_ns = monotonic_ns()
    reader = StreamReader(events)
    failure: Failure | None = None
    response: Response | None = None
    try:
        async with asyncio.timeout(timeout_s):
            response = await client.request(origin, b"POST", target, headers, body)
            if response.status == 200:
                while chunks := await response.read():
                    for time_ns, data in chunks:
                        reader.feed(time_ns, data)
            else:
                failure = await _refusal(response)
    except HTTPError as exc:
        failure = Failure(_KINDS.get(type(exc), "protocol"), str(exc), not isinstance(exc, ProtocolError))
    except TimeoutError:
        failure = Failure("timeout", f"no complete answer within {timeout_s:g} s", True)
    finally:
        end_ns = monotonic_ns()
        if response is not None:
            response.abort()
    reader.finish()
    return Exchange(
        start_ns,
        end_ns,
        reader.first_output_ns,
        reader.last_output_ns,
        reader.facts,
        failure or _shortcoming(reader),
    )


def _shortcoming(reader: StreamReader) -> Failure | None:
    """What is wrong with an answer that came with status 200 and ended cleanly."""
    if reader.streamed is False:
        return Failure("not_streamed", "the endpoint does not stream its answers, so nothing can be measured", False)
    if reader.facts.error is not None:
        return Failure("stream_error", _line(reader.facts.error), True)
    if not reader.facts.complete:
        return Failure("truncated", "the answer ended before its last event", True)
    return None


async def _refusal(response: Response) -> Failure:
    """An answer with another status than 200."""
    body = b""
    while len(body) < ERROR_BODY_BYTES and (chunks := await response.read()):
        body += b"".join(data for _, data in chunks)
    words = _line(_message(body) or body[:ERROR_BODY_BYTES].decode("utf-8", "replace")) or "an empty body"
    retry_after = next((value for name, value in response.headers if name == b"retry-after"), b"").strip()
    return Failure(
        f"http_{response.status}",
        f"status {response.status}: {words}",
        response.status in RETRYABLE,
        float(retry_after) if retry_after.isdigit() else None,
    )


def _message(body: bytes) -> str | None:
    """The message of an error in the shape that both APIs share, `{"error": {"message": ...}}`."""
    try:
        error = msgspec.json.decode(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) else None


def _line(text: str) -> str:
    """Some text as one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:299] + "…"
