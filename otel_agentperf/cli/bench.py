"""`replay`: recorded agent work against an inference endpoint, through a proxy that keeps the spans."""

import asyncio
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from otel_agentperf.cli.bench_options import Endpoint, Load, ReplayFormat, Source, Traces, Traffic
from otel_agentperf.cli.common import console
from otel_agentperf.cli.options import grouped
from otel_agentperf.errors import EndpointError, ExitCode, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bar

    from otel_agentperf.replay import BenchmarkResult, EndpointFacts, LevelResult, Progress, Recording, ReplaySettings

__all__ = ["play_watched", "raise_file_limit", "record_levels", "register"]

PRESET: Final = "custom"
"""`agentperf.benchmark.preset` of levels whose rules the user gave one by one."""

OTHER_FILES: Final = 256
"""Open files beside the agents' connections."""


@grouped
def replay(source: Source, *, endpoint: Endpoint, load: Load, traffic: Traffic, traces: Traces) -> None:
    """Play recorded agent trajectories against an inference endpoint.

    Each agent works through one recorded trajectory at a time: it sends a turn with its recorded history, drains the
    answer, waits as long as the tools took, and sends the next. The requests pass an embedded proxy that writes their
    spans to the store; `otel-agentperf report` reads them.

    Example, with `otel-agentperf simulate` running:

        otel-agentperf replay mini --endpoint http://127.0.0.1:8000 --model simulated --agents 1,4 --seconds 15
    """
    from otel_agentperf import replay as player

    settings = _settings(endpoint, load, traffic, traces)
    settings.check()
    recording = _chosen(player.load(source), traffic)
    facts = asyncio.run(player.inspect(settings))
    recording = _fitting(recording, facts, settings.model)
    raise_file_limit(max(settings.levels))
    with _endpoint_of(traces, settings.endpoint) as url:
        result = play_watched(recording, replace(settings, endpoint=url))
    if not traces.no_proxy:
        record_levels(traces.directory, result)
    if traces.manifest is not None:
        record = player.manifest(recording, settings, result, endpoint=settings.endpoint, facts=facts)
        _write(traces.manifest, record.to_json())
    _summary(result, traces.format)
    _hints(result)
    if result.stopped == "interrupted":
        raise typer.Exit(ExitCode.INTERRUPTED)
    if result.stopped is not None:
        raise EndpointError(f"the endpoint stopped answering: {result.levels[-1].error_example}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(replay)


def record_levels(store: Path, result: "BenchmarkResult") -> None:
    """Write one span per level that has a steady window.

    Raises:
        StoreError: the store cannot be written.
    """
    from otel_agentperf_proxy.spans import level_span
    from otel_agentperf_proxy.store import append_spans

    spans = [
        level_span(
            benchmark_id=result.benchmark_id,
            level=level.agents,
            start_unix_ns=level.steady_start_unix_ns,
            end_unix_ns=level.steady_end_unix_ns,
            completed_trajectories=level.completed_trajectories,
            preset=PRESET,
        )
        for level in result.levels
        if level.steady_start_unix_ns is not None and level.steady_end_unix_ns is not None
    ]
    if spans:
        append_spans(store, spans)


def raise_file_limit(agents: int) -> None:
    """Let this process and its children hold a connection per agent, on both sides of a proxy.

    Raises:
        UsageError: the system does not allow it.
    """
    needed = 2 * agents + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(f"{agents} agents need {needed} open files and the limit is {hard}; raise it (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _settings(endpoint: Endpoint, load: Load, traffic: Traffic, traces: Traces) -> "ReplaySettings":
    from otel_agentperf import replay as player

    return player.ReplaySettings(
        endpoint=endpoint.endpoint,
        model=endpoint.model,
        levels=_levels(load.agents),
        dialect=player.DialectName(endpoint.dialect),
        seconds=60.0 if load.seconds is None and load.trajectories is None else load.seconds,
        trajectories=load.trajectories,
        warmup_s=load.warmup,
        drain_limit_s=load.drain_limit,
        output=player.OutputPolicy(traffic.output_tokens),
        tool_delays=player.ToolDelays(
            scale=traffic.tool_delay_scale, cap_s=traffic.tool_delay_cap, fixed_s=traffic.tool_delay
        ),
        cache_prefix=player.Placement(traffic.cache_prefix),
        seed=load.seed,
        benchmark_id=traces.benchmark_id or player.new_benchmark_id(),
        max_retries=endpoint.retries,
        request_timeout_s=endpoint.request_timeout,
        path=endpoint.path,
        api_key=_api_key(endpoint.api_key_env),
        headers=tuple(_header(text) for text in endpoint.header or ()),
        extra_body=_extra_body(traffic.body),
    )


def _levels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as exc:
        raise UsageError(f"not a list of numbers of agents: {text!r}; write for example --agents 1,4,8") from exc


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment variable {variable} is not set; it should hold the API key")
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            f"the environment variable {variable} holds no API key: it has characters that no header takes"
        )
    return key


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UsageError("a header is written as 'NAME: VALUE'")
    return name.strip(), value.strip()


def _extra_body(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        body = json.loads(text)
    except ValueError as exc:
        raise UsageError(f"--body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise UsageError("--body is not a JSON object; write for example '{\"temperature\": 0}'")
    return body


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


def play_watched(recording: "Recording", settings: "ReplaySettings") -> "BenchmarkResult":
    """Play with progress on stderr; the first interrupt ends the benchmark with what it has."""
    import uvloop

    from otel_agentperf.replay import play

    async def run() -> "BenchmarkResult":
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            # The second one ends the command.
            stop.set()
            loop.remove_signal_handler(signal.SIGINT)

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            return await play(recording, settings, on_progress=show, stop=stop)
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    size = f"{len(recording.tasks)} tasks with {recording.turns} turns"
    console.print(f"benchmark {settings.benchmark_id}: {recording.name}, {size}")
    with _progress() as show, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None] | None]":
    """A progress bar on stderr; None where nobody watches it."""
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("connecting", total=None, left="")
        yield lambda progress: _show(bar, task, progress)


def _show(bar: "Bar", task: Any, progress: "Progress") -> None:
    level = f"level {progress.level_index + 1}/{progress.level_count}"
    errors = f", {progress.errors} errors" if progress.errors else ""
    bar.update(
        task,
        description=f"{level} · {progress.agents} agents · {progress.phase} · {progress.requests} requests{errors} · "
        f"{progress.completed_trajectories} trajectories",
        total=None if progress.share is None else 1.0,
        completed=progress.share or 0.0,
        left="" if progress.left_s is None else f"{progress.left_s:.0f} s left",
    )


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise StoreError(f"cannot write {path}: {exc.strerror}") from exc


_MAIN_COLUMNS: Final = (
    "agents",
    "window_s",
    "requests",
    "errors",
    "completed_trajectories",
    "client_ttft_p95_s",
    "client_output_speed_p25_tps",
    "output_tokens",
    "lateness_p99_s",
    "client_ttft_p50_s",
)


def _summary(result: "BenchmarkResult", form: ReplayFormat) -> None:
    """One row per level on stdout."""
    import pyarrow as pa

    from otel_agentperf.cli.options import Format, Output
    from otel_agentperf.cli.output import emit

    rows = [_row(result, level) for level in result.levels]
    emit(pa.Table.from_pylist(rows), Output(format=Format(form)), main_columns=_MAIN_COLUMNS)


def _row(result: "BenchmarkResult", level: "LevelResult") -> dict[str, Any]:
    opened, closed = level.steady_start_ns, level.steady_end_ns
    return {
        "benchmark_id": result.benchmark_id,
        **asdict(level),
        "window_s": None if opened is None or closed is None else (closed - opened) / 1e9,
        "errors": sum(level.errors.values()),
        "error_kinds": _kinds(level),
    }


def _kinds(level: "LevelResult") -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(level.errors.items()))


def _hints(result: "BenchmarkResult") -> None:
    """What the figures of a level do not say by themselves, on stderr."""
    for level in result.levels:
        for number, words in (
            (sum(level.errors.values()), f"requests failed ({_kinds(level)}); the latest: {level.error_example}"),
            (level.aborted_trajectories, "trajectories were given up"),
            (level.cut_requests, "requests were cut off unfinished at the end of the level"),
            (level.capped_tool_delays, "tool delays were cut to the cap"),
            (level.capped_retry_waits, "waits before a retry were cut to 60 s"),
            (
                level.answers_of_other_length,
                "answers are not as long as recorded: the endpoint does not honour ignore_eos",
            ),
            (level.answers_without_target, "answers have no recorded length; the model chose"),
            (level.answers_without_usage, "answers came without token counts"),
        ):
            if number:
                console.print(f"{level.agents} agents: {number} {words}")
