-- relation: undefined
-- description: Why figures are NULL, counted: each row says how many turns or trajectories lack a metric for one reason.
--   not_streamed: the response was not a stream. failed: it failed before any output. no_output: a stream without output.
--   not_observed: the source does not record what is needed. no_usage: the server reported no token count.
--   fewer_than_2_tokens, zero_window: too short to have a speed. fewer_than_2_chunks: no gap between chunks.
--   only_reasoning: no output beyond reasoning. cached_tokens_not_reported: the server does not say what was cached.
--   untold_by_server: neither a span of the inference server in the source nor its response tells.
--   no_turns: only auxiliary calls. no_price: no price fits, or none was given. tokens_estimated: nobody but an estimate
--   counted the tokens. nothing_shared: no earlier turn began alike. outcome_unknown: nobody told. fewer_than_2_turns: no step from one turn to the next.
-- grain: one row per relation, metric, reason, model, benchmark and level
-- requires: call spans
-- source: ours
-- reads: turns, trajectories
-- visibility: public
-- storage: view
-- filters: model=request_model benchmark=benchmark_id
-- order: relation, metric, reason, request_model, benchmark_id, level
-- columns:
--   relation VARCHAR: turns or trajectories.
--   metric VARCHAR: The metric, by its name in the catalogue.
--   reason VARCHAR: Why it is NULL.
--   count BIGINT: Turns (auxiliary calls left out) or trajectories.
--   request_model VARCHAR: The model asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level; NULL for live traffic.
WITH of_output AS (
    SELECT
        *,
        CASE
            WHEN ttft_s IS NOT NULL THEN NULL
            WHEN NOT stream THEN 'not_streamed'
            WHEN is_failed(status) THEN 'failed'
            WHEN dialect IS NULL THEN 'not_observed'
            ELSE 'no_output'
        END AS no_output_reason
    FROM turns
    WHERE kind = 'turn'
),

of_speed AS (
    SELECT
        *,
        CASE
            WHEN output_speed_tps IS NOT NULL THEN NULL
            WHEN no_output_reason IS NOT NULL THEN no_output_reason
            WHEN output_tokens IS NULL THEN 'no_usage'
            WHEN output_tokens < 2 THEN 'fewer_than_2_tokens'
            WHEN generation_s <= 0 THEN 'zero_window'
            ELSE 'not_observed'
        END AS no_speed_reason,
        CASE
            WHEN chunk_gap_max_s IS NOT NULL THEN NULL
            WHEN no_output_reason IS NOT NULL THEN no_output_reason
            WHEN chunk_count < 2 THEN 'fewer_than_2_chunks'
            ELSE 'not_observed'
        END AS no_gap_reason
    FROM of_output
),

turn_reasons AS (
    SELECT
        request_model,
        benchmark_id,
        level,
        UNNEST([
            {'metric': 'ttft', 'reason': no_output_reason},
            {
                'metric': 'server_ttft',
                'reason': CASE WHEN server_ttft_s IS NULL THEN COALESCE(no_output_reason, 'not_observed') END
            },
            {
                'metric': 'time_to_first_chunk',
                'reason': CASE
                    WHEN time_to_first_chunk_s IS NOT NULL THEN NULL
                    WHEN is_failed(status) THEN 'failed'
                    ELSE 'not_observed'
                END
            },
            {
                'metric': 'ttfot',
                'reason': CASE WHEN ttfot_s IS NULL THEN COALESCE(no_output_reason, 'only_reasoning') END
            },
            {'metric': 'queue_time', 'reason': CASE WHEN queue_s IS NULL THEN 'untold_by_server' END},
            {'metric': 'server_prefill_time', 'reason': CASE WHEN server_prefill_s IS NULL THEN 'untold_by_server' END},
            {'metric': 'server_decode_time', 'reason': CASE WHEN server_decode_s IS NULL THEN 'untold_by_server' END},
            {
                'metric': 'network_time',
                'reason': CASE WHEN network_s IS NULL THEN COALESCE(no_output_reason, 'untold_by_server') END
            },
            {'metric': 'output_speed', 'reason': no_speed_reason},
            {'metric': 'tpot', 'reason': no_speed_reason},
            {
                'metric': 'e2e_speed',
                'reason': CASE
                    WHEN e2e_speed_tps IS NOT NULL THEN NULL
                    WHEN output_tokens IS NULL THEN 'no_usage'
                    ELSE 'zero_window'
                END
            },
            {
                'metric': 'prefill_rate',
                'reason': CASE
                    WHEN prefill_rate_tps IS NOT NULL THEN NULL
                    WHEN no_output_reason IS NOT NULL THEN no_output_reason
                    WHEN input_tokens IS NULL THEN 'no_usage'
                    WHEN cached_input_tokens IS NULL THEN 'cached_tokens_not_reported'
                    ELSE 'zero_window'
                END
            },
            {'metric': 'chunk_gap_p50', 'reason': CASE WHEN chunk_gap_p50_s IS NULL THEN no_gap_reason END},
            {'metric': 'chunk_gap_p95', 'reason': CASE WHEN chunk_gap_p95_s IS NULL THEN no_gap_reason END},
            {'metric': 'chunk_gap_p99', 'reason': CASE WHEN chunk_gap_p99_s IS NULL THEN no_gap_reason END},
            {'metric': 'chunk_gap_max', 'reason': no_gap_reason},
            {'metric': 'proxy_overhead', 'reason': CASE WHEN proxy_overhead_s IS NULL THEN 'not_observed' END},
            {
                'metric': 'stalls',
                'reason': CASE WHEN stalls IS NULL THEN COALESCE(no_gap_reason, 'not_observed') END
            },
            {'metric': 'optimal_cache_hit', 'reason': CASE WHEN optimal_cache_hit IS NULL THEN 'not_observed' END},
            {
                'metric': 'cost',
                'reason': CASE
                    WHEN cost IS NOT NULL THEN NULL
                    WHEN usage_source = 'estimated' THEN 'tokens_estimated'
                    WHEN usage_source = 'none' THEN 'no_usage'
                    ELSE 'no_price'
                END
            }
        ], recursive := TRUE)
    FROM of_speed
),

