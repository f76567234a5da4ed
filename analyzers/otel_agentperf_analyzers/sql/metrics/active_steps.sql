-- relation: active_steps
-- description: How many agents were at work in live traffic, as a step function, with its integral. Sub-agents are left out
--   unless there are only these.
-- grain: one row per requested model and moment at which an agent begins or ends a run
-- requires: call spans without benchmark tags
-- source: ours
-- reads: run_bounds
-- visibility: internal
-- storage: table
WITH live AS (
    SELECT *, BOOL_AND(is_subagent) OVER (PARTITION BY model) AS has_only_subagents
    FROM run_bounds
    WHERE benchmark_id IS NULL
),

changes AS (
    SELECT model, at_ns, SUM(change) AS change
    FROM (
        SELECT model, start_ns AS at_ns, 1 AS change FROM live WHERE has_only_subagents OR NOT is_subagent
        UNION ALL
        SELECT model, end_ns, -1 FROM live WHERE has_only_subagents OR NOT is_subagent
    )
    GROUP BY model, at_ns
),

counts AS (
    SELECT
        model,
        at_ns,
        CAST(SUM(change) OVER (PARTITION BY model ORDER BY at_ns) AS BIGINT) AS agents,
        LEAD(at_ns) OVER (PARTITION BY model ORDER BY at_ns) - at_ns AS lasts_ns
    FROM changes
)

SELECT
    COALESCE(model, '') AS model,
    at_ns,
    agents,
    COALESCE(lasts_ns, 0) AS lasts_ns,
    COALESCE(
        SUM(CAST(agents AS DOUBLE) * lasts_ns) OVER (
            PARTITION BY model ORDER BY at_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        0
    ) AS agents_ns_so_far
FROM counts
