"""The whole, as a user runs it: simulated endpoint, proxy processes, store, analyzers."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.processes import address_of, listen
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source

PATIENCE_S = 60.0

QUICK = SimulateConfig(
    prefill_tokens_per_s=200_000, decode_ms=1, decode_slope_ms=0.01, reasoning_rate=0.5, tool_call_rate=1, seed=7
)
"""Fast enough that a test takes no time, slow enough that a stream has many chunks."""


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """Base URL and truth log of a simulated endpoint."""
    truth = tmp_path_factory.mktemp("truth") / "truth.jsonl"
    with simulated_endpoint(QUICK, truth) as url:
        yield url, truth


@dataclass
class Recorded:
    """A proxy that records into a store, and what it recorded once it has ended."""

    url: str
    store: Path
    finish: Callable[[], None]

    def rows(self, relation: str, order: str = "start_time") -> list[dict[str, Any]]:
        """End the proxy; the rows of a relation."""
        self.finish()
        return rows_of(self.store, relation, order)


def rows_of(store: Path, relation: str, order: str = "start_time", torn: int = 0) -> list[dict[str, Any]]:
    """The rows of a relation of a store; `torn` lines may be broken."""
    with open_source(str(store)) as database:
        assert database.skipped.lines <= torn, database.skipped
        return database.query(f"SELECT * FROM {relation} ORDER BY {order}").to_pylist()


@pytest.fixture
def recorded(endpoint, tmp_path) -> Iterator[Recorded]:
    """A proxy in front of the simulated endpoint."""
    store = tmp_path / "store"
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(proxy_in_front(endpoint[0], store))
        yield Recorded(url, store, stack.close)


class Proxy:
    """`otel-agentperf proxy` as a process group of its own, whose members can be killed."""

    def __init__(self, upstream: str, store: Path, *options: str) -> None:
        with listen("127.0.0.1", 0) as one, listen("127.0.0.1", 0) as other:
            listening, self.admin = address_of(one), address_of(other)
        self.url = f"http://{listening}"
        self.store = store
        command = ["proxy", "--upstream", upstream, "--listen", listening, "--admin", self.admin]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otel_agentperf", *command, "--store", str(store), *options],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.wait_until(lambda status: status["state"] == "ready")

    def status(self) -> dict[str, Any]:
        """`/status` of the control routes."""
        with urlopen(f"http://{self.admin}/status", timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def metrics(self) -> str:
        """`/metrics` of the control routes."""
        with urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def wait_until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status for which it holds."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            assert self.process.poll() is None, self.process.stderr.read()
            with contextlib.suppress(OSError):
                status = self.status()
                if holds(status):
                    return status
            time.sleep(0.02)
        raise AssertionError("the proxy's status never came to this")

    def kill_all(self) -> None:
        """`kill -9` of every process of the proxy at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def stop(self) -> str:
        """SIGTERM; returns what it wrote to stderr."""
        if self.process.poll() is None:
            self.process.terminate()
        _, stderr = self.process.communicate(timeout=PATIENCE_S)
        return stderr.decode()


@pytest.fixture
def start_proxy(tmp_path) -> Iterator[Callable[..., Proxy]]:
    """`start_proxy(upstream, *options)` runs a proxy until the end of the test."""
    started: list[Proxy] = []

    def start(upstream: str, *options: str) -> Proxy:
        started.append(Proxy(upstream, tmp_path / "store", *options))
        return started[-1]

    yield start
    for proxy in started:
        with contextlib.suppress(ProcessLookupError):
            if proxy.process.poll() is None:
                os.killpg(proxy.process.pid, signal.SIGKILL)
        proxy.process.wait(PATIENCE_S)
        proxy.process.stderr.close()


@pytest.fixture
def read_store() -> Callable[..., list[dict[str, Any]]]:
    """`read_store(directory, relation)`: its rows."""
    return rows_of


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """`await until(holds)`: wait for something to hold."""

    async def wait(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.01)

    return wait
