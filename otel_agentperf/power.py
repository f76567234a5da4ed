"""Power of a deployment: its mean over a window, and samples of it from NVML or nvidia-smi.

The mean is the trapezoidal integral of samples over the window, as agentperf-local has it: samples further apart than
three times their median interval cover nothing in between, and less than 95 % coverage is no measurement.
"""

import shutil
import statistics
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from threading import Event, Thread
from time import time_ns
from typing import Final, Self

from otel_agentperf.errors import UsageError

__all__ = ["MeanPower", "NvidiaSampler", "NvmlSampler", "PowerSample", "Sampler", "mean_power"]

PowerSample = tuple[int, float]
"""Wall time in ns, W of the whole deployment."""

COVERAGE_LEAST: Final = 0.95
GAP_FACTOR: Final = 3.0
SAMPLE_INTERVAL_S: Final = 1.0
NVML_INTERVAL_S: Final = 0.1
"""A call into a library; drivers renew what they tell about as often."""
ANSWER_LIMIT_S: Final = 10.0
MILLIWATTS: Final = 1000.0

_COMMAND: Final = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class MeanPower:
    """Over a window.

    Attributes:
        mean_w: None when the samples cover too little.
        coverage: part of the window that they cover, 0 to 1.
    """

    mean_w: float | None
    coverage: float


def mean_power(samples: Sequence[PowerSample], start_ns: int, end_ns: int) -> MeanPower:
    """The mean power of a window, from samples in order of time."""
    pieces = list(pairwise(samples))
    if not pieces or end_ns <= start_ns:
        return MeanPower(None, 0.0)
    widest_ns = GAP_FACTOR * statistics.median(last[0] - first[0] for first, last in pieces)
    covered_ns, energy = 0, 0.0
    for (at_ns, watts), (later_ns, later_watts) in pieces:
        from_ns, to_ns = max(at_ns, start_ns), min(later_ns, end_ns)
        if from_ns >= to_ns or later_ns - at_ns > widest_ns:
            continue
        middle = ((from_ns + to_ns) / 2 - at_ns) / (later_ns - at_ns)
        covered_ns += to_ns - from_ns
        energy += (watts + (later_watts - watts) * middle) * (to_ns - from_ns)
    coverage = covered_ns / (end_ns - start_ns)
    return MeanPower(energy / covered_ns if coverage >= COVERAGE_LEAST else None, coverage)


class Sampler:
    """Takes samples in a thread of its own while its context lasts.

    Attributes:
        samples: so far, in order of time.
    """

    def __init__(self, interval_s: float) -> None:
        self.samples: list[PowerSample] = []
        self._interval_s = interval_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="power", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def watts(self) -> float | None:
        """The power of all GPUs now; None when one does not answer, so that a gap shows as one."""
        raise NotImplementedError

    def take(self) -> None:
        """Take a sample."""
        watts = self.watts()
        if watts is not None:
            self.samples.append((time_ns(), watts))

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.take()


class NvidiaSampler(Sampler):
    """Asks nvidia-smi once a second for the power of all GPUs of this machine.

    Raises:
        UsageError: there is no nvidia-smi, or it tells no power.
    """

    def __init__(self, interval_s: float = SAMPLE_INTERVAL_S) -> None:
        if shutil.which(_COMMAND[0]) is None:
            raise UsageError("there is no nvidia-smi here; give the power as --power-watts, or by a Prometheus URL")
        super().__init__(interval_s)
        self.take()
        if not self.samples:
            raise UsageError("nvidia-smi tells no power of the GPUs of this machine")

    def watts(self) -> float | None:
        try:
            answer = subprocess.run(
                _COMMAND, capture_output=True, text=True, timeout=ANSWER_LIMIT_S, check=True
            ).stdout.split()
            return sum(float(line) for line in answer) if answer else None
        except (OSError, ValueError, subprocess.SubprocessError):
            return None


class NvmlSampler(Sampler):
    """Asks NVML ten times a second for the power of all GPUs of this machine. Needs the package nvidia-ml-py.

    Raises:
        UsageError: there is no such package, no driver, no GPU, or one that tells no power.
    """

    def __init__(self, interval_s: float = NVML_INTERVAL_S) -> None:
        try:
            import pynvml
        except ImportError as exc:
            raise UsageError("NVML needs the package nvidia-ml-py: pip install 'otel-agentperf[gpu]'") from exc
        super().__init__(interval_s)
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(each) for each in range(pynvml.nvmlDeviceGetCount())]
            self.samples.append((time_ns(), self._sum()))
        except pynvml.NVMLError as exc:
            raise UsageError(f"NVML tells no power of the GPUs of this machine: {exc}") from exc
        if not self._gpus:
            raise UsageError(
                "NVML knows no GPU of this machine; give the power as --power-watts, or by a Prometheus URL"
            )

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def watts(self) -> float | None:
        try:
            return self._sum()
        except self._nvml.NVMLError:
            return None

    def _sum(self) -> float:
        return sum(float(self._nvml.nvmlDeviceGetPowerUsage(gpu)) for gpu in self._gpus) / MILLIWATTS
