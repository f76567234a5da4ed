"""From facts to spans: `ReadableSpan` objects built directly, with the ids that were forwarded long before.

    invoke_agent {agent}     the run's root, written when the run ends
    ├── chat {model}         one per HTTP exchange; keeps the span id that the upstream got
    └── execute_tool {tool}

A client that sent a context wins: its span is then the parent of the call's, which links to its run where that lives
in another trace. Links also: run to previous run, run of a child to the parent's tool, retry to first attempt, and the
forwarded context where a call lives in another trace than it.
"""

import secrets
from collections.abc import Sequence
from functools import cache
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_agentperf import __version__, semconv
from otel_agentperf_proxy.attributes import Attributes, clean, put, tag_attributes, text
from otel_agentperf_proxy.calls import Call, header
from otel_agentperf_proxy.clock import WallClock
from otel_agentperf_proxy.facts import RequestFacts, ResponseFacts, Usage
from otel_agentperf_proxy.frames import End, TaskOutcome
from otel_agentperf_proxy.metrics.slo import Judge, figures
from otel_agentperf_proxy.rate_limits import limit_attributes
from otel_agentperf_proxy.resource import resource as own_resource
from otel_agentperf_proxy.shape import shape_of
from otel_agentperf_proxy.timing import output_times, seconds
from otel_agentperf_proxy.trajectory import Placement, Run, ToolSpan
from otel_agentperf_proxy.trajectory.link_keys import LinkKeys
from otel_agentperf_proxy.trajectory.state import derived_id

SCOPE: Final = InstrumentationScope(semconv.SCOPE_NAME, __version__, semconv.SCHEMA_URL)

HTTP_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
"""Methods that the HTTP conventions know; any other one is `_OTHER`, and its span is named `HTTP`."""

OTHER_METHOD: Final = "_OTHER"

FAILED: Final = frozenset((semconv.Status.ERROR, semconv.Status.CANCELLED, semconv.Status.TRUNCATED))
"""Outcomes that make a span's status an error. Abandoned runs and partial calls tell no failure."""

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)


