-- relation: calls
-- description: LLM calls, each once: of one that a client and our proxy both tell, the proxy's span, with what the client
--   says that it cost.
-- grain: one row per call
-- requires: call spans
-- source: ours
-- reads: call_spans, repeated_calls
-- visibility: internal
-- storage: view
-- scope: trajectory
WITH of_clients AS (
    SELECT kept_trace_id AS trace_id, kept_span_id AS span_id, MAX(told_cost) AS client_cost
    FROM repeated_calls
    WHERE told_cost IS NOT NULL
    GROUP BY kept_trace_id, kept_span_id
)

SELECT call_spans.* REPLACE (COALESCE(call_spans.told_cost, of_clients.client_cost) AS told_cost)
FROM call_spans
LEFT JOIN of_clients ON of_clients.trace_id = call_spans.trace_id AND of_clients.span_id = call_spans.span_id
ANTI JOIN repeated_calls ON repeated_calls.trace_id = call_spans.trace_id AND repeated_calls.span_id = call_spans.span_id
