-- relation: tool_spans
-- description: Tool executions, each once: of one that a client and our proxy both tell, our span, with the client's
--   times.
-- grain: one row per tool execution
-- requires: tool executions told by spans
-- source: ours
-- reads: tool_tellings, repeated_tools
-- visibility: internal
-- storage: view
-- scope: trajectory
WITH of_clients AS (
    SELECT
        kept_trace_id AS trace_id,
        kept_span_id AS span_id,
        ARG_MIN(start_ns, (teller, start_ns, end_ns)) AS start_ns,
        ARG_MIN(end_ns, (teller, start_ns, end_ns)) AS end_ns,
        BOOL_OR(is_error) AS is_error
    FROM repeated_tools
    GROUP BY kept_trace_id, kept_span_id
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
    COALESCE(of_clients.start_ns, told.start_ns) AS start_ns,
    COALESCE(of_clients.end_ns, told.end_ns) AS end_ns,
    CASE WHEN of_clients.span_id IS NOT NULL THEN 'client' ELSE told.duration_source END AS duration_source,
    told.is_error OR COALESCE(of_clients.is_error, FALSE) AS is_error,
    told.is_repeated
FROM tool_tellings AS told
LEFT JOIN of_clients
    ON told.teller = 0 AND of_clients.trace_id = told.trace_id AND of_clients.span_id = told.span_id
ANTI JOIN repeated_tools ON repeated_tools.trace_id = told.trace_id AND repeated_tools.span_id = told.span_id
