"""What a call costs in bytes and CPU, and what a day of a billion calls does: `python tests/benchmark/sizing.py`.

Agents of the shape of real ones (45 turns, 104k tokens in the end, answers of 216 tokens) go through the real proxy to
a server on the same machine, with link keys and without. CPU is that of the relay and of the observer, by /proc; bytes
are those of the store's segments and of the Parquet that `ship` would send. The last table is arithmetic on the first.
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import msgspec
import zstandard

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from captured_server import answering, call
from captures import Capture, Exchange, Truth

from otel_agentperf import semconv
from otel_agentperf.processes import address_of, listen
from otel_agentperf_analyzers import open_source
from otel_agentperf_analyzers.shipping import by_hour, parquet
from otel_agentperf_analyzers.sources import Skipped
from otel_agentperf_proxy.dialects import MessageCache, find
from otel_agentperf_proxy.trajectory import Linker
from otel_agentperf_proxy.trajectory.link_keys import LinkKeys

TURNS = 45
TURN_BYTES = 7800
"""So that the last request has some 350 KB, 104k tokens."""

CHUNKS = 216
DAY_CALLS = 1_000_000_000
DAY_S = 86_400
AT_ONCE = 4


def agent(number: int) -> Capture:
    """The exchanges of one agent's work."""
    chance = random.Random(number)
    words = [f"{chance.getrandbits(40):x}" for _ in range(4000)]
    messages: list[dict[str, object]] = [
        {"role": "user", "content": f"Find out why build {number} fails, and mend it."}
    ]
    exchanges = []
    for turn in range(TURNS):
        body = msgspec.json.encode({"model": "m", "max_tokens": 32_000, "stream": True, "messages": messages})
        call_id = f"toolu_{chance.getrandbits(96):024x}"
        path = f"/src/module_{turn}.py"
        chunks = tuple((0.0, event) for event in events(turn, call_id, path))
        headers = [
            (b"content-type", b"application/json"),
            (b"user-agent", b"agent/1.0"),
            (b"authorization", b"Bearer k"),
        ]
        exchanges.append(
            Exchange(
                f"agent/{number}",
                turn,
                float(turn),
                float(turn),
                turn + 0.5,
                "POST",
                "/v1/messages",
                headers,
                body,
                200,
                [(b"content-type", b"text/event-stream")],
                chunks,
                False,
                Truth(f"agent/{number}", turn=turn),
            )
        )
        line = " ".join(chance.choices(words, k=10))
        text = "\n".join(f"{at}: {' '.join(chance.choices(words, k=4))} {line}" for at in range(TURN_BYTES // 170))
        use = {"type": "tool_use", "id": call_id, "name": "Read", "input": {"file_path": path}}
        messages = [
            *messages,
            {"role": "assistant", "content": [{"type": "text", "text": "word " * (CHUNKS - 2)}, use]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": text}]},
        ]
    return Capture(f"agent/{number}", tuple(exchanges))


def events(turn: int, call_id: str, path: str) -> Iterator[bytes]:
    """A stream of Anthropic's: text, and a tool call."""

    def event(kind: str, **members: object) -> bytes:
        return f"event: {kind}\ndata: ".encode() + msgspec.json.encode({"type": kind, **members}) + b"\n\n"

    usage = {"input_tokens": 400, "cache_read_input_tokens": 2300 * turn, "output_tokens": 1}
    yield event("message_start", message={"id": f"msg_{call_id}", "model": "m", "role": "assistant", "usage": usage})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for _ in range(CHUNKS - 2):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": "word "})
    yield event("content_block_stop", index=0)
    block = {"type": "tool_use", "id": call_id, "name": "Read", "input": {}}
    yield event("content_block_start", index=1, content_block=block)
    delta = {"type": "input_json_delta", "partial_json": msgspec.json.encode({"file_path": path}).decode()}
    yield event("content_block_delta", index=1, delta=delta)
    yield event("content_block_stop", index=1)
    yield event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": CHUNKS})
    yield event("message_stop")


@dataclass
class Measured:
    """Per call."""

    relay_us: float
    observer_us: float
    spans: float
    lines: float
    sealed: float
    parquet: float
    link_keys: float


def measure(agents: int, *, link_keys: bool) -> Measured:
    """Play the agents through a proxy of its own."""
    with tempfile.TemporaryDirectory() as work:
        store = Path(work) / "store"
        relay_s, observer_s = asyncio.run(
            _play([agent(number) for number in range(agents)], store, link_keys=link_keys)
        )
        calls = agents * TURNS
        lines = sealed = shipped = 0
        skipped = Skipped()
        for path in store.glob("spans-*.zst"):
            data = path.read_bytes()
            sealed += len(data)
            lines += len(zstandard.decompress(data))
            shipped += sum(len(parquet(table)) for table in by_hour(path, skipped).values())
        with open_source(str(store)) as database:
            [told] = database.query(
                f'SELECT count(*) AS spans, sum(length("{semconv.LINK_KEYS}")) AS keys FROM spans'
            ).to_pylist()
        return Measured(
            relay_s / calls * 1e6,
            observer_s / calls * 1e6,
            told["spans"] / calls,
            lines / calls,
            sealed / calls,
            shipped / calls,
            float(told["keys"] or 0) / calls,
        )


async def _play(played: list[Capture], store: Path, *, link_keys: bool) -> tuple[float, float]:
    """CPU seconds of the relay and of the observer."""
    with closing(listen("127.0.0.1", 0)) as one, closing(listen("127.0.0.1", 0)) as other:
        listening, admin = address_of(one), address_of(other)
    async with answering(played) as upstream:
        command = [sys.executable, "-m", "otel_agentperf", "proxy", "--upstream", upstream, "--listen", listening]
        environment = {**os.environ, "OTEL_AGENTPERF_LINK_KEYS": str(link_keys).lower()}
        process = subprocess.Popen(
            [*command, "--admin", admin, "--store", str(store)], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            status = await asyncio.to_thread(_status, admin, lambda status: status["state"] == "ready")
            relays, observer = [each["pid"] for each in status["relays"]], status["observer"]["pid"]
            before = sum(map(_cpu_s, relays)), _cpu_s(observer)
            waiting = asyncio.Semaphore(AT_ONCE)

            async def work(capture: Capture) -> None:
                async with waiting:
                    for exchange in capture.exchanges:
                        await call(f"http://{listening}", exchange)

            await asyncio.gather(*map(work, played))
            calls = sum(len(capture.exchanges) for capture in played)
            await asyncio.to_thread(
                _status, admin, lambda status: status["observer"]["stats"]["store"]["spans_written"] >= calls
            )
            return sum(map(_cpu_s, relays)) - before[0], _cpu_s(observer) - before[1]
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait)


def making_link_keys_us(rounds: int = 5) -> float:
    """CPU of the link keys alone, per call of one agent: the median of some rounds."""
    dialect = find("POST", "/v1/messages")
    assert dialect is not None
    linker, cache, keys, taken = Linker(), MessageCache(), LinkKeys(bytes(32)), []
    placed = []
    for exchange in agent(0).exchanges:
        request = dialect.parse_request(exchange.body, cache=cache)
        parser = dialect.response_parser(request, 200, "text/event-stream")
        for at, (_, chunk) in enumerate(exchange.chunks):
            parser.feed(exchange.seq * 10**9 + at, chunk)
        response = parser.finish()
        placement = linker.place(
            tenant="1111aaaa2222bbbb",
            identity=None,
            request=request,
            tags={},
            t0_ns=exchange.seq * 10**9,
            trace_id=bytes(16),
            span_id=exchange.seq.to_bytes(8, "big"),
            parent_span_id=None,
            identity_key=None,
        )
        linker.finish(placement, response, "ok", exchange.seq * 10**9 + 10**6)
        placed.append((placement, request, response))
    for _ in range(rounds):
        began = time.process_time()
        for placement, request, response in placed:
            keys.of("1111aaaa2222bbbb", placement, None, request, response, "ok")
        taken.append((time.process_time() - began) / len(placed) * 1e6)
    return median(taken)


def _status(admin: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            status = httpx.get(f"http://{admin}/status").json()
        except httpx.HTTPError:
            status = None
        if status is not None and holds(status):
            return status
        time.sleep(0.05)
    raise TimeoutError("the proxy's status never came to this")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=8, help="of 45 turns each")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[bool, list[Measured]] = {True: [], False: []}
    for _ in range(options.rounds):
        for link_keys in (True, False):
            found[link_keys].append(measure(options.agents, link_keys=link_keys))
    both = {
        link_keys: Measured(*(median(getattr(each, part) for each in rounds) for part in Measured.__annotations__))
        for link_keys, rounds in found.items()
    }
    with_keys, without = both[True], both[False]
    print("| per call | with link keys | without |")
    print("|---|---:|---:|")
    rows = {
        "relay, CPU": ("relay_us", "µs"),
        "observer, CPU": ("observer_us", "µs"),
        "spans": ("spans", ""),
        "OTLP JSON lines": ("lines", "bytes"),
        "link keys in them": ("link_keys", "bytes"),
        "sealed segments": ("sealed", "bytes"),
        "Parquet of `ship`": ("parquet", "bytes"),
    }
    for label, (part, unit) in rows.items():
        values = (f"{getattr(each, part):,.{0 if unit else 2}f}" for each in (with_keys, without))
        print(f"| {label} | {' | '.join(f'{value} {unit}'.strip() for value in values)} |")
    print(f"\nof the observer's CPU, link keys: {making_link_keys_us():,.0f} µs")
    print(f"\n| | per trajectory of {TURNS} turns | per day of {DAY_CALLS:,} calls |")
    print("|---|---:|---:|")
    cpu_us = with_keys.relay_us + with_keys.observer_us
    print(f"| CPU | {cpu_us * TURNS / 1e3:,.0f} ms | {cpu_us * DAY_CALLS / 1e6 / DAY_S:,.1f} cores |")
    for label, part in (("sealed segments", "sealed"), ("Parquet of `ship`", "parquet"), ("OTLP JSON lines", "lines")):
        size = getattr(with_keys, part)
        print(f"| {label} | {size * TURNS / 1e3:,.1f} KB | {size * DAY_CALLS / 1e12:,.2f} TB |")
    print(f"| spans | {with_keys.spans * TURNS:,.0f} | {with_keys.spans * DAY_CALLS / 1e9:,.2f} billion |")


if __name__ == "__main__":
    main()
