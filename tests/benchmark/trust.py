"""What must hold under faults, in figures: exporters that fail, clients that leave, large neighbours, a long soak."""

import asyncio
import contextlib
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import uvloop
from figures import quantile, spread
from load import Load, Taken, drive, drive_load, rss_bytes
from stacks import Cores, Stack, direct, nginx, nginx_missing, ours, status_of

from otel_agentperf.processes import address_of, listen

STREAMS = Load("2 KB request, 100 chunks 5 ms apart, 64 streams", 64, 256, 100, 5, 2_000)
SHORT = Load("2 KB request, 10 chunks at once, 64 streams, 50 ms between", 64, 10_000, 10, 0, 2_000, 50)
"""At a pace that an observer follows which shares its core: what waits for it is memory too."""
LARGE = Load("5 MB request, one body back, 2 streams", 2, 40, 0, 0, 5_000_000)

ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


def measure(cores: Cores, address: str, work: Path, rounds: int, soak: int) -> None:
    """All of it, in one line each."""
    print()
    _exporters(cores, address, work, rounds)
    _neighbours(cores, address, work, rounds)
    with ours(name="aborts")(cores, address, work) as stack:
        _aborts(stack, min(10_000, max(soak // 10, 200)))
    _leaving(cores, work)
    if soak:
        with ours(name="soak")(cores, address, work) as stack:
            _soak(stack, soak)


# --- Exporters


class _Collector:
    """Takes everything, or takes connections and never answers."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._sock.accept()
                self._held.append(peer)
                if self._answers:
                    threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            stream = peer.makefile("rb")
            while stream.readline():
                length = 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    name, _, value = line.lower().partition(b":")
                    length = int(value) if name == b"content-length" else length
                stream.read(length)
                peer.sendall(ACCEPTED)

    def close(self) -> None:
        for sock in (self._sock, *self._held):
            sock.close()


@contextlib.contextmanager
def _collector(kind: str) -> Iterator[str]:
    if kind == "dead":
        with listen("127.0.0.1", 0) as free:
            address = address_of(free)
        yield f"http://{address}"
        return
    collector = _Collector(answers=kind == "healthy")
    try:
        yield collector.url
    finally:
        collector.close()


def _exporters(cores: Cores, address: str, work: Path, rounds: int) -> None:
    """The time to the first token with three kinds of collectors, in turns."""
    kinds = ("healthy", "dead", "blackholed")
    late: dict[str, list[float]] = {kind: [] for kind in kinds}
    with contextlib.ExitStack() as running:
        stacks = {}
        for kind in kinds:
            url = running.enter_context(_collector(kind))
            start = ours("--otlp-endpoint", url, "--otlp-protocol", "http/protobuf", name=f"exporter {kind}")
            stacks[kind] = running.enter_context(start(cores, address, work))
        for number in range(rounds + 1):
            for kind, stack in stacks.items():
                # Some eight seconds: longer than an observer waits at its start before it yields.
                taken = drive(STREAMS, "127.0.0.1", stack.port, 16 * STREAMS.streams)
                stack.settle()
                if number:
                    late[kind].append(quantile(taken.ttft_s, 0.99) * 1e3)
    for kind in kinds:
        print(f"p99 TTFT ms with the exporter {kind:<37}   {spread(late[kind])}")


# --- Neighbours, aborts, soak


def _neighbours(cores: Cores, address: str, work: Path, rounds: int) -> None:
    """How late chunks of paced streams come while others send large requests; nothing between and nginx as reference.

    Client and upstream share a core and have the large bodies too: what happens without a proxy is theirs.
    """
    alone: dict[str, list[float]] = {}
    beside: dict[str, list[float]] = {}
    with contextlib.ExitStack() as running:
        starts = [direct, *([] if nginx_missing() else [nginx]), ours(name="neighbours")]
        stacks = [running.enter_context(start(cores, address, work)) for start in starts]
        for number in range(rounds + 1):
            for stack in stacks:
                late = [quantile(uvloop.run(_beside(stack, large)).gaps_s, 0.99) * 1e3 for large in (False, True)]
                stack.settle()
                if number:
                    alone.setdefault(stack.name, []).append(late[0])
                    beside.setdefault(stack.name, []).append(late[1])
    for name, values in alone.items():
        print(f"{f'{name}: p99 ms between chunks 5 ms apart, alone':<68}{'':>17}{spread(values)}")
        print(f"{'  beside 5 MB requests, two at a time':<68}{'':>17}{spread(beside[name])}", flush=True)


async def _beside(stack: Stack, large: bool) -> Taken:
    """The paced streams, with or without large requests beside them."""
    paced = asyncio.ensure_future(drive_load(STREAMS, "127.0.0.1", stack.port, STREAMS.requests))
    while large and not paced.done():
        await drive_load(LARGE, "127.0.0.1", stack.port, LARGE.streams)
        await asyncio.sleep(0.02)
    return await paced


def _aborts(stack: Stack, number: int) -> None:
    """Clients that leave in the middle of their stream: nothing is left open."""
    request = replace(STREAMS, chunks=1000).request("bench")

    async def leave() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        writer.write(request)
        await reader.readuntil(b"\n\n")
        writer.transport.abort()

    async def all_of_them() -> None:
        for _ in range(number // 50):
            await asyncio.gather(*(leave() for _ in range(50)))

    uvloop.run(all_of_them())
    stack.settle()
    assert stack.admin is not None
    stats = status_of(stack.admin)["relays"][0]["stats"]
    print(f"after {number} aborts: upstream {stats['upstream']}, outcomes {stats['outcomes']}", flush=True)


def _soak(stack: Stack, streams: int) -> None:
    """Resident memory over many streams."""
    (pid,) = stack.relay_pids
    drive(SHORT, "127.0.0.1", stack.port, max(streams // 10, 2_000))
    stack.settle()
    sizes = [rss_bytes(pid)]
    observers = [sum(map(rss_bytes, stack.other_pids))]
    for _ in range(10):
        drive(SHORT, "127.0.0.1", stack.port, streams // 10)
        stack.settle()
        sizes.append(rss_bytes(pid))
        observers.append(sum(map(rss_bytes, stack.other_pids)))
    middle = len(sizes) // 2
    slope = (sizes[-1] - sizes[middle]) / (streams / 10 * (len(sizes) - 1 - middle))
    print(f"{f'RSS after / before {streams} streams, relay':<68}{'1.1':>7}{'':>10}{sizes[-1] / sizes[0]:.3f}")
    print(f"{'  relay, MB':<68}{'':>17}{' '.join(f'{size / 1e6:.1f}' for size in sizes)}")
    print(f"{'  bytes per stream over the second half':<68}{'':>17}{slope:.1f}")
    print(f"{'  observer, which remembers trajectories':<68}{'':>17}{observers[-1] / observers[0]:.3f}")
    print(f"{'  observer, MB':<68}{'':>17}{' '.join(f'{size / 1e6:.1f}' for size in observers)}", flush=True)


# --- How soon the upstream learns that a client left


def _leaving(cores: Cores, work: Path) -> None:
    """Time from a client's FIN or RST until the upstream's connection is closed, by what was going on."""
    with tempfile.TemporaryDirectory() as here:
        for how in ("FIN", "RST"):
            for when in ("during upload", "before headers", "mid-stream"):
                times = uvloop.run(_leave_often(cores, Path(here), how, when))
                shown = spread([value * 1e3 for value in times])
                print(f"{f'upstream closed after {how} {when}, ms':<68}{'50':>7}{'':>10}{shown}", flush=True)


async def _leave_often(cores: Cores, work: Path, how: str, when: str) -> list[float]:
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if when == "mid-stream":
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\ndata: \r\n")
        arrived.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    times = []
    with ours(name=f"leaving {how} {when}")(cores, address, work) as stack:
        for _ in range(20):
            arrived.clear()
            closed.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
            sent = 100 if when == "during upload" else 2
            writer.write(b"POST /v1/x HTTP/1.1\r\nhost: p\r\ncontent-length: %d\r\n\r\n{}" % sent)
            await arrived.wait()
            if when == "mid-stream":
                await reader.readuntil(b"data: ")
            if how == "RST":
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            left = time.perf_counter()
            writer.transport.abort()
            await closed.wait()
            times.append(time.perf_counter() - left)
    server.close()
    return times
