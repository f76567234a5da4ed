-- Trajectories in which something went wrong: the most wasted tokens first, then the most retries, loops and errors.
SELECT
    trajectory_id,
    1 AS trajectories,
    failed_turns,
    retries,
    tool_errors,
    recoveries,
    repeated_tool_calls,
    loops,
    stalls,
    wasted_tokens,
    wasted_cost
FROM trajectories
WHERE failed_turns + retries + tool_errors + repeated_tool_calls > 0 AND ($benchmark IS NULL OR benchmark_id = $benchmark) AND ($model IS NULL OR request_model = $model)
ORDER BY wasted_cost DESC NULLS LAST, wasted_tokens DESC NULLS LAST, retries DESC, loops DESC, tool_errors DESC, failed_turns DESC, trajectory_id
LIMIT $limit
