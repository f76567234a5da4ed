"""What the proxy costs, beside nginx, Starlette + httpx and LiteLLM: `python tests/benchmark/overhead.py`.

Every round plays a load through every proxy in turn, so that a noisy machine troubles all alike; a figure is the median
of the rounds' ratios, with the lowest and the highest. Loads without pause come last: an observer that starved does not
yield for half a minute. CPU is user + system time of the processes, by the
scheduler's clock. The relay (and whatever it is compared with) is pinned to one core, client and upstream to another;
our observer runs where there is room. What is missing here is said and left out.
"""

import argparse
import contextlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import trust
from figures import quantile, spread
from load import Load, Taken, cpu_s, drive
from stacks import Cores, Stack, baseline, direct, litellm, litellm_missing, nginx, nginx_missing, ours, upstream

SMALL = Load("2 KB request, one body back, 64 streams", 64, 2400, 0, 0, 2_000)
LARGE = Load("500 KB request, one body back, 16 streams", 16, 320, 0, 0, 500_000)
STREAMS = Load("2 KB request, 100 chunks 5 ms apart, 64 streams", 64, 512, 100, 5, 2_000)
LARGE_STREAMS = Load("500 KB request, 100 chunks 5 ms apart, 64 streams", 64, 320, 100, 5, 500_000)
PACED = Load("2 KB request, one body back, 64 streams, 25 ms between", 64, 2400, 0, 0, 2_000, 25)
LARGE_PACED = Load("500 KB request, one body back, 16 streams, 100 ms between", 16, 240, 0, 0, 500_000, 100)
"""For what observing costs: in a closed loop whoever is slower gets its requests in smaller batches."""
MANY_STREAMS = Load("2 KB request, 100 chunks 5 ms apart, 256 streams", 256, 768, 100, 5, 2_000)

LOADS = (STREAMS, LARGE_STREAMS, MANY_STREAMS, PACED, LARGE_PACED, SMALL, LARGE)
SLOW = ("starlette+httpx", "litellm")
"""Play only what their rows need."""

Results = dict[tuple[str, Load], list[Taken]]


class Table:
    """Rows of figures with what they should reach, and what they aim at beyond."""

    def __init__(self, results: Results) -> None:
        self.results = results
        print(f"\n{'figure':<68}{'reach':>7}{'aim':>7}   median [lowest, highest]")

    def ratio(
        self,
        figure: str,
        a: str,
        b: str,
        load: Load,
        value: Callable[[Taken], float],
        reach: float | None,
        aim: float | None,
    ) -> None:
        """`value` of `a` through `value` of `b`, round by round."""
        pairs = self._pairs(a, b, load)
        if pairs:
            ratios = [value(x) / value(y) for x, y in pairs]
            line(figure, ratios, reach, aim)

    def added(
        self, figure: str, load: Load, share: float, reach: float | None, aim: float | None, stack: str = "ours"
    ) -> None:
        """Quantile of the time to the first token above the direct one, in ms."""
        pairs = self._pairs(stack, "direct", load)
        if pairs:
            added = [(quantile(x.ttft_s, share) - quantile(y.ttft_s, share)) * 1e3 for x, y in pairs]
            line(figure, added, reach, aim)

    def _pairs(self, a: str, b: str, load: Load) -> list[tuple[Taken, Taken]]:
        return list(zip(self.results.get((a, load), ()), self.results.get((b, load), ()), strict=False))


def line(figure: str, values: list[float], reach: float | None, aim: float | None) -> None:
    """Print one row."""
    told = ["" if bound is None else f"{bound:g}" for bound in (reach, aim)]
    print(f"{figure:<68}{told[0]:>7}{told[1]:>7}   {spread(values)}", flush=True)


def relay_per_request(taken: Taken) -> float:
    return taken.relay_cpu_s / taken.requests


def total_per_request(taken: Taken) -> float:
    return (taken.relay_cpu_s + taken.other_cpu_s) / taken.requests


def play(stacks: Iterable[Stack], loads: Iterable[Load], rounds: int) -> Results:
    """Every load through every stack, round after round; a load's first, shorter round is not counted."""
    results: Results = {}
    for load in loads:
        for number in range(rounds + 1):
            for stack in stacks:
                if stack.name in SLOW and load not in (SMALL, STREAMS):
                    continue
                requests = max(2 * load.streams, int(load.requests * stack.share)) if number else 2 * load.streams
                before = cpu_s(stack.relay_pids), cpu_s(stack.other_pids), stack.dropped()
                taken = drive(load, "127.0.0.1", stack.port, requests)
                stack.settle()
                taken.relay_cpu_s = cpu_s(stack.relay_pids) - before[0]
                taken.other_cpu_s = cpu_s(stack.other_pids) - before[1]
                taken.dropped = stack.dropped() - before[2]
                if number:
                    results.setdefault((stack.name, load), []).append(taken)
    return results


def print_costs(results: Results) -> None:
    """What each stack took, load by load."""
    for load in dict.fromkeys(load for _, load in results):
        print(f"\n{load.name}")
        unit = "chunk" if load.chunks else "request"
        print(f"  {'':<18}{'relay CPU us/' + unit:<28}{'with observer':<28}{'TTFT p50 ms':<24}p99 ms")
        for (name, of), rounds in results.items():
            if of != load:
                continue
            each = max(load.chunks, 1)
            relay = spread([relay_per_request(taken) / each * 1e6 for taken in rounds], 1)
            total = spread([total_per_request(taken) / each * 1e6 for taken in rounds], 1)
            half, late = (spread([quantile(taken.ttft_s, at) * 1e3 for taken in rounds]) for at in (0.5, 0.99))
            print(f"  {name:<18}{relay:<28}{total:<28}{half:<24}{late}")


