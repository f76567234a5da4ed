-- relation: repeated_calls
-- description: Calls that a client's own instrumentation tells and our proxy tells again, better: the proxy's span lies
--   under the client's (four spans deep at most), or both name the same response or request of the provider.
-- grain: one row per call span of another instrumentation
-- requires: call spans of another instrumentation and of the proxy
-- source: ours
-- reads: call_spans, spans
-- visibility: internal
-- storage: table
WITH RECURSIVE of_clients AS MATERIALIZED (
    SELECT trace_id, span_id, request_id, response_id FROM call_spans WHERE dialect IS NULL
),
near AS MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id FROM spans WHERE trace_id IN (SELECT trace_id FROM of_clients)
),
-- Where no client tells anything, which is usual, nothing of the proxy need be read.
of_proxy AS MATERIALIZED (
    SELECT trace_id, span_id, request_id, response_id
    FROM call_spans
    WHERE dialect IS NOT NULL AND EXISTS (FROM of_clients)
),
below AS (
    SELECT trace_id, span_id, span_id AS at_id, 0 AS steps FROM of_clients
    UNION ALL
    SELECT below.trace_id, below.span_id, near.span_id, below.steps + 1
    FROM below
    INNER JOIN near ON near.trace_id = below.trace_id AND near.parent_span_id = below.at_id
    WHERE below.steps < 4
)
SELECT below.trace_id, below.span_id
FROM below
INNER JOIN of_proxy ON of_proxy.trace_id = below.trace_id AND of_proxy.span_id = below.at_id
UNION
SELECT of_clients.trace_id, of_clients.span_id
FROM of_clients
INNER JOIN of_proxy ON of_proxy.response_id = of_clients.response_id
UNION
SELECT of_clients.trace_id, of_clients.span_id
FROM of_clients
INNER JOIN of_proxy ON of_proxy.request_id = of_clients.request_id
