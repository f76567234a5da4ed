"""Mean power over a window: numbers that a reader can compute, gaps that count as such, and nvidia-smi."""

import os
from pathlib import Path

import pytest

from otel_agentperf.cli.bench_power import Meter
from otel_agentperf.errors import UsageError
from otel_agentperf.power import MeanPower, NvidiaSampler, mean_power

S = 10**9


def every_second(*watts: float) -> list[tuple[int, float]]:
    return [(second * S, each) for second, each in enumerate(watts)]


def test_the_mean_is_the_area_under_the_samples() -> None:
    assert mean_power(every_second(100, 200, 300), 0, 2 * S) == MeanPower(200.0, 1.0)
    assert mean_power(every_second(100, 200, 200), 0, 2 * S) == MeanPower(175.0, 1.0)


def test_the_ends_of_the_window_cut_between_samples() -> None:
    assert mean_power(every_second(100, 200, 300), S // 2, S) == MeanPower(175.0, 1.0)
    assert mean_power(every_second(100, 200, 300), S // 2, 3 * S // 2) == MeanPower(200.0, 1.0)


def test_a_gap_covers_nothing() -> None:
    samples = [*every_second(100, 100, 100), *((at * S, 500.0) for at in range(12, 15))]
    found = mean_power(samples, 0, 14 * S)
    assert found.mean_w is None
    assert found.coverage == pytest.approx(4 / 14)


def test_too_little_coverage_is_no_measurement() -> None:
    samples = every_second(*[100.0] * 100)
    assert mean_power(samples, 0, 104 * S).mean_w == 100.0
    assert mean_power(samples, 0, 105 * S).mean_w is None
    assert mean_power([], 0, S) == MeanPower(None, 0.0)
    assert mean_power([(0, 5.0)], 0, S) == MeanPower(None, 0.0)
    assert mean_power(samples, S, S) == MeanPower(None, 0.0)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of this name that prints what its file says."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "answer"


def test_the_power_of_all_gpus_is_summed_up(nvidia_smi: Path) -> None:
    nvidia_smi.write_text("310.50\n289.50\n")
    with NvidiaSampler(interval_s=0.01) as sampler:
        while len(sampler.samples) < 3:
            pass
    assert {watts for _, watts in sampler.samples} == {600.0}
    times = [at_ns for at_ns, _ in sampler.samples]
    assert times == sorted(times)


@pytest.mark.parametrize("answer", ["", "[N/A]\n", "No devices were found\n"])
def test_a_machine_that_tells_no_power_is_refused(nvidia_smi: Path, answer: str) -> None:
    nvidia_smi.write_text(answer)
    with pytest.raises(UsageError, match="no power"):
        NvidiaSampler()


def test_a_machine_without_the_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--power-watts"):
        NvidiaSampler()


@pytest.mark.parametrize(("source", "watts", "words"), [("nvidia-smi", 5.0, "one of the two"), ("ipmi", None, "write")])
def test_a_meter_of_no_kind_is_refused(source: str, watts: float | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Meter(source, watts)
