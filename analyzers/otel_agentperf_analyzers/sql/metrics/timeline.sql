-- relation: timeline
-- description: What happened in a trajectory, in order: its turns and auxiliary calls, attempts before the last, tools,
--   sub-agents, and waits for a human.
-- grain: one row per event of a trajectory
-- requires: call spans
-- source: ours
-- reads: turns, attempts, tool_calls, runs, trajectories, turn_causes
-- visibility: public
-- storage: view
-- filters: trajectory=trajectory_id model=request_model benchmark=benchmark_id
-- order: trajectory_id, start_time, rank, end_time
-- columns:
--   trajectory_id VARCHAR: The trajectory.
--   start_time TIMESTAMP WITH TIME ZONE: When it began.
--   end_time TIMESTAMP WITH TIME ZONE: When it ended.
--   offset_s DOUBLE [s]: Since the trajectory's first call.
--   duration_s DOUBLE [s]: How long it took.
--   event VARCHAR: turn, auxiliary, attempt (one before the last of its turn), tool, subagent or human.
--   rank BIGINT: Order among events of one start: 0 turns and auxiliary calls, 1 attempts, 2 tools, 3 sub-agents, 4 humans.
--   name VARCHAR: The model, the tool, or the sub-agent's trajectory.
--   turn_index BIGINT: The turn, or the turn that asked for the tool.
--   run_index BIGINT: The agent run, of turns.
--   status VARCHAR: How it ended; of tools ok or error, NULL when it is not known.
--   first_token_s DOUBLE [s]: Of turns: time to first token of the last attempt.
--   decode_s DOUBLE [s]: Of turns: first to last output chunk.
--   input_tokens BIGINT [tokens]: Of turns and sub-agents: input.
--   cached_input_tokens BIGINT [tokens]: Of turns and sub-agents: input read from the cache.
--   output_tokens BIGINT [tokens]: Of turns and sub-agents: output.
--   output_speed_tps DOUBLE [tok/s]: Of turns: output speed.
--   optimal_cache_hit DOUBLE: Of turns: the share of the request that was sent before.
--   cost DOUBLE [currency]: Of turns and sub-agents: price.
--   request_model VARCHAR: The model asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   note VARCHAR: What is unusual about it, in words; NULL when nothing is.
WITH events AS (
    SELECT
        turns.trajectory_id,
        turns.start_ns,
        turns.end_ns,
        turns.kind AS event,
        0 AS rank,
        turns.request_model AS name,
        turns.turn_index,
        turns.run_index,
        turns.status,
        turns.ttft_s AS first_token_s,
        turns.generation_s AS decode_s,
        turns.input_tokens,
        turns.cached_input_tokens,
        turns.output_tokens,
        turns.output_speed_tps,
        turns.optimal_cache_hit,
        turns.cost,
        turns.request_model,
        turns.benchmark_id,
        CONCAT_WS(
            ', ',
            CASE WHEN turns.kind = 'turn'
                    AND turns.segment > LAG(turns.segment) OVER (
                        PARTITION BY turns.trajectory_id, turns.kind ORDER BY turns.start_ns, turns.turn_index
                    )
                THEN 'context compacted'
            END,
            CASE WHEN turns.attempt_count > 1 THEN FORMAT('{} attempts', turns.attempt_count) END,
            CASE WHEN is_failed(turns.status) THEN COALESCE(turns.error_type, turns.status) END,
            CASE WHEN turns.chunk_gap_max_s > 1 THEN FORMAT('stood still for {:.1f} s', turns.chunk_gap_max_s) END,
            CASE WHEN turns.usage_source = 'estimated' THEN 'tokens estimated' END,
            CASE WHEN turn_causes.e2e_latency_s > 2 * turn_causes.typical_e2e_latency_s
                    AND turn_causes.cause NOT IN ('typical', 'failed', 'retries', 'stall')
                THEN 'slow: ' || turn_causes.cause
            END
        ) AS note
    FROM turns
    LEFT JOIN turn_causes
        ON turns.kind = 'turn'
        AND turn_causes.trajectory_id = turns.trajectory_id
        AND turn_causes.turn_index = turns.turn_index
    UNION ALL BY NAME
    SELECT
        trajectory_id,
        start_ns,
        end_ns,
        'attempt' AS event,
        1 AS rank,
        request_model AS name,
        turn_index,
        run_index,
        status,
        ttft_s AS first_token_s,
        generation_s AS decode_s,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        output_speed_tps,
        cost,
        request_model,
        benchmark_id,
        CONCAT_WS(', ', FORMAT('attempt {}', attempt_index), error_type) AS note
    FROM attempts
    WHERE NOT is_last
    UNION ALL BY NAME
    SELECT
        trajectory_id,
        start_ns,
        end_ns,
        'tool' AS event,
        2 AS rank,
        tool_name AS name,
        turn_index,
        CASE WHEN is_error THEN 'error' WHEN NOT is_error THEN 'ok' END AS status,
        request_model,
        benchmark_id,
        CONCAT_WS(
            ', ',
            CASE WHEN is_repeated THEN 'same arguments as before' END,
            CASE WHEN is_recovered THEN 'the next call of it succeeded' END,
            CASE WHEN is_inferred THEN 'inferred from the gap' END
        ) AS note
    FROM tool_calls
    UNION ALL BY NAME
    SELECT
        parent_trajectory_id AS trajectory_id,
        epoch_ns(start_time) AS start_ns,
        epoch_ns(end_time) AS end_ns,
        'subagent' AS event,
        3 AS rank,
        trajectory_id AS name,
        status,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        cost,
        request_model,
        benchmark_id,
        FORMAT('{}{} turns', COALESCE(agent_name || ', ', ''), turns) AS note
    FROM trajectories
    WHERE parent_trajectory_id IS NOT NULL
    UNION ALL BY NAME
    SELECT
        trajectory_id,
        epoch_ns(end_time) AS start_ns,
        next_start_ns AS end_ns,
        'human' AS event,
        4 AS rank,
        request_model,
        benchmark_id
    FROM (
        SELECT
            *,
            LEAD(epoch_ns(start_time)) OVER (PARTITION BY trajectory_id ORDER BY start_time, run_index) AS next_start_ns
        FROM runs
        WHERE benchmark_id IS NULL
    )
    WHERE next_start_ns > epoch_ns(end_time)
),

begins AS (
    SELECT trajectory_id, MIN(start_ns) AS start_ns FROM turns GROUP BY trajectory_id
)

SELECT
    events.trajectory_id,
    instant(events.start_ns) AS start_time,
    instant(events.end_ns) AS end_time,
    seconds(events.start_ns - begins.start_ns) AS offset_s,
    seconds(events.end_ns - events.start_ns) AS duration_s,
    events.event,
    CAST(events.rank AS BIGINT) AS rank,
    events.name,
    events.turn_index,
    events.run_index,
    events.status,
    events.first_token_s,
    events.decode_s,
    events.input_tokens,
    events.cached_input_tokens,
    events.output_tokens,
    events.output_speed_tps,
    events.optimal_cache_hit,
    events.cost,
    events.request_model,
    events.benchmark_id,
    NULLIF(events.note, '') AS note
FROM events
INNER JOIN begins USING (trajectory_id)
