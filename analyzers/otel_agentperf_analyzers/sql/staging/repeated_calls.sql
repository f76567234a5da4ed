-- relation: repeated_calls
-- description: Calls that a client tells and that are told again, better: by our proxy, else by the client's spans where
--   these are its log events. The proxy's span lies under the client's (four spans deep at most); or both name the same
--   response or request of the provider. An event may also lie under the client's span, or be of the same session, with as
--   many output tokens, and end within two seconds.
-- grain: one row per telling of a client and the call that stays
-- requires: call spans of another instrumentation and of the proxy
-- source: ours
-- reads: call_spans, spans
-- visibility: internal
-- storage: table
WITH RECURSIVE of_clients AS MATERIALIZED (
    SELECT
        trace_id,
        span_id,
        parent_span_id,
        trajectory_id,
        request_id,
        response_id,
        client_session_id,
        output_tokens,
        end_ns,
        told_cost,
        teller
    FROM call_spans
    WHERE teller > 0
),

near AS MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id FROM spans WHERE trace_id IN (SELECT trace_id FROM of_clients)
),

-- Where no client tells anything, which is usual, nothing of the proxy need be read.
better AS MATERIALIZED (
    SELECT trace_id, span_id, trajectory_id, request_id, response_id, client_session_id, output_tokens, end_ns, teller
    FROM call_spans
    WHERE teller < 2 AND EXISTS (FROM of_clients)
),

below AS (
    SELECT trace_id, span_id, span_id AS at_id, 0 AS steps FROM of_clients
    UNION ALL
    SELECT below.trace_id, below.span_id, near.span_id, below.steps + 1
    FROM below
    INNER JOIN near ON near.trace_id = below.trace_id AND near.parent_span_id = below.at_id
    WHERE below.steps < 4
),

pairs AS (
    SELECT below.trace_id, below.span_id, below.trace_id AS kept_trace_id, below.at_id AS kept_span_id FROM below
    UNION
    SELECT trace_id, span_id, trace_id, parent_span_id FROM of_clients WHERE teller = 2 AND parent_span_id IS NOT NULL
    UNION
    SELECT of_clients.trace_id, of_clients.span_id, better.trace_id, better.span_id
    FROM of_clients
    INNER JOIN better ON better.response_id = of_clients.response_id
    UNION
    SELECT of_clients.trace_id, of_clients.span_id, better.trace_id, better.span_id
    FROM of_clients
    INNER JOIN better ON better.request_id = of_clients.request_id
    UNION
    SELECT of_clients.trace_id, of_clients.span_id, better.trace_id, better.span_id
    FROM of_clients
    INNER JOIN better
        ON better.client_session_id = of_clients.client_session_id
        AND better.output_tokens = of_clients.output_tokens
        AND better.end_ns > of_clients.end_ns - 2000000000
        AND better.end_ns < of_clients.end_ns + 2000000000
    WHERE of_clients.teller = 2
)

SELECT
    pairs.trace_id,
    pairs.span_id,
    of_clients.trajectory_id,
    pairs.kept_trace_id,
    pairs.kept_span_id,
    better.trajectory_id AS kept_trajectory_id,
    of_clients.told_cost
FROM pairs
INNER JOIN of_clients ON of_clients.trace_id = pairs.trace_id AND of_clients.span_id = pairs.span_id
INNER JOIN better ON better.trace_id = pairs.kept_trace_id AND better.span_id = pairs.kept_span_id
WHERE better.teller < of_clients.teller
