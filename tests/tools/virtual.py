"""The replay against the simulator's serving model on a clock of its own: minutes of a benchmark pass in a second.

Everything but the sockets is real: agents, levels, stop rules, search. An event loop that jumps to the next timer takes
the place of waiting, and a transport hands requests to the engine with the lengths that the recording names.
"""

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

import msgspec

from otel_agentperf.policies import Target, Tier, parse
from otel_agentperf.replay import (
    PRESETS,
    BenchmarkResult,
    FixedLevels,
    LevelResult,
    Plan,
    Preset,
    Recording,
    ReplaySettings,
    Task,
    Turn,
    Verdict,
    play,
)
from otel_agentperf.replay.exchange import Exchange, Failure
from otel_agentperf.replay.stream import AnswerFacts, EventReader
from otel_agentperf.simulate.config import SimulateConfig
from otel_agentperf.simulate.engine import Engine, Generation

T = TypeVar("T")

EPOCH_NS: Final = 1_800_000_000 * 10**9


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing but other threads: a timeout passes at once, on the loop's clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Without a limit: one of this clock would be over before a thread has ended."""
        await super().shutdown_default_executor()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a virtual clock that starts at 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


class VirtualClock:
    """The clock of the running loop."""

    def now_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def unix_ns(self) -> int:
        return EPOCH_NS + self.now_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class EngineTransport:
    """Hands each request to the engine, with the lengths of its turn; blocks are shared within a trajectory only."""

    def __init__(self, config: SimulateConfig, recording: Recording) -> None:
        self._engine = Engine(config)
        self._turns = {task.id: task.turns for task in recording.tasks}
        self._waiting: dict[Generation, asyncio.Future[None]] = {}
        self._numbers: dict[bytes, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def exchange(
        self, headers: list[tuple[bytes, bytes]], body: bytes, events: EventReader, timeout_s: float
    ) -> Exchange:
        tags = dict(headers)
        turn = self._turns[tags[b"x-agentperf-task-id"].decode()][int(tags[b"x-request-id"].split(b".")[-2])]
        number = self._numbers.setdefault(tags[b"x-agentperf-trajectory-id"], len(self._numbers))
        prompt, output = turn.input_tokens or 1, turn.target_output_tokens or 1
        first = number << 24
        generation = Generation(prompt, output, range(first, first + prompt // self._engine.config.block_tokens))
        loop = asyncio.get_running_loop()
        start_ns = round(loop.time() * 1e9)
        done = self._waiting[generation] = loop.create_future()
        self._advance(start_ns)
        self._engine.submit(generation, start_ns)
        self._arm()
        failure = None
        try:
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            failure = Failure("timeout", f"no complete answer within {timeout_s:g} s", True)
        finally:
            end_ns = round(loop.time() * 1e9)
            if self._waiting.pop(generation, None) is not None and not generation.ended:
                self._advance(end_ns)
                self._engine.cancel(generation, end_ns)
                self._arm()
        facts = AnswerFacts(prompt, generation.cached_tokens, output, complete=True)
        return Exchange(start_ns, end_ns, generation.first_token_ns, generation.last_token_ns, facts, failure)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _advance(self, now_ns: int) -> None:
        engine = self._engine
        while engine.step_end_ns is not None and engine.step_end_ns <= now_ns:
            for generation in engine.complete().advanced:
                if generation.ended and (waiting := self._waiting.get(generation)) is not None and not waiting.done():
                    waiting.set_result(None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        end_ns = self._engine.step_end_ns
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(end_ns / 1e9, self._on_timer) if end_ns is not None else None

    def _on_timer(self) -> None:
        self._advance(round(asyncio.get_running_loop().time() * 1e9) + 1)
        self._arm()


def agents_at_work(seed: int, tasks: int = 24) -> Recording:
    """Tasks of coding agents in small: a context that grows by turns, short answers, tools of about a second."""
    random = Random(f"{seed}/work")
    message = json.dumps({"role": "user", "content": "go"}).encode()
    made = []
    for number in range(tasks):
        context = random.randint(2500, 5000)
        turns = []
        for _ in range(random.randint(6, 14)):
            output = max(8, min(round(random.lognormvariate(3.7, 0.6)), 400))
            delay_s = min(max(random.lognormvariate(0.0, 0.7), 0.1), 5.0)
            turns.append(Turn((message,), None, output, None, context, delay_s))
            context += output + random.randint(100, 900)
        made.append(Task(f"task-{number}", None, tuple(turns)))
    return Recording("agents at work", "made", str(seed), "nowhere", tuple(made))


@dataclass(frozen=True)
class Deployment:
    """A served model, and the tier that it is asked to hold."""

    name: str
    config: SimulateConfig
    tier: Tier


def tier_of(ttft_s: float, speed_tps: float) -> Tier:
    """AA-AgentPerf's rules with targets of our own."""
    return msgspec.structs.replace(
        parse("aa-agentperf:gpt-oss-120b#1"),
        tier="own",
        targets=(
            Target(metric="output_speed", percentile=25, bound="min", value=speed_tps),
            Target(metric="ttft", percentile=95, bound="max", value=ttft_s),
        ),
    )


DEPLOYMENTS: Final = (
    # Few requests run at a time: the others queue, and wait longer with every agent.
    Deployment(
        "TTFT-bound",
        SimulateConfig(
            prefill_tokens_per_s=10_000.0,
            prefill_chunk_tokens=2048,
            decode_ms=25.0,
            decode_slope_ms=0.2,
            max_batch=10,
            kv_tokens=4_000_000,
        ),
        tier_of(2.2, 1.0),
    ),
    # Every further request in the batch slows all others.
    Deployment(
        "speed-bound",
        SimulateConfig(prefill_tokens_per_s=60_000.0, decode_ms=25.0, decode_slope_ms=1.5, kv_tokens=4_000_000),
        tier_of(10.0, 20.0),
    ),
    # Memory holds the contexts of so many agents; beyond, every turn computes its whole prompt anew.
    Deployment(
        "cache-bound",
        SimulateConfig(
            prefill_tokens_per_s=15_000.0,
            prefill_chunk_tokens=2048,
            decode_ms=25.0,
            decode_slope_ms=0.2,
            kv_tokens=140_000,
            max_model_len=32_768,
        ),
        tier_of(2.0, 10.0),
    ),
)


def judge_by(tier: Tier) -> Callable[[LevelResult], Mapping[str, Verdict]]:
    """The verdict from what the agents saw, which without sockets between is what a proxy would see."""

    def judge(level: LevelResult) -> Mapping[str, Verdict]:
        window_s = ((level.steady_end_ns or 0) - (level.steady_start_ns or 0)) / 1e9
        missing = []
        if level.completed_trajectories < max(tier.min_trajectories, tier.min_trajectories_per_agent * level.agents):
            missing.append(f"{level.completed_trajectories} trajectories")
        if window_s < tier.min_steady_s:
            missing.append(f"{window_s:.0f} s")
        margins = []
        if tier.max_ttft_s is not None:
            margins.append(tier.max_ttft_s / (level.client_ttft_p95_s or 1e9))
        if tier.min_output_speed_tps is not None:
            margins.append((level.client_output_speed_p25_tps or 0) / tier.min_output_speed_tps)
        margin = min(margins)
        if margin < 1:
            return {tier.label: Verdict(passed=False, reason="missed", margin=margin)}
        passed = None if missing else True
        return {tier.label: Verdict(passed=passed, reason=", ".join(missing) or None, margin=margin)}

    return judge


def benchmark(
    deployment: Deployment, plan: Plan, seed: int, *, rules: Preset = PRESETS["agentperf"], look_out: bool = True
) -> BenchmarkResult:
    """Play a plan against a deployment. Each level meets an engine that the one before has left."""
    recording = agents_at_work(seed)
    settings = ReplaySettings(
        endpoint="http://virtual",
        model="simulated",
        seconds=rules.seconds,
        trajectories=rules.trajectories,
        trajectories_per_agent=rules.trajectories_per_agent,
        window_limit_s=rules.window_limit_s,
        warmup_s=rules.warmup_s,
        seed=seed,
        benchmark_id="virtual",
        max_cpu_share=1e9,
    )
    return run(
        play(
            recording,
            settings,
            plan=plan,
            tiers=[deployment.tier] if look_out else (),
            judge=judge_by(rules.judged(deployment.tier)),
            clock=VirtualClock(),
            transport=EngineTransport(deployment.config, recording),
        )
    )


def sweep(deployment: Deployment, seed: int, *, beyond: int = 3) -> dict[int, bool | None]:
    """Verdicts of all levels from 1 on, up to some beyond the first that does not pass; none is left early."""
    verdicts: dict[int, bool | None] = {}
    agents = 0
    while list(verdicts.values()).count(True) > len(verdicts) - beyond:
        agents += 1
        result = benchmark(deployment, FixedLevels((agents,)), seed, look_out=False)
        verdicts[agents] = result.levels[0].verdicts[deployment.tier.label].passed
    return verdicts


def capacity(verdicts: Mapping[int, bool | None]) -> int:
    """The highest passing level below the first that does not pass."""
    return min(agents for agents, passed in verdicts.items() if passed is not True) - 1
