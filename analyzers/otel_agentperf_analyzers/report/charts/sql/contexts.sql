-- Size of the context by turn of a trajectory, taken together so that there are at most so many steps.
WITH scoped AS (
    SELECT turn_index, input_tokens, cached_input_tokens
    FROM turns
    WHERE benchmark_id IS NOT DISTINCT FROM $benchmark
        AND request_model IS NOT DISTINCT FROM $model
        AND kind = 'turn'
        AND turn_index IS NOT NULL
        AND input_tokens IS NOT NULL
        AND NOT is_failed(status)
),

width AS (
    SELECT MAX(turn_index) // $steps + 1 AS turns FROM scoped
)

SELECT
    scoped.turn_index // width.turns * width.turns AS turn_index,
    COUNT(*) AS turns,
    MEDIAN(scoped.input_tokens) AS input_tokens_p50,
    QUANTILE_CONT(scoped.input_tokens, 0.95) AS input_tokens_p95,
    MEDIAN(scoped.cached_input_tokens) AS cached_input_tokens_p50
FROM scoped
CROSS JOIN width
GROUP BY ALL
ORDER BY 1
