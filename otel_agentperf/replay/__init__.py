"""Replay of recorded agent work: closed-loop agents play trajectories against an inference endpoint.

The load side of a benchmark. Requests carry the launcher tags of `semconv`, so that levels, phases, agents and
trajectories are derived from spans alone; what is measured here serves display, and the honesty of the generator.
"""

from otel_agentperf.replay.endpoint import EndpointFacts, inspect
from otel_agentperf.replay.formats import load
from otel_agentperf.replay.manifest import Manifest, differences, manifest
from otel_agentperf.replay.manifest import read as read_manifest
from otel_agentperf.replay.manifest import write as write_manifest
from otel_agentperf.replay.playing import Judge, Player, play
from otel_agentperf.replay.presets import CUSTOM, PRESETS, Preset, preset
from otel_agentperf.replay.recording import Branch, Recording, Task, Turn
from otel_agentperf.replay.results import BenchmarkResult, GeneratorLoad, LevelResult, Progress
from otel_agentperf.replay.search import FixedLevels, Outcome, Plan, Search, Verdict
from otel_agentperf.replay.settings import (
    DialectName,
    OutputPolicy,
    Placement,
    ReplaySettings,
    ToolDelays,
    new_benchmark_id,
)
from otel_agentperf.replay.vocabulary import FourByteVocabulary, TokenizerVocabulary, Vocabulary

__all__ = [
    "CUSTOM",
    "PRESETS",
    "BenchmarkResult",
    "Branch",
    "DialectName",
    "EndpointFacts",
    "FixedLevels",
    "FourByteVocabulary",
    "GeneratorLoad",
    "Judge",
    "LevelResult",
    "Manifest",
    "Outcome",
    "OutputPolicy",
    "Placement",
    "Plan",
    "Player",
    "Preset",
    "Progress",
    "Recording",
    "ReplaySettings",
    "Search",
    "Task",
    "TokenizerVocabulary",
    "ToolDelays",
    "Turn",
    "Verdict",
    "Vocabulary",
    "differences",
    "inspect",
    "load",
    "manifest",
    "new_benchmark_id",
    "play",
    "preset",
    "read_manifest",
    "write_manifest",
]
