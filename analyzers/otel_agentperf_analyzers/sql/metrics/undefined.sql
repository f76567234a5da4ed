-- relation: undefined
-- description: Why figures are NULL, counted: each row says how many turns, trajectories or attempts lack a metric for one
--   reason. A metric is NULL as often as its reasons count.
--   not_streamed: no stream was asked for. failed: the call failed, broke off or was cancelled before it could be known.
--   no_output: the call went well, but no output came, or not as the stream that was asked for.
--   not_observed: the source does not record what is needed, or not of this call. no_usage: no token count was told.
--   fewer_than_2_tokens, zero_window: too short to have a speed. fewer_than_2_chunks: no gap between chunks.
--   only_reasoning: no output beyond reasoning. cached_tokens_not_reported: the server does not say what was cached.
--   untold_by_server: neither a span of the inference server in the source nor its response tells.
--   no_turns: only auxiliary calls. no_price: no price fits, or none was given. tokens_estimated: nobody but an estimate
--   counted the tokens. nothing_shared: no earlier turn began alike. no_input: requests of no bytes, or of no tokens.
--   outcome_unknown: nobody told. fewer_than_2_turns: no step from one turn to the next in any segment.
-- grain: one row per relation, metric, reason, model, benchmark and level
-- requires: call spans
-- source: ours
-- reads: attempts, turns, trajectories
-- visibility: public
-- storage: view
-- filters: model=request_model benchmark=benchmark_id
-- order: relation, metric, reason, request_model, benchmark_id, level
-- columns:
--   relation VARCHAR: turns, trajectories or attempts.
--   metric VARCHAR: The metric, by its name in the catalogue.
--   reason VARCHAR: Why it is NULL.
--   count BIGINT: Turns (auxiliary calls left out), trajectories, or attempts.
--   request_model VARCHAR: The model asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level; NULL for live traffic.
WITH of_output AS (
    SELECT
        *,
        CASE
            WHEN ttft_s IS NOT NULL THEN NULL
            WHEN status = 'partial' THEN 'not_observed'
            WHEN NOT stream THEN 'not_streamed'
            WHEN is_failed(status) THEN 'failed'
            WHEN dialect IS NULL THEN 'not_observed'
            ELSE 'no_output'
        END AS no_output_reason,
        CASE WHEN is_failed(status) THEN 'failed' WHEN status = 'partial' THEN 'not_observed' ELSE 'no_usage' END
            AS no_usage_reason,
        CASE
            WHEN time_to_first_chunk_s IS NOT NULL THEN NULL
            WHEN is_failed(status) THEN 'failed'
            WHEN dialect IS NULL OR status = 'partial' OR ttft_s IS NOT NULL OR output_tokens > 0 THEN 'not_observed'
            ELSE 'no_output'
        END AS no_chunk_reason,
        -- What was seen to its end has its chunks counted.
        status = 'partial' OR chunk_count IS NULL AS is_cut
    FROM turns
    WHERE kind = 'turn'
),

of_stream AS (
    SELECT
        *,
        CASE
            WHEN no_output_reason IS NOT NULL THEN no_output_reason
            WHEN output_tokens IS NULL THEN no_usage_reason
            WHEN output_tokens < 2 THEN 'fewer_than_2_tokens'
            WHEN generation_s <= 0 THEN 'zero_window'
            ELSE 'not_observed'
        END AS no_speed_reason,
        CASE
            WHEN no_output_reason IS NOT NULL THEN no_output_reason
            WHEN is_cut OR chunk_count >= 2 THEN 'not_observed'
            ELSE 'fewer_than_2_chunks'
        END AS no_gap_reason
    FROM of_output
),

