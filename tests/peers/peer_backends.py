"""Trace backends that take our OTLP, as `tests/peers/install.py` installs them: Phoenix, MLflow, Jaeger, a collector.

Each runs on free ports of 127.0.0.1 with its data in a directory of the test, and is ended with the test.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS = "OTEL_AGENTPERF_PEERS"
PATIENCE_S = 240.0
"""Python backends import for a minute on a busy machine."""

END_S = 20.0


@dataclass(frozen=True)
class Backend:
    """A backend that runs."""

    grpc: str
    """`HOST:PORT` for OTLP over gRPC; empty where there is none."""
    http: str
    """Base URL for OTLP over HTTP."""
    query: str
    """`HOST:PORT` to ask for spans; empty where there is none."""


def found(name: str) -> Path | None:
    """The program of a peer: `phoenix`, `mlflow`, `jaeger` or `otelcol`."""
    places = {"phoenix": "phoenix/bin/phoenix", "mlflow": "mlflow/bin/mlflow"}
    program = Path(os.environ.get(PEERS, "/nonexistent")) / places.get(name, f"bin/{name}")
    return program if program.exists() else None


def missing(name: str) -> str:
    """The reason why tests with a peer are skipped."""
    return f"{name} is not in ${PEERS}: python tests/peers/install.py DIR {name}"


def free_ports(number: int) -> list[int]:
    """Ports that nobody has."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(number)]


@contextmanager
def _running(
    command: Sequence[str | Path], ready: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the end of the block, from when a URL answers."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-4000:]}")
            try:
                urllib.request.urlopen(ready, timeout=10).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        # What is in memory is written; some have children of their own, which do not always end with them.
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def phoenix(program: Path, place: Path) -> Iterator[Backend]:
    """Arize Phoenix, with SQLite in `place`."""
    http, grpc = free_ports(2)
    environment = {
        "PHOENIX_WORKING_DIR": str(place),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(http),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    url = f"http://127.0.0.1:{http}"
    with _running([program, "serve"], f"{url}/healthz", place / "phoenix.log", environment):
        yield Backend(f"127.0.0.1:{grpc}", url, f"127.0.0.1:{http}")


@contextmanager
def mlflow(program: Path, place: Path) -> Iterator[Backend]:
    """MLflow's tracking server, with SQLite in `place`."""
    (port,) = free_ports(1)
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    kept = ["--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--artifacts-destination", f"{place}/artifacts"]
    url = f"http://127.0.0.1:{port}"
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "HOME": str(place)}
    with _running([program, "server", *options, *kept], f"{url}/health", place / "mlflow.log", environment):
        yield Backend("", url, f"127.0.0.1:{port}")


@contextmanager
def jaeger(program: Path, place: Path) -> Iterator[Backend]:
    """Jaeger v2, all in one, in memory."""
    grpc, http, query, query_grpc, health = (f"127.0.0.1:{port}" for port in free_ports(5))
    config = {
        "extensions": {
            "healthcheckv2": {"use_v2": True, "http": {"endpoint": health}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": query},
                "grpc": {"endpoint": query_grpc},
            },
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 100_000}}}},
        },
        "receivers": _receivers(grpc, http),
        "processors": {"batch": {"timeout": "50ms"}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        "service": _service(
            ["jaeger_storage", "jaeger_query", "healthcheckv2"], ["batch"], ["jaeger_storage_exporter"]
        ),
    }
    with _running(_configured(program, place, config), f"http://{query}/api/v3/services", place / "jaeger.log"):
        yield Backend(grpc, f"http://{http}", query)


@contextmanager
def collector(
    program: Path,
    place: Path,
    exporters: dict[str, Any],
    processors: dict[str, Any] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Backend]:
    """An OpenTelemetry collector; spans go through all processors, in their order, to all exporters."""
    grpc, http, health = (f"127.0.0.1:{port}" for port in free_ports(3))
    processors = processors or {}
    config = {
        "extensions": {"health_check": {"endpoint": health}},
        "receivers": _receivers(grpc, http),
        "processors": processors,
        "exporters": exporters,
        "service": _service(["health_check"], list(processors), list(exporters)),
    }
    command = [*_configured(program, place, config), *options]
    with _running(command, f"http://{health}/", place / "collector.log"):
        yield Backend(grpc, f"http://{http}", "")


def _receivers(grpc: str, http: str) -> dict[str, Any]:
    return {"otlp": {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}}}


def _service(extensions: list[str], processors: list[str], exporters: list[str]) -> dict[str, Any]:
    traces = {"receivers": ["otlp"], "processors": processors, "exporters": exporters}
    return {
        "extensions": extensions,
        "telemetry": {"metrics": {"level": "none"}},
        "pipelines": {"traces": traces},
    }


def _configured(program: Path, place: Path, config: dict[str, Any]) -> list[str | Path]:
    """The command; JSON is YAML."""
    file = place / f"{program.name}.yaml"
    file.write_text(json.dumps(config, indent=2))
    return [program, "--config", file]
