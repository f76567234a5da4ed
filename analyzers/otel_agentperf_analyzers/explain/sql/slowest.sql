-- The turns that took longest.
SELECT * EXCLUDE (benchmark_id, level, request_model, input_tokens, typical_fresh_input_tokens), request_model AS model
FROM turn_causes
WHERE ($benchmark IS NULL OR benchmark_id = $benchmark) AND ($model IS NULL OR request_model = $model)
ORDER BY e2e_latency_s DESC, trajectory_id, turn_index
LIMIT $limit