class Spans:
    """Makes the spans of one writer.

    Args:
        resource: of the writer.
        clock: anchors monotonic times.
        provider: value of `gen_ai.provider.name`; None takes the dialect's.
        shape_key: key of the hashes of messages (`shape`); None leaves shapes out.
        link_key: key of the link keys; None leaves them out.
        judges: of the SLO tiers that turns are held to.
    """

    def __init__(
        self,
        resource: Resource,
        clock: WallClock,
        *,
        provider: str | None = None,
        shape_key: bytes | None = None,
        link_key: bytes | None = None,
        judges: Sequence[Judge] = (),
    ) -> None:
        self._resource = resource
        self._clock = clock
        self._provider = provider
        self._shape_key = shape_key
        self._link_keys = LinkKeys(link_key) if link_key else None
        self._judges = judges

    def call(self, call: Call) -> ReadableSpan:
        """The CLIENT span of an exchange that ended, or that will not be told the end of."""
        opened, placement = call.opened, call.placement
        attributes: Attributes = {}
        if call.request is not None:
            self._put_request(attributes, call, call.request)
        if placement is not None:
            _put_placement(attributes, placement, call.request)
            if self._link_keys is not None and call.request is not None:
                keys = self._link_keys.of(
                    opened.tenant, placement, call.identity, call.request, call.response, call.status
                )
                put(attributes, semconv.LINK_KEYS, keys or None)
        attributes |= tag_attributes(opened.tags)
        put(attributes, semconv.TENANT, opened.tenant or None)
        _put_exchange(attributes, call)
        if call.response is not None:
            _put_response(attributes, call.response, call.t0_ns)
        elif call.request is not None:
            attributes[semconv.USAGE_SOURCE] = semconv.USAGE_NONE
        put(attributes, semconv.FRAMES_DROPPED, call.parts_missed or None)
        if call.end is not None:
            _put_end(attributes, call.end, call)
        if self._judges and placement is not None and placement.turn is not None:
            self._put_verdict(attributes, call)

        trace_id = opened.trace_id
        parent = None
        links = []
        if opened.parent_span_id is not None:
            parent = _context(trace_id, opened.parent_span_id, remote=True, state=opened.tracestate)
            if placement is not None and placement.run.trace_id != trace_id:
                links.append(Link(_context(placement.run.trace_id, placement.run.root_span_id)))
        elif placement is not None:
            trace_id = placement.run.trace_id
            parent = _context(trace_id, placement.run.root_span_id)
            if trace_id != opened.trace_id and call.connection is None:
                links.append(Link(_context(opened.trace_id, opened.span_id)))
        if call.connection is not None:
            links.append(Link(_context(*call.connection)))
        if placement is not None and placement.first_attempt is not None:
            links.append(Link(_context(*placement.first_attempt)))
        return self._span(
            _call_name(call),
            SpanKind.CLIENT,
            _context(trace_id, opened.span_id, state=opened.tracestate),
            parent,
            call.t0_ns,
            call.end_ns or call.last_ns,
            attributes,
            links,
            failed=call.status in FAILED,
        )

    def orphan(self, end: End, end_ns: int) -> ReadableSpan:
        """The CLIENT span of an exchange of which nothing came but its END: its t0 and its ids are not known."""
        attributes: Attributes = {semconv.STATUS: semconv.Status.PARTIAL}
        put(attributes, semconv.HTTP_RESPONSE_STATUS_CODE, end.status)
        attributes[semconv.REQUEST_BYTES] = end.request_bytes
        attributes[semconv.RESPONSE_BYTES] = end.response_bytes
        attributes[semconv.FRAMES_DROPPED] = end.dropped_frames + 1
        known = [time_ns for time_ns in (end.sent_ns, end.first_chunk_ns) if time_ns is not None]
        context = _context(secrets.token_bytes(16), secrets.token_bytes(8))
        return self._span("HTTP", SpanKind.CLIENT, context, None, min([*known, end_ns]), end_ns, attributes, [])

    def tool(self, tool: ToolSpan) -> ReadableSpan:
        """The INTERNAL span of a tool execution."""
        run = tool.run
        attributes: Attributes = {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_EXECUTE_TOOL,
            semconv.GEN_AI_TOOL_NAME: tool.name,
            semconv.GEN_AI_TOOL_TYPE: "function",
        }
        put(attributes, semconv.GEN_AI_TOOL_CALL_ID, tool.call_id)
        _put_run(attributes, run)
        attributes[semconv.TOOL_TURN_ID] = tool.turn_id
        attributes[semconv.TURN_INDEX] = tool.turn_index
        attributes[semconv.TOOL_DURATION_SOURCE] = tool.duration_source
        put(attributes, semconv.TOOL_ERROR, tool.is_error or None)
        put(attributes, semconv.TOOL_REPEATED, tool.repeated or None)
        if tool.is_error:
            attributes[semconv.ERROR_TYPE] = semconv.ErrorType.TOOL
        return self._span(
            f"{semconv.OPERATION_EXECUTE_TOOL} {tool.name}",
            SpanKind.INTERNAL,
            _context(run.trace_id, tool.span_id),
            _context(run.trace_id, tool.parent_span_id),
            tool.start_ns,
            tool.end_ns,
            attributes,
            [],
            failed=tool.is_error,
        )

    def run(self, run: Run) -> ReadableSpan:
        """The INTERNAL root span of an agent run that ended."""
        attributes: Attributes = {semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_AGENT}
        put(attributes, semconv.GEN_AI_CONVERSATION_ID, run.session_id)
        _put_run(attributes, run)
        attributes[semconv.TRAJECTORY_SOURCE] = run.source
        attributes[semconv.TRAJECTORY_CONFIDENCE] = run.confidence
        attributes[semconv.STATUS] = run.status
        links = [Link(_context(*other)) for other in (run.previous_run, run.parent_link) if other is not None]
        parent = _context(run.trace_id, run.parent_span_id, remote=True) if run.parent_span_id else None
        name = run.agent_name
        return self._span(
            f"{semconv.OPERATION_INVOKE_AGENT} {name}" if name else semconv.OPERATION_INVOKE_AGENT,
            SpanKind.INTERNAL,
            _context(run.trace_id, run.root_span_id),
            parent,
            run.started_ns,
            run.last_activity_ns,
            attributes,
            links,
            failed=run.status in FAILED,
        )

    def outcome(self, told: TaskOutcome, time_ns: int) -> ReadableSpan:
        """The INTERNAL span of an outcome that was told by itself; all of a trajectory share a trace."""
        attributes: Attributes = {
            semconv.GEN_AI_EVALUATION_NAME: semconv.EVALUATION_OUTCOME,
            semconv.GEN_AI_EVALUATION_SCORE_LABEL: told.outcome,
            semconv.TRAJECTORY_ID: told.trajectory_id,
            semconv.OUTCOME: told.outcome,
        }
        put(attributes, semconv.GEN_AI_EVALUATION_SCORE_VALUE, told.score)
        put(attributes, semconv.TENANT, told.tenant)
        context = _context(derived_id(16, "outcome", told.trajectory_id), secrets.token_bytes(8))
        return self._span(semconv.SPAN_EVALUATION, SpanKind.INTERNAL, context, None, time_ns, time_ns, attributes, [])

    def _put_request(self, attributes: Attributes, call: Call, request: RequestFacts) -> None:
        attributes[semconv.GEN_AI_OPERATION_NAME] = request.operation
        attributes[semconv.GEN_AI_PROVIDER_NAME] = self._provider or request.provider
        put(attributes, semconv.GEN_AI_REQUEST_MODEL, request.model)
        put(attributes, semconv.GEN_AI_REQUEST_STREAM, request.stream or None)
        attributes |= request.attributes
        put(attributes, semconv.GEN_AI_CONVERSATION_ID, call.session_id)
        attributes[semconv.DIALECT] = request.dialect
        if request.problem is None:
            attributes[semconv.MESSAGE_COUNT] = len(request.messages)
            attributes[semconv.CONTEXT_SYSTEM_BYTES] = request.system_bytes
            attributes[semconv.CONTEXT_TOOLS_BYTES] = request.tools_bytes
            attributes[semconv.CONTEXT_MESSAGES_BYTES] = request.message_bytes
            attributes[semconv.CONTEXT_TOOL_RESULTS_BYTES] = request.tool_result_bytes
            if self._shape_key is not None:
                attributes[semconv.SHAPE_MESSAGES] = shape_of(request.messages, self._shape_key)
        attributes |= request.content or {}

    def _put_verdict(self, attributes: Attributes, call: Call) -> None:
        model = (call.request.model if call.request is not None else None) or ""
        judges = [judge for judge in self._judges if judge.fits(model)]
        if judges:
            told = figures(attributes, failed=call.status in FAILED)
            missed = [judge.tier.label for judge in judges if not judge.meets(told, judge.verdicts(told))]
            attributes[semconv.SLO_MET] = not missed
            put(attributes, semconv.SLO_MISSED, missed or None)

    def _span(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        links: list[Link],
        *,
        failed: bool = False,
    ) -> ReadableSpan:
        start_unix_ns = self._clock.unix_ns(start_ns)
        return ReadableSpan(
            text(name),
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=clean(attributes),
            links=links,
            kind=kind,
            status=_ERROR if failed else _UNSET,
            start_time=start_unix_ns,
            end_time=start_unix_ns + max(end_ns - start_ns, 0),
            instrumentation_scope=SCOPE,
        )


