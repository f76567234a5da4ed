-- relation: busy_intervals
-- description: When the model and when tools were at work, cut to the time that counts as work: the attempts of turns, and
--   tool calls. Waits between attempts are neither.
-- grain: one row per attempt of a turn, and per tool call, for its run and for its trajectory (run_id NULL)
-- requires: call spans
-- source: ours
-- reads: attempts, tool_calls, work_scopes
-- visibility: internal
-- storage: view
-- scope: trajectory
WITH intervals AS (
    SELECT trajectory_id, run_id, 'llm' AS activity, start_ns, end_ns FROM attempts WHERE kind = 'turn'
    UNION ALL
    SELECT trajectory_id, run_id, 'tool' AS activity, start_ns, end_ns FROM tool_calls
)

SELECT
    intervals.trajectory_id,
    work_scopes.run_id,
    intervals.activity,
    GREATEST(intervals.start_ns, work_scopes.start_ns) AS start_ns,
    LEAST(intervals.end_ns, work_scopes.end_ns) AS end_ns
FROM intervals
INNER JOIN work_scopes
    ON work_scopes.trajectory_id = intervals.trajectory_id
    AND (work_scopes.of_run_id IS NULL OR work_scopes.of_run_id = intervals.run_id)
WHERE intervals.start_ns < work_scopes.end_ns AND intervals.end_ns > work_scopes.start_ns
