"""One `quick` search on real sockets, against the same on a virtual clock: `python tests/benchmark/search_sockets.py`.

The simulated endpoint, the proxy and the agents are processes of this machine; verdicts come from the spans. It takes a
quarter of an hour. The bracket of the sockets should hold the answer of the virtual clock, or the other way round.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from virtual import DEPLOYMENTS, agents_at_work, benchmark

from otel_agentperf.cli.bench_judge import StoreJudge, record_level
from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.replay import PRESETS, FourByteVocabulary, LevelResult, Recording, ReplaySettings, Search, play
from otel_agentperf.replay.formats.shapes import Shape, Weaver

RULES = PRESETS["quick"]
BLOCK = 16


def with_words(recording: Recording) -> Recording:
    """The recording with text of its lengths, each turn's history that of the turn before."""
    tasks = []
    for task in recording.tasks:
        weaver = Weaver(FourByteVocabulary(), BLOCK, task.id)
        shapes = [
            Shape(
                input_tokens=turn.input_tokens or 0,
                output_tokens=turn.target_output_tokens,
                blocks=tuple(range((turn.input_tokens or 0) // BLOCK)),
                tool_delay_s=turn.tool_delay_s,
            )
            for turn in task.turns
        ]
        tasks.append(replace(task, turns=weaver.turns(shapes, task.id)))
    return replace(recording, tasks=tuple(tasks))


def main(kind: str, seed: int, start: int) -> None:
    deployment = next(each for each in DEPLOYMENTS if each.name == kind)
    tier = RULES.judged(deployment.tier)
    (virtual,) = benchmark(deployment, Search([tier.label], most=64), seed, rules=RULES).outcomes
    print(f"{kind}, virtual clock: {virtual.max_agents} agents [{virtual.last_pass}, {virtual.first_fail}]", flush=True)
    print("\n| agents | passed | margin | why not judged, or not passed |\n|---:|---|---:|---|", flush=True)
    with tempfile.TemporaryDirectory() as work:
        store = Path(work) / "store"
        judge = StoreJudge(store=store, benchmark_id="sockets", model="simulated", tiers=[tier])

        def judged(level: LevelResult) -> object:
            record_level(store, "sockets", level, preset=RULES.name)
            verdicts = judge(level)
            verdict = verdicts[tier.label]
            cells = [level.agents, verdict.passed, f"{verdict.margin or 0:.3f}", level.doubt or verdict.reason or ""]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
            return verdicts

        with simulated_endpoint(deployment.config) as upstream, proxy_in_front(upstream, store) as url:
            settings = ReplaySettings(
                endpoint=url,
                model="simulated",
                seconds=RULES.seconds,
                trajectories=RULES.trajectories,
                trajectories_per_agent=RULES.trajectories_per_agent,
                window_limit_s=RULES.window_limit_s,
                warmup_s=RULES.warmup_s,
                seed=seed,
                benchmark_id="sockets",
                max_lateness_s=1.0,
            )
            search = Search([tier.label], most=64, start=start)
            recording = with_words(agents_at_work(seed))
            (found,) = uvloop.run(play(recording, settings, plan=search, tiers=[tier], judge=judged)).outcomes
    print(f"\n{kind}, sockets: {found.max_agents} agents [{found.last_pass}, {found.first_fail}]")
    if found.note is not None:
        print(found.note)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployment", default="speed-bound", choices=[each.name for each in DEPLOYMENTS])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=2, help="agents of the first level")
    options = parser.parse_args()
    main(options.deployment, options.seed, options.start)
