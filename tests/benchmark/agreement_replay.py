"""The same traces played by AIPerf and by us: `python tests/benchmark/agreement_replay.py TRACE.json...`.

Weka's traces (kv-cache-tester has many), each played once, through the proxy against a simulated endpoint with an empty
cache: by `aiperf profile --custom-dataset-type weka-trace`, and by `replay`. AIPerf's figures are its own, ours are
those of the relation `turns`; beside them stands what we say of AIPerf's run, so that a difference of the load can be
told from one of the measurement. Needs AIPerf: `python tests/peers/install.py DIR aiperf`, `OTEL_AGENTPERF_PEERS=DIR`.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.replay import Recording, ReplaySettings, ToolDelays, load, play
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

import peer_aiperf as peer

ENDPOINT = SimulateConfig(prefill_tokens_per_s=2000, decode_ms=5)
"""Slow enough that a client's milliseconds are a small part of what is measured."""


@dataclass
class Seen:
    """What one request came to. Times in s."""

    ttft: float
    itl: float | None
    latency: float
    """To the last output."""
    speed: float | None
    start: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int


def theirs(record: dict[str, Any]) -> Seen:
    def value(name: str) -> Any:
        return record["metrics"].get(name, {}).get("value")

    itl = value("inter_token_latency")
    return Seen(
        ttft=value("time_to_first_token") / 1000,
        itl=None if itl is None else itl / 1000,
        latency=value("request_latency") / 1000,
        speed=value("output_token_throughput_per_user"),
        start=record["metadata"]["request_start_ns"] / 1e9,
        input_tokens=value("usage_prompt_tokens"),
        cached_tokens=value("usage_prompt_cache_read_tokens"),
        output_tokens=value("usage_completion_tokens"),
    )


def ours(turn: dict[str, Any]) -> Seen:
    return Seen(
        ttft=turn["ttft_s"],
        itl=turn["tpot_s"],
        latency=turn["ttft_s"] + turn["generation_s"],
        speed=turn["output_speed_tps"],
        start=turn["start_ns"] / 1e9,
        input_tokens=turn["input_tokens"],
        cached_tokens=turn["cached_input_tokens"],
        output_tokens=turn["output_tokens"],
    )


def middle(values: Sequence[float | None]) -> float:
    return statistics.median(value for value in values if value is not None)


def over(requests: Sequence[Seen]) -> float:
    """From the first request to the last output."""
    return max(each.start + each.latency for each in requests) - min(each.start for each in requests)


FIGURES: dict[str, Callable[[Sequence[Seen]], float]] = {
    "TTFT p50, ms": lambda requests: 1e3 * middle([each.ttft for each in requests]),
    "TTFT / fresh input token p50, ms": lambda requests: (
        1e3 * middle([each.ttft / (each.input_tokens - each.cached_tokens) for each in requests])
    ),
    "ITL p50, ms": lambda requests: 1e3 * middle([each.itl for each in requests]),
    "latency p50, ms": lambda requests: 1e3 * middle([each.latency for each in requests]),
    "output speed p50, tokens/s": lambda requests: middle([each.speed for each in requests]),
    "output throughput, tokens/s": lambda requests: sum(each.output_tokens for each in requests) / over(requests),
    "input tokens": lambda requests: sum(each.input_tokens for each in requests),
    "fresh input tokens": lambda requests: sum(each.input_tokens - each.cached_tokens for each in requests),
    "output tokens": lambda requests: sum(each.output_tokens for each in requests),
    "cache hit, %": lambda requests: (
        100 * sum(each.cached_tokens for each in requests) / sum(each.input_tokens for each in requests)
    ),
}
POINTS = "cache hit, %"
"""Compared by points, the others by per cent."""


def turns_of(store: Path) -> list[dict[str, Any]]:
    with open_source(str(store)) as database:
        return database.query("SELECT * FROM turns WHERE kind = 'turn' ORDER BY start_time").to_pylist()


def by_aiperf(command: Path, traces: Path, agents: int, cap_s: float, work: Path) -> tuple[list[Seen], list[Seen]]:
    """AIPerf's figures, and ours of its run."""
    with simulated_endpoint(ENDPOINT) as upstream, proxy_in_front(upstream, work / "of-aiperf") as url:
        records = peer.run(
            command,
            url,
            work / "aiperf",
            *("--input-file", str(traces), "--custom-dataset-type", "weka-trace", "--use-think-time-only"),
            *("--inter-turn-delay-cap-seconds", str(cap_s), "--concurrency", str(agents)),
            *("--num-conversations", str(len(list(traces.iterdir())))),
        )
    return [theirs(record) for record in records], [ours(turn) for turn in turns_of(work / "of-aiperf")]


def by_replay(recording: Recording, agents: int, cap_s: float, work: Path) -> list[Seen]:
    store = work / "of-replay"
    with simulated_endpoint(ENDPOINT) as upstream, proxy_in_front(upstream, store) as url:
        uvloop.run(played_once(recording, url, agents, cap_s))
    # An agent that is done begins again, until it is told that this was enough.
    first = [f"replay-{number}-1-0-0" for number in range(len(recording.tasks))]
    return [
        ours(turn)
        for turn in turns_of(store)
        if any(turn["trajectory_id"] == name or turn["trajectory_id"].startswith(f"{name}-s") for name in first)
    ]


async def played_once(recording: Recording, url: str, agents: int, cap_s: float) -> None:
    """Each task once, so many at a time."""
    places = asyncio.Semaphore(agents)

    async def one(number: int, task: str) -> None:
        async with places:
            settings = ReplaySettings(
                endpoint=url,
                model="simulated",
                seconds=None,
                trajectories=1,
                warmup_s=0.0,
                drain_limit_s=0.0,
                tool_delays=ToolDelays(cap_s=cap_s),
                cache_prefix="none",
                benchmark_id=f"replay-{number}",
            )
            await play(recording.only([task]), settings)

    await asyncio.gather(*(one(number, task.id) for number, task in enumerate(recording.tasks)))


def main(paths: Sequence[Path], agents: int, cap_s: float) -> None:
    command = peer.found()
    if command is None:
        sys.exit(peer.MISSING)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        traces = work / "traces"
        traces.mkdir()
        for path in paths:
            shutil.copy(path, traces)
        told, of_theirs = by_aiperf(command, traces, agents, cap_s, work)
        replayed = by_replay(load(str(traces)), agents, cap_s, work)
    print(
        f"{len(paths)} traces, {agents} at a time, delays of at most {cap_s:g} s; load average {os.getloadavg()[0]:.1f}"
    )
    print(f"{len(told)} requests\n")
    print("| figure | AIPerf | the same run, by us | replay | replay / AIPerf |")
    print("|---|---:|---:|---:|---:|")
    for name, figure in FIGURES.items():
        one, between, other = figure(told), figure(of_theirs), figure(replayed)
        difference = f"{other - one:+.2f} points" if name == POINTS else f"{100 * (other / one - 1):+.2f} %"
        print(f"| {name} | {one:.2f} | {between:.2f} | {other:.2f} | {difference} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="+", type=Path)
    parser.add_argument("--agents", type=int, default=1)
    parser.add_argument("--delay-cap", type=float, default=0.5, help="longest delay between turns, s")
    options = parser.parse_args()
    main(options.trace, options.agents, options.delay_cap)
