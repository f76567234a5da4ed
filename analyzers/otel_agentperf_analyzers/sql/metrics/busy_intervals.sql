-- relation: busy_intervals
-- description: When the model and when tools were at work, within the bounds of the run: the attempts of its turns, and
--   its tool calls. Waits between attempts are neither.
-- grain: one row per attempt of a turn, and per tool call
-- requires: call spans
-- source: ours
-- reads: attempts, tool_calls, run_bounds
-- visibility: internal
-- storage: view
WITH intervals AS (
    SELECT trajectory_id, run_id, 'llm' AS activity, start_ns, end_ns FROM attempts WHERE kind = 'turn'
    UNION ALL
    SELECT trajectory_id, run_id, 'tool' AS activity, start_ns, end_ns FROM tool_calls
)

SELECT
    trajectory_id,
    run_id,
    activity,
    GREATEST(intervals.start_ns, run_bounds.start_ns) AS start_ns,
    LEAST(intervals.end_ns, run_bounds.end_ns) AS end_ns
FROM intervals
INNER JOIN run_bounds USING (trajectory_id, run_id)
WHERE intervals.start_ns < run_bounds.end_ns AND intervals.end_ns > run_bounds.start_ns
