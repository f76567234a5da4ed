-- relation: tool_spans
-- description: Tool executions as spans tell them, renamed. Where no trajectory or run is named the conversation, else
--   the trace, stands in, as for calls.
-- grain: one row per execute_tool span
-- requires: execute_tool spans
-- source: GenAI semantic conventions v0.1.0; otel_agentperf.semconv
-- reads: spans
-- visibility: internal
-- storage: view
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
    COALESCE("agentperf.tool.repeated", FALSE) AS is_repeated
FROM spans
WHERE "gen_ai.operation.name" = 'execute_tool'
