"""Plays a benchmark with its progress on stderr, until it ends or the user ends it."""

import asyncio
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from otel_agentperf.cli.common import console
from otel_agentperf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bar

    from otel_agentperf.replay import BenchmarkResult, Progress, Recording, ReplaySettings

__all__ = ["play_watched", "raise_file_limit"]

OTHER_FILES: Final = 256
"""Open files beside the agents' connections."""


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


def play_watched(recording: "Recording", settings: "ReplaySettings", **how: Any) -> "BenchmarkResult":
    """Play with progress on stderr; the first interrupt ends the benchmark with what it has.

    Args:
        how: further arguments of `replay.play`.
    """
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
            return await play(recording, settings, on_progress=show, stop=stop, **how)
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
    bar.update(
        task,
        description=describe(progress),
        total=None if progress.share is None else 1.0,
        completed=progress.share or 0.0,
        left="" if progress.left_s is None else f"{progress.left_s:.0f} s left",
    )


def describe(progress: "Progress") -> str:
    """Where a benchmark stands, on one line."""
    of = "" if progress.level_count is None else f"/{progress.level_count}"
    parts = [
        f"level {progress.level_index + 1}{of}",
        f"{progress.agents} agents",
        progress.phase,
        f"{progress.requests} requests" + (f", {progress.errors} errors" if progress.errors else ""),
    ]
    if progress.completed_of is not None:
        parts.append("{} of {} trajectories".format(*progress.completed_of))
    else:
        parts.append(f"{progress.completed_trajectories} trajectories")
    if progress.standing:
        parts.append(progress.standing)
    return " · ".join(parts)