trajectory_reasons AS (
    SELECT
        request_model,
        benchmark_id,
        level,
        UNNEST([
            {'metric': 'job_latency', 'reason': CASE WHEN job_latency_s IS NULL THEN 'no_turns' END},
            {
                'metric': 'max_context',
                'reason': CASE
                    WHEN max_context_tokens IS NOT NULL THEN NULL
                    WHEN turns = 0 THEN 'no_turns'
                    ELSE 'no_usage'
                END
            },
            {
                'metric': 'cache_hit',
                'reason': CASE
                    WHEN cache_hit IS NOT NULL THEN NULL
                    WHEN turns = 0 THEN 'no_turns'
                    WHEN input_tokens IS NULL THEN 'no_usage'
                    ELSE 'cached_tokens_not_reported'
                END
            },
            {
                'metric': 'wasted_tokens',
                'reason': CASE
                    WHEN wasted_tokens IS NOT NULL THEN NULL
                    WHEN turns = 0 THEN 'no_turns'
                    ELSE 'no_usage'
                END
            },
            {
                'metric': 'optimal_cache_hit_of_trajectory',
                'reason': CASE
                    WHEN optimal_cache_hit IS NOT NULL THEN NULL
                    WHEN turns = 0 THEN 'no_turns'
                    WHEN input_tokens IS NULL THEN 'no_usage'
                    ELSE 'not_observed'
                END
            },
            {
                'metric': 'hit_efficiency',
                'reason': CASE
                    WHEN hit_efficiency IS NOT NULL THEN NULL
                    WHEN turns = 0 THEN 'no_turns'
                    WHEN input_tokens IS NULL THEN 'no_usage'
                    WHEN cached_input_tokens IS NULL THEN 'cached_tokens_not_reported'
                    WHEN optimal_cache_hit = 0 THEN 'nothing_shared'
                    ELSE 'not_observed'
                END
            },
            {
                'metric': 'context_growth',
                'reason': CASE
                    WHEN context_growth_tokens IS NOT NULL THEN NULL
                    WHEN turns < 2 THEN 'fewer_than_2_turns'
                    ELSE 'no_usage'
                END
            },
            {'metric': 'outcome', 'reason': CASE WHEN outcome = 'unknown' THEN 'outcome_unknown' END},
            {'metric': 'cost_of_trajectory', 'reason': CASE WHEN cost IS NULL THEN 'no_price' END}
        ], recursive := TRUE)
    FROM trajectories
),

reasons AS (
    SELECT 'turns' AS relation, * FROM turn_reasons
    UNION ALL
    SELECT 'trajectories' AS relation, * FROM trajectory_reasons
)

SELECT relation, metric, reason, COUNT(*) AS count, request_model, benchmark_id, level
FROM reasons
WHERE reason IS NOT NULL
GROUP BY ALL
