-- Turns by model, those of benchmarks too.
SELECT
    request_model AS model,
    COUNT(*) AS turns,
    COUNT(*) / $window_s * 60 AS turns_per_min,
    QUANTILE_CONT(ttft_s, 0.5) FILTER (NOT is_failed(status)) AS ttft_p50_s,
    QUANTILE_CONT(ttft_s, 0.95) FILTER (NOT is_failed(status)) AS ttft_p95_s,
    QUANTILE_CONT(output_speed_tps, 0.25) FILTER (NOT is_failed(status) AND usage_source <> 'estimated')
        AS output_speed_p25_tps,
    QUANTILE_CONT(output_speed_tps, 0.5) FILTER (NOT is_failed(status) AND usage_source <> 'estimated')
        AS output_speed_p50_tps,
    SUM(output_tokens) / $window_s AS output_tps,
    SUM(cached_input_tokens) / NULLIF(SUM(input_tokens) FILTER (cached_input_tokens IS NOT NULL), 0) AS cache_hit,
    SUM(failed_attempt_count) / SUM(attempt_count) AS error_rate
FROM turns
WHERE kind = 'turn'
GROUP BY request_model
ORDER BY turns DESC, model
