"""A simulated endpoint on a real socket, and an engine on a clock of the test's own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_agentperf.processes import address_of, listen
from otel_agentperf.simulate import Engine, Generation, SimulateConfig, TruthLog, create_app, serve

QUICK: dict[str, Any] = {"prefill_tokens_per_s": 1e6, "decode_ms": 0.2, "decode_slope_ms": 0.0}
"""A deployment so fast that a test takes no time."""


@dataclass
class Endpoint:
    """A running endpoint."""

    url: str
    client: httpx.AsyncClient
    truth_path: Path
    stop: Callable[[], Awaitable[None]]

    def truth(self) -> list[dict[str, Any]]:
        """The truth log so far."""
        return [json.loads(line) for line in self.truth_path.read_text().splitlines()]

    def truth_of(self, request_id: str) -> dict[str, Any]:
        """The one line of a request."""
        (line,) = [line for line in self.truth() if line["request_id"] == request_id]
        return line

    async def chat(self, **body: Any) -> httpx.Response:
        """POST /v1/chat/completions."""
        return await self.client.post("/v1/chat/completions", json={"model": "m", **body})

    async def messages(self, **body: Any) -> httpx.Response:
        """POST /v1/messages."""
        return await self.client.post("/v1/messages", json={"model": "m", "max_tokens": 64, **body})


@pytest.fixture
async def endpoint(tmp_path) -> AsyncIterator[Callable[..., Awaitable[Endpoint]]]:
    """Starts endpoints; arguments are those of `SimulateConfig`, over `QUICK`."""
    async with contextlib.AsyncExitStack() as stack:
        count = 0

        async def start(**settings: Any) -> Endpoint:
            nonlocal count
            count += 1
            sock = listen("127.0.0.1", 0)
            url = f"http://{address_of(sock)}"
            truth = tmp_path / f"truth-{count}.jsonl"
            stop, listening = asyncio.Event(), asyncio.Event()
            config = SimulateConfig(**{**QUICK, **settings})
            server = asyncio.ensure_future(serve(config, sock, truth, stop, on_listening=listening.set))

            async def end() -> None:
                stop.set()
                await server

            stack.push_async_callback(end)
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
            await listening.wait()
            return Endpoint(url, client, truth, end)

        yield start


@pytest.fixture
async def inline(tmp_path) -> AsyncIterator[Callable[..., Endpoint]]:
    """Makes endpoints without a socket, for replies that are not streamed; arguments as for `endpoint`."""
    async with contextlib.AsyncExitStack() as stack:

        def make(**settings: Any) -> Endpoint:
            truth = tmp_path / "truth.jsonl"
            log = TruthLog.open(truth)
            stack.callback(log.close)
            app = create_app(SimulateConfig(**{**QUICK, **settings}), truth=log)
            url = "http://simulated"
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url)
            stack.push_async_exit(client)

            async def end() -> None:
                app.close()

            return Endpoint(url, client, truth, end)

        yield make


@dataclass
class Bench:
    """An engine with round numbers: 1 ms per prompt token, 10 ms per decode step and 1 ms for each further request."""

    engine: Engine
    now_ms: float = 0.0
    generations: list[Generation] = field(default_factory=list)

    def submit(self, at_ms: float, prompt: int, output: int, digests: list[int] | None = None) -> Generation:
        """A request comes; steps that end before are completed."""
        self.run(at_ms)
        generation = Generation(prompt, output, digests or [])
        self.generations.append(generation)
        self.engine.submit(generation, round(at_ms * 1e6))
        return generation

    def cancel(self, at_ms: float, generation: Generation) -> None:
        """A client leaves."""
        self.run(at_ms)
        self.engine.cancel(generation, round(at_ms * 1e6))

    def run(self, until_ms: float = float("inf")) -> None:
        """Complete the steps that end by then."""
        while self.engine.step_end_ns is not None and self.engine.step_end_ns <= until_ms * 1e6:
            self.engine.complete()


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """Makes benches; arguments are those of `SimulateConfig`, over the round numbers."""

    def make(**settings: Any) -> Bench:
        rounds = {
            "prefill_tokens_per_s": 1000,
            "decode_ms": 10,
            "decode_slope_ms": 1,
            "prefill_chunk_tokens": 1_000_000,
            "block_tokens": 4,
            "kv_tokens": 4000,
            "max_model_len": 4000,
        }
        return Bench(Engine(SimulateConfig(**{**rounds, **settings})))

    return make


def times(generation: Generation) -> tuple[float | None, float | None, float | None]:
    """Admission, first and last token, ms."""
    return tuple(  # type: ignore[return-value]
        None if at is None else at / 1e6
        for at in (generation.admitted_ns, generation.first_token_ns, generation.last_token_ns)
    )


@pytest.fixture(name="times")
def _times() -> Callable[[Generation], tuple[float | None, float | None, float | None]]:
    return times
