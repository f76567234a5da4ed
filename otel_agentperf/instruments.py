"""The metrics that a running proxy exports: by OTLP under these names, on `/metrics` under their Prometheus names.

A name in Prometheus is what an OpenTelemetry Collector makes of ours: dots become underscores, the unit is appended,
counters end in `_total`; attributes become labels likewise. So a dashboard works on both ways.

Names under `gen_ai.` follow the GenAI conventions. Those that were renamed are there twice, of the `new` and of the
`old` generation; `--metric-names` says which are exported. Attributes are bounded: what exceeds `LIMITS` becomes
`OTHER`, and is counted (`METRICS_OVERFLOWS`). Ids of trajectories, runs, requests and users are never attributes of
metrics; exemplars lead from a histogram's bucket to a span.

"Call" is one HTTP exchange with an inference endpoint, an attempt; a "turn" is a call that is a step of an agent's
work, not one beside it (a title, a summary, a token count). The clock is monotonic and starts when the proxy has the
request's head.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from otel_agentperf import semconv

OTHER: Final = "other"
"""Value of an attribute that has no room for another value."""


class Kind(StrEnum):
    """What an instrument measures."""

    COUNTER = "counter"
    """A sum that only grows."""
    UP_DOWN = "up-down counter"
    """A number of things that are there now; those of several proxies add up. A gauge in Prometheus."""
    GAUGE = "gauge"
    """A value that does not add up."""
    HISTOGRAM = "histogram"


class Generation(StrEnum):
    """Of the conventions that a name is of; see `--metric-names`."""

    BOTH = "both"
    NEW = "new"
    OLD = "old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One metric."""

    name: str
    kind: Kind
    unit: str
    """UCUM, as OpenTelemetry has it: `s`, `By`, `{call}`, `1` for ratios, empty for none."""
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, inclusive, without the last, infinite one; of histograms."""
    generation: Generation = Generation.BOTH

    @property
    def prometheus_name(self) -> str:
        """As on `/metrics`, and as a Collector makes it of the OTLP name; without the suffixes of histograms."""
        return prometheus_name(self.name, self.unit, self.kind)


_UNITS: Final = {"s": "seconds", "By": "bytes", "%": "percent"}
_PER: Final = {"s": "second", "h": "hour"}


def prometheus_name(name: str, unit: str, kind: Kind) -> str:
    """The Prometheus name of a metric, by the rules of OpenTelemetry's compatibility specification."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    main, _, per = unit.partition("/")
    suffixes = []
    if main in _UNITS:
        suffixes.append(_UNITS[main])
    elif main == "1" and kind is Kind.GAUGE:
        suffixes.append("ratio")
    if per:
        suffixes += ["per", _PER[per]]
    words += [] if words[-len(suffixes) :] == suffixes else suffixes
    if kind is Kind.COUNTER:
        words = [*(word for word in words if word != "total"), "total"]
    return "_".join(words)


def prometheus_label(attribute: str) -> str:
    """The Prometheus label of an attribute."""
    return re.sub(r"[^A-Za-z0-9_]", "_", attribute)


# --- Attributes

LIMITS: Final[Mapping[str, int]] = {
    semconv.GEN_AI_REQUEST_MODEL: 64,
    semconv.GEN_AI_RESPONSE_MODEL: 64,
    semconv.GEN_AI_PROVIDER_NAME: 16,
    semconv.GEN_AI_AGENT_NAME: 64,
    semconv.GEN_AI_TOOL_NAME: 128,
    semconv.SERVER_ADDRESS: 32,
    semconv.SERVER_PORT: 32,
    semconv.ERROR_TYPE: 64,
}
"""Values of an attribute that are told apart, the first ones that came; all others are `OTHER`. Attributes that are not
listed have values of a closed set, or are configured."""

MAX_SERIES: Final = 2000
"""Combinations of values of one instrument, as in OpenTelemetry's SDKs; further ones are `OTHER` in all attributes of
`LIMITS`."""

_MODEL: Final = (semconv.GEN_AI_PROVIDER_NAME, semconv.GEN_AI_REQUEST_MODEL)
_CALL: Final = (
    semconv.GEN_AI_OPERATION_NAME,
    *_MODEL,
    semconv.GEN_AI_RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)

