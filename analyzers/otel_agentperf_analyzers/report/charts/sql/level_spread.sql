-- How a metric is spread over the turns of a benchmark, by level, with a sample of them. Failed turns have no value, and
-- estimated tokens give no speed.
WITH found AS (
    SELECT
        request_model AS model,
        level,
        trajectory_id,
        turn_index,
        turn_metric(
            $metric,
            ttft_s,
            server_ttft_s,
            time_to_first_chunk_s,
            ttfot_s,
            tpot_s,
            e2e_latency_s,
            output_speed_tps,
            e2e_speed_tps
        ) AS figure
    FROM population
    WHERE benchmark_id = $benchmark
        AND level IS NOT NULL
        AND NOT is_failed(status)
        AND NOT (usage_source = 'estimated' AND $of_tokens)
)

SELECT
    model,
    level AS agents_low,
    level AS agents_high,
    COUNT(*) AS turns,
    QUANTILE_CONT(figure, [0.05, 0.25, 0.5, 0.75, 0.95]) AS percentiles,
    ARG_MIN(
        {'trajectory_id': trajectory_id, 'turn_index': turn_index, 'figure': figure},
        hash(trajectory_id, turn_index),
        $sample
    ) AS sample
FROM found
WHERE figure > 0
GROUP BY model, level
ORDER BY model, level
