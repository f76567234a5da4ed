-- relation: time_breakdown
-- description: Where the time of trajectories went, without anything counted twice: each instant belongs to the first of
--   decode, prefill, queue, first token, unsplit, retries and tool that is going on in it, else to the harness within runs,
--   else to the human. The parts add up to the time from the first t0 to the last te. Queue and prefill are known where the
--   inference server's own spans are; they are laid before the first output chunk, prefill last.
-- grain: one row per trajectory with a turn
-- requires: call spans
-- source: ours
-- reads: attempts, turns, tool_calls, work_scopes, time_shares, trajectories
-- visibility: public
-- storage: view
-- scope: trajectory
-- filters: model=request_model benchmark=benchmark_id trajectory=trajectory_id
-- order: trajectory_id
-- columns:
--   trajectory_id VARCHAR: The trajectory.
--   agent_name VARCHAR: The agent, when known.
--   request_model VARCHAR: The model that most turns asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level.
--   total_s DOUBLE [s]: First t0 to last te of its turns.
--   decode_s DOUBLE [s]: Answers streamed, from the first output chunk to the end.
--   prefill_s DOUBLE [s]: Of the waits for the first output chunk: the server's prefill, where it tells.
--   queue_s DOUBLE [s]: Of these waits: the server's queue, where it tells.
--   first_token_s DOUBLE [s]: The rest of these waits: network, and queue and prefill where the server does not tell.
--   unsplit_s DOUBLE [s]: Calls that were not streamed, so that their parts are not known.
--   retries_s DOUBLE [s]: Attempts that failed or were aborted, and waits until the next attempt.
--   tool_s DOUBLE [s]: Tools at work.
--   harness_s DOUBLE [s]: Within runs, none of these: the agent's own program.
--   human_s DOUBLE [s]: Between runs; 0 in a benchmark.
-- metric: time_first_token
--   column: first_token_s
--   definition: Time of the trajectory in which it waited for a first token, nothing was being decoded, and the server does
--     not say that the call was in its queue or in prefill.
--   formula: |union of [t0, tf] minus decode, prefill and queue| over last attempts that did not fail
--   unit: s
--   grain: trajectory
--   requires: streamed responses
--   source: ours
-- metric: time_queue
--   column: queue_s
--   definition: Time of the trajectory in which a call was in the inference server's queue, and none in prefill or decode.
--   formula: |union of [tf - prefill - queue, tf - prefill]| minus decode and prefill
--   unit: s
--   grain: trajectory
--   requires: spans of inference servers
--   source: ours
-- metric: time_prefill
--   column: prefill_s
--   definition: Time of the trajectory in which a call was in prefill, and none in decode.
--   formula: |union of [tf - prefill, tf]| minus decode
--   unit: s
--   grain: trajectory
--   requires: spans of inference servers
--   source: ours
-- metric: time_decode
--   column: decode_s
--   definition: Time of the trajectory in which an answer was streamed.
--   formula: |union of [tf, te]| over last attempts that did not fail
--   unit: s
--   grain: trajectory
--   requires: streamed responses
--   source: ours
-- metric: time_retries
--   column: retries_s
--   definition: Time of the trajectory that went into attempts that failed or were aborted, and into waits for the next.
--   formula: |union of failed attempts and of [first t0, last attempt's t0]| minus what is decode, first token or unsplit
--   unit: s
--   grain: trajectory
--   requires: call spans
--   source: ours
WITH answers AS (
    SELECT
        trajectory_id,
        run_id,
        start_ns,
        end_ns,
        start_ns + CAST(ROUND(ttft_s * 1e9) AS BIGINT) AS first_ns,
        CAST(ROUND(COALESCE(server_prefill_s, 0) * 1e9) AS BIGINT) AS prefill_ns,
        CAST(ROUND(COALESCE(queue_s, 0) * 1e9) AS BIGINT) AS queue_ns
    FROM attempts
    WHERE kind = 'turn' AND is_last AND NOT is_failed(status)
),

phases AS (
    SELECT trajectory_id, run_id, 1 AS rank, first_ns AS start_ns, end_ns FROM answers WHERE first_ns IS NOT NULL
    UNION ALL
    SELECT trajectory_id, run_id, 2, GREATEST(start_ns, first_ns - prefill_ns), first_ns
    FROM answers
    WHERE first_ns IS NOT NULL AND prefill_ns > 0
    UNION ALL
    SELECT
        trajectory_id,
        run_id,
        3,
        GREATEST(start_ns, first_ns - prefill_ns - queue_ns),
        GREATEST(start_ns, first_ns - prefill_ns)
    FROM answers
    WHERE first_ns IS NOT NULL AND queue_ns > 0
    UNION ALL
    SELECT trajectory_id, run_id, 4, start_ns, first_ns FROM answers WHERE first_ns IS NOT NULL
    UNION ALL
    SELECT trajectory_id, run_id, 5, start_ns, end_ns FROM answers WHERE first_ns IS NULL
    UNION ALL
    SELECT trajectory_id, run_id, 6, start_ns, end_ns
    FROM attempts
    WHERE kind = 'turn' AND is_last AND is_failed(status)
    UNION ALL
    SELECT turns.trajectory_id, turns.run_id, 6, turns.start_ns, last.start_ns
    FROM turns
    INNER JOIN attempts AS last USING (trajectory_id, turn_id)
    WHERE turns.kind = 'turn' AND turns.attempt_count > 1 AND last.is_last
    UNION ALL
    SELECT trajectory_id, run_id, 7, start_ns, end_ns
    FROM tool_calls
),

cut AS (
    SELECT
        phases.trajectory_id,
        -- What is going on counts for its own rank and for all below: the union up to each rank, and their differences.
        UNNEST(RANGE(phases.rank, 8)) AS rank,
        GREATEST(phases.start_ns, scopes.start_ns) AS start_ns,
        LEAST(phases.end_ns, scopes.end_ns) AS end_ns
    FROM phases
    INNER JOIN work_scopes AS scopes
        ON scopes.trajectory_id = phases.trajectory_id
        AND scopes.run_id IS NULL
        AND (scopes.of_run_id IS NULL OR scopes.of_run_id = phases.run_id)
    WHERE phases.start_ns < scopes.end_ns AND phases.end_ns > scopes.start_ns
),

laid AS (
    SELECT
        *,
        MAX(end_ns) OVER (
            PARTITION BY trajectory_id, rank ORDER BY start_ns, end_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached_ns
    FROM cut
),

unions AS (
    SELECT
        trajectory_id,
        COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (rank = 1), 0) AS to_decode_ns,
        COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (rank = 2), 0) AS to_prefill_ns,
        COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (rank = 3), 0) AS to_queue_ns,
        COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (rank = 4), 0) AS to_first_token_ns,
        COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (rank = 5), 0) AS to_unsplit_ns,
        COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (rank = 6), 0) AS to_retries_ns,
        COALESCE(SUM(newly_covered(start_ns, end_ns, reached_ns)) FILTER (rank = 7), 0) AS to_tool_ns
    FROM laid
    GROUP BY trajectory_id
)

SELECT
    trajectory_id,
    trajectories.agent_name,
    trajectories.request_model,
    trajectories.benchmark_id,
    trajectories.level,
    seconds(time_shares.extent_ns) AS total_s,
    seconds(unions.to_decode_ns) AS decode_s,
    seconds(unions.to_prefill_ns - unions.to_decode_ns) AS prefill_s,
    seconds(unions.to_queue_ns - unions.to_prefill_ns) AS queue_s,
    seconds(unions.to_first_token_ns - unions.to_queue_ns) AS first_token_s,
    seconds(unions.to_unsplit_ns - unions.to_first_token_ns) AS unsplit_s,
    seconds(unions.to_retries_ns - unions.to_unsplit_ns) AS retries_s,
    seconds(unions.to_tool_ns - unions.to_retries_ns) AS tool_s,
    seconds(time_shares.run_ns - unions.to_tool_ns) AS harness_s,
    seconds(time_shares.extent_ns - time_shares.run_ns) AS human_s
FROM unions
INNER JOIN time_shares USING (trajectory_id)
INNER JOIN trajectories USING (trajectory_id)
WHERE time_shares.run_id IS NULL
