"""The power of the deployment while a replay plays."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from otel_agentperf.cli.common import console
from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf.power import NvidiaSampler, NvmlSampler, mean_power

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agentperf.power import PowerSample, Sampler
    from otel_agentperf.replay import LevelResult

__all__ = ["Meter"]

SAMPLERS: "Final[dict[str, Callable[[], Sampler]]]" = {"nvidia-smi": NvidiaSampler, "nvml": NvmlSampler}

_AROUND: Final = timedelta(minutes=2)
"""Samples before and after the window that belong to its ends."""


class Meter:
    """Measures while its context lasts.

    Args:
        source: `nvidia-smi`, `nvml`, or the URL of a Prometheus server with a query.
        watts: the power, when it is known.

    Raises:
        UsageError: neither of these, or both.
    """

    def __init__(self, source: str | None, watts: float | None) -> None:
        if source is not None and watts is not None:
            raise UsageError("--power measures what --power-watts gives: name one of the two")
        if source is not None and source not in SAMPLERS and not source.startswith(("http://", "https://")):
            raise UsageError(f"--power {source}: write nvidia-smi, nvml, or http://HOST:9090?query=sum(...)")
        self._url = source if source not in SAMPLERS else None
        self._watts = watts
        self._sampler = SAMPLERS[source]() if source in SAMPLERS else None
        self._running = ExitStack()

    def __enter__(self) -> "Meter":
        if self._sampler is not None:
            self._running.enter_context(self._sampler)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def over(self, level: "LevelResult") -> float | None:
        """The mean power over a level's steady window, W. How much of the window it covers is said; None when that is
        not enough."""
        start_ns, end_ns = level.steady_start_unix_ns, level.steady_end_unix_ns
        if start_ns is None or end_ns is None or (self._sampler is None and self._url is None):
            return self._watts
        try:
            samples = self._samples(start_ns, end_ns)
        except SourceError as problem:
            console.print(f"{level.agents} agents: no power: {problem}", soft_wrap=True, markup=False)
            return None
        found = mean_power(samples, start_ns, end_ns)
        known = f"{level.agents} agents: power is known of {found.coverage:.0%} of the window"
        console.print(f"{known}: {f'{found.mean_w:,.0f} W' if found.mean_w is not None else 'not enough'}")
        return found.mean_w

    def _samples(self, start_ns: int, end_ns: int) -> "tuple[PowerSample, ...]":
        if self._sampler is not None:
            return tuple(self._sampler.samples)
        from otel_agentperf_analyzers.prometheus import query_power

        start, end = (datetime.fromtimestamp(at_ns / 1e9, UTC) for at_ns in (start_ns, end_ns))
        return query_power(self._url or "", since=start - _AROUND, until=end + _AROUND)
