"""AIPerf, run through a proxy, and its requests beside ours. It sends an `X-Request-ID` of its own: the join key."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installed import directory, program

MISSING = "AIPerf is not in $OTEL_AGENTPERF_PEERS: tests/peers/install.py"

COUNTS = {
    "input_tokens": "usage_prompt_tokens",
    "cached_input_tokens": "usage_prompt_cache_read_tokens",
    "output_tokens": "usage_completion_tokens",
    "reasoning_tokens": "usage_reasoning_tokens",
}
"""Columns of our relation `turns`, and what AIPerf calls the same."""


def found() -> Path | None:
    """The command, when `tests/peers/install.py` has installed it."""
    return program("aiperf", "aiperf")


def run(command: Path, base_url: str, output: Path, *options: str) -> list[dict[str, Any]]:
    """Profile with streamed chat completions of exact lengths; the records of its `profile_export.jsonl`.

    Its tokenizer counts as the simulated endpoint does, so that prompts have the lengths that AIPerf means.

    Raises:
        AssertionError: it failed, with its last words.
    """
    arguments = ["-m", "simulated", "--url", base_url, "--endpoint-type", "chat", "--streaming"]
    tokens = ["--tokenizer", str(directory() / "tokenizers" / "aiperf"), "--use-server-token-count"]
    quiet = ["--ui", "none", "--no-server-metrics", "--no-gpu-telemetry", "--output-artifact-dir", str(output)]
    lengths = ["--extra-inputs", "ignore_eos:true"]
    done = subprocess.run(
        [command, "profile", *arguments, *tokens, *quiet, *lengths, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    records = output / "profile_export.jsonl"
    assert done.returncode == 0, done.stdout[-2000:]
    assert records.exists(), done.stdout[-2000:]
    return [json.loads(line) for line in records.read_text().splitlines()]


@dataclass
class Pair:
    """One request as AIPerf saw it and as our relation `turns` has it."""

    theirs: dict[str, Any]
    ours: dict[str, Any]

    def metric(self, name: str) -> Any:
        """One of AIPerf's, in its own unit; None where it gives none."""
        return self.theirs["metrics"].get(name, {}).get("value")

    @property
    def tokens(self) -> tuple[dict[str, int], dict[str, int]]:
        """Theirs, ours."""
        return {ours: self.metric(theirs) for ours, theirs in COUNTS.items()}, {
            name: self.ours[name] for name in COUNTS
        }

    @property
    def connected_s(self) -> float:
        """What AIPerf's times hold beside ours: its clock starts before the connection is made."""
        return float(self.metric("http_req_connecting") or 0.0) / 1000

    @property
    def differences_s(self) -> dict[str, float]:
        """Ours minus theirs, connecting left out."""
        return {
            "TTFT": self.ours["ttft_s"] - (self.metric("time_to_first_token") / 1000 - self.connected_s),
            # AIPerf's latency ends with the last content, its ITL is our tpot.
            "ITL": self.ours["tpot_s"] - self.metric("inter_token_latency") / 1000,
            "latency": self.ours["ttft_s"]
            + self.ours["generation_s"]
            - (self.metric("request_latency") / 1000 - self.connected_s),
        }


def pair(theirs: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> list[Pair]:
    """By the id that AIPerf gave each request."""
    known = {row["request_id"]: row for row in ours}
    return [Pair(record, known[record["metadata"]["x_request_id"]]) for record in theirs]