-- Turns alike first, their metrics then: the turns are many, the ways to lack something few.
turns_alike AS (
    SELECT
        request_model,
        benchmark_id,
        level,
        no_output_reason AS ttft,
        CASE WHEN server_ttft_s IS NULL THEN COALESCE(no_output_reason, 'not_observed') END AS server_ttft,
        no_chunk_reason AS time_to_first_chunk,
        CASE
            WHEN ttfot_s IS NOT NULL THEN NULL
            WHEN no_output_reason IS NOT NULL THEN no_output_reason
            WHEN is_cut THEN 'not_observed'
            ELSE 'only_reasoning'
        END AS ttfot,
        queue_s IS NULL AS is_queue_untold,
        server_prefill_s IS NULL AS is_prefill_untold,
        server_decode_s IS NULL AS is_decode_untold,
        CASE
            WHEN network_s IS NOT NULL THEN NULL
            WHEN no_output_reason IS NOT NULL THEN no_output_reason
            WHEN server_ttft_s IS NULL THEN 'not_observed'
            ELSE 'untold_by_server'
        END AS network_time,
        CASE WHEN output_speed_tps IS NULL THEN no_speed_reason END AS output_speed,
        CASE WHEN tpot_s IS NULL THEN no_speed_reason END AS tpot,
        CASE
            WHEN e2e_speed_tps IS NOT NULL THEN NULL
            WHEN output_tokens IS NULL THEN no_usage_reason
            ELSE 'zero_window'
        END AS e2e_speed,
        CASE
            WHEN prefill_rate_tps IS NOT NULL THEN NULL
            WHEN no_output_reason IS NOT NULL THEN no_output_reason
            WHEN input_tokens IS NULL THEN no_usage_reason
            WHEN cached_input_tokens IS NULL THEN 'cached_tokens_not_reported'
            ELSE 'zero_window'
        END AS prefill_rate,
        CASE WHEN chunk_gap_p50_s IS NULL THEN no_gap_reason END AS chunk_gap_p50,
        CASE WHEN chunk_gap_p95_s IS NULL THEN no_gap_reason END AS chunk_gap_p95,
        CASE WHEN chunk_gap_p99_s IS NULL THEN no_gap_reason END AS chunk_gap_p99,
        CASE WHEN chunk_gap_max_s IS NULL THEN no_gap_reason END AS chunk_gap_max,
        CASE WHEN stalls IS NULL THEN no_gap_reason END AS stalls,
        CASE
            WHEN proxy_overhead_s IS NOT NULL THEN NULL
            WHEN dialect IS NOT NULL AND no_chunk_reason IS NOT NULL THEN no_chunk_reason
            ELSE 'not_observed'
        END AS proxy_overhead,
        CASE
            WHEN optimal_cache_hit IS NOT NULL THEN NULL
            WHEN shared_prefix_bytes IS NOT NULL AND system_bytes + tools_bytes + messages_bytes + tool_results_bytes = 0
                THEN 'no_input'
            ELSE 'not_observed'
        END AS optimal_cache_hit,
        CASE
            WHEN cost IS NOT NULL THEN NULL
            WHEN input_tokens IS NULL AND output_tokens IS NULL THEN no_usage_reason
            WHEN usage_source = 'estimated' THEN 'tokens_estimated'
            ELSE 'no_price'
        END AS cost,
        COUNT(*) AS "count"
    FROM of_stream
    GROUP BY ALL
),

of_turns AS (
    SELECT
        'turns' AS relation,
        request_model,
        benchmark_id,
        level,
        "count",
        UNNEST([
            {'metric': 'ttft', 'reason': ttft},
            {'metric': 'server_ttft', 'reason': server_ttft},
            {'metric': 'time_to_first_chunk', 'reason': time_to_first_chunk},
            {'metric': 'ttfot', 'reason': ttfot},
            {'metric': 'queue_time', 'reason': CASE WHEN is_queue_untold THEN 'untold_by_server' END},
            {'metric': 'server_prefill_time', 'reason': CASE WHEN is_prefill_untold THEN 'untold_by_server' END},
            {'metric': 'server_decode_time', 'reason': CASE WHEN is_decode_untold THEN 'untold_by_server' END},
            {'metric': 'network_time', 'reason': network_time},
            {'metric': 'output_speed', 'reason': output_speed},
            {'metric': 'tpot', 'reason': tpot},
            {'metric': 'e2e_speed', 'reason': e2e_speed},
            {'metric': 'prefill_rate', 'reason': prefill_rate},
            {'metric': 'chunk_gap_p50', 'reason': chunk_gap_p50},
            {'metric': 'chunk_gap_p95', 'reason': chunk_gap_p95},
            {'metric': 'chunk_gap_p99', 'reason': chunk_gap_p99},
            {'metric': 'chunk_gap_max', 'reason': chunk_gap_max},
            {'metric': 'stalls', 'reason': stalls},
            {'metric': 'proxy_overhead', 'reason': proxy_overhead},
            {'metric': 'optimal_cache_hit', 'reason': optimal_cache_hit},
            {'metric': 'cost', 'reason': cost}
        ], recursive := TRUE)
    FROM turns_alike
),

