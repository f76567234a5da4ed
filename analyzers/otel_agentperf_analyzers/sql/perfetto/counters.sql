-- Agents at work and open calls over time, with a zero where nothing goes on.
WITH buckets AS (
    SELECT
        benchmark_id,
        level,
        epoch_ns(bucket_start) AS start_ns,
        epoch_ns(bucket_start) + CAST(bucket_s * 1e9 AS BIGINT) AS end_ns,
        active_agents,
        inflight
    FROM concurrency
)

SELECT benchmark_id, level, start_ns AS at_ns, active_agents, inflight FROM buckets
UNION ALL
SELECT benchmark_id, level, end_ns AS at_ns, 0 AS active_agents, 0 AS inflight
FROM buckets
WHERE NOT EXISTS (
    SELECT 1 FROM buckets AS later
    WHERE later.benchmark_id IS NOT DISTINCT FROM buckets.benchmark_id
        AND later.level IS NOT DISTINCT FROM buckets.level
        AND later.start_ns = buckets.end_ns
)
ORDER BY benchmark_id, level, at_ns
