-- Turns that took longer than typical, by what took longest.
SELECT cause, COUNT(*) AS turns, SUM(e2e_latency_s - typical_e2e_latency_s) AS excess_s
FROM turn_causes
WHERE e2e_latency_s > typical_e2e_latency_s AND cause NOT IN ('typical', 'failed') AND ($benchmark IS NULL OR benchmark_id = $benchmark) AND ($model IS NULL OR request_model = $model)
GROUP BY cause
ORDER BY excess_s DESC
