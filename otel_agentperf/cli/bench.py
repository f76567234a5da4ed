"""`replay`: recorded agent work against an inference endpoint, through a proxy that keeps the spans."""

import asyncio
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from otel_agentperf.cli.bench_judge import StoreJudge, record_level, tiers_for
from otel_agentperf.cli.bench_options import Endpoint, Load, Source, Targets, Traces, Traffic
from otel_agentperf.cli.bench_power import Meter
from otel_agentperf.cli.bench_settings import settings_of
from otel_agentperf.cli.bench_summary import hints, outcomes, summary, tell_level
from otel_agentperf.cli.bench_watch import play_watched, raise_file_limit
from otel_agentperf.cli.common import console
from otel_agentperf.cli.options import grouped
from otel_agentperf.errors import EndpointError, ExitCode, UsageError

if TYPE_CHECKING:
    from otel_agentperf.policies import Tier
    from otel_agentperf.replay import (
        BenchmarkResult,
        EndpointFacts,
        LevelResult,
        Manifest,
        Recording,
        ReplaySettings,
        Verdict,
    )

__all__ = ["play_watched", "raise_file_limit", "record_levels", "register"]


@grouped
def replay(
    source: Source, *, endpoint: Endpoint, load: Load, targets: Targets, traffic: Traffic, traces: Traces
) -> None:
    """Play recorded agent trajectories against an inference endpoint.

    Each agent works through one recorded trajectory at a time: it sends a turn with its recorded history, drains the
    answer, waits as long as the tools took, and sends the next. The requests pass an embedded proxy that writes their
    spans to the store; `otel-agentperf report` reads them. With `--search` the most agents are found that hold a tier.

    Examples, with `otel-agentperf simulate` running:

        otel-agentperf replay mini --endpoint http://127.0.0.1:8000 --model simulated --agents 1,4 --seconds 15

        otel-agentperf replay mini --endpoint http://127.0.0.1:8000 --model simulated --search --preset smoke
    """
    from otel_agentperf import replay as player

    earlier = player.read_manifest(traces.resume) if traces.resume is not None else None
    settings = settings_of(endpoint, load, targets, traffic, traces, earlier)
    settings.check()
    tiers = tiers_for(targets.tier, settings.model, search=targets.search)
    if tiers and traces.no_proxy and traces.store is None:
        raise UsageError(
            "verdicts come from spans: with --no-proxy, name the store of the endpoint's own proxy (--store)"
        )
    vocabulary = player.TokenizerVocabulary(traffic.tokenizer) if traffic.tokenizer is not None else None
    recording = _chosen(player.load(source, vocabulary), traffic)
    facts = asyncio.run(player.inspect(settings))
    recording = _fitting(recording, facts, settings.model)
    bench = _Bench(recording, settings, facts, load, targets, traces, tiers, earlier)
    if traces.power is not None and traces.no_proxy and not tiers:
        raise UsageError("the power is written to the trace store, and with --no-proxy there is none; name a --tier")
    raise_file_limit(targets.max_agents if targets.search else max(settings.levels))
    result = bench.play()
    summary(result, traces.format)
    outcomes(result)
    hints(result)
    bench.conclude(result)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(replay)


def record_levels(store: Path, result: "BenchmarkResult") -> None:
    """Write one span per level that has a steady window.

    Raises:
        StoreError: the store cannot be written.
    """
    from otel_agentperf.replay import CUSTOM

    for level in result.levels:
        record_level(store, result.benchmark_id, level, preset=CUSTOM)


