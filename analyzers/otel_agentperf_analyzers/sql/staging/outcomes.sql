-- relation: outcomes
-- description: How a trajectory came out: as a file of outcomes says, else the latest word of its spans: of a call, of a
--   span of its own that was told later, or of an evaluation event that another instrumentation put on a span, when the
--   evaluation is named outcome and its label is success or failure.
-- grain: one row per trajectory with an outcome
-- requires: an outcome told by the launcher, or given beside the spans
-- source: GenAI semantic conventions v0.1.0, gen_ai.evaluation.result; otel_agentperf.semconv
-- reads: spans, given_outcomes
-- visibility: internal
-- storage: view
-- scope: trajectory
WITH words AS (
    SELECT
        trajectory_id,
        "agentperf.outcome" AS outcome,
        end_ns AS at_ns
    FROM spans
    WHERE "agentperf.outcome" IS NOT NULL
    UNION ALL
    SELECT
        trajectory_id,
        LIST_FILTER(event.attributes, LAMBDA each: each.key = 'gen_ai.evaluation.score.label')[1].value.stringValue,
        CAST(event.timeUnixNano AS BIGINT)
    FROM (
        SELECT
            trajectory_id,
            UNNEST(FROM_JSON(events, '[{
                "name": "VARCHAR", "timeUnixNano": "VARCHAR",
                "attributes": [{"key": "VARCHAR", "value": {"stringValue": "VARCHAR"}}]
            }]')) AS event
        FROM spans
        WHERE CONTAINS(events, 'gen_ai.evaluation.result')
    )
    WHERE event.name = 'gen_ai.evaluation.result'
        AND LIST_FILTER(event.attributes, LAMBDA each: each.key = 'gen_ai.evaluation.name')[1].value.stringValue = 'outcome'
),

told AS (
    SELECT trajectory_id, ARG_MAX(outcome, at_ns) AS outcome
    FROM words
    WHERE outcome IN ('success', 'failure')
    GROUP BY trajectory_id
)

SELECT trajectory_id, outcome FROM given_outcomes
UNION ALL
SELECT trajectory_id, outcome FROM told WHERE trajectory_id NOT IN (SELECT trajectory_id FROM given_outcomes)
