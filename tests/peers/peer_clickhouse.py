"""ClickHouse as a peer: chdb behind a small HTTP server of its own process."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PEERS = "OTEL_AGENTPERF_PEERS"


def found() -> Path | None:
    """The interpreter that has chdb, when `tests/peers/install.py` has installed it."""
    python = Path(os.environ.get(PEERS, "/nonexistent")) / "chdb" / "bin" / "python"
    return python if python.exists() else None


@contextmanager
def running(python: Path) -> Iterator[str]:
    """A server; gives its HOST:PORT."""
    script = Path(__file__).with_name("clickhouse_server.py")
    process = subprocess.Popen([python, script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()
