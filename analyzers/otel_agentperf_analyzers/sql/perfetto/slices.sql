-- Runs, exchanges and tools by trajectory, each before what can be inside of it. Runs end with their last call or tool.
WITH tools AS (
    SELECT trajectory_id, run_id, tool_name, tool_call_id, turn_index, is_error, start_ns, end_ns
    FROM tool_calls
    WHERE NOT COALESCE(is_inferred, FALSE)
),

bounds AS (
    SELECT trajectory_id, run_id, MIN(start_ns) AS start_ns, MAX(end_ns) AS end_ns
    FROM (
        SELECT trajectory_id, run_id, start_ns, end_ns FROM attempts
        UNION ALL
        SELECT trajectory_id, run_id, start_ns, end_ns FROM tools
    )
    WHERE run_id IS NOT NULL
    GROUP BY trajectory_id, run_id
),

numbered AS (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY trajectory_id ORDER BY start_ns, run_id) - 1 AS number
    FROM bounds
),

slices AS (
    SELECT
        trajectory_id,
        'run' AS event,
        0 AS rank,
        FORMAT('run {}', number) AS name,
        start_ns,
        end_ns,
        CAST(NULL AS BIGINT) AS first_ns,
        run_id
    FROM numbered
    UNION ALL BY NAME
    SELECT
        trajectory_id,
        'turn' AS event,
        1 AS rank,
        CASE
            WHEN kind = 'auxiliary' THEN 'auxiliary call'
            WHEN attempt_index > 0 THEN FORMAT('turn {}, attempt {}', COALESCE(turn_index, -1), attempt_index)
            ELSE FORMAT('turn {}', COALESCE(turn_index, -1))
        END AS name,
        start_ns,
        end_ns,
        start_ns + CAST(ROUND(ttft_s * 1e9) AS BIGINT) AS first_ns,
        run_id,
        request_id,
        request_model AS model,
        status,
        error_type,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        ttft_s,
        output_speed_tps,
        trace_id,
        span_id,
        turn_index
    FROM attempts
    WHERE trajectory_id IS NOT NULL
    UNION ALL BY NAME
    SELECT
        trajectory_id,
        'tool' AS event,
        2 AS rank,
        COALESCE(tool_name, 'tool') AS name,
        start_ns,
        end_ns,
        run_id,
        tool_call_id,
        turn_index,
        is_error
    FROM tools
)

SELECT * EXCLUDE (rank)
FROM slices
ORDER BY trajectory_id, start_ns, end_ns DESC, rank, name
