-- What tasks cost, what of it bought nothing, and how they came out; by agent, model, ... where that is known.
SELECT * FROM tasks
WHERE ($benchmark IS NULL OR benchmark_id = $benchmark)
    AND (cost IS NOT NULL OR success_rate IS NOT NULL OR wasted_tokens > 0)
    AND CASE
        WHEN $model IS NOT NULL THEN dimension = 'model' AND dimension_value = $model
        ELSE dimension = 'all' OR ((cost IS NOT NULL OR success_rate IS NOT NULL) AND dimension_value IS NOT NULL)
    END
ORDER BY benchmark_id, level, dimension <> 'all', dimension, tasks DESC, dimension_value
