"""agentperf-local, the benchmark owner's replay, run through a proxy, and its turns beside ours."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS = "OTEL_AGENTPERF_PEERS"


def found() -> Path | None:
    """The command, when `tests/peers/install.py` has installed it."""
    command = Path(os.environ.get(PEERS, "/nonexistent")) / "agentperf-local" / "bin" / "agentperf-local"
    return command if command.exists() else None


def run(command: Path, base_url: str, output: Path, replay: str = "aa-mini-v1") -> list[dict[str, Any]]:
    """Replay with recorded tool delays and exact lengths; the records of its `turns.jsonl`."""
    arguments = ["--replay", replay, "--base-url", f"{base_url}/v1", "--model", "simulated", "--output-dir", output]
    policy = ["--tool-mode", "fixed_delay", "--output-token-policy", "exact", "--no-progress"]
    cache = Path(os.environ[PEERS]) / "tiktoken"
    subprocess.run(
        [command, "run", *arguments, *policy],
        check=True,
        capture_output=True,
        env={**os.environ, "TIKTOKEN_CACHE_DIR": str(cache)},
    )
    return [json.loads(line) for line in (output / "turns.jsonl").read_text().splitlines()]


@dataclass
class Pair:
    """One turn as agentperf-local saw it and as our relation `turns` has it."""

    theirs: dict[str, Any]
    ours: dict[str, Any]

    @property
    def tokens(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """(prompt, cached, output) tokens: theirs, ours."""
        tokens = self.theirs["tokens"]
        return (
            (tokens["server_prompt_tokens"], tokens["server_cached_prompt_tokens"], tokens["server_output_tokens"]),
            (self.ours["input_tokens"], self.ours["cached_input_tokens"], self.ours["output_tokens"]),
        )

    @property
    def ttft_difference_s(self) -> float:
        """Ours minus theirs. Their clock starts before the connection is made, ours when the request has arrived."""
        return self.ours["ttft_s"] - self.theirs["timing"]["time_to_first_token_ms"] / 1000

    @property
    def e2e_difference_s(self) -> float:
        """Ours minus theirs."""
        return self.ours["e2e_latency_s"] - self.theirs["timing"]["e2e_latency_ms"] / 1000


def pair(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[Pair]:
    """One request is in flight at a time, so order pairs them; the peer probes the endpoint before its first turn."""
    return [Pair(*both) for both in zip(theirs, ours[len(ours) - len(theirs) :], strict=True)]