-- What trajectories do not say of their calls.
of_calls AS (
    SELECT
        trajectory_id,
        COUNT(DISTINCT segment) FILTER (kind = 'turn') AS segments,
        COUNT(cost) FILTER (kind = 'turn') AS priced_turns,
        COUNT(*) FILTER (NOT is_failed(status)) AS good_calls,
        COUNT(COALESCE(input_tokens, output_tokens)) FILTER (usage_source <> 'estimated') AS counted_calls,
        COUNT(COALESCE(input_tokens, output_tokens)) FILTER (usage_source <> 'estimated' AND kind = 'turn')
            AS counted_turns,
        COUNT(COALESCE(input_tokens, output_tokens)) AS calls_with_tokens,
        COUNT(COALESCE(input_tokens, output_tokens)) FILTER (kind = 'turn') AS turns_with_tokens,
        SUM(input_tokens) FILTER (kind = 'turn' AND cached_input_tokens IS NOT NULL) AS tokens_with_cached,
        SUM(input_tokens) FILTER (optimal_cache_hit IS NOT NULL) AS tokens_with_optimal,
        SUM(input_tokens) FILTER (optimal_cache_hit IS NOT NULL AND cached_input_tokens IS NOT NULL) AS tokens_with_both,
        COUNT(system_bytes + tools_bytes + messages_bytes + tool_results_bytes) FILTER (kind = 'turn') AS sized_turns,
        COUNT(*) FILTER (
            shared_prefix_bytes IS NOT NULL AND system_bytes + tools_bytes + messages_bytes + tool_results_bytes = 0
            AND kind = 'turn'
        ) AS blank_turns
    FROM turns
    GROUP BY trajectory_id
),

of_usage AS (
    SELECT
        trajectories.*,
        of_calls.* EXCLUDE (trajectory_id, segments),
        CASE
            WHEN trajectories.turns = 0 THEN 'no_turns'
            WHEN trajectories.failed_turns = trajectories.turns THEN 'failed'
            ELSE 'no_usage'
        END AS no_usage_reason,
        CASE
            WHEN trajectories.turns = 0 THEN 'no_turns'
            WHEN of_calls.sized_turns > 0 THEN 'no_input'
            ELSE 'not_observed'
        END AS no_size_reason,
        of_calls.segments = trajectories.turns AS has_no_step
    FROM trajectories
    INNER JOIN of_calls ON of_calls.trajectory_id = trajectories.trajectory_id
),

trajectories_alike AS (
    SELECT
        request_model,
        benchmark_id,
        level,
        job_latency_s IS NULL AS has_no_job_latency,
        llm_time_s IS NULL AS has_no_llm_time,
        tool_time_s IS NULL AS has_no_tool_time,
        harness_time_s IS NULL AS has_no_harness_time,
        human_time_s IS NULL AS has_no_human_time,
        CASE WHEN max_context_tokens IS NULL THEN no_usage_reason END AS max_context,
        CASE
            WHEN cache_hit IS NOT NULL THEN NULL
            WHEN input_tokens IS NULL THEN no_usage_reason
            WHEN tokens_with_cached = 0 THEN 'no_input'
            ELSE 'cached_tokens_not_reported'
        END AS cache_hit,
        CASE
            WHEN optimal_cache_hit IS NOT NULL THEN NULL
            WHEN input_tokens IS NULL THEN no_usage_reason
            WHEN tokens_with_optimal = 0 OR blank_turns > 0 THEN 'no_input'
            ELSE 'not_observed'
        END AS optimal_cache_hit,
        CASE
            WHEN hit_efficiency IS NOT NULL THEN NULL
            WHEN input_tokens IS NULL THEN no_usage_reason
            WHEN tokens_with_both > 0 THEN 'nothing_shared'
            WHEN tokens_with_both = 0 THEN 'no_input'
            WHEN tokens_with_optimal IS NOT NULL THEN 'cached_tokens_not_reported'
            WHEN blank_turns > 0 THEN 'no_input'
            ELSE 'not_observed'
        END AS hit_efficiency,
        CASE
            WHEN context_growth_tokens IS NOT NULL THEN NULL
            WHEN turns = 0 THEN 'no_turns'
            WHEN has_no_step THEN 'fewer_than_2_turns'
            ELSE no_usage_reason
        END AS context_growth,
        CASE WHEN system_share IS NULL THEN no_size_reason END AS system_share,
        CASE WHEN tools_share IS NULL THEN no_size_reason END AS tools_share,
        CASE WHEN history_share IS NULL THEN no_size_reason END AS history_share,
        CASE WHEN tool_results_share IS NULL THEN no_size_reason END AS tool_results_share,
        outcome = 'unknown' AS is_outcome_unknown,
        wasted_tokens IS NULL AS is_waste_untold,
        CASE
            WHEN cost IS NOT NULL THEN NULL
            WHEN counted_calls > 0 THEN 'no_price'
            WHEN calls_with_tokens > 0 THEN 'tokens_estimated'
            WHEN good_calls = 0 THEN 'failed'
            ELSE 'no_usage'
        END AS cost,
        CASE
            WHEN wasted_cost IS NOT NULL THEN NULL
            WHEN turns = 0 THEN 'no_turns'
            WHEN priced_turns > 0 AND wasted_tokens IS NULL THEN 'no_usage'
            WHEN priced_turns > 0 OR counted_turns > 0 THEN 'no_price'
            WHEN turns_with_tokens > 0 THEN 'tokens_estimated'
            ELSE no_usage_reason
        END AS wasted_cost,
        COUNT(*) AS "count"
    FROM of_usage
    GROUP BY ALL
),

