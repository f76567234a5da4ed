"""How far apart our times and agentperf-local's are for the same turns: `python tests/benchmark/agreement.py`.

Needs the peer: `python tests/peers/install.py DIR`, then `OTEL_AGENTPERF_PEERS=DIR`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from figures import quantile

from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

import peer_agentperf_local as peer


def main(replay: str) -> None:
    command = peer.found()
    if command is None:
        sys.exit(f"agentperf-local is not installed in ${peer.PEERS}")
    with tempfile.TemporaryDirectory() as work:
        store = Path(work) / "store"
        with simulated_endpoint(SimulateConfig(decode_ms=3)) as upstream, proxy_in_front(upstream, store) as url:
            theirs = peer.run(command, url, Path(work) / "theirs", replay)
        with open_source(str(store)) as database:
            ours = database.query("SELECT * FROM turns ORDER BY start_time").to_pylist()
    pairs = peer.pair(theirs, ours)
    equal = sum(one == other for one, other in (pair.tokens for pair in pairs))
    print(f"{replay}: {len(pairs)} turns, tokens equal in {equal}")
    for name, values in (
        ("TTFT", [abs(pair.ttft_difference_s) * 1e3 for pair in pairs]),
        ("end to end", [abs(pair.e2e_difference_s) * 1e3 for pair in pairs]),
    ):
        middle, high = quantile(values, 0.5), quantile(values, 0.99)
        print(f"  {name} difference ms: p50 {middle:.2f}, p99 {high:.2f}, max {max(values):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replay", default="agentperf-default-v1")
    main(parser.parse_args().replay)
