"""Mean power over a window: numbers that a reader can compute, gaps that count as such, nvidia-smi and NVML."""

import os
import sys
from itertools import cycle
from pathlib import Path
from types import ModuleType

import pytest

from otel_agentperf.cli.bench_power import Meter
from otel_agentperf.errors import UsageError
from otel_agentperf.power import MeanPower, NvidiaSampler, NvmlSampler, mean_power

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


class Nvml(ModuleType):
    """NVML of a machine whose GPUs draw these milliwatts in turn; an exception is raised instead."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: list[int | Exception], driver: bool = True) -> None:
        super().__init__("pynvml")
        self.gpus = [cycle(each) for each in gpus]
        self.driver = driver
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        told = next(self.gpus[gpu])
        if isinstance(told, Exception):
            raise told
        return told


def test_nvml_is_asked_for_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml([310_500, 290_500], [289_500])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with NvmlSampler(interval_s=0.01) as sampler:
        while len(sampler.samples) < 4:
            pass
    assert [watts for _, watts in sampler.samples[:4]] == [600.0, 580.0, 600.0, 580.0]
    first, last = sampler.samples[0][0], sampler.samples[2][0]
    found = mean_power(sampler.samples[:3], first, last)
    assert found.coverage == 1.0
    assert found.mean_w == pytest.approx(590.0), "the area of two equal trapezia, whatever the pauses"
    assert nvml.open == 0


def test_a_gpu_that_does_not_answer_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml([100_000, Nvml.NVMLError("GPU is lost"), 120_000], [50_000])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with NvmlSampler(interval_s=0.01) as sampler:
        while len(sampler.samples) < 4:
            pass
    assert [watts for _, watts in sampler.samples[:4]] == [150.0, 170.0, 150.0, 170.0], "no sum of one GPU alone"


@pytest.mark.parametrize(
    ("nvml", "words"),
    [
        (None, "pip install"),
        (Nvml(driver=False), "Driver Not Loaded"),
        (Nvml(), "no GPU"),
        (Nvml([Nvml.NVMLError("Not Supported")]), "Not Supported"),
    ],
)
def test_a_machine_without_nvmls_power_is_refused(
    monkeypatch: pytest.MonkeyPatch, nvml: ModuleType | None, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(UsageError, match=words):
        Meter("nvml", None)


@pytest.mark.parametrize(("source", "watts", "words"), [("nvidia-smi", 5.0, "one of the two"), ("ipmi", None, "write")])
def test_a_meter_of_no_kind_is_refused(source: str, watts: float | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Meter(source, watts)
