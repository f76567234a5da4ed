"""What the proxy costs: CPU per request and per chunk, and the time it adds before the first token.

Direct and through the proxy in turns, so that a noisy machine troubles both alike. CPU is user + system time of the
relay's and of the observer's process, read from /proc; the proxy is pinned to one core, the client and the upstream to
another. Figures are medians over the rounds, with their spread. Run with `python tests/benchmark/overhead.py`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import uvloop
from figures import quantile, spread

from otel_agentperf.http1 import Client, Origin
from otel_agentperf.processes import address_of, listen

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """One kind of traffic."""

    name: str
    streams: int
    requests: int
    chunks: int
    gap_ms: float
    body_bytes: int


LOADS = (
    Load("2 KB request, one body back", 16, 2000, 0, 0, 2_000),
    Load("500 KB request, one body back", 16, 300, 0, 0, 500_000),
    Load("2 KB, 100 chunks 5 ms apart", 64, 400, 100, 5, 2_000),
    Load("500 KB, 100 chunks 5 ms apart", 64, 200, 100, 5, 500_000),
    Load("2 KB, 100 chunks at once", 16, 600, 100, 0, 2_000),
)


@dataclass
class Taken:
    """What one round took."""

    ttft_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    relay_cpu_s: float = 0.0
    observer_cpu_s: float = 0.0


def body_of(size: int) -> bytes:
    """A chat request of about this size: many messages, as an agent sends."""
    line = "the quick brown fox jumps over the lazy dog and back again over the fence to the barn " * 8
    messages = [{"role": "system", "content": "You are a coding agent."}]
    while sum(len(message["content"]) + 40 for message in messages) < size:
        messages.append({"role": "user" if len(messages) % 2 else "assistant", "content": line[: size - 100]})
    return json.dumps({"model": "bench-model", "stream": True, "messages": messages}).encode()


def cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


async def drive(load: Load, origin: Origin, body: bytes) -> Taken:
    """Closed loop: each stream sends its next request when the last response has ended."""
    client = Client()
    taken = Taken()
    target = f"/v1/chat/completions?chunks={load.chunks}&gap_ms={load.gap_ms:g}".encode()
    fields = [(b"host", origin.authority), (b"content-type", b"application/json")]
    left = load.requests

    async def stream() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            response = await client.request(origin, b"POST", target, fields, body)
            first = None
            while await response.read():
                first = first or time.perf_counter()
            assert response.status == 200, response.status
            taken.ttft_s.append((first or began) - began)

    began = time.perf_counter()
    await asyncio.gather(*(stream() for _ in range(load.streams)))
    taken.wall_s = time.perf_counter() - began
    await client.aclose()
    return taken


def measure(rounds: int, loads: list[Load]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    proxy_core, load_core = {cores[0]}, {cores[-1]}
    with tempfile.TemporaryDirectory() as store, listen("127.0.0.1", 0) as sock:
        os.sched_setaffinity(0, load_core)
        upstream_script = str(Path(__file__).with_name("upstream.py"))
        upstream = subprocess.Popen([sys.executable, upstream_script, str(sock.fileno())], pass_fds=[sock.fileno()])
        os.sched_setaffinity(0, proxy_core)
        with listen("127.0.0.1", 0) as free, listen("127.0.0.1", 0) as free_too:
            listening, admin = address_of(free), address_of(free_too)
        command = ["proxy", "--upstream", f"http://{address_of(sock)}", "--listen", listening, "--admin", admin]
        proxy = subprocess.Popen(
            [sys.executable, "-m", "otel_agentperf", *command, "--store", store], stderr=subprocess.DEVNULL
        )
        os.sched_setaffinity(0, load_core)
        try:
            status = wait_for(admin)
            relay_pid, observer_pid = status["relays"][0]["pid"], status["observer"]["pid"]
            origins = {"direct": Origin.parse(f"http://{address_of(sock)}")[0]}
            origins["proxy"] = Origin.parse(f"http://{listening}")[0]
            print(f"rounds {rounds}; median [lowest, highest] over the rounds\n")
            for load in loads:
                body = body_of(load.body_bytes)
                results: dict[str, list[Taken]] = {"direct": [], "proxy": []}
                for _ in range(rounds):
                    for name, origin in origins.items():
                        before = cpu_s(relay_pid), cpu_s(observer_pid)
                        taken = uvloop.run(drive(load, origin, body))
                        settle(admin)
                        taken.relay_cpu_s = cpu_s(relay_pid) - before[0]
                        taken.observer_cpu_s = cpu_s(observer_pid) - before[1]
                        results[name].append(taken)
                report(load, results)
            final = wait_for(admin)
            channel = final["relays"][0]["stats"]["channel"]
            print(f"frames {channel['frames']}, dropped {channel['frames_dropped']}")
        finally:
            proxy.terminate()
            proxy.wait(60)
            upstream.terminate()
            upstream.wait(10)


def wait_for(admin: str) -> dict:
    """The proxy's status once it is ready."""
    while True:
        try:
            with urlopen(f"http://{admin}/readyz", timeout=5), urlopen(f"http://{admin}/status", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.1)


def settle(admin: str) -> None:
    """Wait until the observer has taken everything that the relay had for it."""
    while wait_for(admin)["relays"][0]["stats"]["channel"]["waiting_bytes"]:
        time.sleep(0.02)
    time.sleep(0.3)


def report(load: Load, results: dict[str, list[Taken]]) -> None:
    direct, proxied = results["direct"], results["proxy"]
    pairs = list(zip(direct, proxied, strict=True))
    relay = [taken.relay_cpu_s / load.requests * 1e6 for taken in proxied]
    observer = [taken.observer_cpu_s / load.requests * 1e6 for taken in proxied]
    print(f"{load.name} ({load.streams} streams, {load.requests} requests)")
    print(f"  relay CPU us per request      {spread(relay, 0)}")
    print(f"  observer CPU us per request   {spread(observer, 0)}")
    if load.chunks:
        print(f"  relay CPU us per chunk        {spread([value / load.chunks for value in relay], 1)}")
        print(f"  observer CPU us per chunk     {spread([value / load.chunks for value in observer], 1)}")
    for share in (0.5, 0.99):
        added = [(quantile(b.ttft_s, share) - quantile(a.ttft_s, share)) * 1e3 for a, b in pairs]
        print(f"  added TTFT p{share * 100:g} ms            {spread(added)}")
    print(f"  wall time proxy / direct      {spread([b.wall_s / a.wall_s for a, b in pairs])}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load", type=int, action="append", help="index of a load, default all")
    options = parser.parse_args()
    measure(options.rounds, [LOADS[at] for at in options.load] if options.load is not None else list(LOADS))
