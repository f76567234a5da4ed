-- Turns outside benchmarks, by model. Failed turns stay out of percentiles, and error_rate counts attempts, as in the
-- levels of a benchmark; cache_hit is over the turns that report cached tokens. There is no steady window, so nothing
-- is divided by one.
SELECT
    request_model AS model,
    COUNT(*) AS turns,
    QUANTILE_CONT(ttft_s, 0.5) FILTER (NOT is_failed(status)) AS ttft_p50_s,
    QUANTILE_CONT(ttft_s, 0.95) FILTER (NOT is_failed(status)) AS ttft_p95_s,
    QUANTILE_CONT(output_speed_tps, 0.25) FILTER (NOT is_failed(status)) AS output_speed_p25_tps,
    QUANTILE_CONT(output_speed_tps, 0.5) FILTER (NOT is_failed(status)) AS output_speed_p50_tps,
    QUANTILE_CONT(e2e_latency_s, 0.5) FILTER (NOT is_failed(status)) AS e2e_latency_p50_s,
    QUANTILE_CONT(e2e_latency_s, 0.95) FILTER (NOT is_failed(status)) AS e2e_latency_p95_s,
    CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
    CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
    SUM(cached_input_tokens) / NULLIF(SUM(input_tokens) FILTER (cached_input_tokens IS NOT NULL), 0) AS cache_hit,
    SUM(failed_attempt_count) / SUM(attempt_count) AS error_rate
FROM turns
WHERE benchmark_id IS NULL AND kind = 'turn' AND $benchmark IS NULL
GROUP BY request_model
ORDER BY turns DESC, model
