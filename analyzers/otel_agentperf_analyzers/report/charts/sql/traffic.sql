-- Agents at work and open calls over time.
SELECT bucket_start, bucket_s, level, active_agents, active_subagents, inflight, calls_started, calls_failed
FROM concurrency
WHERE benchmark_id IS NOT DISTINCT FROM $benchmark
ORDER BY bucket_start, level
