"""An event loop that yields: whose thread runs it, and that it does its work whichever does."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SCHED_IDLE is Linux's")


def in_child(body: str) -> list[str]:
    """Lines that a coroutine prints in a process of its own: nobody gets niceness back."""
    script = f"""
import asyncio, os, threading, time
from otel_agentperf.yielding import Pace, run_yielding

def where():
    return "main" if threading.current_thread() is threading.main_thread() else "idle"

{body}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_loop_moves_to_an_idle_thread_and_works_on_there() -> None:
    lines = in_child("""
async def main():
    print(where(), os.sched_getscheduler(0) == os.SCHED_BATCH, os.nice(0))
    reader, writer = os.pipe()
    served = asyncio.Event()
    asyncio.get_running_loop().add_reader(reader, served.set)
    while where() == "main":
        await asyncio.sleep(0.01)
    os.write(writer, b"x")
    await served.wait()
    print(where(), os.sched_getscheduler(0) == os.SCHED_IDLE)

run_yielding(main(), Pace(first_s=0.02), lambda thread: 0)
""")
    assert lines == ["main", "True", "10", "idle", "True"]


def test_a_loop_that_starves_is_taken_over_and_given_back() -> None:
    lines = in_child("""
starving = True
async def main():
    global starving
    seen = [where()]
    while len(seen) < 4:
        await asyncio.sleep(0.005)
        if where() != seen[-1]:
            seen.append(where())
            starving = len(seen) < 4
    # It stays where it is, as long as it gets what it needs.
    await asyncio.sleep(0.3)
    print(*seen, where())

waited = 0
def waits(thread):
    global waited
    if starving:
        waited = time.monotonic_ns()
    return waited

run_yielding(main(), Pace(first_s=0.02, check_s=0.02, hurried_s=0.05), waits)
""")
    assert lines == ["main", "idle", "main", "idle", "idle"]


def test_a_loop_stays_in_its_thread_where_the_scheduler_keeps_no_account() -> None:
    lines = in_child("""
def unknown(thread):
    raise FileNotFoundError

async def main():
    await asyncio.sleep(0.2)
    print(where(), os.nice(0))

run_yielding(main(), Pace(first_s=0.02), unknown)
""")
    assert lines == ["main", "10"]


@pytest.mark.parametrize("after_s", [0, 0.2])
def test_what_the_coroutine_raises_reaches_the_caller(after_s: float) -> None:
    lines = in_child(f"""
async def main():
    await asyncio.sleep({after_s})
    raise RuntimeError(where())

try:
    run_yielding(main(), Pace(first_s=0.02))
except RuntimeError as exc:
    print(exc)
""")
    assert lines == ["idle" if after_s else "main"]


def test_beside_one_that_never_rests_it_is_taken_over() -> None:
    """By the scheduler's own account, on one core."""
    lines = in_child("""
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
child = os.fork()
while not child:
    pass

async def main():
    seen = [where()]
    until = time.monotonic() + 50
    while len(seen) < 3 and time.monotonic() < until:
        await asyncio.sleep(0)
        if where() != seen[-1]:
            seen.append(where())
    print(*seen)

try:
    run_yielding(main(), Pace(first_s=0.02, check_s=0.1))
finally:
    os.kill(child, 9)
    os.waitpid(child, 0)
""")
    assert lines == ["main", "idle", "main"]


def test_a_turn_that_ends_with_the_coroutine_lets_the_loop_clean_up() -> None:
    lines = in_child("""
async def ticks():
    try:
        while True:
            yield
    finally:
        await asyncio.sleep(0)
        print("closed")

async def main(steps):
    unfinished = ticks()
    await anext(unfinished)
    for _ in range(steps):
        await asyncio.sleep(0)
    leave.append(unfinished)

for steps in range(4):
    leave = []
    run_yielding(main(steps), Pace(first_s=0))
""")
    assert lines == ["closed"] * 4
