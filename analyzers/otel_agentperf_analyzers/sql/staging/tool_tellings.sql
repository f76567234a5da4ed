-- relation: tool_tellings
-- description: Tool executions as spans tell them, renamed, each by everyone who tells it. Where no trajectory or run is
--   named the conversation, else the trace, stands in, as for calls. A span of Claude Code is as long as its execution.
--   Of an agent that several proxies told of, those are here that `stitch_tools` found.
-- grain: one row per span or event of a tool execution
-- requires: execute_tool spans, or `claude_code.tool` spans or `claude_code.tool_result` events
-- source: GenAI semantic conventions v0.1.0; otel_agentperf.semconv; code.claude.com/docs/en/monitoring-usage
-- reads: spans, stitch, stitch_tools
-- visibility: internal
-- storage: view
-- scope: trajectory
WITH of_conventions AS (
    SELECT
        trace_id,
        span_id,
        service_instance_id,
        trajectory_id,
        COALESCE("agentperf.run.id", trace_id) AS run_id,
        "agentperf.tool.turn_id" AS turn_id,
        COALESCE("gen_ai.tool.name", REGEXP_REPLACE(name, '^execute_tool ', '')) AS tool_name,
        "gen_ai.tool.call.id" AS tool_call_id,
        "gen_ai.agent.name" AS agent_name,
        start_ns,
        end_ns,
        COALESCE("agentperf.tool.duration_source", 'client') AS duration_source,
        COALESCE("agentperf.tool.error", "error.type" IS NOT NULL OR status_code = 'error') AS is_error,
        COALESCE("agentperf.tool.repeated", FALSE) AS is_repeated,
        CASE WHEN "agentperf.tool.duration_source" IS NOT NULL THEN 0 ELSE 1 END AS teller
    FROM spans
    WHERE "gen_ai.operation.name" = 'execute_tool'
        AND (trace_id, span_id) NOT IN (SELECT (trace_id, span_id) FROM stitch)
),

executions AS (
    SELECT trace_id, parent_span_id, start_ns, end_ns, attributes['success'] = 'false' AS is_error
    FROM spans
    WHERE name = 'claude_code.tool.execution'
),

of_claude_code AS (
    SELECT
        tool.trace_id,
        tool.span_id,
        tool.service_instance_id,
        tool.trajectory_id,
        tool.trace_id AS run_id,
        CAST(NULL AS VARCHAR) AS turn_id,
        COALESCE(tool.attributes['tool_name'], tool."gen_ai.tool.name") AS tool_name,
        COALESCE(tool."gen_ai.tool.call.id", tool.attributes['tool_use_id']) AS tool_call_id,
        'claude-code' AS agent_name,
        COALESCE(executions.start_ns, tool.start_ns) AS start_ns,
        COALESCE(executions.end_ns, tool.end_ns) AS end_ns,
        'client' AS duration_source,
        COALESCE(executions.is_error, tool.status_code = 'error') AS is_error,
        FALSE AS is_repeated,
        1 AS teller
    FROM spans AS tool
    LEFT JOIN executions ON executions.trace_id = tool.trace_id AND executions.parent_span_id = tool.span_id
    WHERE tool.name = 'claude_code.tool'
),

of_events AS (
    SELECT
        trace_id,
        span_id,
        service_instance_id,
        trajectory_id,
        COALESCE(attributes['prompt.id'], trace_id) AS run_id,
        CAST(NULL AS VARCHAR) AS turn_id,
        attributes['tool_name'] AS tool_name,
        attributes['tool_use_id'] AS tool_call_id,
        'claude-code' AS agent_name,
        start_ns,
        end_ns,
        'client' AS duration_source,
        COALESCE(attributes['success'] = 'false', FALSE) AS is_error,
        FALSE AS is_repeated,
        2 AS teller
    FROM spans
    WHERE name = 'claude_code.tool_result'
)

FROM of_conventions
UNION ALL BY NAME
FROM of_claude_code
UNION ALL BY NAME
FROM of_events
UNION ALL BY NAME
SELECT *, 0 AS teller FROM stitch_tools
