-- relation: outcomes
-- description: What was told of how a trajectory came out, on any of its spans or on a span of its own; the latest word
--   counts.
-- grain: one row per trajectory with an outcome
-- requires: an outcome told by the launcher
-- source: otel_agentperf.semconv
-- reads: spans
-- visibility: internal
-- storage: view
SELECT
    COALESCE("agentperf.trajectory.id", "gen_ai.conversation.id", trace_id) AS trajectory_id,
    ARG_MAX("agentperf.outcome", end_ns) AS outcome
FROM spans
WHERE "agentperf.outcome" IS NOT NULL
GROUP BY ALL
