-- relation: repeated_tools
-- description: Tool executions that a client tells and that are told again, better, by the tool call's id: by our proxy,
--   whose span stays with the client's times, for a gap between turns holds more than the tool; or by the client's spans
--   where these are its log events.
-- grain: one row per client's telling and span that stays
-- requires: tool executions told by a client, and by the proxy
-- source: ours
-- reads: tool_tellings
-- visibility: internal
-- storage: table
WITH of_clients AS MATERIALIZED (
    SELECT trace_id, span_id, trajectory_id, tool_call_id, start_ns, end_ns, is_error, teller
    FROM tool_tellings
    WHERE teller > 0 AND tool_call_id IS NOT NULL
),

-- Where no client tells anything, which is usual, nothing of the proxy need be read.
better AS (
    SELECT trace_id, span_id, trajectory_id, tool_call_id, teller
    FROM tool_tellings
    WHERE teller < 2 AND EXISTS (FROM of_clients)
)

SELECT
    of_clients.trace_id,
    of_clients.span_id,
    of_clients.trajectory_id,
    better.trace_id AS kept_trace_id,
    better.span_id AS kept_span_id,
    better.trajectory_id AS kept_trajectory_id,
    of_clients.start_ns,
    of_clients.end_ns,
    of_clients.is_error,
    of_clients.teller
FROM of_clients
INNER JOIN better ON better.tool_call_id = of_clients.tool_call_id AND better.teller < of_clients.teller
