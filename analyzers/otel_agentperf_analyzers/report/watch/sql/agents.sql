-- Trajectories, the latest end first, with the last turn of each that did not fail.
WITH last_turns AS (
    SELECT
        trajectory_id,
        ARG_MAX(ttft_s, start_ns) FILTER (NOT is_failed(status)) AS ttft_s,
        ARG_MAX(output_speed_tps, start_ns) FILTER (NOT is_failed(status)) AS output_speed_tps
    FROM turns
    WHERE kind = 'turn'
    GROUP BY trajectory_id
)

SELECT
    trajectories.trajectory_id,
    trajectories.agent_name,
    trajectories.request_model AS model,
    trajectories.benchmark_id,
    trajectories.level,
    trajectories.turns,
    trajectories.tool_calls,
    GREATEST(EPOCH($now - trajectories.end_time), 0) AS last_seen_s,
    last_turns.ttft_s,
    last_turns.output_speed_tps,
    trajectories.max_context_tokens,
    trajectories.output_tokens,
    trajectories.llm_time_s,
    trajectories.tool_time_s,
    trajectories.failed_turns,
    trajectories.retries,
    COALESCE(trajectories.is_completed, FALSE) AS is_completed
FROM trajectories
INNER JOIN last_turns USING (trajectory_id)
WHERE trajectories.turns > 0
ORDER BY trajectories.end_time DESC, trajectories.trajectory_id
LIMIT $limit
