"""A collector with a file of deploy/, on addresses of the test."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from shipped import DEPLOY, tool

PATIENCE_S = 60.0

Change = Callable[[dict[str, Any]], None]


def free_address() -> str:
    """HOST:PORT that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def running_collector(name: str, directory: Path, change: Change, **environment: str) -> Iterator[str]:
    """A collector with `deploy/collector/NAME.yaml`, changed; gives its base URL for OTLP over HTTP."""
    config = yaml.safe_load((DEPLOY / "collector" / f"{name}.yaml").read_text())
    change(config)
    protocols = config["receivers"]["otlp"]["protocols"]
    address, protocols["grpc"]["endpoint"] = free_address(), free_address()
    protocols["http"]["endpoint"] = address
    config["service"]["telemetry"] = {"metrics": {"level": "none"}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    program, log = tool("otelcol"), directory / "collector.log"
    assert program is not None
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program, "--config", directory / "config.yaml"],
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while "Everything is ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()
