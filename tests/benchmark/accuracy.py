"""Rebuilt metrics against the simulated endpoint's own log of the truth: `python tests/benchmark/accuracy.py`.

The endpoint notes when it received a request and when it sent the first and the last token, on the same clock as the
proxy. Tokens and counts must be equal; times differ by what lies between the two processes.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from figures import quantile

from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.replay import ReplaySettings, load, play
from otel_agentperf.simulate import SimulateConfig
from otel_agentperf_analyzers import open_source


def main(levels: list[int], seconds: float) -> None:
    with tempfile.TemporaryDirectory() as work:
        store, log = Path(work) / "store", Path(work) / "truth.jsonl"
        recording = load("mini")
        with simulated_endpoint(SimulateConfig(decode_ms=5), log) as upstream, proxy_in_front(upstream, store) as url:
            settings = ReplaySettings(
                endpoint=url, model="simulated", levels=tuple(levels), seconds=seconds, warmup_s=1.0
            )
            asyncio.run(play(recording, settings))
        truth = {row["request_id"]: row for row in map(json.loads, log.read_text().splitlines())}
        with open_source(str(store)) as database:
            turns = database.query("SELECT * FROM turns WHERE dialect IS NOT NULL").to_pylist()
    print(f"{len(turns)} turns, {len(truth)} requests in the endpoint's log")
    for level in levels:
        compare(level, [(turn, truth[turn["request_id"]]) for turn in turns if turn["level"] == level])


def compare(level: int, pairs: list[tuple[dict, dict]]) -> None:
    names = {
        "input_tokens": "input_tokens",
        "cached_input_tokens": "cached_tokens",
        "output_tokens": "output_tokens",
        "reasoning_tokens": "reasoning_tokens",
    }
    finished = [(turn, true) for turn, true in pairs if turn["status"] == true["status"] == "ok"]
    wrong = [
        (turn["request_id"], ours)
        for turn, true in finished
        for ours, theirs in names.items()
        if turn[ours] != true[theirs]
    ]
    print(
        f"level {level}: {len(finished)} of {len(pairs)} turns ended well, {len(wrong)} token counts differ {wrong[:3]}"
    )
    streamed = [(turn, true) for turn, true in finished if turn["ttft_s"] is not None]
    for name, errors in (
        ("TTFT", [turn["ttft_s"] - (true["first_token_ns"] - true["received_ns"]) / 1e9 for turn, true in streamed]),
        (
            "TTFT less proxy overhead",
            [
                turn["ttft_s"] - turn["proxy_overhead_s"] - (true["first_token_ns"] - true["received_ns"]) / 1e9
                for turn, true in streamed
            ],
        ),
        (
            "decode window",
            [
                (turn["output_tokens"] - 1) / turn["output_speed_tps"]
                - (true["last_token_ns"] - true["first_token_ns"]) / 1e9
                for turn, true in streamed
                if turn["output_speed_tps"]
            ],
        ),
        (
            "end to end",
            [turn["e2e_latency_s"] - (true["done_ns"] - true["received_ns"]) / 1e9 for turn, true in finished],
        ),
    ):
        sizes = [abs(error) * 1e3 for error in errors]
        print(
            f"  {name} error ms: p50 {quantile(sizes, 0.5):.2f}, p99 {quantile(sizes, 0.99):.2f}, max {max(sizes):.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    main([int(level) for level in options.levels.split(",")], options.seconds)
