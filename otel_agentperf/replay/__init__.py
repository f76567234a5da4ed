"""Replay of recorded agent work: closed-loop agents play trajectories against an inference endpoint.

The load side of a benchmark. Requests carry the launcher tags of `semconv`, so that levels, phases, agents and
trajectories are derived from spans alone; what is measured here serves display, and the honesty of the generator.
"""

from otel_agentperf.replay.endpoint import EndpointFacts, inspect
from otel_agentperf.replay.formats import load
from otel_agentperf.replay.levels import Player, play
from otel_agentperf.replay.manifest import Manifest, manifest
from otel_agentperf.replay.recording import Recording, Task, Turn
from otel_agentperf.replay.results import BenchmarkResult, LevelResult, Progress
from otel_agentperf.replay.settings import (
    DialectName,
    OutputPolicy,
    Placement,
    ReplaySettings,
    ToolDelays,
    new_benchmark_id,
)

__all__ = [
    "BenchmarkResult",
    "DialectName",
    "EndpointFacts",
    "LevelResult",
    "Manifest",
    "OutputPolicy",
    "Placement",
    "Player",
    "Progress",
    "Recording",
    "ReplaySettings",
    "Task",
    "ToolDelays",
    "Turn",
    "inspect",
    "load",
    "manifest",
    "new_benchmark_id",
    "play",
]
