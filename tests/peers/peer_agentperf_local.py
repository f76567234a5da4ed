"""agentperf-local, the benchmark owner's replay, run through a proxy, and its turns beside ours."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installed import directory, program

MISSING = "agentperf-local is not in $OTEL_AGENTPERF_PEERS: tests/peers/install.py"


def found() -> Path | None:
    """The command, when `tests/peers/install.py` has installed it."""
    return program("agentperf-local", "agentperf-local")


def run(command: Path, base_url: str, output: Path, replay: str | Path = "aa-mini-v1") -> list[dict[str, Any]]:
    """Replay one of its own or a manifest, with recorded tool delays and exact lengths; the records of its
    `turns.jsonl`."""
    chosen = [replay] if isinstance(replay, Path) else ["--replay", replay]
    arguments = [*chosen, "--base-url", f"{base_url}/v1", "--model", "simulated", "--output-dir", output]
    policy = ["--tool-mode", "fixed_delay", "--output-token-policy", "exact", "--no-progress"]
    cache = directory() / "tiktoken"
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
    def differences_s(self) -> dict[str, float]:
        """Ours minus theirs. Their clock starts before the connection is made, ours when the request has arrived."""
        timing = self.theirs["timing"]
        found = {
            "TTFT": self.ours["ttft_s"] - timing["time_to_first_token_ms"] / 1000,
            "latency": self.ours["e2e_latency_s"] - timing["e2e_latency_ms"] / 1000,
        }
        if timing.get("generation_ms") and self.ours["tpot_s"] is not None:
            theirs_s = timing["generation_ms"] / 1000 / (self.theirs["tokens"]["server_output_tokens"] - 1)
            found["ITL"] = self.ours["tpot_s"] - theirs_s
        return found


def pair(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[Pair]:
    """One request is in flight at a time, so order pairs them; the peer probes the endpoint before its first turn."""
    return [Pair(*both) for both in zip(theirs, ours[len(ours) - len(theirs) :], strict=True)]
