-- Turns outside benchmarks, by model. Failed turns stay out of percentiles, and error_rate counts attempts, as in the
-- levels of a benchmark; cache_hit is over the turns that report cached tokens. There is no steady window, so nothing
-- is divided by one.
SELECT
    request_model AS model,
    COUNT(*) AS turns,
    QUANTILE_CONT(ttft_s, 0.5) FILTER (NOT is_failed(status)) AS ttft_p50_s,
    QUANTILE_CONT(ttft_s, 0.95) FILTER (NOT is_failed(status)) AS ttft_p95_s,
    QUANTILE_CONT(output_speed_tps, 0.25) FILTER (NOT is_failed(status) AND usage_source <> 'estimated')
        AS output_speed_p25_tps,
    QUANTILE_CONT(output_speed_tps, 0.5) FILTER (NOT is_failed(status) AND usage_source <> 'estimated')
        AS output_speed_p50_tps,
    QUANTILE_CONT(e2e_latency_s, 0.5) FILTER (NOT is_failed(status)) AS e2e_latency_p50_s,
    QUANTILE_CONT(e2e_latency_s, 0.95) FILTER (NOT is_failed(status)) AS e2e_latency_p95_s,
    CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
    CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
    SUM(cached_input_tokens) / NULLIF(SUM(input_tokens) FILTER (cached_input_tokens IS NOT NULL), 0) AS cache_hit,
    CAST(SUM(output_tokens - 1) FILTER (
        output_speed_tps IS NOT NULL AND usage_source <> 'estimated'
        AND NOT is_failed(status) AND COALESCE(tool_call_count, 0) = 0
    ) AS DOUBLE) / SUM(generation_s) FILTER (
        output_speed_tps IS NOT NULL AND usage_source <> 'estimated'
        AND NOT is_failed(status) AND COALESCE(tool_call_count, 0) = 0
    ) AS pooled_speed_tps,
    CAST(SUM(output_tokens) FILTER (usage_source <> 'estimated' AND NOT is_failed(status)) AS DOUBLE)
    / NULLIF(SUM(e2e_latency_s) FILTER (
        usage_source <> 'estimated' AND NOT is_failed(status) AND output_tokens IS NOT NULL
    ), 0) AS pooled_e2e_speed_tps,
    COUNT(*) FILTER (tool_call_count > 0 AND NOT is_failed(status))
    / NULLIF(COUNT(*) FILTER (NOT is_failed(status)), 0) AS tool_call_turn_share,
    COUNT(*) FILTER (usage_source = 'estimated') AS estimated_turns,
    SUM(optimal_cache_hit * input_tokens) / NULLIF(SUM(input_tokens) FILTER (optimal_cache_hit IS NOT NULL), 0)
        AS optimal_cache_hit,
    SUM(cached_input_tokens) FILTER (optimal_cache_hit IS NOT NULL)
    / NULLIF(SUM(optimal_cache_hit * input_tokens) FILTER (cached_input_tokens IS NOT NULL), 0) AS hit_efficiency,
    SUM(cost) AS cost,
    SUM(failed_attempt_count) / SUM(attempt_count) AS error_rate
FROM turns
WHERE benchmark_id IS NULL AND kind = 'turn' AND $benchmark IS NULL
GROUP BY request_model
ORDER BY turns DESC, model
