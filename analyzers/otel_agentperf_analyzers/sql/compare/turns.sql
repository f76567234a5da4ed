-- Turns that a comparison is taken over: of a benchmark those in its steady windows, else live traffic. Failed turns count
-- for the error rate only; estimated tokens for no speed.
SELECT
    trajectory_id,
    task_id,
    level,
    CASE WHEN NOT is_failed(status) THEN ttft_s END AS ttft_s,
    CASE WHEN NOT is_failed(status) AND usage_source <> 'estimated' THEN output_speed_tps END AS output_speed_tps,
    CASE WHEN NOT is_failed(status) AND usage_source <> 'estimated' THEN e2e_speed_tps END AS e2e_speed_tps,
    CASE WHEN NOT is_failed(status) THEN e2e_latency_s END AS e2e_latency_s,
    failed_attempt_count AS failed_attempts,
    attempt_count AS attempts,
    cached_input_tokens AS cached_tokens,
    CASE WHEN cached_input_tokens IS NOT NULL THEN input_tokens END AS tokens_with_cached
FROM population
WHERE benchmark_id IS NOT DISTINCT FROM $benchmark
