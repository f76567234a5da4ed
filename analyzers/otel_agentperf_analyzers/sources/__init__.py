"""Trace sources: one file per kind, all yield the same rows (`rows.SCHEMA`)."""

import os
import re
from pathlib import Path
from typing import Final

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers.sources.agentperf_local import AgentPerfLocal
from otel_agentperf_analyzers.sources.base import Executing, Intake, Kept, Period, Skipped, Source
from otel_agentperf_analyzers.sources.files import StandardInput, matching
from otel_agentperf_analyzers.sources.store import StoreDirectory

__all__ = ["DEFAULT", "VARIABLE", "Executing", "Intake", "Kept", "Period", "Skipped", "Source", "resolve"]

VARIABLE: Final = "OTEL_AGENTPERF_STORE"
"""Environment variable that names the source when none is given."""

DEFAULT: Final = "./agentperf-store"

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def resolve(source: str | None) -> Source:
    """The source that a user names; None: what the environment names, else the default store.

    Raises:
        UsageError: a kind that cannot be read.
        SourceError: there is nothing of that name.
    """
    name = source if source is not None else os.environ.get(VARIABLE) or DEFAULT
    if name == "-":
        return StandardInput()
    if _URL.match(name):
        return _backend(name)
    if not name:
        raise UsageError("SOURCE is empty; name a store directory, a file or glob of OTLP JSON lines or Parquet, or -")
    path = Path(name).expanduser()
    if run := AgentPerfLocal.at(path):
        return run
    if path.is_dir():
        return StoreDirectory(path)
    if source is None and not path.exists():
        raise SourceError(
            f"no trace store at {name}; name a SOURCE, set {VARIABLE}, or make one with otel-agentperf demo"
        )
    return matching(str(path))


def _backend(url: str) -> Source:
    """The trace backend of a URL."""
    kind, _, transport = url.partition("://")[0].lower().partition("+")
    if kind == "s3" and not transport:
        from otel_agentperf_analyzers.sources.s3 import S3

        return S3.named(url)
    if transport in ("http", "https"):
        # Each of these needs packages that other sources do not, and a moment to load them.
        if kind == "jaeger":
            from otel_agentperf_analyzers.sources.jaeger import Jaeger

            return Jaeger.named(url)
        if kind == "tempo":
            from otel_agentperf_analyzers.sources.tempo import Tempo

            return Tempo.named(url)
        if kind == "clickhouse":
            from otel_agentperf_analyzers.sources.clickhouse import ClickHouse

            return ClickHouse.named(url)
    raise UsageError(
        f"cannot read {url.partition('://')[0]}://; SOURCE is a store directory, a file or glob of OTLP JSON lines"
        " (plain, .gz, .zst) or Parquet, - for standard input, or a URL: jaeger+http://HOST:16686?service=NAME,"
        " tempo+http://HOST:3200?q={...}, clickhouse+http://HOST:8123/DATABASE?table=otel_traces, or +https;"
        " s3://BUCKET/PREFIX"
    )
