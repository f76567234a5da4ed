"""Who and why, from Tempo by TraceQL.

Agent name, depth and the trajectory's id stand on every span, so the queries look at single spans: a run may lie in
several blocks of Tempo, and structural queries (`>>`) would miss parts.
"""

from grafana import JAEGER, dashboard, datasource, lines, link, row, table, text, textbox, trace, traceql

CALL = 'span.gen_ai.operation.name =~ "chat|text_completion|generate_content"'
TURN = f'{CALL} && span.agentperf.turn.kind = "turn"'
TOOL = 'span.gen_ai.operation.name = "execute_tool"'
CHOSEN = "($filter)"
BAD = 'span.agentperf.status != "ok"'
RUN = 'span.gen_ai.operation.name = "invoke_agent"'
FACTS = (
    "span.gen_ai.agent.name, span.gen_ai.request.model, span.agentperf.trajectory.id, span.agentperf.turn.index, "
    "span.agentperf.time.first_output, span.gen_ai.usage.input_tokens, span.gen_ai.usage.cache_read.input_tokens, "
    "span.gen_ai.usage.output_tokens, span.agentperf.status"
)
TRAJECTORY = link(
    "Open the trajectory", "/d/agentperf-trajectory?var-trajectory=${__value.raw}&from=${__from}&to=${__to}"
)
SEARCH_LINKS = (("traceID", [JAEGER]), ("traceIdHidden", [JAEGER]), ("agentperf.trajectory.id", [TRAJECTORY]))

WHO = [
    text(
        '*Only spans with* is a TraceQL condition, such as `span.gen_ai.agent.name = "claude-code"`, '
        '`span.gen_ai.request.model =~ "gpt-oss.*"`, `span.agentperf.benchmark.id = "..."`.'
    ),
    row("Who"),
    lines(
        "Time to first token by agent",
        traceql(
            f"{{ {TURN} && {CHOSEN} }} | quantile_over_time(span.agentperf.time.first_output, 0.5, 0.95)"
            " by (span.gen_ai.agent.name)"
        ),
        unit="s",
    ),
    lines(
        "Time to first chunk by agent",
        traceql(
            f"{{ {CALL} && {CHOSEN} }} | quantile_over_time(span.gen_ai.response.time_to_first_chunk, 0.5, 0.95)"
            " by (span.gen_ai.agent.name)"
        ),
        unit="s",
    ),
    lines(
        "Tools",
        traceql(f"{{ {TOOL} && {CHOSEN} }} | quantile_over_time(duration, 0.5, 0.95) by (span.gen_ai.tool.name)"),
        unit="s",
    ),
    lines(
        "Calls that did not end well",
        traceql(f"{{ {CALL} && {CHOSEN} && {BAD} }} | rate() by (span.agentperf.status, span.error.type)"),
        unit="cps",
    ),
]

WHY = [
    row("Why"),
    table(
        "What slow turns have in common",
        traceql(f"{{ {TURN} && {CHOSEN} }} | compare({{ span.agentperf.time.first_output > $slow }})", instant=True),
        description="Attributes of turns slower than `slow` seconds (selection) beside all others (baseline).",
    ),
    table(
        "The slowest turns",
        traceql(f"{{ {TURN} && {CHOSEN} && span.agentperf.time.first_output > $slow }} | select({FACTS})", spans=True),
        links=SEARCH_LINKS,
    ),
    table(
        "Turns that failed",
        traceql(f"{{ {CALL} && {CHOSEN} && {BAD} }} | select({FACTS}, span.error.type)", spans=True),
        links=SEARCH_LINKS,
    ),
    table(
        "Runs that were abandoned, or whose task failed",
        traceql(
            f'{{ {RUN} && {CHOSEN} && (span.agentperf.status = "abandoned" || span.agentperf.outcome = "failure") }}'
            " | select(span.gen_ai.agent.name, span.agentperf.trajectory.id, span.agentperf.run.index)",
            spans=True,
        ),
        links=SEARCH_LINKS,
    ),
]

TRACES = dashboard(
    "agentperf-traces",
    "LLM agents: who and why",
    [*WHO, *WHY],
    [
        datasource("tempo", "tempo"),
        datasource("jaeger", "jaeger"),
        textbox("filter", "Only spans with", "true"),
        textbox("slow", "Slow from (s)", "5"),
    ],
    description="Spans of the proxy, by TraceQL.",
)

THIS = 'span.agentperf.trajectory.id = "$trajectory"'
SHOW = link("Show below", "/d/agentperf-trajectory?var-trajectory=${trajectory}&var-trace=${__value.raw}")
RUN_LINKS = (("traceID", [SHOW, JAEGER]), ("traceIdHidden", [SHOW, JAEGER]))

ONE = [
    text(
        "One agent's work on one task: its runs (a trace each), turns and tool calls. Its id is in every span, as "
        "`agentperf.trajectory.id`; *who and why* leads here."
    ),
    table(
        "Runs",
        traceql(
            f"{{ {RUN} && {THIS} }} | select(span.agentperf.run.index, span.agentperf.status, span.agentperf.outcome,"
            " span.gen_ai.agent.name)",
            spans=True,
        ),
        links=RUN_LINKS,
        height=6,
    ),
    lines(
        "Context",
        traceql(f"{{ {TURN} && {THIS} }} | max_over_time(span.gen_ai.usage.input_tokens)"),
        traceql(f"{{ {TURN} && {THIS} }} | max_over_time(span.gen_ai.usage.cache_read.input_tokens)"),
        width=8,
        description="Prompt tokens, and those from the cache.",
    ),
    lines(
        "Time to first token",
        traceql(f"{{ {TURN} && {THIS} }} | max_over_time(span.agentperf.time.first_output)"),
        unit="s",
        width=8,
    ),
    lines(
        "Tools",
        traceql(f"{{ {TOOL} && {THIS} }} | max_over_time(duration) by (span.gen_ai.tool.name)"),
        unit="s",
        width=8,
    ),
    table(
        "Turns",
        traceql(
            f"{{ {CALL} && {THIS} }} | select({FACTS}, span.agentperf.run.index, span.error.type)",
            limit=1000,
            spans=True,
        ),
        links=RUN_LINKS,
        height=10,
    ),
    table(
        "Tool calls",
        traceql(
            f"{{ {TOOL} && {THIS} }} | select(span.gen_ai.tool.name,"
            " span.agentperf.tool.error, span.agentperf.tool.duration_source, span.agentperf.run.index)",
            limit=1000,
            spans=True,
        ),
        links=RUN_LINKS,
        height=10,
    ),
    table(
        "Sub-agents that it started",
        traceql(
            f'{{ {RUN} && span.agentperf.trajectory.parent_id = "$trajectory" }}'
            " | select(span.gen_ai.agent.name, span.agentperf.trajectory.id, span.agentperf.agent.depth)",
            spans=True,
        ),
        links=SEARCH_LINKS,
        height=6,
    ),
    trace("Run", traceql("$trace"), height=14),
]

ONE_TRAJECTORY = dashboard(
    "agentperf-trajectory",
    "LLM agents: one trajectory",
    ONE,
    [
        datasource("tempo", "tempo"),
        datasource("jaeger", "jaeger"),
        textbox("trajectory", "Trajectory"),
        textbox("trace", "Trace of a run"),
    ],
    description="One agent's work on one task.",
    time={"from": "now-24h", "to": "now"},
    refresh="",
)
