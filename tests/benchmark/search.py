"""How near the search comes to the truth, on a virtual clock: `python tests/benchmark/search.py`.

For each kind of deployment and each seed: the search under the full rules of AA-AgentPerf, and every level from 1 to
some beyond the first failure. Writes a table to tests/benchmark/search.md.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from virtual import DEPLOYMENTS, benchmark, capacity, sweep

from otel_agentperf.replay import Search

HERE = Path(__file__).parent


def measure(case: tuple[int, int]) -> tuple[int, int, int, list[int], int, bool]:
    """Deployment, seed, what the search found, the levels it played, the truth, and whether verdicts were monotone."""
    number, seed = case
    deployment = DEPLOYMENTS[number]
    result = benchmark(deployment, Search([deployment.tier.label], most=1024), seed)
    (outcome,) = result.outcomes
    verdicts = sweep(deployment, seed)
    failed = capacity(verdicts) + 1
    monotone = not any(passed for agents, passed in verdicts.items() if agents > failed)
    levels = [level.agents for level in result.levels]
    return number, seed, outcome.max_agents or 0, levels, capacity(verdicts), monotone


def main(seeds: int, workers: int, out: Path) -> None:
    began = time.monotonic()
    cases = [(number, seed) for seed in range(seeds) for number in range(len(DEPLOYMENTS))]
    rows = []
    with ProcessPoolExecutor(workers) as pool:
        for row in pool.map(measure, cases):
            print(DEPLOYMENTS[row[0]].name, *row[1:], flush=True)
            rows.append(row)
    lines = [
        "# The search against every level played",
        "",
        "Written by `python tests/benchmark/search.py`: full rules of AA-AgentPerf on a virtual clock; `found` by the",
        "search, `truth` from playing every level to its end. Within bounds: |found - truth| <= max(1 agent, 5 %).",
        "",
        "| deployment | seed | found | truth | within bounds | levels of the search | sweep monotone |",
        "|---|---|---|---|---|---|---|",
    ]
    summary = []
    for number, deployment in enumerate(DEPLOYMENTS):
        mine = sorted(row for row in rows if row[0] == number)
        within = 0
        for _, seed, found, levels, truth, monotone in mine:
            good = abs(found - truth) <= max(1, 0.05 * truth)
            within += good
            played = " ".join(str(level) for level in levels)
            lines.append(
                f"| {deployment.name} | {seed} | {found} | {truth} | {'yes' if good else 'no'} | {played} "
                f"| {'yes' if monotone else 'no'} |"
            )
        summary.append(f"- {deployment.name}: {within} of {len(mine)} seeds within bounds")
    lines += ["", *summary, ""]
    out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(summary), f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "search.md")
    options = parser.parse_args()
    main(options.seeds, options.workers, options.out)
