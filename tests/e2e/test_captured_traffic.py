"""Captured traffic of eight agents at once through the real proxy, against a server that answers the recorded bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import captures
import pytest
from captures import EDGE, LINK, TENANT, Capture, Exchange, Replayed, Seen

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


async def call(host: str, port: int, exchange: Exchange) -> None:
    """Send a request as it was sent, and read the response to its end."""
    reader, writer = await asyncio.open_connection(host, port)
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


async def run(host: str, port: int, capture: Capture) -> None:
    """Play a capture: each request when those that had ended before it have, after the pause that was between."""
    done = {one.seq: asyncio.Event() for one in capture.exchanges}

    async def play(exchange: Exchange) -> None:
        before = [one for one in capture.exchanges if one.t_end <= exchange.t_request and one is not exchange]
        for one in before:
            await done[one.seq].wait()
        latest = max((one.t_end for one in before), default=0.0)
        await asyncio.sleep(min(exchange.t_request - latest, LONGEST_GAP_S))
        await call(host, port, exchange)
        done[exchange.seq].set()

    async with asyncio.TaskGroup() as group:
        for exchange in capture.exchanges:
            group.create_task(play(exchange))


async def play_all(url: str, played: list[Capture]) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    async with asyncio.TaskGroup() as group:
        for capture in played:
            group.create_task(run(host, int(port), capture))


@pytest.fixture
def replayed(start_proxy) -> Callable[[list[Capture]], Awaitable[Replayed]]:
    """`await replayed(captures)`: what the proxy made of them."""

    async def replay(played: list[Capture]) -> Replayed:
        async with answering(played) as upstream:
            proxy = await asyncio.to_thread(start_proxy, upstream, "--workers", "2")
            await play_all(proxy.url, played)
            stats = (await asyncio.to_thread(proxy.status))["observer"]["stats"]
            await asyncio.to_thread(proxy.stop)
        spans = captures.spans(proxy.store)
        exchanges = {name(one): one for capture in played for one in capture.exchanges}
        calls = []
        for span in spans:
            attributes = captures.attributes(span)
            if semconv.REQUEST_ID in attributes:
                exchange = exchanges.pop(attributes[semconv.REQUEST_ID])
                calls.append(Seen(exchange, TENANT, int(span["startTimeUnixNano"]), attributes))
        assert exchanges == {}
        return Replayed(sorted(calls, key=lambda seen: seen.t0_ns), spans, stats)

    return replay


async def test_agents_as_they_are(replayed):
    result = await replayed(list(captures.load()))
    scores = captures.score(result)
    assert [name(seen.exchange) for seen in scores.mistaken] == []
    links, edges = scores.total(LINK, without="aider"), scores.total(EDGE)
    assert (links.right, links.true, edges.true) == (155, 155, 8)
    assert edges.right >= 6  # two sub-agents with the task `x` at once cannot be told apart
    named = [seen for seen in result.calls if seen.true and seen.source == "header"]
    assert len(named) == 128
    for seen in named:
        truth, told = seen.exchange.truth, seen.attributes
        place = (told.get(semconv.TURN_INDEX), told[semconv.ATTEMPT_INDEX], told[semconv.SEGMENT_INDEX])
        assert (*place, told[semconv.RUN_INDEX]) == (truth.turn, truth.retry, truth.segment, truth.run), name(
            seen.exchange
        )
    assert (result.stats["errors"], result.stats["problems"]) == ({}, {})


async def test_agents_that_nobody_names(replayed):
    scores = captures.score(await replayed([capture.anonymous() for capture in captures.load()]))
    assert [name(seen.exchange) for seen in scores.mistaken] == []
    links = scores.total(LINK, without="aider")
    assert links.true == 155
    assert links.right >= 0.98 * links.true
