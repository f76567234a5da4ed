-- What went wrong, all trajectories together.
SELECT
    CAST(NULL AS VARCHAR) AS trajectory_id,
    COUNT(*) AS trajectories,
    CAST(COALESCE(SUM(failed_turns), 0) AS BIGINT) AS failed_turns,
    CAST(COALESCE(SUM(retries), 0) AS BIGINT) AS retries,
    CAST(COALESCE(SUM(tool_errors), 0) AS BIGINT) AS tool_errors,
    CAST(COALESCE(SUM(recoveries), 0) AS BIGINT) AS recoveries,
    CAST(COALESCE(SUM(repeated_tool_calls), 0) AS BIGINT) AS repeated_tool_calls,
    CAST(COALESCE(SUM(loops), 0) AS BIGINT) AS loops,
    CAST(SUM(stalls) AS BIGINT) AS stalls,
    CAST(SUM(wasted_tokens) AS BIGINT) AS wasted_tokens,
    SUM(wasted_cost) AS wasted_cost
FROM trajectories
WHERE turns > 0 AND ($benchmark IS NULL OR benchmark_id = $benchmark) AND ($model IS NULL OR request_model = $model)
