-- relation: server_times
-- description: What inference servers tell of a call: of the spans that were made under the context that the call
--   forwarded. That context has the call's span id, in its own trace or in one that the call links; a server, or one
--   behind gateways (four at most), has it as its parent, or links it. Where several servers worked on a call (prefill
--   and decode apart, or a gateway's retry), their times add up.
-- grain: one row per call span that has such spans
-- requires: spans of inference servers
-- source: W3C Trace Context
-- reads: server_spans, calls, spans
-- visibility: internal
-- storage: table
WITH RECURSIVE servers AS MATERIALIZED (
    FROM server_spans
),

near AS MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id
    FROM spans
    WHERE trace_id IN (SELECT trace_id FROM servers) AND parent_span_id IS NOT NULL
),

above AS (
    SELECT trace_id, span_id AS server_id, parent_span_id AS at_id, 1 AS steps
    FROM servers
    WHERE parent_span_id IS NOT NULL
    UNION ALL
    SELECT above.trace_id, above.server_id, near.parent_span_id, above.steps + 1
    FROM above
    INNER JOIN near ON near.trace_id = above.trace_id AND near.span_id = above.at_id
    WHERE above.steps < 5
),

linked AS (
    SELECT
        trace_id,
        span_id AS server_id,
        UNNEST(FROM_JSON(links, '[{"traceId": "VARCHAR", "spanId": "VARCHAR"}]')) AS link
    FROM servers
    WHERE links IS NOT NULL
),

contexts AS (
    SELECT trace_id, server_id, trace_id AS context_trace_id, at_id AS context_span_id, steps FROM above
    UNION ALL
    SELECT trace_id, server_id, link.traceId, link.spanId, 1 FROM linked
),

-- Where no server tells anything, no call need be read.
candidates AS MATERIALIZED (
    SELECT trace_id, span_id, trajectory_id, start_ns, links FROM calls WHERE EXISTS (FROM servers)
),

belonging AS (
    SELECT
        contexts.trace_id AS server_trace_id,
        contexts.server_id,
        ARG_MIN(candidates.trace_id, (contexts.steps, candidates.start_ns)) AS trace_id,
        ARG_MIN(candidates.span_id, (contexts.steps, candidates.start_ns)) AS span_id,
        ARG_MIN(candidates.trajectory_id, (contexts.steps, candidates.start_ns)) AS trajectory_id
    FROM contexts
    INNER JOIN candidates
        ON candidates.span_id = contexts.context_span_id
        AND (candidates.trace_id = contexts.context_trace_id OR CONTAINS(candidates.links, contexts.context_trace_id))
    GROUP BY contexts.trace_id, contexts.server_id
)

SELECT
    belonging.trace_id,
    belonging.span_id,
    ANY_VALUE(belonging.trajectory_id) AS trajectory_id,
    COUNT(*) AS server_span_count,
    SUM(servers.queue_s) AS queue_s,
    SUM(servers.prefill_s) AS prefill_s,
    SUM(servers.decode_s) AS decode_s,
    SUM(servers.first_token_s) AS first_token_s
FROM belonging
INNER JOIN servers ON servers.trace_id = belonging.server_trace_id AND servers.span_id = belonging.server_id
GROUP BY belonging.trace_id, belonging.span_id
