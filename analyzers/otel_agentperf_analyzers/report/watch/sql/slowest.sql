-- The turns that took longest.
SELECT
    trajectory_id,
    turn_index,
    request_model AS model,
    GREATEST(EPOCH($now - start_time) - e2e_latency_s, 0) AS ended_s,
    status,
    e2e_latency_s,
    typical_e2e_latency_s,
    cause,
    output_tokens
FROM turn_causes
ORDER BY e2e_latency_s DESC, trajectory_id, turn_index
LIMIT $limit
