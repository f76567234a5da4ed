-- Tool calls by tool, the most time first.
SELECT
    tool_name,
    COUNT(*) AS calls,
    QUANTILE_CONT(duration_s, 0.5) AS duration_p50_s,
    QUANTILE_CONT(duration_s, 0.95) AS duration_p95_s,
    SUM(duration_s) AS total_s,
    COUNT(*) FILTER (is_error) AS errors,
    COUNT(*) FILTER (is_repeated) AS repeated
FROM tool_calls
WHERE $benchmark IS NULL OR benchmark_id = $benchmark
GROUP BY tool_name
ORDER BY total_s DESC NULLS LAST, tool_name
