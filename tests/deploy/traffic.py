"""A proxy with traffic of every kind that its metrics tell apart: agents work, fail, give up, try again and wait."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx

from otel_agentperf.cli.embed import simulated_endpoint
from otel_agentperf.processes import address_of, listen
from otel_agentperf.simulate import SimulateConfig

PATIENCE_S = 90.0
NOBODY = "http://127.0.0.1:9"
TIER = "aa-agentperf:gpt-oss-120b#1"
MODEL = "gpt-oss-120b"

QUICK = SimulateConfig(
    prefill_tokens_per_s=200_000, decode_ms=1, decode_slope_ms=0.01, reasoning_rate=0.5, tool_call_rate=1, seed=7
)

TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}]


@dataclass
class Busy:
    """A proxy and what is known of it."""

    url: str
    """Of the proxied port."""
    admin: str
    """HOST:PORT of the control routes."""
    store: Path
    process: subprocess.Popen[bytes]
    began: float
    """Wall time, s since 1970."""

    def work(self) -> None:
        """Agents, trouble, and an agent that then waits for a tool; returns when the observer has seen all of it."""
        _agents(self.url)
        _trouble(self.url)
        wait(lambda: self.status()["observer"]["stats"]["open_calls"] == 0, self.process)

    def metrics(self, accept: str = "*/*") -> str:
        """`/metrics`."""
        return httpx.get(f"http://{self.admin}/metrics", headers={"accept": accept}, timeout=PATIENCE_S).text

    def status(self) -> dict[str, Any]:
        """`/status`."""
        with urlopen(f"http://{self.admin}/status", timeout=PATIENCE_S) as answer:
            status: dict[str, Any] = json.load(answer)
            return status


class _Troubled(BaseHTTPRequestHandler):
    """An endpoint that fails, or answers what is no JSON, by path."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b"no JSON" if self.path.startswith("/garbage") else b'{"error": {"message": "out of memory"}}'
        self.send_response(200 if self.path.startswith("/garbage") else 500)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def troubled_endpoint() -> Iterator[str]:
    """Its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Troubled)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def busy_proxy(directory: Path, otlp_endpoint: str = NOBODY, **environment: str) -> Iterator[Busy]:
    """A running proxy, for which `work` makes traffic; an export to nobody fails, and is counted."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(simulated_endpoint(QUICK))
        trouble = stack.enter_context(troubled_endpoint())
        with listen("127.0.0.1", 0) as one, listen("127.0.0.1", 0) as other:
            listening, admin = address_of(one), address_of(other)
        config = directory / "proxy.toml"
        config.write_text(
            f'upstream = "{endpoint}"\nlisten = "{listening}"\nadmin = "{admin}"\nstore = "{directory / "store"}"\n'
            f'otlp_endpoint = "{otlp_endpoint}"\nslo = ["{TIER}"]\ncapacity = 8\n'
            f'[[upstreams]]\npath = "/broken"\nurl = "{trouble}"\n[[upstreams]]\npath = "/garbage"\nurl = "{trouble}"\n'
            f'[[upstreams]]\npath = "/gone"\nurl = "{NOBODY}"\n'
        )
        log = stack.enter_context((directory / "proxy.log").open("w"))
        process = subprocess.Popen(
            [sys.executable, "-m", "otel_agentperf", "proxy", "--config", config],
            stderr=log,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        stack.callback(_end, process)
        busy = Busy(f"http://{listening}", admin, directory / "store", process, time.time())
        wait(lambda: busy.status()["state"] == "ready", process)
        yield busy


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until it holds, while the process lives."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, f"{process.args} ended"
        # Nobody listens yet, or not fast enough.
        with contextlib.suppress(OSError, httpx.TransportError):
            if holds():
                return
        time.sleep(0.05)
    raise AssertionError(f"{process.args} never came to this")


def _agents(url: str) -> None:
    """Agents that play a recording, and one that waits for its tool."""
    command = ["replay", "mini", "--endpoint", url, "--no-proxy", "--model", MODEL, "--agents", "3"]
    load = ["--seconds", "1", "--warmup", "0", "--trajectories", "3", "--trajectories-per-agent", "0"]
    subprocess.run(
        [sys.executable, "-m", "otel_agentperf", *command, *load], check=True, capture_output=True, timeout=PATIENCE_S
    )
    waiting = {"model": MODEL, "stream": True, "tools": TOOLS, "messages": [{"role": "user", "content": "Wait."}]}
    httpx.post(f"{url}/v1/chat/completions", json=waiting, timeout=PATIENCE_S).raise_for_status()


def _trouble(url: str) -> None:
    """Calls that fail, are tried again, cannot be read, and are given up."""
    with httpx.Client(timeout=PATIENCE_S) as client:
        call: dict[str, Any] = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Fail."}]}
        for path in ("/broken", "/broken", "/gone", "/garbage"):
            client.post(f"{url}{path}/v1/chat/completions", json=call, headers={"x-agentperf-trajectory-id": "t"})
        client.post(f"{url}/v1/chat/completions", content=b"no JSON", headers={"content-type": "application/json"})
        long = {
            "model": MODEL,
            "stream": True,
            "messages": [{"role": "user", "content": "Go on."}],
            "max_tokens": 20000,
        }
        with client.stream("POST", f"{url}/v1/chat/completions", json=long) as answer:
            next(answer.iter_bytes())
        # Enough names that some are counted as `other`.
        for number in range(70):
            few = {"model": f"m{number}", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello."}]}
            client.post(f"{url}/v1/chat/completions", json=few)
