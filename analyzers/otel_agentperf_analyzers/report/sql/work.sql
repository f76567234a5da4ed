-- What got done and at what cost: all together, and by agent, model, ... where outcomes or prices are known.
SELECT * FROM tasks
WHERE ($benchmark IS NULL OR benchmark_id = $benchmark)
    AND (dimension = 'all' OR ((cost IS NOT NULL OR success_rate IS NOT NULL) AND dimension_value IS NOT NULL))
ORDER BY benchmark_id, level, dimension <> 'all', dimension, tasks DESC, dimension_value
