"""How far apart our times and those of peers are for the same requests: `python tests/benchmark/agreement.py [PEER]`.

Each peer drives the simulated endpoint through the proxy. Needs the peers: `python tests/peers/install.py DIR` and the
same with `guidellm`, then `OTEL_AGENTPERF_PEERS=DIR`. Differences are ours minus theirs, in ms.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from figures import quantile

from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

import peer_agentperf_local
import peer_aiperf
import peer_guidellm

PROMPT, ANSWER = 2000, 100
TURNS = "SELECT * FROM turns ORDER BY start_time"


def through_proxy(run: Callable[[str, Path], Any], turns: str = TURNS) -> tuple[Any, list[dict[str, Any]]]:
    """What a peer has of its requests, and what we have."""
    with tempfile.TemporaryDirectory() as work:
        store = Path(work) / "store"
        with simulated_endpoint(SimulateConfig()) as upstream, proxy_in_front(upstream, store) as url:
            theirs = run(url, Path(work) / "theirs")
        with open_source(str(store)) as database:
            return theirs, database.query(turns).to_pylist()


def agentperf_local(command: Path, requests: int, streams: int) -> list[Any]:
    """The turns of its default replay, one at a time, whatever else is asked for."""
    theirs, ours = through_proxy(
        lambda url, output: peer_agentperf_local.run(command, url, output, "agentperf-default-v1")
    )
    return peer_agentperf_local.pair(theirs, ours)


def aiperf(command: Path, requests: int, streams: int) -> list[Any]:
    load = ("--request-count", str(requests), "--concurrency", str(streams), "--isl", str(PROMPT), "--osl", str(ANSWER))
    theirs, ours = through_proxy(lambda url, output: peer_aiperf.run(command, url, output, *load))
    return peer_aiperf.pair(theirs, ours)


def guidellm(command: Path, requests: int, streams: int) -> list[Any]:
    load = (
        *("--profile", f"kind=concurrent,streams={streams}"),
        *("--constraint", f"kind=max_requests,count={requests}"),
        *("--data", f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={ANSWER}"),
    )
    theirs, ours = through_proxy(
        lambda url, output: peer_guidellm.run(command, url, output.with_suffix(".json"), *load), peer_guidellm.OURS
    )
    return peer_guidellm.pair(theirs, ours)


PEERS = {
    "agentperf-local": (peer_agentperf_local, agentperf_local),
    "AIPerf": (peer_aiperf, aiperf),
    "GuideLLM": (peer_guidellm, guidellm),
}


def row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def main(names: Sequence[str], requests: int, streams: int) -> None:
    print(row(["peer", "requests", "tokens equal", "figure", "p50", "p5", "p95"]))
    print("|---|---:|---:|---|---:|---:|---:|")
    for name in names:
        peer, drive = PEERS[name]
        command = peer.found()
        if command is None:
            print(f"{name} left out: {peer.MISSING}", file=sys.stderr)
            continue
        pairs = drive(command, requests, streams)
        equal = sum(one == other for one, other in (pair.tokens for pair in pairs))
        for figure in pairs[0].differences_s:
            values = [1e3 * pair.differences_s[figure] for pair in pairs if figure in pair.differences_s]
            figures = (statistics.median(values), quantile(values, 0.05), quantile(values, 0.95))
            print(row([name, len(pairs), equal, figure, *(f"{each:.2f}" for each in figures)]), flush=True)
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", nargs="*", choices=[[], *PEERS], default=[], help=f"of {', '.join(PEERS)}; default all")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--streams", type=int, default=2)
    options = parser.parse_args()
    main(options.peer or list(PEERS), options.requests, options.streams)
