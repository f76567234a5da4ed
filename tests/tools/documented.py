"""Commands of the documentation, run as a reader would run them, against a simulated endpoint.

A page is a story: its blocks of `sh`, `bash`, `console` and `python` run one after the other in one directory, each a
process of its own, shells with `set -euo pipefail`. Of a `console` block the lines after `$ ` run. A comment before a
block says what is unusual:

    <!-- not run: REASON -->    it needs what tests do not have; it is counted, and the test says why
    <!-- exits N -->            the status that it ends with

Addresses that the pages name are replaced by those of servers of the test. `otel-agentperf` is `documented_command.py`,
which lets servers run on beside the page, and plays what would take an hour for a moment.
"""

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import killpg
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- (?P<told>not run: .+?|exits \d+) -->\n+)?"
    r"^(?P<fence>```+)(?P<language>sh|bash|console|python)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)

ELSEWHERE = re.compile(
    r"^\s*(?:[A-Z_]+=\S+\s+)*(docker|kubectl|helm|systemctl|claude|codex|opencode|gemini|vllm|ollama|otelcol)\b"
)
"""Programs that tests do not start."""

PATIENCE_S = 120.0
"""For a line of a block, on a machine that has much else to do."""


@dataclass(frozen=True)
class Block:
    """A block of commands of a page."""

    page: str
    line: int
    text: str
    """What a shell is given."""
    not_run: str | None
    """Why it is not run."""
    exits: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> Iterator[Block]:
    """The blocks of a page."""
    for match in _BLOCK.finditer(text):
        told = match["told"] or ""
        commands = match["text"]
        if match["language"] == "console":
            lines = [line.removeprefix("$ ") for line in commands.splitlines() if line.startswith("$ ")]
            # What a command takes is no command.
            commands = "".join(f"{line}\n" for line in lines if "[OPTIONS]" not in line)
            if not commands:
                continue
        if match["language"] == "python":
            commands = f"python - <<'END'\n{commands}END\n"
        elsewhere = next((found[1] for line in commands.splitlines() if (found := ELSEWHERE.match(line))), None)
        reason = told.removeprefix("not run: ") if told.startswith("not run") else None
        if reason is None and elsewhere is not None:
            reason = f"needs {elsewhere}"
        if reason is None and "s3://" in commands:
            reason = "needs a bucket"
        exits = int(told.removeprefix("exits ")) if told.startswith("exits") else 0
        yield Block(page, text.count("\n", 0, match.start("fence")) + 1, commands, reason, exits)


class Reader:
    """Someone who types what a page says.

    Args:
        place: their directory, where programs of the page run on in the background too.
        addresses: what the pages name, and what stands for it.
        environment: of the shell.
    """

    def __init__(self, place: Path, addresses: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.place = place
        self._addresses = addresses
        self._environment = environment

    def run(self, block: Block) -> None:
        """Run a block. Raises AssertionError with what it wrote when it ends otherwise than the page says."""
        text = block.text
        for named, ours in self._addresses.items():
            text = re.sub(named, ours, text)
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{text}"],
            cwd=self.place,
            env=dict(self._environment),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_S * text.count("\n"),
            check=False,
        )
        written = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        told = f"{block}: exit status {done.returncode}, not {block.exits}\n{text}\n{written}"
        assert done.returncode == block.exits, told
        assert "Traceback" not in done.stderr, told

    def leave(self) -> None:
        """End what runs in the background."""
        for file in (self.place / ".background").glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                killpg(int(file.read_text()), signal.SIGKILL)
