"""The record of a benchmark: what was played, how, against what, and when each level was measured.

It is written after each level, so that a benchmark that was stopped can be taken up again, and it says whether two
results may be compared.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from otel_agentperf._version import __version__
from otel_agentperf.errors import SourceError, StoreError
from otel_agentperf.policies import Tier
from otel_agentperf.replay.endpoint import EndpointFacts
from otel_agentperf.replay.recording import Recording
from otel_agentperf.replay.results import BenchmarkResult, LevelResult
from otel_agentperf.replay.search import Outcome
from otel_agentperf.replay.settings import ReplaySettings

__all__ = ["Manifest", "differences", "manifest", "read", "write"]

FORMAT_VERSION: Final = 2

_ELSEWHERE: Final = ("api_key", "headers", "endpoint", "benchmark_id", "seed", "model", "dialect")
"""Settings that are secrets, or stand in a place of their own."""

_NOT_COMPARED: Final = frozenset(
    (
        "levels",
        "resumed",
        "generators",
        "drain_limit_s",
        "max_retries",
        "request_timeout_s",
        "agent_name",
        "path",
        "header_names",
    )
)
"""Settings that do not change what a level finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One benchmark. Two results compare when `differences` finds none."""

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
    preset: str
    """The rules of its levels; `custom` when they were given one by one."""
    tiers: tuple[dict[str, Any], ...]
    """What its levels were judged by: policies with all their rules."""
    recording: dict[str, Any]
    """name, format, digest, and of what was played: tasks (ids), turns."""
    endpoint: dict[str, Any]
    """url, dialect, model, and what the endpoint says about itself."""
    settings: dict[str, Any]
    """All else; of further header fields only the names."""
    levels: tuple[LevelResult, ...]
    outcomes: tuple[Outcome, ...]
    """Of a search, one for each tier."""

    def to_json(self) -> bytes:
        """Indented JSON with a line break at the end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def manifest(
    recording: Recording,
    settings: ReplaySettings,
    result: BenchmarkResult,
    *,
    endpoint: str,
    facts: EndpointFacts,
    preset: str = "custom",
    tiers: Sequence[Tier] = (),
) -> Manifest:
    """The record of a benchmark.

    Args:
        recording: what was played, limits of turns and tasks applied.
        endpoint: the inference endpoint, also where the requests went to a proxy in front of it.
        preset: the rules of its levels.
        tiers: what its levels were judged by.
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
        preset=preset,
        tiers=tuple(msgspec.to_builtins(tier) for tier in tiers),
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
        outcomes=result.outcomes,
    )


def read(path: Path) -> Manifest:
    """The record in a file.

    Raises:
        SourceError: it cannot be read, or is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise SourceError(f"{path} is not the record of a benchmark: {exc}") from exc


def write(path: Path, record: Manifest) -> None:
    """Write a record; a reader sees the one before or this one, never a part.

    Raises:
        StoreError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(record.to_json())
        beside.replace(path)
    except OSError as exc:
        raise StoreError(f"cannot write {path}: {exc.strerror}") from exc


def differences(one: Manifest, other: Manifest) -> tuple[str, ...]:
    """What keeps two results from being compared: `what: this, that`. The endpoint's address may differ."""
    left, right = _compared(one), _compared(other)
    return tuple(f"{name}: {_short(left[name])}, {_short(right[name])}" for name in left if left[name] != right[name])


def _compared(record: Manifest) -> dict[str, Any]:
    """What has to be the same, as JSON has it."""
    settings = {name: value for name, value in record.settings.items() if name not in _NOT_COMPARED}
    found = {
        "seed": record.seed,
        "preset": record.preset,
        "recording": record.recording["digest"],
        "tasks": record.recording["tasks"],
        "turns": record.recording["turns"],
        "model": record.endpoint["model"],
        "dialect": record.endpoint["dialect"],
        **{name.replace("_", " "): value for name, value in settings.items()},
    }
    return msgspec.to_builtins(found)  # type: ignore[no-any-return]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _iso(unix_ns: int) -> str:
    moment = datetime.fromtimestamp(unix_ns / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
