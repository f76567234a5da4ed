-- relation: time_shares
-- description: Where the time of runs and of whole trajectories went, as measures of unions of intervals: each instant
--   counts once, however many calls overlap in it. Runs of a trajectory that overlap count once in the trajectory.
-- grain: one row per agent run, and one per trajectory (run_id NULL)
-- requires: call spans
-- source: ours
-- reads: busy_intervals, work_scopes
-- visibility: internal
-- storage: table
-- scope: trajectory
WITH activities AS (
    SELECT trajectory_id, run_id, activity, start_ns, end_ns FROM busy_intervals
    UNION ALL
    SELECT trajectory_id, run_id, 'run' AS activity, start_ns, end_ns FROM work_scopes
),

laid AS (
    SELECT
        *,
        MAX(end_ns) OVER (
            PARTITION BY trajectory_id, run_id, activity
            ORDER BY start_ns, end_ns
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached_ns,
        MAX(end_ns) OVER (
            PARTITION BY trajectory_id, run_id, activity = 'run'
            ORDER BY start_ns, end_ns
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached_by_any_ns
    FROM activities
)

SELECT
    trajectory_id,
    run_id,
    CAST(COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (activity = 'run'), 0) AS BIGINT) AS run_ns,
    CAST(COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (activity = 'llm'), 0) AS BIGINT) AS llm_ns,
    CAST(COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (activity = 'tool'), 0) AS BIGINT) AS tool_ns,
    CAST(COALESCE(SUM(newly_covered(start_ns, end_ns, reached_by_any_ns)) FILTER (activity <> 'run'), 0) AS BIGINT)
        AS busy_ns,
    MAX(end_ns) FILTER (activity = 'run') - MIN(start_ns) FILTER (activity = 'run') AS extent_ns
FROM laid
GROUP BY trajectory_id, run_id
