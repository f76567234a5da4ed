"""An endpoint that answers as a test's script says, over real sockets; clocks that no test has to wait for; recordings
made of short texts."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic_ns, time_ns
from typing import Any

import pytest

from otel_agentperf.replay import DialectName, Recording, ReplaySettings, Task, Turn, load
from otel_agentperf.replay.formats import bundled

PATIENCE_S = 30.0
"""A test that waits longer than this for something to happen has failed."""

FOREVER_S = 1000.0
"""The clock of the tests wakes nobody who sleeps at least this long."""


@dataclass(frozen=True)
class Request:
    """One request as the endpoint got it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    def tag(self, name: str) -> str | None:
        return self.headers.get(f"x-agentperf-{name}")

    @property
    def texts(self) -> list[str]:
        """The text of each message."""
        return [str(message["content"]) for message in self.body["messages"]]


@dataclass
class Answer:
    """What the endpoint sends; `cut` closes the connection instead of ending the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    cut: bool = False


Script = Callable[[Request], Awaitable[Answer]]


def chat_answer(tokens: int = 3, text: str = "word") -> Answer:
    """A whole streamed chat completion."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": text} for _ in range(tokens))]
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": tokens}})
    return Answer(chunks=[*(b"data: %b\n\n" % json.dumps(event).encode() for event in events), b"data: [DONE]\n\n"])


class Endpoint:
    """A server on a free port. Keeps what it was asked, and how many requests of each agent were open at a time."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: Script = self._answer
        self.most_open: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def arrived(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def _answer(self, request: Request) -> Answer:
        return chat_answer(request.body["max_tokens"])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(line.split()[1], headers, json.loads(data) if data else {})
        if line.startswith("GET"):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return True
        agent = f"{request.tag('level')}/{request.tag('agent-index')}"
        self.open[agent] += 1
        self.most_open[agent] = max(self.most_open[agent], self.open[agent])
        async with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        gone = asyncio.create_task(reader.read(1))
        answer = asyncio.ensure_future(self.script(request))
        try:
            await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return False
            return await self._send(writer, answer.result(), agent)
        finally:
            self.open[agent] -= agent in self.open and self.open[agent] > 0
            for task in (gone, answer):
                task.cancel()
            await asyncio.gather(gone, answer, return_exceptions=True)

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer, agent: str) -> bool:
        fields = {"content-type": "text/event-stream", "transfer-encoding": "chunked"} | answer.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {answer.status} Scripted\r\n{head}\r\n".encode())
        for chunk in answer.chunks:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
        # The client may send its next request as soon as it has read the end.
        self.open[agent] -= 1
        if not answer.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not answer.cut


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    server = Endpoint()
    await server.start()
    yield server
    await server.close()


class ImpatientClock:
    """Wakes sleepers at once, in order, and keeps what they asked for; nobody who sleeps forever."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def now_ns(self) -> int:
        return monotonic_ns()

    def unix_ns(self) -> int:
        return time_ns()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if seconds >= FOREVER_S:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)


class PatientClock(ImpatientClock):
    """Wakes nobody before the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((seconds, sleeper))
        self.sleeps.append(seconds)
        self._changed.set()
        await sleeper

    async def asleep(self, seconds: float) -> "asyncio.Future[None]":
        """Wait until somebody sleeps for so long, give or take what a slow machine takes off; the first one."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for asked, sleeper in self._sleepers:
                    if seconds - 30 < asked < seconds + 1 and not sleeper.done():
                        return sleeper
                self._changed.clear()
                await self._changed.wait()

    async def wake(self, seconds: float) -> None:
        """Wake who sleeps for so long, as soon as somebody does."""
        (await self.asleep(seconds)).set_result(None)


@pytest.fixture
def impatient() -> ImpatientClock:
    return ImpatientClock()


@pytest.fixture
def patient() -> PatientClock:
    return PatientClock()


def message(role: str, content: Any, **members: Any) -> bytes:
    return json.dumps({"role": role, "content": content, **members}, separators=(",", ":")).encode()


def make_task(name: str, delays_s: tuple[float, ...] = (100.0, 200.0, 0.0), target: int | None = 3) -> Task:
    """A task whose turn `i` asks `name question i` after the recorded answers before it."""
    history: tuple[bytes, ...] = (message("system", "be brief"),)
    turns = []
    for index, delay_s in enumerate(delays_s):
        history = (*history, message("user", f"{name} question {index}"))
        turns.append(Turn(history, None, target, None, None, delay_s))
        history = (*history, message("assistant", f"{name} answer {index}"))
    return Task(name, f"family of {name}", tuple(turns))


def make_recording(*tasks: Task) -> Recording:
    return Recording("made", "test", "00", "nowhere", tasks or (make_task("one"),))


def make_settings(endpoint: Endpoint | str, **changes: Any) -> ReplaySettings:
    """One agent, two trajectories, no warm-up, no limit on draining, no random prefix."""
    values: dict[str, Any] = {
        "endpoint": endpoint if isinstance(endpoint, str) else endpoint.url,
        "model": "tiny",
        "seconds": None,
        "trajectories": 2,
        "warmup_s": 0.0,
        "drain_limit_s": FOREVER_S,
        "cache_prefix": "none",
        "benchmark_id": "b1",
        "dialect": DialectName.CHAT,
    }
    return ReplaySettings(**(values | changes))


@dataclass(frozen=True)
class Make:
    """The makers of this file, for tests."""

    task: Callable[..., Task] = make_task
    recording: Callable[..., Recording] = make_recording
    settings: Callable[..., ReplaySettings] = make_settings
    answer: Callable[..., Answer] = chat_answer
    reply: type[Answer] = Answer
    message: Callable[..., bytes] = message


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def all_recordings() -> list[Recording]:
    """Every recording that comes with the package."""
    return [load(place.name) for place in bundled()]
