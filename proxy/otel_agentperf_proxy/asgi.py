"""The ASGI face of the relay, for applications and servers that it is mounted in."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from otel_agentperf_proxy.client_side import RequestHead, address_of_peer
from otel_agentperf_proxy.exchange import Exchange
from otel_agentperf_proxy.headers import Headers

if TYPE_CHECKING:
    from otel_agentperf_proxy.relay import Relay

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HIGH_WATER: Final = 256 * 1024
"""Bytes held for a slow client before the upstream is no longer read."""


async def serve(relay: "Relay", scope: Scope, receive: Receive, send: Send) -> None:
    """Play one exchange of the scope type `http`.

    A response that is left incomplete makes the server close the connection without a clean end.
    """
    request = RequestHead(
        method=scope["method"].encode("latin-1"),
        path=_raw_path(scope),
        query=scope.get("query_string", b""),
        headers=[(name, value) for name, value in scope["headers"]],
        received_ns=monotonic_ns(),
        client=address_of_peer(scope.get("client")),
    )
    client = _Client()
    exchange = client.exchange = Exchange(relay, request, client)
    reading = asyncio.get_running_loop().create_task(client.read(receive))
    try:
        await client.write(send)
    except OSError:
        # Servers of ASGI 2.4 raise this when they write to a client that left.
        exchange.client_left()
    except asyncio.CancelledError:
        exchange.cut()
        raise
    except Exception:
        exchange.broke()
        raise
    finally:
        reading.cancel()


class _Client:
    """The client's side of an exchange: messages that wait to be sent, and a task that receives."""

    exchange: Exchange

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._held = 0
        self._paused = self._ended = False
        self._woken = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()

    async def read(self, receive: Receive) -> None:
        """Take the request's body, then wait for the client to leave."""
        more = True
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.exchange.client_left()
                self.break_off()
                return
            if more:
                more = message.get("more_body", False)
                self.exchange.feed(message.get("body", b""), not more)
                await self._readable.wait()

    async def write(self, send: Send) -> None:
        """Send what comes, until the response has ended, or broken off."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            messages, self._messages, self._held = self._messages, [], 0
            for message in messages:
                await send(message)
            if self._ended and not self._messages:
                return
            if self._paused and self._held < HIGH_WATER:
                self._paused = False
                self.exchange.client_resumed()

    # Called by the exchange.

    def respond(self, status: int, fields: Headers) -> None:
        self._messages.append({"type": "http.response.start", "status": status, "headers": fields})

    def send(self, data: bytes, complete: bool) -> None:
        if data or complete:
            self._messages.append({"type": "http.response.body", "body": data, "more_body": not complete})
            self._held += len(data)
        self._ended = self._ended or complete
        self._woken.set()
        if self._held >= HIGH_WATER and not self._paused:
            self._paused = True
            self.exchange.client_paused()

    def break_off(self) -> None:
        self._ended = True
        self._woken.set()

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()


def _raw_path(scope: Scope) -> bytes:
    """The path as the client wrote it, below where the application is mounted."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    root = scope.get("root_path", "").encode("latin-1", "ignore")
    if root and raw.startswith(root):
        raw = raw[len(root) :] or b"/"
    return raw
