-- relation: turn_causes
-- description: Why a turn took longer than is typical for its model: what its parts took beyond the medians of the model's
--   turns, and the largest of these. Typical is the median over all turns of the model in the source that did not fail.
-- grain: one row per turn, auxiliary calls left out
-- requires: call spans
-- source: ours
-- reads: turns, attempts
-- visibility: public
-- storage: view
-- filters: model=request_model benchmark=benchmark_id trajectory=trajectory_id
-- order: trajectory_id, turn_index
-- columns:
--   trajectory_id VARCHAR: The trajectory.
--   turn_index BIGINT: From 0 within the trajectory.
--   request_model VARCHAR: The model asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level.
--   start_time TIMESTAMP WITH TIME ZONE: t0 of the first attempt.
--   status VARCHAR: How it ended.
--   e2e_latency_s DOUBLE [s]: Last te - first t0.
--   typical_e2e_latency_s DOUBLE [s]: Median of the model.
--   retries_s DOUBLE [s]: Attempts before the last one, and the waits between.
--   first_token_excess_s DOUBLE [s]: Time to first token beyond the median.
--   queue_s DOUBLE [s]: In the inference server's queue, where its own span says.
--   long_answer_s DOUBLE [s]: Output tokens beyond the median, at the median time per token.
--   slow_decode_s DOUBLE [s]: Time from first to last output beyond these tokens at the median time per token.
--   stall_s DOUBLE [s]: The longest gap between output chunks, when it is more than a second; it is part of slow_decode_s.
--   fresh_input_tokens BIGINT [tokens]: Input that was not read from the cache; NULL when the server did not say.
--   typical_fresh_input_tokens DOUBLE [tokens]: Median of the model.
--   input_tokens BIGINT [tokens]: Input, cached tokens included.
--   output_tokens BIGINT [tokens]: Output.
--   cause VARCHAR: failed, where the turn did; else the largest part: retries; of the wait for the first token queue (half
--     of it was in the server's queue), uncached input (more than twice the typical fresh input) or first token (load or
--     network); long answer; stall (slow decode, half of it one gap) or slow decode; typical when no part takes longer.
WITH of_model AS (
    SELECT
        request_model,
        MEDIAN(e2e_latency_s) AS e2e_latency_s,
        MEDIAN(ttft_s) AS ttft_s,
        MEDIAN(tpot_s) AS tpot_s,
        MEDIAN(output_tokens) AS output_tokens,
        MEDIAN(input_tokens - cached_input_tokens) AS fresh_input_tokens
    FROM turns
    WHERE kind = 'turn' AND NOT is_failed(status)
    GROUP BY request_model
),

parts AS (
    SELECT
        turns.trajectory_id,
        turns.turn_index,
        turns.request_model,
        turns.benchmark_id,
        turns.level,
        turns.start_time,
        turns.status,
        turns.e2e_latency_s,
        of_model.e2e_latency_s AS typical_e2e_latency_s,
        GREATEST(0, turns.e2e_latency_s - last.e2e_latency_s) AS retries_s,
        GREATEST(0, turns.ttft_s - of_model.ttft_s) AS first_token_excess_s,
        turns.queue_s,
        GREATEST(0, (turns.output_tokens - of_model.output_tokens) * of_model.tpot_s) AS long_answer_s,
        GREATEST(0, turns.generation_s - (turns.output_tokens - 1) * of_model.tpot_s) AS slow_decode_s,
        CASE WHEN turns.chunk_gap_max_s > 1 THEN turns.chunk_gap_max_s END AS stall_s,
        turns.input_tokens - turns.cached_input_tokens AS fresh_input_tokens,
        of_model.fresh_input_tokens AS typical_fresh_input_tokens,
        turns.input_tokens,
        turns.output_tokens
    FROM turns
    INNER JOIN attempts AS last ON last.trajectory_id = turns.trajectory_id AND last.turn_id = turns.turn_id
    LEFT JOIN of_model ON of_model.request_model IS NOT DISTINCT FROM turns.request_model
    WHERE turns.kind = 'turn' AND last.is_last
),

largest AS (
    SELECT
        *,
        GREATEST(
            COALESCE(retries_s, 0),
            COALESCE(first_token_excess_s, 0),
            COALESCE(long_answer_s, 0),
            COALESCE(slow_decode_s, 0)
        ) AS largest_s
    FROM parts
)

SELECT
    * EXCLUDE (largest_s),
    CASE
        WHEN is_failed(status) THEN 'failed'
        WHEN largest_s <= 1e-9 THEN 'typical'
        WHEN retries_s = largest_s THEN 'retries'
        WHEN first_token_excess_s = largest_s AND queue_s >= first_token_excess_s / 2 THEN 'queue'
        WHEN first_token_excess_s = largest_s AND fresh_input_tokens > 2 * typical_fresh_input_tokens THEN 'uncached input'
        WHEN first_token_excess_s = largest_s THEN 'first token'
        WHEN long_answer_s = largest_s THEN 'long answer'
        WHEN stall_s >= slow_decode_s / 2 THEN 'stall'
        ELSE 'slow decode'
    END AS cause
FROM largest
