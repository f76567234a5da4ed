"""An event loop that takes only the processor time that nobody else wants, as long as that is enough.

Under Linux's SCHED_IDLE whoever wakes interrupts us at once, which no niceness does: with client, upstream, relay and
observer on two cores, an observer of niceness 10 added 2 ms to the 99th percentile of the time to the first token, one
under SCHED_IDLE a tenth of that. But where others keep all cores busy such a thread all but stands still (a weight of 3
against 1024), and nobody without privileges leaves SCHED_IDLE again. So the loop runs in an idle thread, and the
main thread, merely nice, takes it over for a while when the scheduler's account shows that the other one waits.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

import uvloop

NICENESS: Final = 10


@dataclass(frozen=True)
class Pace:
    """When the loop moves between the threads, in seconds.

    Attributes:
        first_s: in the nice thread at the start, which nobody should wait for.
        check_s: between two looks at how the idle thread fares.
        hurried_s: in the nice thread, after the idle one starved.
        starving: share of the time between two looks that the idle thread wanted a processor and had none.
    """

    first_s: float = 5.0
    check_s: float = 0.5
    hurried_s: float = 30.0
    starving: float = 0.8


def run_yielding(
    main: Coroutine[Any, Any, None], pace: Pace | None = None, waited_ns: Callable[[int], int] | None = None
) -> None:
    """Run a coroutine to its end, like `asyncio.run`, behind everybody else on this machine.

    Args:
        waited_ns: how long a thread of this process, by its system id, has waited for a processor so far; by default
            the scheduler tells.

    Raises:
        Exception: what the coroutine raised.
    """
    os.nice(NICENESS)
    if sys.platform == "linux":
        # When it wakes it does not interrupt whoever has the core.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if waited_ns is None:
        waited_ns = _waited_ns
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if not _may_be_idle(waited_ns):
            runner.run(main)
            return
        _take_turns(runner.get_loop(), main, pace or Pace(), waited_ns)


def _may_be_idle(waited_ns: Callable[[int], int]) -> bool:
    if sys.platform != "linux":
        return False
    try:
        waited_ns(threading.get_native_id())
    except (OSError, ValueError):
        return False
    return True


def _take_turns(
    loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, None], pace: Pace, waited_ns: Callable[[int], int]
) -> None:
    resting = threading.Event()

    def rest(*_: object) -> None:
        # Once in a turn and not after the last: what is still queued would break off the loop's clean-up.
        if not resting.is_set():
            resting.set()
            loop.stop()

    task = loop.create_task(main)
    task.add_done_callback(rest)
    turn_s = pace.first_s
    while not task.done():
        end = loop.call_later(turn_s, rest)
        resting.clear()
        loop.run_forever()
        end.cancel()
        turn_s = pace.hurried_s
        if not task.done():
            resting.clear()
            idle = threading.Thread(target=_run_idle, args=(loop,), daemon=True)
            idle.start()
            if _starves(idle, pace, waited_ns):
                loop.call_soon_threadsafe(rest)
                idle.join()
    resting.set()
    task.result()


def _run_idle(loop: asyncio.AbstractEventLoop) -> None:
    if sys.platform == "linux":
        # Of this thread alone.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    loop.run_forever()


def _starves(idle: threading.Thread, pace: Pace, waited_ns: Callable[[int], int]) -> bool:
    """Wait until the thread wants for a processor (True) or has ended (False)."""
    assert idle.native_id is not None
    last = None
    while True:
        idle.join(pace.check_s)
        if not idle.is_alive():
            return False
        try:
            now = monotonic_ns(), waited_ns(idle.native_id)
        except (OSError, ValueError):
            continue
        if last is not None and now[1] - last[1] > pace.starving * (now[0] - last[0]):
            return True
        last = now


def _waited_ns(thread: int) -> int:
    # Time on a processor, time waiting for one, both in ns, and the number of time slices.
    return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[1])
