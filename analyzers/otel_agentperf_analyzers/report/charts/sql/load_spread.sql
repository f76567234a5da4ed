-- How a metric is spread over the turns of live traffic, by the number of agents at work, with a sample of them. Failed
-- turns have no value, and estimated tokens give no speed.
WITH found AS (
    SELECT
        model,
        trajectory_id,
        LIST_MAX(
            LIST_FILTER(CAST($lows AS BIGINT[]), lambda low: low <= GREATEST(ROUND_EVEN(agents, 0), 1))
        ) AS agents_low,
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
    FROM turn_loads
    WHERE NOT is_failure AND NOT (is_estimated AND $of_tokens)
)

SELECT
    model,
    agents_low,
    COUNT(*) AS turns,
    QUANTILE_CONT(figure, [0.05, 0.25, 0.5, 0.75, 0.95]) AS percentiles,
    ARG_MIN(
        {'trajectory_id': trajectory_id, 'turn_index': CAST(NULL AS BIGINT), 'figure': figure},
        hash(trajectory_id, figure),
        $sample
    ) AS sample
FROM found
WHERE figure > 0
GROUP BY model, agents_low
ORDER BY model, agents_low
