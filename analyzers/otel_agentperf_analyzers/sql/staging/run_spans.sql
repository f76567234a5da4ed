-- relation: run_spans
-- description: How agent runs ended, as their root spans tell. A run that moved to another trace has several; the last
--   one tells.
-- grain: one row per agent run
-- requires: invoke_agent spans
-- source: GenAI semantic conventions v0.1.0; otel_agentperf.semconv
-- reads: spans
-- visibility: internal
-- storage: view
-- scope: trajectory
SELECT
    trajectory_id,
    COALESCE("agentperf.run.id", trace_id) AS run_id,
    ARG_MAX("agentperf.status", start_ns) AS status
FROM spans
WHERE "gen_ai.operation.name" = 'invoke_agent'
GROUP BY ALL