def level_span(
    *,
    benchmark_id: str,
    level: int,
    start_unix_ns: int,
    end_unix_ns: int,
    completed_trajectories: int,
    preset: str | None = None,
    accelerator_count: int | None = None,
    power_mean_w: float | None = None,
    resource: Resource | None = None,
) -> ReadableSpan:
    """The span of one level of a benchmark; its bounds are the steady window. All levels share a trace."""
    attributes: Attributes = {
        semconv.BENCHMARK_ID: benchmark_id,
        semconv.LEVEL: level,
        semconv.LEVEL_COMPLETED: completed_trajectories,
    }
    put(attributes, semconv.LEVEL_PRESET, preset)
    put(attributes, semconv.ACCELERATOR_COUNT, accelerator_count)
    put(attributes, semconv.POWER_MEAN_W, power_mean_w)
    return ReadableSpan(
        semconv.SPAN_LEVEL,
        context=_context(derived_id(16, "benchmark", benchmark_id), secrets.token_bytes(8)),
        resource=resource or _replay_resource(),
        attributes=clean(attributes),
        kind=SpanKind.INTERNAL,
        status=_UNSET,
        start_time=start_unix_ns,
        end_time=end_unix_ns,
        instrumentation_scope=SCOPE,
    )


@cache
def _replay_resource() -> Resource:
    return own_resource("otel-agentperf-replay")


def _context(trace_id: bytes, span_id: bytes, *, remote: bool = False, state: str = "") -> SpanContext:
    return SpanContext(
        int.from_bytes(trace_id, "big"),
        int.from_bytes(span_id, "big"),
        remote,
        _SAMPLED,
        TraceState.from_header([state]) if state else None,
    )


def _call_name(call: Call) -> str:
    request = call.request
    if request is None:
        return call.opened.method if call.opened.method in HTTP_METHODS else "HTTP"
    return f"{request.operation} {request.model}" if request.model else request.operation


def _put_run(attributes: Attributes, run: Run) -> None:
    """What the spans of a run have in common."""
    put(attributes, semconv.GEN_AI_AGENT_NAME, run.agent_name)
    attributes[semconv.TRAJECTORY_ID] = run.trajectory_id
    put(attributes, semconv.TRAJECTORY_PARENT_ID, run.parent_trajectory_id)
    attributes[semconv.RUN_ID] = run.run_id
    attributes[semconv.RUN_INDEX] = run.run_index
    attributes[semconv.AGENT_DEPTH] = run.agent_depth
    attributes |= tag_attributes(run.tags)
    # Says something of one call, not of its run.
    attributes.pop(semconv.TRAJECTORY_FINAL, None)


