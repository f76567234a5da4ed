-- How many turns and trajectories lack a metric, by reason.
SELECT relation, metric, reason, CAST(SUM("count") AS BIGINT) AS "count"
FROM undefined
WHERE $benchmark IS NULL OR benchmark_id = $benchmark
GROUP BY relation, metric, reason
ORDER BY relation DESC, metric, "count" DESC, reason
