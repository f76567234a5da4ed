-- relation: run_bounds
-- description: From the first turn's t0 to the last turn's te of each agent run. Auxiliary calls do not count.
-- grain: one row per agent run
-- requires: call spans
-- source: ours
-- reads: turns
-- visibility: internal
-- storage: table
-- scope: trajectory
SELECT
    trajectory_id,
    run_id,
    MIN(start_ns) AS start_ns,
    MAX(end_ns) AS end_ns,
    ANY_VALUE(parent_trajectory_id) IS NOT NULL AS is_subagent,
    ANY_VALUE(benchmark_id) AS benchmark_id,
    ANY_VALUE(level) AS level,
    MODE(request_model) AS model
FROM turns
WHERE kind = 'turn'
GROUP BY trajectory_id, run_id
