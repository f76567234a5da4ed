-- Trajectories worth a look: of those with several turns the one that took longest and the one in the middle; of
-- completed ones where there are any. Sub-agents are seen in their parents.
WITH scoped AS (
    SELECT *
    FROM trajectories
    WHERE benchmark_id IS NOT DISTINCT FROM $benchmark
        AND turns > 1
        AND parent_trajectory_id IS NULL
        AND job_latency_s IS NOT NULL
),

chosen AS (
    SELECT *
    FROM scoped
    WHERE is_completed OR NOT EXISTS (FROM scoped WHERE is_completed)
),

ranked AS (
    SELECT
        *,
        ROW_NUMBER() OVER (ORDER BY job_latency_s, trajectory_id) AS place,
        COUNT(*) OVER () AS places
    FROM chosen
)

SELECT
    CASE place WHEN places THEN 'slowest' ELSE 'median' END AS which,
    places,
    trajectory_id,
    agent_name,
    request_model AS model,
    level,
    turns,
    tool_calls,
    job_latency_s,
    cost,
    outcome,
    status
FROM ranked
WHERE place IN (places, (places + 1) // 2)
ORDER BY place DESC
