-- relation: live_agents
-- description: What a level knows from its benchmark, for live traffic of a model: its agents, the mean number of agents
--   at work over the time in which any was (idle nights do not count), sub-agents left out unless there are only these;
--   its extent; its completed trajectories.
-- grain: one row per requested model
-- requires: call spans without benchmark tags
-- source: ours
-- reads: run_bounds, trajectories
-- visibility: internal
-- storage: view
WITH live AS (
    SELECT *, BOOL_AND(is_subagent) OVER (PARTITION BY model) AS has_only_subagents
    FROM run_bounds
    WHERE benchmark_id IS NULL
),

counted AS (
    SELECT * FROM live WHERE has_only_subagents OR NOT is_subagent
),

laid AS (
    SELECT
        *,
        MAX(end_ns) OVER (
            PARTITION BY model ORDER BY start_ns, end_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached_ns
    FROM counted
),

of_runs AS (
    SELECT
        model,
        SUM(end_ns - start_ns) / NULLIF(SUM(newly_covered(start_ns, end_ns, reached_ns)), 0) AS agents_mean
    FROM laid
    GROUP BY model
),

extents AS (
    SELECT model, MIN(start_ns) AS start_ns, MAX(end_ns) AS end_ns FROM live GROUP BY model
),

of_trajectories AS (
    SELECT request_model AS model, COUNT(*) FILTER (is_completed) AS completed_trajectories
    FROM trajectories
    WHERE benchmark_id IS NULL
    GROUP BY request_model
)

SELECT
    extents.model,
    GREATEST(1, CAST(ROUND(of_runs.agents_mean) AS BIGINT)) AS agents,
    of_runs.agents_mean,
    seconds(extents.end_ns - extents.start_ns) AS window_s,
    COALESCE(of_trajectories.completed_trajectories, 0) AS completed_trajectories
FROM extents
LEFT JOIN of_runs ON of_runs.model IS NOT DISTINCT FROM extents.model
LEFT JOIN of_trajectories ON of_trajectories.model IS NOT DISTINCT FROM extents.model
