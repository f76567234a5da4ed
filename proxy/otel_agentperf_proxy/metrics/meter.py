"""The observer's metrics: counted call by call, put together when somebody asks or when they are to be exported."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.environment_variables import OTEL_METRICS_EXEMPLAR_FILTER
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from otel_agentperf.instruments import Generation
from otel_agentperf_proxy.calls import Call
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.metrics import families
from otel_agentperf_proxy.metrics.recorder import Recorder
from otel_agentperf_proxy.metrics.series import Family
from otel_agentperf_proxy.metrics.slo import judges
from otel_agentperf_proxy.otlp import Signal, environment, find_target
from otel_agentperf_proxy.trajectory import Placement, Run, ToolSpan
from otel_agentperf_proxy.trajectory.records import Trajectory

if TYPE_CHECKING:
    from otel_agentperf_proxy.metrics.push import Push

STABILITY_OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST: Final = "gen_ai_latest_experimental"
"""Of its values, the one that asks for the latest generation of the GenAI conventions alone."""


class Meter:
    """Counts and tells. Not thread-safe.

    Args:
        config: says what is judged and exported.
        resource: of the proxy.

    Raises:
        UsageError: the export cannot be configured.
    """

    def __init__(self, config: ProxyConfig, resource: Resource) -> None:
        self._recorder = Recorder(judges(config.slo), idle_limit_s=config.idle_limit_s)
        self._capacity = config.capacity
        self._generation = generation(config)
        self._filter = environment(OTEL_METRICS_EXEMPLAR_FILTER).lower()
        self._push = _push(config, resource)
        self._processes: Sequence[Family] = ()

    def call(self, call: Call, span: ReadableSpan, traceable: bool) -> bool:
        """A call ended. Returns whether it misses an SLO tier.

        Args:
            call: ended.
            span: of it.
            traceable: it can be looked up where spans go.
        """
        return self._recorder.call(call, span, sampled=self._has_exemplars(traceable))

    def orphan(self) -> None:
        """An exchange ended of which nothing else is known."""
        self._recorder.orphan()

    def placed(self, placement: Placement, model: str | None, t0_ns: int) -> None:
        """A call was placed in its trajectory."""
        self._recorder.placed(placement, model, t0_ns)

    def tool(self, tool: ToolSpan, span: ReadableSpan, traceable: bool) -> None:
        """A tool's execution ended."""
        self._recorder.tool(tool, span, sampled=self._has_exemplars(traceable))

    def run(self, run: Run, span: ReadableSpan, traceable: bool) -> None:
        """A run ended."""
        self._recorder.run(run, span, sampled=self._has_exemplars(traceable))

    def told(self, processes: Sequence[Family]) -> None:
        """What the supervisor tells of the processes, for the export."""
        self._processes = processes

    def families(
        self, stats: Mapping[str, Any], active: Iterable[Trajectory], inflight: Iterable[str | None]
    ) -> list[Family]:
        """All metrics of the observer, under the names that are asked for.

        Args:
            stats: the observer's.
            active: trajectories at work.
            inflight: the model of each call whose end has not come.
        """
        recorder = self._recorder
        agents = recorder.now(active, inflight)
        own = [
            *recorder.families(),
            *families.of_observer(stats),
            *families.of_capacity(agents, self._capacity),
            *families.of_tiers(recorder.judges),
            families.of_overflows(recorder.registry.overflows),
        ]
        return [family for family in families.of_generation(own, self._generation) if family.points]

    @property
    def is_exporting(self) -> bool:
        """Whether metrics go by OTLP."""
        return self._push is not None

    def is_due(self, now_ns: int) -> bool:
        """Whether metrics are to be exported now; says so once."""
        return self._push is not None and self._push.is_due(now_ns)

    def export(self, own: Sequence[Family]) -> None:
        """Export these, and what was told of the processes."""
        if self._push is not None:
            self._push.offer([*own, *self._processes])

    def stats(self) -> dict[str, Any] | None:
        """Of the export; None when there is none."""
        return self._push.stats() if self._push is not None else None

    def close(self) -> None:
        """Export what was given, within seconds."""
        if self._push is not None:
            self._push.close()

    def _has_exemplars(self, traceable: bool) -> bool:
        return self._filter == "always_on" or (traceable and self._filter != "always_off")


def _push(config: ProxyConfig, resource: Resource) -> "Push | None":
    target = find_target(config, Signal.METRICS)
    if target is None:
        return None
    # The SDK's metrics take their time to load.
    from otel_agentperf_proxy.metrics.push import Push

    return Push(target, resource)


def generation(config: ProxyConfig) -> Generation:
    """The generation of the conventions that the configuration, else the environment, asks for."""
    if config.metric_names is not None:
        return Generation(config.metric_names)
    opted = [name.strip() for name in environment(STABILITY_OPT_IN).split(",")]
    return Generation.NEW if LATEST in opted else Generation.BOTH