of_trajectories AS (
    SELECT
        'trajectories' AS relation,
        request_model,
        benchmark_id,
        level,
        "count",
        UNNEST([
            {'metric': 'job_latency', 'reason': CASE WHEN has_no_job_latency THEN 'no_turns' END},
            {'metric': 'llm_time', 'reason': CASE WHEN has_no_llm_time THEN 'no_turns' END},
            {'metric': 'tool_time_of_trajectory', 'reason': CASE WHEN has_no_tool_time THEN 'no_turns' END},
            {'metric': 'harness_time', 'reason': CASE WHEN has_no_harness_time THEN 'no_turns' END},
            {'metric': 'human_time', 'reason': CASE WHEN has_no_human_time THEN 'no_turns' END},
            {'metric': 'max_context', 'reason': max_context},
            {'metric': 'cache_hit', 'reason': cache_hit},
            {'metric': 'optimal_cache_hit_of_trajectory', 'reason': optimal_cache_hit},
            {'metric': 'hit_efficiency', 'reason': hit_efficiency},
            {'metric': 'context_growth', 'reason': context_growth},
            {'metric': 'context_system_share', 'reason': system_share},
            {'metric': 'context_tools_share', 'reason': tools_share},
            {'metric': 'context_history_share', 'reason': history_share},
            {'metric': 'context_tool_results_share', 'reason': tool_results_share},
            {'metric': 'outcome', 'reason': CASE WHEN is_outcome_unknown THEN 'outcome_unknown' END},
            {'metric': 'wasted_tokens', 'reason': CASE WHEN is_waste_untold THEN 'no_usage' END},
            {'metric': 'cost_of_trajectory', 'reason': cost},
            {'metric': 'wasted_cost', 'reason': wasted_cost}
        ], recursive := TRUE)
    FROM trajectories_alike
),

attempts_alike AS (
    SELECT
        request_model,
        benchmark_id,
        level,
        CASE
            WHEN cost IS NOT NULL THEN NULL
            WHEN COALESCE(input_tokens, output_tokens) IS NOT NULL
                THEN CASE usage_source WHEN 'estimated' THEN 'tokens_estimated' ELSE 'no_price' END
            WHEN is_failed(status) THEN 'failed'
            WHEN status = 'partial' THEN 'not_observed'
            ELSE 'no_usage'
        END AS attempt_cost,
        rate_limit_left IS NULL AS is_limit_untold,
        COUNT(*) AS "count"
    FROM attempts
    GROUP BY ALL
),

of_attempts AS (
    SELECT
        'attempts' AS relation,
        request_model,
        benchmark_id,
        level,
        "count",
        UNNEST([
            {'metric': 'attempt_cost', 'reason': attempt_cost},
            {'metric': 'rate_limit_left', 'reason': CASE WHEN is_limit_untold THEN 'untold_by_server' END}
        ], recursive := TRUE)
    FROM attempts_alike
),

reasons AS (
    FROM of_turns
    UNION ALL BY NAME
    FROM of_trajectories
    UNION ALL BY NAME
    FROM of_attempts
)

SELECT relation, metric, reason, CAST(SUM("count") AS BIGINT) AS count, request_model, benchmark_id, level
FROM reasons
WHERE reason IS NOT NULL
GROUP BY relation, metric, reason, request_model, benchmark_id, level
