-- relation: run_spans
-- description: How agent runs ended, as their root spans tell. A run that moved to another trace has several; the last
--   one tells.
-- grain: one row per agent run
-- requires: invoke_agent spans
-- source: GenAI semantic conventions v0.1.0; otel_agentperf.semconv
-- reads: spans, stitch
-- visibility: internal
-- storage: view
-- scope: trajectory
SELECT
    spans.trajectory_id,
    CASE WHEN stitch.span_id IS NOT NULL THEN stitch.run_id ELSE COALESCE("agentperf.run.id", spans.trace_id) END AS run_id,
    ARG_MAX("agentperf.status", start_ns) AS status
FROM spans
LEFT JOIN stitch ON stitch.trace_id = spans.trace_id AND stitch.span_id = spans.span_id
WHERE "gen_ai.operation.name" = 'invoke_agent'
GROUP BY ALL