# --- Bounds of buckets

DOUBLING_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Of the conventions, for calls and tools."""

RUN_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
"""Of the conventions, for agent runs."""

TOKENS: Final = tuple(float(4**power) for power in range(14))
"""Of the conventions: powers of 4 from 1 to 67108864."""

TTFT_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
"""Holds the bounds of the preset tiers, so that the share within one is exact."""

SPEED_TPS: Final = (
    *(2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 60.0, 80.0, 100.0, 140.0, 180.0, 250.0, 300.0, 400.0, 500.0, 750.0),
    *(1000.0, 2000.0, 4000.0),
)
"""Holds the bounds of the preset tiers, so that the share within one is exact."""

OVERHEAD_S: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)

COUNTS: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

# --- GenAI conventions

CLIENT_INFERENCE_DURATION: Final = Instrument(
    name="gen_ai.client.inference.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time from a call's request head to the end of its response; calls for embeddings are not in it.",
    attributes=(*_CALL, semconv.ERROR_TYPE),
    buckets=DOUBLING_S,
    generation=Generation.NEW,
)

CLIENT_OPERATION_DURATION: Final = Instrument(
    name="gen_ai.client.operation.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time from a call's request head to the end of its response.",
    attributes=(*_CALL, semconv.ERROR_TYPE),
    buckets=DOUBLING_S,
    generation=Generation.OLD,
)

CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK: Final = Instrument(
    name="gen_ai.client.inference.time_to_first_chunk",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time from a call's request head to the first chunk of its response; streams only.",
    attributes=_CALL,
    buckets=DOUBLING_S,
    generation=Generation.NEW,
)

CLIENT_OPERATION_TIME_TO_FIRST_CHUNK: Final = Instrument(
    name="gen_ai.client.operation.time_to_first_chunk",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time from a call's request head to the first chunk of its response; streams only.",
    attributes=_CALL,
    buckets=DOUBLING_S,
    generation=Generation.OLD,
)

CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK: Final = Instrument(
    name="gen_ai.client.inference.time_per_output_chunk",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time between one output chunk of a stream and the next, one value for each.",
    attributes=_CALL,
    buckets=DOUBLING_S,
    generation=Generation.NEW,
)

CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK: Final = Instrument(
    name="gen_ai.client.operation.time_per_output_chunk",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time between one output chunk of a stream and the next, one value for each.",
    attributes=_CALL,
    buckets=DOUBLING_S,
    generation=Generation.OLD,
)

_USAGE: Final = (*_CALL, semconv.GEN_AI_TOKEN_MODALITY)

CLIENT_INFERENCE_INPUT_TOKENS: Final = Instrument(
    name="gen_ai.client.inference.usage.input_tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    description="Prompt tokens, cached ones included, as the server counted them.",
    attributes=_USAGE,
    generation=Generation.NEW,
)

CLIENT_INFERENCE_OUTPUT_TOKENS: Final = Instrument(
    name="gen_ai.client.inference.usage.output_tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    description="Generated tokens, reasoning included, as the server counted them.",
    attributes=_USAGE,
    generation=Generation.NEW,
)

CLIENT_INFERENCE_CACHE_READ_TOKENS: Final = Instrument(
    name="gen_ai.client.inference.usage.cache_read.input_tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    description="Of the prompt tokens, those served from the cache.",
    attributes=_USAGE,
    generation=Generation.NEW,
)

CLIENT_INFERENCE_CACHE_WRITE_TOKENS: Final = Instrument(
    name="gen_ai.client.inference.usage.cache_write.input_tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    description="Of the prompt tokens, those written to the cache.",
    attributes=_USAGE,
    generation=Generation.NEW,
)

CLIENT_INFERENCE_REASONING_TOKENS: Final = Instrument(
    name="gen_ai.client.inference.usage.reasoning.output_tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    description="Of the generated tokens, those that are reasoning.",
    attributes=_USAGE,
    generation=Generation.NEW,
)

CLIENT_INFERENCE_OPERATION_INPUT_TOKENS: Final = Instrument(
    name="gen_ai.client.inference.operation.input_tokens",
    kind=Kind.HISTOGRAM,
    unit="{token}",
    description="Prompt tokens of a call.",
    attributes=_CALL,
    buckets=TOKENS,
    generation=Generation.NEW,
)

CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS: Final = Instrument(
    name="gen_ai.client.inference.operation.output_tokens",
    kind=Kind.HISTOGRAM,
    unit="{token}",
    description="Generated tokens of a call.",
    attributes=_CALL,
    buckets=TOKENS,
    generation=Generation.NEW,
)

CLIENT_TOKEN_USAGE: Final = Instrument(
    name="gen_ai.client.token.usage",
    kind=Kind.HISTOGRAM,
    unit="{token}",
    description="Prompt and generated tokens of a call, by type.",
    attributes=(*_CALL, semconv.GEN_AI_TOKEN_TYPE),
    buckets=TOKENS,
    generation=Generation.OLD,
)

INVOKE_AGENT_DURATION: Final = Instrument(
    name="gen_ai.invoke_agent.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time of an agent run: its first request to its final answer, or its last activity.",
    attributes=(semconv.GEN_AI_AGENT_NAME, semconv.ERROR_TYPE),
    buckets=RUN_S,
)

INVOKE_AGENT_INFERENCE_CALLS: Final = Instrument(
    name="gen_ai.invoke_agent.inference_calls",
    kind=Kind.HISTOGRAM,
    unit="{call}",
    description="Turns of an agent run.",
    attributes=(semconv.GEN_AI_AGENT_NAME,),
    buckets=COUNTS,
)

INVOKE_AGENT_TOOL_CALLS: Final = Instrument(
    name="gen_ai.invoke_agent.tool_calls",
    kind=Kind.HISTOGRAM,
    unit="{call}",
    description="Tool calls of an agent run.",
    attributes=(semconv.GEN_AI_AGENT_NAME,),
    buckets=COUNTS,
)

EXECUTE_TOOL_DURATION: Final = Instrument(
    name="gen_ai.execute_tool.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time of a tool call: the end of the response that asked for it to the request with its result.",
    attributes=(semconv.GEN_AI_TOOL_NAME, semconv.GEN_AI_AGENT_NAME, semconv.ERROR_TYPE),
    buckets=DOUBLING_S,
)

# --- What agents experience

TTFT: Final = Instrument(
    name="agentperf.ttft",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time to the first output (content, reasoning or tool call) of a turn that ended well; streams only.",
    attributes=(*_MODEL, semconv.GEN_AI_AGENT_NAME),
    buckets=TTFT_S,
)

OUTPUT_SPEED: Final = Instrument(
    name="agentperf.output_speed",
    kind=Kind.HISTOGRAM,
    unit="{token}/s",
    description="(Output tokens - 1) / time from the first to the last output, of a turn that ended well; streams with "
    "token counts from the server only.",
    attributes=(*_MODEL, semconv.GEN_AI_AGENT_NAME),
    buckets=SPEED_TPS,
)

CALLS: Final = Instrument(
    name="agentperf.calls",
    kind=Kind.COUNTER,
    unit="{call}",
    description="Calls that ended, by how they ended; exchanges that are no inference calls have no model.",
    attributes=(*_MODEL, semconv.GEN_AI_AGENT_NAME, semconv.TURN_KIND, semconv.STATUS),
)

ERRORS: Final = Instrument(
    name="agentperf.errors",
    kind=Kind.COUNTER,
    unit="{call}",
    description="Calls that failed, broke off or were given up by the client, by type.",
    attributes=(*_MODEL, semconv.ERROR_TYPE),
)

RETRIES: Final = Instrument(
    name="agentperf.retries",
    kind=Kind.COUNTER,
    unit="{call}",
    description="Calls that try a turn again.",
    attributes=_MODEL,
)

AGENT_TIME: Final = Instrument(
    name="agentperf.agent.time",
    kind=Kind.COUNTER,
    unit="s",
    description="Time of agents by what they were doing: `ttft` (waiting for the first output), `decode` (first output "
    "to the end), `call` (a call that was not streamed, or failed), `tool`, `harness` (between calls, no tool known), "
    "`idle` (between runs, for a human; at most the idle limit each time). Counted when it is over.",
    attributes=(semconv.GEN_AI_REQUEST_MODEL, semconv.AGENT_STATE),
)

PREFIX_CACHE_INPUT_TOKENS: Final = Instrument(
    name="agentperf.prefix_cache.input_tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    description="Prompt tokens of turns whose server tells how many came from its cache.",
    attributes=(semconv.GEN_AI_REQUEST_MODEL, semconv.TURN_DEPTH),
)

PREFIX_CACHE_CACHED_TOKENS: Final = Instrument(
    name="agentperf.prefix_cache.cached_tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    description="Of these, the tokens that came from the cache.",
    attributes=(semconv.GEN_AI_REQUEST_MODEL, semconv.TURN_DEPTH),
)

PROXY_OVERHEAD: Final = Instrument(
    name="agentperf.proxy.overhead",
    kind=Kind.HISTOGRAM,
    unit="s",
    description="Time that the proxy itself adds to a call (`agentperf.proxy.overhead_s`).",
    buckets=OVERHEAD_S,
)

AGENTS_ACTIVE: Final = Instrument(
    name="agentperf.agents.active",
    kind=Kind.UP_DOWN,
    unit="{agent}",
    description="Agents at work, tool calls included: trajectories with a run that has not given its final answer. "
    "`agentperf.agent.kind` is `agent`, or `sub_agent` for those that another agent started.",
    attributes=(semconv.GEN_AI_REQUEST_MODEL, semconv.GEN_AI_AGENT_NAME, semconv.AGENT_KIND),
)

CALLS_INFLIGHT: Final = Instrument(
    name="agentperf.calls.inflight",
    kind=Kind.UP_DOWN,
    unit="{call}",
    description="Inference calls whose request was read and whose end has not come.",
    attributes=(semconv.GEN_AI_REQUEST_MODEL,),
)

# --- SLO (only with `--slo`) and capacity (only with `--capacity`)

SLO_CALLS: Final = Instrument(
    name="agentperf.slo.calls",
    kind=Kind.COUNTER,
    unit="{call}",
    description="Calls of turns, judged by a tier as goodput is: `agentperf.slo.met` is `true` when all targets are "
    "met. Failed calls miss, those that clients gave up too. A turn that is tried again counts once for each call.",
    attributes=(semconv.SLO_TIER, semconv.GEN_AI_REQUEST_MODEL, semconv.SLO_MET),
)

SLO_TARGET_CALLS: Final = Instrument(
    name="agentperf.slo.target.calls",
    kind=Kind.COUNTER,
    unit="{call}",
    description="The same for each target by itself, over the calls that have a value; target `error_rate` is over all "
    "calls, and a failed one misses it.",
    attributes=(semconv.SLO_TIER, semconv.GEN_AI_REQUEST_MODEL, semconv.SLO_TARGET, semconv.SLO_MET),
)

SLO_OBJECTIVE: Final = Instrument(
    name="agentperf.slo.objective",
    kind=Kind.GAUGE,
    unit="1",
    description="Share of calls that have to meet a target: 0.95 for a bound on P95 from above, 0.75 for one on P25 "
    "from below, 1 - the most errors for `error_rate`.",
    attributes=(semconv.SLO_TIER, semconv.SLO_TARGET),
)

SLO_BOUND: Final = Instrument(
    name="agentperf.slo.bound",
    kind=Kind.GAUGE,
    unit="",
    description="The bound of a target, in s or tokens per second.",
    attributes=(semconv.SLO_TIER, semconv.SLO_TARGET),
)

CAPACITY: Final = Instrument(
    name="agentperf.capacity",
    kind=Kind.UP_DOWN,
    unit="{agent}",
    description="Agents that the deployment holds, as `--capacity` says.",
)

CAPACITY_HEADROOM: Final = Instrument(
    name="agentperf.capacity.headroom",
    kind=Kind.UP_DOWN,
    unit="{agent}",
    description="Capacity - active agents, sub-agents included; negative when there are more.",
)

# --- The proxy itself

BUILD_INFO: Final = Instrument(
    name="agentperf.build_info",
    kind=Kind.GAUGE,
    unit="",
    description="1, with the version.",
    attributes=(semconv.SERVICE_VERSION,),
)

PROXY_UPTIME: Final = Instrument(
    name="agentperf.proxy.uptime", kind=Kind.GAUGE, unit="s", description="Time since the proxy was started."
)

PROXY_EXCHANGES: Final = Instrument(
    name="agentperf.proxy.exchanges",
    kind=Kind.COUNTER,
    unit="{exchange}",
    description="HTTP exchanges that ended, by how they ended.",
    attributes=(semconv.WORKER, semconv.EXCHANGE_OUTCOME),
)

PROXY_EXCHANGES_INFLIGHT: Final = Instrument(
    name="agentperf.proxy.exchanges.inflight",
    kind=Kind.UP_DOWN,
    unit="{exchange}",
    description="HTTP exchanges that are open.",
    attributes=(semconv.WORKER,),
)

PROXY_WEBSOCKETS_OPEN: Final = Instrument(
    name="agentperf.proxy.websockets.open",
    kind=Kind.UP_DOWN,
    unit="{connection}",
    description="Of the open exchanges, those that became WebSockets.",
    attributes=(semconv.WORKER,),
)

PROXY_RESPONSES: Final = Instrument(
    name="agentperf.proxy.responses",
    kind=Kind.COUNTER,
    unit="{response}",
    description="Response heads sent to clients, by HTTP status.",
    attributes=(semconv.WORKER, semconv.HTTP_RESPONSE_STATUS_CODE),
)

PROXY_ERRORS: Final = Instrument(
    name="agentperf.proxy.errors",
    kind=Kind.COUNTER,
    unit="{error}",
    description="Failures of upstreams and of the relay itself, by type.",
    attributes=(semconv.WORKER, semconv.ERROR_TYPE),
)

PROXY_USAGE_CHUNKS: Final = Instrument(
    name="agentperf.proxy.usage_chunks",
    kind=Kind.COUNTER,
    unit="{chunk}",
    description="Chunks with token counts that clients did not ask for: asked for, and hidden.",
    attributes=(semconv.WORKER, semconv.USAGE_STEP),
)

RELAY_UP: Final = Instrument(
    name="agentperf.relay.up",
    kind=Kind.GAUGE,
    unit="",
    description="1 when the relay answers, else 0.",
    attributes=(semconv.WORKER,),
)

RELAY_RESTARTS: Final = Instrument(
    name="agentperf.relay.restarts",
    kind=Kind.COUNTER,
    unit="{restart}",
    description="Relays that died and were replaced.",
)

CHANNEL_FRAMES: Final = Instrument(
    name="agentperf.channel.frames",
    kind=Kind.COUNTER,
    unit="{frame}",
    description="Observations handed to the observer.",
    attributes=(semconv.WORKER,),
)

CHANNEL_FRAMES_DROPPED: Final = Instrument(
    name="agentperf.channel.frames_dropped",
    kind=Kind.COUNTER,
    unit="{frame}",
    description="Observations that did not fit, or that no observer took; the bytes went on.",
    attributes=(semconv.WORKER,),
)

CHANNEL_CALLS_LOST: Final = Instrument(
    name="agentperf.channel.calls_lost",
    kind=Kind.COUNTER,
    unit="{call}",
    description="Calls that leave no span.",
    attributes=(semconv.WORKER,),
)

CHANNEL_WAITING: Final = Instrument(
    name="agentperf.channel.waiting",
    kind=Kind.UP_DOWN,
    unit="By",
    description="Observations that wait for the observer.",
    attributes=(semconv.WORKER,),
)

OBSERVER_UP: Final = Instrument(
    name="agentperf.observer.up", kind=Kind.GAUGE, unit="", description="1 when the observer answers, else 0."
)

OBSERVER_RESTARTS: Final = Instrument(
    name="agentperf.observer.restarts",
    kind=Kind.COUNTER,
    unit="{restart}",
    description="Observers that died and were replaced; what the observer counts then begins anew.",
)

OBSERVER_ERRORS: Final = Instrument(
    name="agentperf.observer.errors",
    kind=Kind.COUNTER,
    unit="{error}",
    description="Failures of the observer itself, by kind.",
    attributes=(semconv.FAILURE_KIND,),
)

UNREADABLE_BODIES: Final = Instrument(
    name="agentperf.unreadable_bodies",
    kind=Kind.COUNTER,
    unit="{body}",
    description="Bodies that came whole and could not be read, by dialect.",
    attributes=(semconv.DIALECT,),
)

OPEN_CALLS: Final = Instrument(
    name="agentperf.open_calls",
    kind=Kind.UP_DOWN,
    unit="{call}",
    description="Exchanges, inference calls or not, whose end has not come to the observer.",
)

OUTCOMES: Final = Instrument(
    name="agentperf.outcomes",
    kind=Kind.COUNTER,
    unit="{outcome}",
    description="Outcomes told by `POST /outcome`.",
)

TRAJECTORIES_KNOWN: Final = Instrument(
    name="agentperf.trajectories.known",
    kind=Kind.UP_DOWN,
    unit="{trajectory}",
    description="Trajectories remembered.",
)

TRAJECTORY_EVICTIONS: Final = Instrument(
    name="agentperf.trajectory.evictions",
    kind=Kind.COUNTER,
    unit="{trajectory}",
    description="Trajectories forgotten for room.",
)

SPANS: Final = Instrument(name="agentperf.spans", kind=Kind.COUNTER, unit="{span}", description="Spans made.")

STORE_SPANS_WRITTEN: Final = Instrument(
    name="agentperf.store.spans_written",
    kind=Kind.COUNTER,
    unit="{span}",
    description="Spans written to the store.",
)

STORE_SPANS_LOST: Final = Instrument(
    name="agentperf.store.spans_lost",
    kind=Kind.COUNTER,
    unit="{span}",
    description="Spans that the store could not take.",
)

EXPORT_SPANS_EXPORTED: Final = Instrument(
    name="agentperf.export.spans_exported",
    kind=Kind.COUNTER,
    unit="{span}",
    description="Spans exported by OTLP.",
)

EXPORT_SPANS_FAILED: Final = Instrument(
    name="agentperf.export.spans_failed",
    kind=Kind.COUNTER,
    unit="{span}",
    description="Spans that no collector took.",
)

EXPORT_SPANS_DROPPED: Final = Instrument(
    name="agentperf.export.spans_dropped",
    kind=Kind.COUNTER,
    unit="{span}",
    description="Spans that the export had no room for.",
)

EXPORT_SPANS_UNSAMPLED: Final = Instrument(
    name="agentperf.export.spans_unsampled",
    kind=Kind.COUNTER,
    unit="{span}",
    description="Spans that the sampler kept out of the export; the store has them.",
)

EXPORT_SPANS_WAITING: Final = Instrument(
    name="agentperf.export.spans_waiting",
    kind=Kind.UP_DOWN,
    unit="{span}",
    description="Spans that wait for their export.",
)

EXPORT_RUNS_KEPT: Final = Instrument(
    name="agentperf.export.runs_kept",
    kind=Kind.COUNTER,
    unit="{run}",
    description="Agent runs that the sampler left out, and that were exported for what happened in them.",
)

EXPORT_RUNS_LET_GO: Final = Instrument(
    name="agentperf.export.runs_let_go",
    kind=Kind.COUNTER,
    unit="{run}",
    description="Agent runs that the sampler left out, and that were given up before their end for want of room.",
)

EXPORT_LOGS_DROPPED: Final = Instrument(
    name="agentperf.export.logs_dropped",
    kind=Kind.COUNTER,
    unit="{record}",
    description="Log records that the export had no room for, or that no collector took.",
)

METRICS_OVERFLOWS: Final = Instrument(
    name="agentperf.metrics.overflows",
    kind=Kind.COUNTER,
    unit="{value}",
    description="Values counted under `other` because an attribute, or (`series`) an instrument, had no room for them.",
    attributes=(semconv.OVERFLOWED,),
)


def instruments() -> tuple[Instrument, ...]:
    """All instruments, in the order of this module."""
    return tuple(value for value in globals().values() if isinstance(value, Instrument))
