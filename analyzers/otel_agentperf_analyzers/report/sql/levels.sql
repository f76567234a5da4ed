-- Levels of benchmarks, with the tokens of their turns.
WITH tokens AS (
    SELECT
        benchmark_id,
        level,
        CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
        CAST(SUM(output_tokens) AS BIGINT) AS output_tokens
    FROM population
    GROUP BY benchmark_id, level
)

SELECT levels.*, levels.request_model AS model, tokens.input_tokens, tokens.output_tokens
FROM levels
LEFT JOIN tokens ON tokens.benchmark_id = levels.benchmark_id AND tokens.level IS NOT DISTINCT FROM levels.level
WHERE $benchmark IS NULL OR levels.benchmark_id = $benchmark
ORDER BY levels.benchmark_id, levels.level