def _put_placement(attributes: Attributes, placement: Placement, request: RequestFacts | None) -> None:
    _put_run(attributes, placement.run)
    attributes[semconv.TRAJECTORY_SOURCE] = placement.source
    attributes[semconv.TRAJECTORY_CONFIDENCE] = placement.confidence
    attributes[semconv.SEGMENT_INDEX] = placement.segment_index
    attributes[semconv.TURN_ID] = placement.turn_id
    put(attributes, semconv.TURN_INDEX, placement.turn_index)
    attributes[semconv.TURN_KIND] = placement.kind
    attributes[semconv.ATTEMPT_INDEX] = placement.attempt_index
    put(attributes, semconv.TRAJECTORY_FINAL, placement.final or None)
    if request is not None and request.problem is None:
        put(attributes, semconv.PREFIX_SHARED_BYTES, placement.shared_prefix_bytes)


def _put_exchange(attributes: Attributes, call: Call) -> None:
    opened = call.opened
    known = opened.method in HTTP_METHODS
    attributes[semconv.HTTP_REQUEST_METHOD] = opened.method if known else OTHER_METHOD
    put(attributes, semconv.HTTP_RESPONSE_STATUS_CODE, call.http_status)
    put(attributes, semconv.NETWORK_PROTOCOL_NAME, semconv.WEBSOCKET if call.connection is not None else None)
    attributes[semconv.URL_PATH] = opened.path
    attributes[semconv.SERVER_ADDRESS] = opened.server_address
    attributes[semconv.SERVER_PORT] = opened.server_port
    put(attributes, semconv.USER_AGENT_ORIGINAL, header(opened.headers, b"user-agent"))
    attributes[semconv.REQUEST_ID] = call.request_id
    attributes[semconv.STATUS] = call.status
    put(attributes, semconv.ERROR_TYPE, call.error_type)
    if call.head is not None:
        attributes |= limit_attributes(call.head.headers)


def _put_response(attributes: Attributes, facts: ResponseFacts, t0_ns: int) -> None:
    put(attributes, semconv.GEN_AI_RESPONSE_ID, facts.id)
    put(attributes, semconv.GEN_AI_RESPONSE_MODEL, facts.model)
    put(attributes, semconv.GEN_AI_RESPONSE_FINISH_REASONS, facts.finish_reasons or None)
    usage = facts.usage
    put(attributes, semconv.GEN_AI_USAGE_INPUT_TOKENS, usage.input)
    put(attributes, semconv.GEN_AI_USAGE_OUTPUT_TOKENS, usage.output)
    put(attributes, semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, usage.cached)
    put(attributes, semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS, usage.cache_write)
    put(attributes, semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, usage.reasoning)
    attributes[semconv.USAGE_SOURCE] = _usage_source(usage)
    attributes |= facts.attributes
    if facts.problem is None and (facts.tool_calls or (facts.terminal and facts.error_type is None)):
        attributes[semconv.TOOL_CALL_COUNT] = len(facts.tool_calls)
    attributes |= output_times(facts, t0_ns)
    attributes |= facts.content or {}


def _usage_source(usage: Usage) -> str:
    if usage.estimated:
        return semconv.USAGE_ESTIMATED
    told = usage.input is not None or usage.output is not None
    return semconv.USAGE_SERVER if told else semconv.USAGE_NONE


def _put_end(attributes: Attributes, end: End, call: Call) -> None:
    t0_ns = call.t0_ns
    attributes[semconv.REQUEST_BYTES] = end.request_bytes
    attributes[semconv.RESPONSE_BYTES] = end.response_bytes
    if end.first_chunk_ns is not None:
        attributes[semconv.TIME_FIRST_CHUNK] = seconds(end.first_chunk_ns - t0_ns)
        if call.response is not None and call.response.streamed:
            attributes[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = seconds(end.first_chunk_ns - t0_ns)
    if end.sent_ns is not None:
        attributes[semconv.TIME_SENT] = seconds(end.sent_ns - t0_ns)
    if call.end_ns is not None:
        attributes[semconv.TIME_END] = seconds(call.end_ns - t0_ns)
    attributes[semconv.UPLOAD_S] = seconds(end.upload_ns)
    if end.overhead_ns is not None:
        attributes[semconv.PROXY_OVERHEAD_S] = seconds(end.overhead_ns)
    put(attributes, semconv.BODY_UNREAD_BYTES, end.unread_bytes or None)
