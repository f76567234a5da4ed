"""What a replay says when it is over: one row per level on stdout, what the figures do not say on stderr."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from otel_agentperf.cli.bench_options import ReplayFormat
from otel_agentperf.cli.common import console

if TYPE_CHECKING:
    from otel_agentperf.replay import BenchmarkResult, GeneratorLoad, LevelResult, Outcome, Verdict

__all__ = ["hints", "outcomes", "summary", "tell_level", "told"]

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
_JUDGED_COLUMNS: Final = (
    "agents",
    "passed",
    "window_s",
    "requests",
    "errors",
    "completed_trajectories",
    "client_ttft_p95_s",
    "client_output_speed_p25_tps",
    "lateness_p99_s",
)


def summary(result: "BenchmarkResult", form: ReplayFormat) -> None:
    """One row per level on stdout."""
    import pyarrow as pa

    from otel_agentperf.cli.options import Format, Output
    from otel_agentperf.cli.output import emit

    rows = [_row(result, level) for level in result.levels]
    judged = any(level.verdicts for level in result.levels)
    emit(
        pa.Table.from_pylist(rows),
        Output(format=Format(form)),
        main_columns=_JUDGED_COLUMNS if judged else _MAIN_COLUMNS,
    )


def _row(result: "BenchmarkResult", level: "LevelResult") -> dict[str, Any]:
    opened, closed = level.steady_start_ns, level.steady_end_ns
    values = asdict(level)
    verdicts = values.pop("verdicts")
    return {
        "benchmark_id": result.benchmark_id,
        **values,
        "window_s": None if opened is None or closed is None else (closed - opened) / 1e9,
        "errors": sum(level.errors.values()),
        "error_kinds": _kinds(level),
        "passed": ", ".join(tier for tier, verdict in level.verdicts.items() if verdict.passed) or None,
        "verdicts": [{"tier": tier, **verdict} for tier, verdict in verdicts.items()],
    }


def _kinds(level: "LevelResult") -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(level.errors.items()))


def tell_level(level: "LevelResult") -> None:
    """The verdicts of a level just played, on stderr."""
    for tier, verdict in level.verdicts.items():
        console.print(f"{level.agents} agents: {tier} {told(verdict)}", soft_wrap=True, markup=False, emoji=False)


def told(verdict: "Verdict") -> str:
    """A verdict in words."""
    if verdict.passed:
        return "passed" if verdict.margin is None else f"passed, {verdict.margin:.2f} times its targets"
    return f"{'cannot be judged' if verdict.passed is None else 'missed'}: {verdict.reason}"


def outcomes(result: "BenchmarkResult") -> None:
    """What a search found, on stderr."""
    for outcome in result.outcomes:
        console.print(_outcome(outcome), soft_wrap=True, markup=False, emoji=False)


def _outcome(outcome: "Outcome") -> str:
    if outcome.max_agents is None:
        return f"{outcome.tier}: no level was judged"
    words = f"{outcome.tier}: {outcome.max_agents} agents"
    words += f" [last pass {outcome.last_pass or 'none'}, first fail {outcome.first_fail or 'none'}]"
    if not outcome.finished:
        words += ", not finished"
    if not outcome.monotone:
        words += "; a higher level passed above one that failed: the verdicts are not monotone"
    return f"{words}; {outcome.note}" if outcome.note else words


def hints(result: "BenchmarkResult") -> None:
    """What the figures of a level do not say by themselves, on stderr."""
    for level in result.levels:
        for number, words in (
            (sum(level.errors.values()), f"requests failed ({_kinds(level)}); the latest: {level.error_example}"),
            (level.aborted_trajectories, "trajectories were given up"),
            (level.aborted_branches, "sub-agents were given up, and their parents went on"),
            (level.cut_requests, "requests were cut off unfinished at the end of the level"),
            (level.capped_tool_delays, "tool delays were cut to the cap"),
            (level.drawn_tool_delays, "tool delays were drawn from those of the same tool"),
            (level.capped_retry_waits, "waits before a retry were cut to 60 s"),
            (
                level.answers_of_other_length,
                "answers are not as long as recorded: the endpoint does not honour ignore_eos",
            ),
            (level.answers_without_target, "answers have no recorded length; the model chose"),
            (level.answers_without_usage, "answers came without token counts"),
        ):
            if number:
                console.print(f"{level.agents} agents: {number} {words}", soft_wrap=True, markup=False, emoji=False)
        for reason, words in (
            (level.abandoned, "left early"),
            (level.cut_short, "the window reached its limit"),
            (level.doubt, "not judged"),
        ):
            if reason:
                console.print(f"{level.agents} agents: {words}: {reason}", soft_wrap=True, markup=False, emoji=False)
        if len(level.generators) > 1:
            loads = "; ".join(_load(each) for each in level.generators)
            console.print(f"{level.agents} agents: generators: {loads}", soft_wrap=True, markup=False, emoji=False)


def _load(generator: "GeneratorLoad") -> str:
    """What a generator process had to do, and how it fared."""
    words = f"{generator.agents} agents, {generator.requests} requests"
    if generator.lateness_p99_s is not None:
        words += f", {generator.lateness_p99_s:.3f} s late (P99)"
    return words if generator.cpu_share is None else f"{words}, {generator.cpu_share:.0%} of a core"