class _Bench:
    """One execution of the command."""

    def __init__(
        self,
        recording: "Recording",
        settings: "ReplaySettings",
        facts: "EndpointFacts",
        load: Load,
        targets: Targets,
        traces: Traces,
        tiers: "Sequence[Tier]",
        earlier: "Manifest | None",
    ) -> None:
        from otel_agentperf import replay as player

        self._recording = recording
        self._settings = settings
        self._facts = facts
        self._targets = targets
        self._traces = traces
        self._preset = load.preset.value if load.preset is not None else player.CUSTOM
        rules = player.preset(load.preset) if load.preset is not None else None
        self._tiers = tuple(rules.judged(tier) for tier in tiers) if rules is not None else tuple(tiers)
        self._store = None if traces.no_proxy and not tiers else traces.directory
        self._manifest = traces.manifest or traces.resume or self._default_manifest()
        self._judge = (
            StoreJudge(
                store=traces.directory, benchmark_id=settings.benchmark_id, model=settings.model, tiers=self._tiers
            )
            if tiers
            else None
        )
        self._plan: player.Plan = (
            player.Search([tier.label for tier in tiers], most=targets.max_agents, tolerance=targets.tolerance)
            if targets.search
            else player.FixedLevels(settings.levels)
        )
        self._meter = Meter(traces.power, traces.power_watts)
        self._earlier = self._taken_up(earlier) if earlier is not None else ()

    def play(self) -> "BenchmarkResult":
        """Play what is left to play."""
        with self._meter, _endpoint_of(self._traces, self._settings.endpoint) as url:
            return play_watched(
                self._recording,
                replace(self._settings, endpoint=url),
                plan=self._plan,
                tiers=self._tiers,
                judge=self._verdicts,
                earlier=self._earlier,
                on_level=self._keep,
            )

    def conclude(self, result: "BenchmarkResult") -> None:
        """End the command with what the benchmark came to.

        Raises:
            EndpointError: the endpoint stopped answering, or lets no trajectory come to its end.
        """
        if result.stopped is not None and self._manifest is not None:
            arguments = [each for each in sys.argv[1:] if not each.startswith("--resume=")]
            if "--resume" not in arguments:
                console.print(
                    f"to go on: {shlex.join(['otel-agentperf', *arguments, '--resume', str(self._manifest)])}",
                    soft_wrap=True,
                    markup=False,
                    emoji=False,
                )
        if result.stopped == "interrupted":
            raise typer.Exit(ExitCode.INTERRUPTED)
        if result.stopped is not None:
            what = "no trajectory comes to its end" if result.stopped == "stuck" else "the endpoint stopped answering"
            raise EndpointError(f"{what}: {result.levels[-1].error_example}")
        if self._targets.check and _missed(result):
            raise typer.Exit(ExitCode.NEGATIVE)

    def _default_manifest(self) -> Path | None:
        return None if self._store is None else self._store / f"{self._settings.benchmark_id}.json"

    def _verdicts(self, level: "LevelResult") -> "dict[str, Verdict]":
        """Write a level's span, and judge it."""
        if self._store is not None:
            record_level(
                self._store,
                self._settings.benchmark_id,
                level,
                preset=self._preset,
                accelerators=self._traces.accelerators,
                power_mean_w=self._meter.over(level),
            )
        return dict(self._judge(level)) if self._judge is not None else {}

    def _keep(self, result: "BenchmarkResult") -> None:
        """Say what a level came to, and write down what there is so far."""
        from otel_agentperf import replay as player

        tell_level(result.levels[-1])
        if self._manifest is not None:
            player.write_manifest(self._manifest, self._record(result))

    def _record(self, result: "BenchmarkResult") -> "Manifest":
        from otel_agentperf import replay as player

        return player.manifest(
            self._recording,
            self._settings,
            result,
            endpoint=self._settings.endpoint,
            facts=self._facts,
            preset=self._preset,
            tiers=self._tiers,
        )

    def _taken_up(self, earlier: "Manifest") -> "tuple[LevelResult, ...]":
        """The levels of an earlier part that came to their end, told to the plan.

        Raises:
            UsageError: the earlier part was played by other rules.
        """
        from otel_agentperf import replay as player

        nothing = player.BenchmarkResult(
            benchmark_id=earlier.benchmark_id, start_unix_ns=0, end_unix_ns=0, stopped=None
        )
        found = player.differences(earlier, self._record(nothing))
        if found:
            raise UsageError(
                f"cannot go on with {earlier.benchmark_id}: it was played with another {'; another '.join(found)}"
            )
        levels = [level for level in earlier.levels if level.stopped is None]
        again = self._judge.again(levels) if self._judge is not None else {}
        taken = []
        for level in levels:
            # What was told of the level itself (its generator was late, it was left early) still holds.
            verdicts = level.verdicts if level.doubt or level.abandoned else again.get(level.agents, level.verdicts)
            taken.append(replace(level, verdicts=verdicts))
            self._plan.record(level.agents, verdicts)
        console.print(f"going on with {earlier.benchmark_id}: {len(taken)} levels are done")
        return tuple(taken)


def _missed(result: "BenchmarkResult") -> bool:
    """Whether a tier is missed: in a search by every level, else by one of the levels."""
    if result.outcomes:
        return any(not outcome.max_agents for outcome in result.outcomes)
    return any(not verdict.passed for level in result.levels for verdict in level.verdicts.values())


def _chosen(recording: "Recording", traffic: Traffic) -> "Recording":
    """The recording with the tasks and turns that were asked for."""
    if traffic.task:
        known = [task.id for task in recording.tasks]
        unknown = [task for task in traffic.task if task not in known]
        if unknown:
            raise UsageError(f"no task {unknown[0]!r} in {recording.name}; it has {', '.join(known)}")
        recording = recording.only(traffic.task)
    return recording if traffic.limit_turns is None else recording.limited(traffic.limit_turns)


def _fitting(recording: "Recording", facts: "EndpointFacts", model: str) -> "Recording":
    """The recording without the tasks that the model's context cannot hold."""
    if facts.models and model not in facts.models:
        console.print(f"the endpoint does not list a model {model!r}; it lists {', '.join(facts.models[:8])}")
    limit = facts.max_context_tokens
    if limit is None:
        return recording
    tight = [task for task in recording.tasks if (task.context_tokens or 0) > limit]
    if not tight:
        return recording
    names = ", ".join(f"{task.id} ({task.context_tokens:,} tokens)" for task in tight)
    if len(tight) == len(recording.tasks):
        raise EndpointError(
            f"no task fits the {limit:,} tokens of context of {model}; --limit-turns cuts them: {names}"
        )
    console.print(f"left out, because the context of {model} holds {limit:,} tokens: {names}")
    keep = {task.id for task in recording.tasks} - {task.id for task in tight}
    return recording.only(keep)


@contextmanager
def _endpoint_of(traces: Traces, endpoint: str) -> Iterator[str]:
    """The URL that agents use: a proxy in front of the endpoint, unless there shall be none."""
    if traces.no_proxy:
        yield endpoint
        return
    from otel_agentperf.cli.embed import proxy_in_front

    with proxy_in_front(endpoint.rstrip("/").removesuffix("/v1"), traces.directory) as url:
        console.print(f"spans go to {traces.directory}", soft_wrap=True)
        yield url