def print_table(results: Results) -> None:
    """The figures that are promised."""
    table = Table(results)
    each = relay_per_request
    table.ratio("relay CPU per SSE chunk / nginx", "ours", "nginx", STREAMS, each, 3.8, 1.5)
    table.ratio("relay CPU per 2 KB request / nginx", "ours", "nginx", SMALL, each, 12, 4)
    table.ratio("relay CPU per 500 KB request / nginx", "ours", "nginx", LARGE, each, 5, 3)
    slow = "starlette+httpx"
    table.ratio("Starlette+httpx / ours, CPU per request at 64 streams", slow, "ours", SMALL, each, 15, 50)
    table.ratio("  the same, observer included", slow, "ours", SMALL, total_per_request, 15, 50)
    table.ratio("LiteLLM / ours, CPU per request", "litellm", "ours", SMALL, each, 60, 200)
    table.ratio("  the same, observer included", "litellm", "ours", SMALL, total_per_request, 60, 200)
    table.ratio("LiteLLM / ours, CPU per chunk", "litellm", "ours", STREAMS, each, 20, 60)
    table.ratio("  the same, observer included", "litellm", "ours", STREAMS, total_per_request, 20, 60)
    table.added("added TTFT, 64 streams, 2 KB, p50 ms", STREAMS, 0.5, 0.6, 0.2)
    table.added("added TTFT, 64 streams, 2 KB, p99 ms", STREAMS, 0.99, 1.2, 0.5)
    table.added("added TTFT, 64 streams, 500 KB, p50 ms", LARGE_STREAMS, 0.5, 1, 0.5)
    table.added("added TTFT, 64 streams, 500 KB, p99 ms", LARGE_STREAMS, 0.99, 2, 1)
    for stack in ("nginx", "observing off"):
        table.added(f"  {stack}: added TTFT, 2 KB, p50 ms", STREAMS, 0.5, None, None, stack)
        table.added(f"  {stack}: added TTFT, 2 KB, p99 ms", STREAMS, 0.99, None, None, stack)
        table.added(f"  {stack}: added TTFT, 500 KB, p50 ms", LARGE_STREAMS, 0.5, None, None, stack)
        table.added(f"  {stack}: added TTFT, 500 KB, p99 ms", LARGE_STREAMS, 0.99, None, None, stack)
    rate = lambda taken: taken.requests / taken.wall_s  # noqa: E731
    table.ratio("chunks per second / direct, 256 streams, 5 ms", "ours", "direct", MANY_STREAMS, rate, 0.93, 0.98)
    table.ratio("  nginx / direct", "nginx", "direct", MANY_STREAMS, rate, None, None)
    table.ratio("  observing off / direct", "observing off", "direct", MANY_STREAMS, rate, None, None)
    on_off = "observation on / off, relay CPU per"
    table.ratio(f"{on_off} chunk", "ours", "observing off", STREAMS, each, 1.15, 1.05)
    table.ratio(f"{on_off} 2 KB request", "ours", "observing off", PACED, each, 1.15, 1.05)
    table.ratio(f"{on_off} 500 KB request", "ours", "observing off", LARGE_PACED, each, 1.15, None)
    for load in LOADS:
        if found := results.get(("ours", load)):
            line(f"frames dropped: {load.name}", [float(taken.dropped) for taken in found], 0, 0)


def main(rounds: int, loads: list[Load], soak: int, only: set[str]) -> None:
    cores = Cores.choose()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; load {os.getloadavg()}")
    print(f"relay on core {cores.proxy}; client and upstream on core {cores.load}; {rounds} rounds")
    starts = {
        "direct": direct,
        "nginx": nginx,
        "ours": ours(),
        "observing off": ours("--no-observe", name="observing off"),
    }
    starts["starlette+httpx"] = baseline
    starts["litellm"] = litellm({load.model: f"/pace/{load.chunks}/{load.gap_ms:g}" for load in LOADS})
    for name, reason in (("nginx", nginx_missing()), ("litellm", litellm_missing())):
        if reason:
            print(reason)
            del starts[name]
    with tempfile.TemporaryDirectory() as made, upstream(cores) as address:
        work = Path(made)
        os.chmod(work, 0o755)
        os.sched_setaffinity(0, {cores.load})
        with contextlib.ExitStack() as running:
            stacks = [
                running.enter_context(start(cores, address, work))
                for name, start in starts.items()
                if not only or name in only
            ]
            results = play(stacks, loads, rounds)
            print_costs(results)
            print_table(results)
        if not only:
            trust.measure(cores, address, work, rounds, soak)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load", type=int, action="append", help="index of a load, default all")
    parser.add_argument("--soak", type=int, default=100_000, help="streams of the soak; 0 leaves it out")
    parser.add_argument("--only", action="append", default=[], help="name of a stack; no faults and no soak then")
    given = parser.parse_args()
    main(given.rounds, [LOADS[at] for at in given.load] if given.load else list(LOADS), given.soak, set(given.only))
