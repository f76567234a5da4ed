"""Captured traffic over real sockets: a server that answers the recorded bytes, clients that send the recorded ones."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from captures import TENANT, Capture, Exchange, Seen, attributes

from otel_agentperf import semconv

LONGEST_GAP_S = 0.05
"""Of a recorded run no pause is longer: nothing here waits for a human or a model."""

HOP = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding", b"x-request-id"))


def name(exchange: Exchange) -> str:
    return f"{exchange.capture}#{exchange.seq}"


class Server:
    """Answers each request with what was recorded for it, pauses and broken connections included."""

    def __init__(self, exchanges: dict[str, Exchange]) -> None:
        self.exchanges = exchanges
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
                fields = {field.lower(): value.strip() for field, _, value in lines}
                await reader.readexactly(int(fields.get(b"content-length", b"0")))
                await self.answer(writer, self.exchanges[fields[b"x-request-id"].decode()])
        writer.close()

    async def answer(self, writer: asyncio.StreamWriter, exchange: Exchange) -> None:
        fields = [(field, value) for field, value in exchange.response_headers if field.lower() not in HOP]
        has_body = exchange.method != "HEAD"
        if has_body:
            fields.append((b"transfer-encoding", b"chunked"))
        lines = [b"HTTP/1.1 %d x" % exchange.status, *(b"%b: %b" % pair for pair in fields), b"", b""]
        writer.write(b"\r\n".join(lines))
        before = exchange.chunks[0][0] if exchange.chunks else 0.0
        for time, chunk in exchange.chunks if has_body else ():
            await asyncio.sleep(min(time - before, LONGEST_GAP_S))
            before = time
            if chunk:
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await writer.drain()
        if exchange.dropped:
            # What was written is on its way before the connection breaks.
            await asyncio.sleep(LONGEST_GAP_S)
            writer.transport.abort()
        elif has_body:
            writer.write(b"0\r\n\r\n")


@asynccontextmanager
async def answering(played: list[Capture]) -> AsyncIterator[str]:
    """A server for the captures; its URL."""
    server = Server({name(one): one for capture in played for one in capture.exchanges})
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        yield "http://{}:{}".format(*listening.sockets[0].getsockname())


async def call(url: str, exchange: Exchange) -> None:
    """Send a request as it was sent, and read the response to its end."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    fields = [(field, value) for field, value in exchange.headers if field.lower() not in HOP]
    fields += [(b"host", b"llm.internal"), (b"connection", b"close"), (b"x-request-id", name(exchange).encode())]
    if exchange.body:
        fields.append((b"content-length", b"%d" % len(exchange.body)))
    line = f"{exchange.method} {exchange.path} HTTP/1.1".encode()
    writer.write(b"\r\n".join([line, *(b"%b: %b" % pair for pair in fields), b"", exchange.body]))
    with contextlib.suppress(ConnectionError):
        await writer.drain()
        while await reader.read(65_536):
            pass
    writer.close()


async def run(capture: Capture, take: Callable[[Exchange], Awaitable[None]]) -> None:
    """Play a capture: each request when those that had ended before it have, after the pause that was between."""
    done = {one.seq: asyncio.Event() for one in capture.exchanges}

    async def play(exchange: Exchange) -> None:
        before = [one for one in capture.exchanges if one.t_end <= exchange.t_request and one is not exchange]
        for one in before:
            await done[one.seq].wait()
        latest = max((one.t_end for one in before), default=0.0)
        await asyncio.sleep(min(exchange.t_request - latest, LONGEST_GAP_S))
        await take(exchange)
        done[exchange.seq].set()

    async with asyncio.TaskGroup() as group:
        for exchange in capture.exchanges:
            group.create_task(play(exchange))


async def play_all(played: list[Capture], take: Callable[[Exchange], Awaitable[None]]) -> None:
    """Play captures at once; `take` sends a request and reads the response."""
    async with asyncio.TaskGroup() as group:
        for capture in played:
            group.create_task(run(capture, take))


def seen_calls(played: list[Capture], spans: list[dict[str, Any]]) -> list[Seen]:
    """The exchanges and the attributes of their spans, in the order of their requests; none may be missing."""
    exchanges = {name(one): one for capture in played for one in capture.exchanges}
    calls = []
    for span in spans:
        told = attributes(span)
        if semconv.REQUEST_ID in told:
            exchange = exchanges.pop(told[semconv.REQUEST_ID])
            calls.append(Seen(exchange, TENANT, int(span["startTimeUnixNano"]), told, span["spanId"]))
    assert exchanges == {}
    return sorted(calls, key=lambda seen: seen.t0_ns)
