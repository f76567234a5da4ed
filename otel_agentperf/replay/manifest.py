"""The record of a benchmark: what was played, how, against what, and when each level was measured."""

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from otel_agentperf._version import __version__
from otel_agentperf.replay.endpoint import EndpointFacts
from otel_agentperf.replay.recording import Recording
from otel_agentperf.replay.results import BenchmarkResult, LevelResult
from otel_agentperf.replay.settings import ReplaySettings

__all__ = ["Manifest", "manifest"]

FORMAT_VERSION: Final = 1

_ELSEWHERE: Final = ("api_key", "headers", "endpoint", "benchmark_id", "seed", "model", "dialect")
"""Settings that are secrets, or stand in a place of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One benchmark. Two results compare when recording, seed, settings and endpoint agree."""

    manifest_version: int
    benchmark_id: str
    otel_agentperf_version: str
    python_version: str
    platform: str
    start_time: str
    """ISO 8601, UTC."""
    end_time: str
    stopped: str | None
    seed: int
    recording: dict[str, Any]
    """name, format, digest, and of what was played: tasks (ids), turns."""
    endpoint: dict[str, Any]
    """url, dialect, model, and what the endpoint says about itself."""
    settings: dict[str, Any]
    """All else; of further header fields only the names."""
    levels: tuple[LevelResult, ...]

    def to_json(self) -> bytes:
        """Indented JSON with a line break at the end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def manifest(
    recording: Recording, settings: ReplaySettings, result: BenchmarkResult, *, endpoint: str, facts: EndpointFacts
) -> Manifest:
    """The record of a benchmark.

    Args:
        recording: what was played, limits of turns and tasks applied.
        endpoint: the inference endpoint, also where the requests went to a proxy in front of it.
    """
    others = {name: value for name, value in asdict(settings).items() if name not in _ELSEWHERE}
    return Manifest(
        manifest_version=FORMAT_VERSION,
        benchmark_id=result.benchmark_id,
        otel_agentperf_version=__version__,
        python_version=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        start_time=_iso(result.start_unix_ns),
        end_time=_iso(result.end_unix_ns),
        stopped=result.stopped,
        seed=settings.seed,
        recording={
            "name": recording.name,
            "format": recording.format,
            "digest": recording.digest,
            "tasks": [task.id for task in recording.tasks],
            "turns": recording.turns,
        },
        endpoint={"url": endpoint, "dialect": settings.dialect, "model": settings.model, **asdict(facts)},
        settings={**others, "header_names": [name for name, _ in settings.headers]},
        levels=result.levels,
    )


def _iso(unix_ns: int) -> str:
    moment = datetime.fromtimestamp(unix_ns / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
