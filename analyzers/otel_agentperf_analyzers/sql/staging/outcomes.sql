-- relation: outcomes
-- description: How a trajectory came out: as a file of outcomes says, else the latest word of its spans: of a call, or of a
--   span of its own that was told later.
-- grain: one row per trajectory with an outcome
-- requires: an outcome told by the launcher, or given beside the spans
-- source: otel_agentperf.semconv
-- reads: spans, given_outcomes
-- visibility: internal
-- storage: view
WITH told AS (
    SELECT
        COALESCE("agentperf.trajectory.id", "gen_ai.conversation.id", trace_id) AS trajectory_id,
        ARG_MAX("agentperf.outcome", end_ns) AS outcome
    FROM spans
    WHERE "agentperf.outcome" IS NOT NULL
    GROUP BY ALL
)

SELECT trajectory_id, COALESCE(given_outcomes.outcome, told.outcome) AS outcome
FROM told
FULL JOIN given_outcomes USING (trajectory_id)
