-- How much the source holds, or one benchmark of it, and when it began and ended.
SELECT
    (SELECT COUNT(*) FROM spans WHERE $benchmark IS NULL OR "agentperf.benchmark.id" = $benchmark) AS spans,
    COUNT(*) FILTER (kind = 'turn') AS turns,
    COUNT(*) FILTER (kind = 'auxiliary') AS auxiliary_calls,
    CAST(COALESCE(SUM(attempt_count), 0) AS BIGINT) AS attempts,
    COUNT(DISTINCT run_id) AS runs,
    COUNT(DISTINCT trajectory_id) AS trajectories,
    (SELECT COUNT(*) FROM tool_calls WHERE $benchmark IS NULL OR benchmark_id = $benchmark) AS tool_calls,
    MIN(start_time) AS first_time,
    MAX(end_time) AS last_time
FROM turns
WHERE $benchmark IS NULL OR benchmark_id = $benchmark
