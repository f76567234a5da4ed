-- Trajectories in the order of their processes: benchmarks by level, then live traffic.
SELECT
    turns.trajectory_id,
    ANY_VALUE(turns.parent_trajectory_id) AS parent_trajectory_id,
    ANY_VALUE(turns.agent_name) AS agent_name,
    MIN(turns.benchmark_id) AS benchmark_id,
    MIN(turns.level) AS level,
    MIN(turns.start_ns) AS start_ns
FROM turns
GROUP BY turns.trajectory_id
ORDER BY benchmark_id NULLS LAST, level, start_ns, trajectory_id
