-- Turns by equal parts of the window.
WITH numbered AS (
    SELECT
        status,
        ttft_s,
        LEAST(GREATEST(CAST(FLOOR(EPOCH(start_time - $since) / $window_s * $steps) AS BIGINT), 0), $steps - 1) AS step
    FROM turns
    WHERE kind = 'turn'
)

SELECT
    COUNT(numbered.step) AS turns,
    COUNT(numbered.step) FILTER (is_failed(numbered.status)) AS failed_turns,
    QUANTILE_CONT(numbered.ttft_s, 0.95) FILTER (NOT is_failed(numbered.status)) AS ttft_p95_s
FROM RANGE($steps) AS all_steps (step)
LEFT JOIN numbered USING (step)
GROUP BY all_steps.step
ORDER BY all_steps.step
