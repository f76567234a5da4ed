"""What the observer counts: calls, runs and tools, as their spans tell of them."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from otel_agentperf import instruments as metric
from otel_agentperf import semconv
from otel_agentperf.instruments import Instrument
from otel_agentperf_proxy.calls import Call
from otel_agentperf_proxy.metrics.series import Family, Histogram, Moment, Number, Registry, Values
from otel_agentperf_proxy.metrics.slo import ERROR_RATE, Figures, Judge, figures, output_speed_tps
from otel_agentperf_proxy.timing import output_gaps
from otel_agentperf_proxy.trajectory import Placement, Run, ToolSpan
from otel_agentperf_proxy.trajectory.records import Trajectory

FAILED: Final = frozenset((semconv.Status.ERROR, semconv.Status.CANCELLED, semconv.Status.TRUNCATED))

DEPTHS: Final = (1, 5, 20, 50)
DEPTH_CLASSES: Final = ("0", "1-4", "5-19", "20-49", "50+")
"""Values of `agentperf.turn.depth`."""

AGENT: Final = "agent"
SUB_AGENT: Final = "sub_agent"
"""Values of `agentperf.agent.kind`."""

MODALITY: Final = "unknown"
"""Servers do not tell which tokens are of text."""

MET: Final = {True: "true", False: "false"}

OTHER_ERROR: Final = "_OTHER"
"""`error.type` of a failure that has no name, as in the conventions."""

MAX_KINDS: Final = 4096
"""Kinds of calls that are kept at hand."""

_TOKENS: Final = (
    (
        semconv.GEN_AI_USAGE_INPUT_TOKENS,
        metric.CLIENT_INFERENCE_INPUT_TOKENS,
        metric.CLIENT_INFERENCE_OPERATION_INPUT_TOKENS,
    ),
    (
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
        metric.CLIENT_INFERENCE_OUTPUT_TOKENS,
        metric.CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS,
    ),
    (semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, metric.CLIENT_INFERENCE_CACHE_READ_TOKENS, None),
    (semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS, metric.CLIENT_INFERENCE_CACHE_WRITE_TOKENS, None),
    (semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, metric.CLIENT_INFERENCE_REASONING_TOKENS, None),
)
"""Attribute, its counter, and its histogram if it has one."""


class _Kind:
    """Calls that have their attributes in common, as these stand on metrics, and the series they are counted in."""

    __slots__ = ("_registry", "_series", "call", "experience", "judges", "model", "of_model", "overflowed")

    def __init__(self, registry: Registry, key: tuple[Any, ...], judges: Sequence[Judge]) -> None:
        operation, provider, model, answering, address, port, agent, is_trusted = key
        before = registry.overflows.copy()

        def admit(name: str, value: object) -> str:
            return registry.admit(name, value, trusted=is_trusted)

        self.model = admit(semconv.GEN_AI_REQUEST_MODEL, model)
        self.of_model: Values = (admit(semconv.GEN_AI_PROVIDER_NAME, provider), self.model)
        self.experience: Values = (*self.of_model, admit(semconv.GEN_AI_AGENT_NAME, agent))
        self.call: Values = (
            operation or "",
            *self.of_model,
            admit(semconv.GEN_AI_RESPONSE_MODEL, answering),
            admit(semconv.SERVER_ADDRESS, address),
            admit(semconv.SERVER_PORT, port),
        )
        self.judges = tuple([judge for judge in judges if judge.fits(str(model or ""))])
        self.overflowed = tuple((registry.overflows - before).elements())
        """Attributes that had no room for their value."""
        if operation is not None:
            _begin(registry, self.model, self.judges)
        self._registry = registry
        self._series: dict[tuple[str, Values], Any] = {}

    def number(self, instrument: Instrument, shared: Values, *own: str) -> Number:
        """A sum that the calls are counted in.

        Args:
            instrument: of it.
            shared: the first values of its attributes, the same for all calls of the kind.
            own: the other ones.
        """
        key = (instrument.name, own)
        found: Number | None = self._series.get(key)
        if found is None:
            found = self._series[key] = self._registry.number(instrument, (*shared, *own))
        return found

    def histogram(self, instrument: Instrument, shared: Values, *own: str) -> Histogram:
        """As `number`."""
        key = (instrument.name, own)
        found: Histogram | None = self._series.get(key)
        if found is None:
            found = self._series[key] = self._registry.histogram(instrument, (*shared, *own))
        return found


class Recorder:
    """Counts. Not thread-safe.

    Args:
        judges: of SLO tiers.
        idle_limit_s: the longest time that an agent waits for a human and is still said to.
    """

    def __init__(self, judges: Sequence[Judge] = (), *, idle_limit_s: float = 600.0) -> None:
        self.registry = Registry()
        self.judges = tuple(judges)
        self._idle_limit_s = idle_limit_s
        self._kinds: dict[tuple[Any, ...], _Kind] = {}
        self._number, self._histogram = self.registry.number, self.registry.histogram

    def call(self, call: Call, span: ReadableSpan, *, sampled: bool) -> bool:
        """A call ended. Returns whether it misses an SLO tier.

        Args:
            call: ended.
            span: of it.
            sampled: the span can be looked up, so exemplars may lead to it.
        """
        attributes: Mapping[str, Any] = span.attributes or {}
        get = attributes.get
        operation, status, turn_kind = get(semconv.GEN_AI_OPERATION_NAME), call.status, get(semconv.TURN_KIND, "")
        kind = self._kind(attributes, is_trusted=status == semconv.Status.OK)
        kind.number(metric.CALLS, kind.experience, turn_kind, status).value += 1
        failed = status in FAILED
        error = ""
        if failed:
            error = self.registry.admit(semconv.ERROR_TYPE, get(semconv.ERROR_TYPE) or OTHER_ERROR)
            kind.number(metric.ERRORS, kind.of_model, error).value += 1
        moment = _moment(span) if sampled else None
        overhead_s = get(semconv.PROXY_OVERHEAD_S)
        if overhead_s is not None:
            kind.histogram(metric.PROXY_OVERHEAD, ()).observe(overhead_s, moment)
        if operation is None:
            return False
        if (end_s := get(semconv.TIME_END)) is not None:
            kind.histogram(metric.CLIENT_OPERATION_DURATION, kind.call, error).observe(end_s, moment)
        if (first_s := get(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)) is not None:
            kind.histogram(metric.CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK, kind.call).observe(first_s, moment)
        self._chunks(kind, call)
        if get(semconv.USAGE_SOURCE) == semconv.USAGE_SERVER:
            self._tokens(kind, attributes)
        if turn_kind != semconv.KIND_TURN:
            return False
        self._turn(kind, attributes, failed=failed, moment=moment)
        if call.placement is not None:
            trajectory = call.placement.trajectory
            trajectory.busy_until_ns = max(trajectory.busy_until_ns, call.end_ns or call.last_ns)
        return bool(kind.judges) and self._misses(kind, figures(attributes, failed=failed))

    def orphan(self) -> None:
        """An exchange ended of which nothing else is known."""
        self._number(metric.CALLS, ("", "", "", "", semconv.Status.PARTIAL)).value += 1

    def placed(self, placement: Placement, model: str | None, t0_ns: int) -> None:
        """A turn begins: count what its agent did since the one before ended."""
        trajectory = placement.trajectory
        if placement.turn is None:
            return
        busy_until_ns = trajectory.busy_until_ns
        trajectory.busy_until_ns = max(busy_until_ns, t0_ns)
        trajectory.model = self.registry.admit(semconv.GEN_AI_REQUEST_MODEL, model, trusted=False)
        if not busy_until_ns or trajectory.turns_inflight > 1 or t0_ns <= busy_until_ns:
            return
        gap_s = (t0_ns - busy_until_ns) / 1e9
        run = placement.run
        if placement.opened_run and all(before.run_id != run.run_id for before in placement.closed_runs):
            self._spent(trajectory.model, semconv.AgentState.IDLE, min(gap_s, self._idle_limit_s))
            return
        tools_s = 0.0
        if placement.finished_tools:
            began_ns = min(tool.start_ns for tool in placement.finished_tools)
            tools_s = (t0_ns - max(began_ns, busy_until_ns)) / 1e9
            self._spent(trajectory.model, semconv.AgentState.TOOL, tools_s)
        if gap_s > tools_s:
            self._spent(trajectory.model, semconv.AgentState.HARNESS, gap_s - tools_s)

    def tool(self, tool: ToolSpan, span: ReadableSpan, *, sampled: bool) -> None:
        """A tool's execution ended."""
        admit = self.registry.admit
        values = (
            admit(semconv.GEN_AI_TOOL_NAME, tool.name, trusted=not tool.is_error),
            admit(semconv.GEN_AI_AGENT_NAME, tool.run.agent_name, trusted=False),
            semconv.ErrorType.TOOL if tool.is_error else "",
        )
        self._histogram(metric.EXECUTE_TOOL_DURATION, values).observe(
            (tool.end_ns - tool.start_ns) / 1e9, _moment(span) if sampled else None
        )

    def run(self, run: Run, span: ReadableSpan, *, sampled: bool) -> None:
        """A run ended, or the part of it that one trace holds."""
        agent = self.registry.admit(semconv.GEN_AI_AGENT_NAME, run.agent_name, trusted=False)
        exemplar = _moment(span) if sampled else None
        duration_s = (run.last_activity_ns - run.started_ns) / 1e9
        error = "" if run.status == semconv.Status.OK else run.status
        self._histogram(metric.INVOKE_AGENT_DURATION, (agent, error)).observe(duration_s, exemplar)
        self._histogram(metric.INVOKE_AGENT_INFERENCE_CALLS, (agent,)).observe(run.turn_count, exemplar)
        self._histogram(metric.INVOKE_AGENT_TOOL_CALLS, (agent,)).observe(run.tool_call_count, exemplar)

    def now(self, active: Iterable[Trajectory], inflight: Iterable[str | None]) -> int:
        """Count what there is at this moment; returns the agents.

        Args:
            active: trajectories at work.
            inflight: the model of each call whose end has not come.
        """
        registry, admit = self.registry, self.registry.admit
        # What there was before is 0 now, instead of missing.
        registry.zero(metric.AGENTS_ACTIVE)
        registry.zero(metric.CALLS_INFLIGHT)
        agents = 0
        for trajectory in active:
            agents += 1
            name = admit(semconv.GEN_AI_AGENT_NAME, trajectory.agent_name, trusted=False)
            kind = SUB_AGENT if trajectory.depth else AGENT
            self._number(metric.AGENTS_ACTIVE, (trajectory.model, name, kind)).value += 1
        for model in inflight:
            told = admit(semconv.GEN_AI_REQUEST_MODEL, model, trusted=False)
            self._number(metric.CALLS_INFLIGHT, (told,)).value += 1
        return agents

    def families(self) -> list[Family]:
        """Everything that was counted."""
        counted = [self.registry.family(instrument) for instrument in metric.instruments()]
        return [family for family in counted if family.points]

    def _kind(self, attributes: Mapping[str, Any], *, is_trusted: bool) -> _Kind:
        get = attributes.get
        key = (
            get(semconv.GEN_AI_OPERATION_NAME),
            get(semconv.GEN_AI_PROVIDER_NAME),
            get(semconv.GEN_AI_REQUEST_MODEL),
            get(semconv.GEN_AI_RESPONSE_MODEL),
            get(semconv.SERVER_ADDRESS),
            get(semconv.SERVER_PORT),
            get(semconv.GEN_AI_AGENT_NAME),
            is_trusted,
        )
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            found = self._kinds[key] = _Kind(self.registry, key, self.judges)
        elif found.overflowed:
            self.registry.overflows.update(found.overflowed)
        return found

    def _chunks(self, kind: _Kind, call: Call) -> None:
        """The time between output chunks, where none of them was missed."""
        response = call.response
        if response is None or response.outputs_before_gap is not None or len(response.output_ns) < 2:
            return
        chunks = kind.histogram(metric.CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK, kind.call)
        chunks.observe_sorted(output_gaps(response), 1e9)

    def _tokens(self, kind: _Kind, attributes: Mapping[str, Any]) -> None:
        """Tokens that the server counted."""
        get = attributes.get
        for name, instrument, histogram in _TOKENS:
            count = get(name)
            if count is not None:
                kind.number(instrument, kind.call, MODALITY).value += count
                if histogram is not None:
                    kind.histogram(histogram, kind.call).observe(count)

    def _turn(self, kind: _Kind, attributes: Mapping[str, Any], *, failed: bool, moment: Moment | None) -> None:
        """A call that is a step of an agent's work."""
        get = attributes.get
        first_s, end_s = get(semconv.TIME_FIRST_OUTPUT), get(semconv.TIME_END)
        if first_s is not None and not failed:
            kind.histogram(metric.TTFT, kind.experience).observe(first_s, moment)
            if (speed_tps := output_speed_tps(attributes)) is not None:
                kind.histogram(metric.OUTPUT_SPEED, kind.experience).observe(speed_tps, moment)
        if end_s is not None:
            of_model = (kind.model,)
            if first_s is not None:
                kind.number(metric.AGENT_TIME, of_model, semconv.AgentState.TTFT).value += first_s
                kind.number(metric.AGENT_TIME, of_model, semconv.AgentState.DECODE).value += end_s - first_s
            else:
                kind.number(metric.AGENT_TIME, of_model, semconv.AgentState.CALL).value += end_s
        if get(semconv.ATTEMPT_INDEX):
            kind.number(metric.RETRIES, kind.of_model).value += 1
        cached, tokens = get(semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS), get(semconv.GEN_AI_USAGE_INPUT_TOKENS)
        if cached is not None and tokens is not None:
            depth = DEPTH_CLASSES[bisect_right(DEPTHS, get(semconv.TURN_INDEX, 0))]
            kind.number(metric.PREFIX_CACHE_INPUT_TOKENS, (kind.model,), depth).value += tokens
            kind.number(metric.PREFIX_CACHE_CACHED_TOKENS, (kind.model,), depth).value += cached

    def _misses(self, kind: _Kind, told: Figures) -> bool:
        """Judge a call; returns whether it misses a tier."""
        has_missed = False
        for judge in kind.judges:
            of_tier, verdicts = (judge.tier.label, kind.model), judge.verdicts(told)
            is_met = judge.meets(told, verdicts)
            has_missed = has_missed or not is_met
            self._number(metric.SLO_CALLS, (*of_tier, MET[is_met])).value += 1
            for bound, verdict in zip(judge.bounds, verdicts, strict=True):
                if verdict is not None:
                    self._number(metric.SLO_TARGET_CALLS, (*of_tier, bound.name, MET[verdict])).value += 1
            self._number(metric.SLO_TARGET_CALLS, (*of_tier, ERROR_RATE, MET[not told.failed])).value += 1
        return has_missed

    def _spent(self, model: str, state: str, seconds: float) -> None:
        self._number(metric.AGENT_TIME, (model, state)).value += seconds


def _begin(registry: Registry, model: str, judges: Sequence[Judge]) -> None:
    """Let the series of a model begin at 0 that are divided by one another, so that no share of them is missing."""
    registry.number(metric.CALLS_INFLIGHT, (model,))
    for judge in judges:
        tier = judge.tier.label
        for met in MET.values():
            registry.number(metric.SLO_CALLS, (tier, model, met))
            for target in (*[bound.name for bound in judge.bounds], ERROR_RATE):
                registry.number(metric.SLO_TARGET_CALLS, (tier, model, target, met))


def _moment(span: ReadableSpan) -> Moment:
    assert span.context is not None
    return span.context, span.end_time or 0
