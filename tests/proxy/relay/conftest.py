"""A relay between a scripted upstream and raw sockets, with everything that it tells the observer kept in lists."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import pytest
import uvicorn
import uvloop

from otel_agentperf.processes import listen
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import End, Kind, Open
from otel_agentperf_proxy.listener import Listener
from otel_agentperf_proxy.observer import Observer
from otel_agentperf_proxy.relay import Relay
from otel_agentperf_proxy.sinks import InlineChannel

PATIENCE_S = 20.0


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The proxied port runs on uvloop, a host's application on whatever it likes; their transports differ in how
    connections end, which is what WebSockets are tested for on both."""
    return LOOPS


LOOP_OF_FACE = {"native": LOOPS["uvloop"], "asgi": LOOPS["asyncio"]}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the pairs of loop and face that are not used; loops are chosen where faces are not known yet."""
    unused = []
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if "face" in params and not item.path.stem.startswith("test_websocket"):
            loops = [value for value in params.values() if value in LOOPS.values()]
            if loops and loops != [LOOP_OF_FACE[params["face"]]]:
                unused.append(item)
    if unused:
        left_out = set(unused)
        items[:] = [item for item in items if item not in left_out]


@dataclass
class RecordingSink:
    """Keeps what a relay tells; `full` drops everything but opens and ends. `behind` is told too."""

    opened: dict[int, Open] = field(default_factory=dict)
    frames: list[tuple[Kind, int, int, bytes]] = field(default_factory=list)
    ended: dict[int, list[End]] = field(default_factory=dict)
    traces: dict[str, bytes] = field(default_factory=dict)
    full: bool = False
    behind: InlineChannel | None = None

    def open(self, call: int, time_ns: int, record: Open) -> None:
        self.opened[call] = record
        if self.behind is not None:
            self.behind.open(call, time_ns, record)

    def put(self, kind: int, call: int, time_ns: int, payload: bytes) -> bool:
        if not self.full:
            self.frames.append((Kind(kind), call, time_ns, payload))
            if self.behind is not None:
                self.behind.put(kind, call, time_ns, payload)
        return not self.full

    def end(self, call: int, time_ns: int, record: End) -> None:
        self.ended.setdefault(call, []).append(record)
        if self.behind is not None:
            self.behind.end(call, time_ns, record)

    def stats(self) -> dict[str, int]:
        return {}

    def bytes_of(self, kind: Kind, call: int = 1) -> bytes:
        return b"".join(payload for this, number, _, payload in self.frames if (this, number) == (kind, call))

    async def end_of(self, call: int = 1) -> End:
        """The one END of a call, once it has come."""
        async with asyncio.timeout(PATIENCE_S):
            while call not in self.ended:
                await asyncio.sleep(0.002)
        (end,) = self.ended[call]
        return end


Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection that the relay made to the upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""
        self.body = b""
        self.gone = asyncio.Event()

    async def request(self, *, body: bool = True) -> bytes:
        """Read a request's head and, unless told otherwise, its body. Returns the head."""
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        if body:
            self.body = await read_body(self.reader, self.head)
        return self.head

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with an RST."""
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        """In a script: play on until the relay closes."""
        await self.reader.read()


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """A body by the framing that its head tells; what was read when it breaks off."""
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body
    if (at := lower.find(b"content-length:")) >= 0:
        return await reader.readexactly(int(lower[at + 15 :].split(b"\r\n")[0]))
    return b""


@dataclass
class Bench:
    """A running relay."""

    sink: RecordingSink
    relay: Relay
    port: int
    peers: list[Peer]

    @contextlib.asynccontextmanager
    async def client(self, request: bytes = b"") -> AsyncIterator[Peer]:
        """A raw client connection; sends `request`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def exchange(self, request: bytes) -> tuple[bytes, bytes]:
        """Send a request on a connection of its own; returns head and body of the response."""
        async with asyncio.timeout(PATIENCE_S), self.client(request) as client:
            head = await client.reader.readuntil(b"\r\n\r\n")
            return head, await read_body(client.reader, head)

    async def peer(self) -> Peer:
        """The first connection to the upstream, once it is there and its request's head was read."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.peers or not self.peers[0].head:
                await asyncio.sleep(0.002)
        return self.peers[0]


@contextlib.asynccontextmanager
async def native(relay: Relay) -> AsyncIterator[int]:
    """The proxied port's own HTTP/1.1."""
    sock = listen("127.0.0.1", 0)
    listener = Listener(relay)
    await listener.start(sock)
    try:
        yield sock.getsockname()[1]
    finally:
        await listener.stop(0, asyncio.Event())


@contextlib.asynccontextmanager
async def asgi(relay: Relay) -> AsyncIterator[int]:
    """Mounted in a server of somebody else's."""
    server = uvicorn.Server(
        uvicorn.Config(
            relay,
            port=0,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


FACES = {"native": native, "asgi": asgi}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "face(name): a face of the relay that a test is about; without, it meets all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test meets both faces of the relay, but for those that say which one they are about."""
    if "face" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("face")
        metafunc.parametrize("face", only.args if only else list(FACES))


@pytest.fixture
async def bench(face):
    """`async with bench(script, **config) as running`: each upstream connection is played by `script`.

    With a `store`, an observer writes the spans of what happened there; they are complete after the block.
    """

    @contextlib.asynccontextmanager
    async def start(script: Script | None, base_path: str = "", **config: object) -> AsyncIterator[Bench]:
        peers: list[Peer] = []
        playing: set[asyncio.Task[None]] = set()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = Peer(reader, writer)
            peers.append(peer)
            playing.add(asyncio.current_task())
            try:
                await script(peer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                peer.gone.set()
                writer.close()

        upstream = await asyncio.start_server(play, "127.0.0.1", 0)
        port = upstream.sockets[0].getsockname()[1]
        if script is None:
            upstream.close()
            await upstream.wait_closed()
        settings = msgspec.convert(
            {"upstream": f"http://127.0.0.1:{port}{base_path}", "salt": "00" * 16, "store": None, **config}, ProxyConfig
        )
        sink = RecordingSink()
        observer = Observer(settings) if "store" in config else None
        if observer is not None:
            sink.behind = InlineChannel(observer)
        relay = Relay(settings, sink)
        try:
            async with FACES[face](relay) as served:
                yield Bench(sink, relay, served, peers)
        finally:
            await relay.aclose()
            upstream.close()
            for task in playing:
                task.cancel()
            await asyncio.gather(*playing, return_exceptions=True)
            if observer is not None:
                observer.close()

    return start
