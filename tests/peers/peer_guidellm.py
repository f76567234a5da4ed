"""GuideLLM, run through a proxy, and its requests beside ours. Its records name the response's id: the join key."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installed import directory, program

MISSING = "GuideLLM is not in $OTEL_AGENTPERF_PEERS: tests/peers/install.py DIR guidellm"

OURS = """
    SELECT turns.*, attempts.response_id FROM turns INNER JOIN attempts USING (trace_id, span_id) ORDER BY start_time
"""
"""Our turns, with the id of the response, for `pair`."""

COUNTS = {"input_tokens": "prompt_tokens", "cached_input_tokens": "cached_tokens", "output_tokens": "output_tokens"}
"""Columns of our relation `turns`, and what GuideLLM calls the same."""


def found() -> Path | None:
    """The command, when `tests/peers/install.py` has installed it."""
    return program("guidellm", "guidellm")


def run(command: Path, base_url: str, report: Path, *options: str) -> list[dict[str, Any]]:
    """Streamed chat completions; its records of the requests that came to a good end, in the order of their start.

    Raises:
        AssertionError: it failed, or some request did, with its last words.
    """
    tokenizer = directory() / "tokenizers" / "guidellm"
    done = subprocess.run(
        [
            *(command, "run", "--disable-console-interactive"),
            *("--backend", f"kind=openai_http,target={base_url},model=simulated"),
            *("--tokenizer", f"kind=huggingface_auto,model={tokenizer}"),
            *("--output", f"kind=json,path={report}"),
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert report.exists(), done.stdout[-2000:]
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    requests = benchmark["requests"]
    for wrong in ("errored", "incomplete"):
        assert not requests[wrong], requests[wrong][0]
    return sorted(requests["successful"], key=lambda record: record["request_start_time"])


@dataclass
class Pair:
    """One request as GuideLLM saw it and as our relation `turns` has it."""

    theirs: dict[str, Any]
    ours: dict[str, Any]

    @property
    def tokens(self) -> tuple[dict[str, int], dict[str, int]]:
        """Theirs, ours."""
        return {ours: self.theirs[theirs] for ours, theirs in COUNTS.items()}, {
            name: self.ours[name] for name in COUNTS
        }

    @property
    def tpot_s(self) -> tuple[float, float]:
        """Theirs, and ours by their definition: the first token's wait is a part of it, and tokens are not less one."""
        ours = (self.ours["ttft_s"] + self.ours["generation_s"]) / self.ours["output_tokens"]
        return self.theirs["time_per_output_token_ms"] / 1000, ours

    @property
    def differences_s(self) -> dict[str, float]:
        """Ours minus theirs. Their clock starts before a connection is made, where one is needed."""
        return {
            "TTFT": self.ours["ttft_s"] - self.theirs["time_to_first_token_ms"] / 1000,
            "ITL": self.ours["tpot_s"] - self.theirs["inter_token_latency_ms"] / 1000,
            "TPOT as GuideLLM has it": self.tpot_s[1] - self.tpot_s[0],
            "latency": self.ours["e2e_latency_s"] - self.theirs["request_latency"],
        }


def pair(theirs: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> list[Pair]:
    """By the id of the response; `ours` are rows of `OURS`."""
    known = {row["response_id"]: row for row in ours}
    return [Pair(record, known[record["response_id"]]) for record in theirs]
