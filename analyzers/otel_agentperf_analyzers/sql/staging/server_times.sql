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
WITH RECURSIVE above AS (
    SELECT trace_id, span_id AS server_id, parent_span_id AS at_id, 1 AS steps
    FROM server_spans
    WHERE parent_span_id IS NOT NULL
    UNION ALL
    SELECT above.trace_id, above.server_id, spans.parent_span_id, above.steps + 1
    FROM above
    INNER JOIN spans ON spans.trace_id = above.trace_id AND spans.span_id = above.at_id
    WHERE above.steps < 5 AND spans.parent_span_id IS NOT NULL
),

linked AS (
    SELECT
        trace_id,
        span_id AS server_id,
        UNNEST(FROM_JSON(links, '[{"traceId": "VARCHAR", "spanId": "VARCHAR"}]')) AS link
    FROM server_spans
    WHERE links IS NOT NULL
),

contexts AS (
    SELECT trace_id, server_id, trace_id AS context_trace_id, at_id AS context_span_id, steps FROM above
    UNION ALL
    SELECT trace_id, server_id, link.traceId, link.spanId, 1 FROM linked
),

belonging AS (
    SELECT
        contexts.trace_id AS server_trace_id,
        contexts.server_id,
        ARG_MIN(calls.trace_id, (contexts.steps, calls.start_ns)) AS trace_id,
        ARG_MIN(calls.span_id, (contexts.steps, calls.start_ns)) AS span_id
    FROM contexts
    INNER JOIN calls
        ON calls.span_id = contexts.context_span_id
        AND (calls.trace_id = contexts.context_trace_id OR CONTAINS(calls.links, contexts.context_trace_id))
    GROUP BY contexts.trace_id, contexts.server_id
)

SELECT
    belonging.trace_id,
    belonging.span_id,
    COUNT(*) AS server_span_count,
    SUM(server_spans.queue_s) AS queue_s,
    SUM(server_spans.prefill_s) AS prefill_s,
    SUM(server_spans.decode_s) AS decode_s,
    SUM(server_spans.first_token_s) AS first_token_s
FROM belonging
INNER JOIN server_spans
    ON server_spans.trace_id = belonging.server_trace_id AND server_spans.span_id = belonging.server_id
GROUP BY belonging.trace_id, belonging.span_id
