"""Where the peers are: `tests/peers/install.py DIR`, then `OTEL_AGENTPERF_PEERS=DIR`."""

import os
from pathlib import Path

PEERS = "OTEL_AGENTPERF_PEERS"


def directory() -> Path:
    """Of all peers; it need not exist."""
    return Path(os.environ.get(PEERS, "/nonexistent"))


def program(peer: str, name: str) -> Path | None:
    """A program in the environment of a peer, when that is installed."""
    path = directory() / peer / "bin" / name
    return path if path.exists() else None
