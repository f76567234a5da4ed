-- relation: tool_spans
-- description: Tool executions as spans tell them, renamed. Where no trajectory or run is named the conversation, else
--   the trace, stands in, as for calls. A tool that its client tells too (by the same tool call id) is taken from our
--   span, with the client's times: a gap between turns holds more than the tool.
-- grain: one row per tool execution
-- requires: execute_tool spans, or `claude_code.tool` spans
-- source: GenAI semantic conventions v0.1.0; otel_agentperf.semconv; code.claude.com/docs/en/monitoring-usage
-- reads: spans
-- visibility: internal
-- storage: view
WITH of_conventions AS (
    SELECT
        trace_id,
        span_id,
        service_instance_id,
        COALESCE("agentperf.trajectory.id", "gen_ai.conversation.id", trace_id) AS trajectory_id,
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
        "agentperf.tool.duration_source" IS NOT NULL AS is_ours
    FROM spans
    WHERE "gen_ai.operation.name" = 'execute_tool'
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
        COALESCE(tool.attributes['session.id'], tool.trace_id) || COALESCE('/' || tool.attributes['agent_id'], '')
            AS trajectory_id,
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
        FALSE AS is_ours
    FROM spans AS tool
    LEFT JOIN executions ON executions.trace_id = tool.trace_id AND executions.parent_span_id = tool.span_id
    WHERE tool.name = 'claude_code.tool'
),

told AS (
    FROM of_conventions UNION ALL BY NAME FROM of_claude_code
),

of_clients AS (
    SELECT
        tool_call_id,
        ANY_VALUE(start_ns) AS start_ns,
        ANY_VALUE(end_ns) AS end_ns,
        ANY_VALUE(is_error) AS is_error
    FROM told
    WHERE NOT is_ours AND tool_call_id IS NOT NULL
    GROUP BY tool_call_id
)

SELECT
    told.trace_id,
    told.span_id,
    told.service_instance_id,
    told.trajectory_id,
    told.run_id,
    told.turn_id,
    told.tool_name,
    told.tool_call_id,
    told.agent_name,
    CASE WHEN told.is_ours THEN COALESCE(of_clients.start_ns, told.start_ns) ELSE told.start_ns END AS start_ns,
    CASE WHEN told.is_ours THEN COALESCE(of_clients.end_ns, told.end_ns) ELSE told.end_ns END AS end_ns,
    CASE WHEN of_clients.tool_call_id IS NOT NULL THEN 'client' ELSE told.duration_source END AS duration_source,
    told.is_error OR COALESCE(of_clients.is_error, FALSE) AS is_error,
    told.is_repeated
FROM told
LEFT JOIN of_clients ON of_clients.tool_call_id = told.tool_call_id
WHERE told.is_ours
    OR told.tool_call_id IS NULL
    OR told.tool_call_id NOT IN (SELECT tool_call_id FROM told WHERE is_ours AND tool_call_id IS NOT NULL)
