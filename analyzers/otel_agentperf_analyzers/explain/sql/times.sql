-- Where the time of trajectories went, by level of a benchmark, or by model in live traffic.
SELECT
    benchmark_id,
    level,
    request_model AS model,
    COUNT(*) AS trajectories,
    SUM(total_s) AS total_s,
    SUM(decode_s) AS decode_s,
    SUM(prefill_s) AS prefill_s,
    SUM(queue_s) AS queue_s,
    SUM(first_token_s) AS first_token_s,
    SUM(unsplit_s) AS unsplit_s,
    SUM(retries_s) AS retries_s,
    SUM(tool_s) AS tool_s,
    SUM(harness_s) AS harness_s,
    SUM(human_s) AS human_s
FROM time_breakdown
WHERE ($benchmark IS NULL OR benchmark_id = $benchmark) AND ($model IS NULL OR request_model = $model)
GROUP BY benchmark_id, level, request_model
ORDER BY benchmark_id, level, total_s DESC
