-- The exchanges of a trajectory, from its first.
SELECT
    kind,
    turn_index,
    attempt_index,
    is_last,
    status,
    seconds(start_ns - MIN(start_ns) OVER ()) AS start_s,
    seconds(end_ns - MIN(start_ns) OVER ()) AS end_s,
    ttft_s,
    input_tokens,
    cached_input_tokens,
    output_tokens,
    output_speed_tps,
    error_type
FROM attempts
WHERE trajectory_id = $trajectory
ORDER BY start_ns, attempt_index
