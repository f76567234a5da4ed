-- Trajectories of the turns that a comparison is taken over.
SELECT
    trajectory_id,
    task_id,
    level,
    CASE WHEN is_completed THEN job_latency_s END AS job_latency_s,
    CAST(is_completed AS BIGINT) AS ended,
    tool_time_s,
    harness_time_s,
    turns,
    1 AS trajectories,
    CASE WHEN estimated_turns = 0 THEN input_tokens END AS input_tokens,
    CASE WHEN estimated_turns = 0 THEN output_tokens END AS output_tokens,
    CASE WHEN estimated_turns = 0 AND output_tokens IS NOT NULL THEN 1 ELSE 0 END AS counted,
    wasted_tokens,
    tool_errors,
    CASE WHEN outcome = 'success' THEN 1 ELSE 0 END AS succeeded,
    CASE WHEN outcome IN ('success', 'failure') THEN 1 ELSE 0 END AS judged,
    cost,
    CASE WHEN cost IS NOT NULL THEN 1 ELSE 0 END AS priced
FROM trajectories
WHERE benchmark_id IS NOT DISTINCT FROM $benchmark
    AND trajectory_id IN (SELECT trajectory_id FROM population WHERE benchmark_id IS NOT DISTINCT FROM $benchmark)
