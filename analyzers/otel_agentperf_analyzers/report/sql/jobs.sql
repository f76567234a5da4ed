-- Trajectories by level of a benchmark, or by agent in live traffic: how long jobs take, over the completed ones, and
-- where the time of all of them went.
SELECT
    benchmark_id,
    level AS agents,
    agent_name,
    COUNT(*) AS trajectories,
    COUNT(*) FILTER (is_completed) AS completed,
    CAST(SUM(turns) AS BIGINT) AS turns,
    CAST(SUM(tool_calls) AS BIGINT) AS tool_calls,
    QUANTILE_CONT(job_latency_s, 0.5) FILTER (is_completed) AS job_latency_p50_s,
    QUANTILE_CONT(job_latency_s, 0.95) FILTER (is_completed) AS job_latency_p95_s,
    SUM(llm_time_s) AS llm_time_s,
    SUM(tool_time_s) AS tool_time_s,
    SUM(harness_time_s) AS harness_time_s,
    SUM(human_time_s) AS human_time_s,
    CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
    MAX(max_context_tokens) AS max_context_tokens,
    COUNT(*) FILTER (outcome = 'success') AS succeeded,
    COUNT(*) FILTER (outcome = 'failure') AS failed
FROM trajectories
WHERE turns > 0 AND ($benchmark IS NULL OR benchmark_id = $benchmark)
GROUP BY benchmark_id, level, agent_name
ORDER BY benchmark_id, level, trajectories DESC, agent_name
