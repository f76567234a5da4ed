"""Closed-loop traffic that costs its core as little as possible, and what a round of it took."""

import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from functools import lru_cache

import uvloop

END = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """One kind of traffic.

    `chunks` content chunks of some 250 bytes come back, `gap_ms` apart; with no chunks one JSON body does. A stream
    pauses for `think_ms` after each answer.
    """

    name: str
    streams: int
    requests: int
    chunks: int
    gap_ms: float
    body_bytes: int
    think_ms: float = 0

    @property
    def seconds(self) -> float:
        """Of one answer and the pause after it, as far as it is known."""
        return (self.chunks * self.gap_ms + self.think_ms) / 1000

    @property
    def model(self) -> str:
        """Names the pace, for proxies that route by model."""
        return f"bench-{self.chunks}-{self.gap_ms:g}"

    def request(self, host: str) -> bytes:
        """As it goes over the wire."""
        body = body_of(self.body_bytes, self.model, stream=bool(self.chunks))
        head = (
            f"POST /v1/chat/completions?chunks={self.chunks}&gap_ms={self.gap_ms:g} HTTP/1.1\r\nhost: {host}\r\n"
            f"content-type: application/json\r\nauthorization: Bearer sk-bench\r\nuser-agent: bench/1\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@lru_cache
def body_of(size: int, model: str = "bench-model", *, stream: bool = True) -> bytes:
    """A chat request of about this size: many messages, as an agent sends."""
    line = "the quick brown fox jumps over the lazy dog and back again over the fence to the barn " * 8
    messages = [{"role": "system", "content": "You are a coding agent."}]
    room = size - 100
    while room > 100:
        messages.append({"role": "user" if len(messages) % 2 else "assistant", "content": line[: room - 60]})
        room -= len(messages[-1]["content"]) + 40
    return json.dumps({"model": model, "stream": stream, "messages": messages}).encode()


@dataclass
class Taken:
    """What one round took."""

    requests: int = 0
    ttft_s: list[float] = field(default_factory=list)
    """Request written until the first byte of the response's body; without the first request of each connection, which
    makes connections on the other side of a proxy too."""
    gaps_s: list[float] = field(default_factory=list)
    """Between two reads of one response, where the load has a pace."""
    wall_s: float = 0.0
    relay_cpu_s: float = 0.0
    other_cpu_s: float = 0.0
    dropped: int = 0
    """Frames that the observer did not get."""


class BenchmarkError(Exception):
    """An answer was not as it must be."""


class _Stream(asyncio.Protocol):
    """One client connection that sends its next request when the last response has ended."""

    def __init__(self, drive: "_Drive") -> None:
        self.drive = drive
        self.answered = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        if self.drive.left <= 0:
            self.finish(None)
            return
        self.drive.left -= 1
        self.head = b""
        self.in_head = True
        self.first = self.last = 0.0
        self.left = -1
        self.tail = b""
        self.began = time.perf_counter()
        self.transport.write(self.drive.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.in_head:
            self.head += data
            head, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            self.in_head = False
            if not head.startswith(b"HTTP/1.1 200"):
                self.finish(BenchmarkError(f"answered {head[:200]!r} {data[:300]!r}"))
                return
            lower = head.lower()
            at = lower.find(b"\r\ncontent-length:")
            if at >= 0:
                self.left = int(lower[at + 17 :].split(b"\r\n", 1)[0])
        if not data:
            return
        if not self.first:
            self.first = now
        else:
            self.drive.taken.gaps_s.append(now - self.last)
        self.last = now
        if self.left >= 0:
            self.left -= len(data)
            complete = self.left == 0
        else:
            self.tail = (self.tail + data)[-len(END) :] if len(data) < len(END) else data[-len(END) :]
            complete = self.tail == END
        if complete:
            if self.answered:
                self.drive.taken.ttft_s.append(self.first - self.began)
            self.answered += 1
            if self.drive.think_s:
                asyncio.get_running_loop().call_later(self.drive.think_s, self.next)
            else:
                self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish(BenchmarkError(f"the connection broke off: {exc}"))

    def finish(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self.transport.close()


class _Drive:
    """One round's traffic."""

    def __init__(self, load: Load, host: str, port: int, requests: int) -> None:
        self.load, self.host, self.port = load, host, port
        self.request = load.request(f"{host}:{port}")
        self.left = requests
        self.think_s = load.think_ms / 1000
        self.taken = Taken(requests)

    async def stream(self, number: int) -> None:
        # Streams begin spread over the time of one answer, or they would go on in step with each other.
        await asyncio.sleep(self.load.seconds * number / self.load.streams)
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: _Stream(self), self.host, self.port)
        await stream.done

    async def run(self) -> Taken:
        began = time.perf_counter()
        await asyncio.gather(*(self.stream(number) for number in range(self.load.streams)))
        self.taken.wall_s = time.perf_counter() - began
        return self.taken


async def drive_load(load: Load, host: str, port: int, requests: int) -> Taken:
    """Play a load within a running loop."""
    return await _Drive(load, host, port, requests).run()


def drive(load: Load, host: str, port: int, requests: int) -> Taken:
    """Play a load; returns when the last response has ended."""
    return uvloop.run(drive_load(load, host, port, requests))


def cpu_s(pids: list[int]) -> float:
    """User and system time of processes with all their threads, from the scheduler's own clock."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def rss_bytes(pid: int) -> int:
    """Resident memory."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
