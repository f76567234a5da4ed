-- relation: slo
-- description: Benchmark levels, and live traffic, judged by SLO tiers. By default each model is judged by the presets
--   that were made for it, or by a fallback preset when there are none. Live traffic has no level: its population is all
--   its turns, its agents are the mean number at work while any was, rounded.
-- grain: one row per tier, requested model, benchmark and level (benchmark and level are NULL for live traffic)
-- requires: call spans
-- source: AA-AgentPerf methodology 2026-07; otel_agentperf.policies
-- reads: population, applied_tiers, levels, live_agents
-- visibility: public
-- storage: view
-- filters: model=model benchmark=benchmark_id
-- order: policy, version, tier, model, benchmark_id, level
-- columns:
--   policy VARCHAR: The SLO policy.
--   version VARCHAR: Its version.
--   tier VARCHAR: The tier within the policy.
--   model VARCHAR: The model asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level; NULL for live traffic.
--   agents BIGINT [agents]: The level; of live traffic the mean number of agents at work while any was, rounded.
--   turns BIGINT: Turns of the population.
--   failed_turns BIGINT: Those that failed and so are in no percentile.
--   ttft_p95_s DOUBLE [s]: 95th percentile of time to first token.
--   output_speed_p25_tps DOUBLE [tok/s]: 25th percentile of output speed.
--   ttft_percentile DOUBLE [%]: The percentile that the policy asks for.
--   ttft_s DOUBLE [s]: Time to first token at that percentile, of the policy's kind (from the client's or the server's
--     view).
--   max_ttft_s DOUBLE [s]: The target T; NULL when the tier has none.
--   speed_percentile DOUBLE [%]: The percentile that the policy asks for.
--   speed_tps DOUBLE [tok/s]: Output speed at that percentile; without turns that return tool calls where the policy says so.
--   min_output_speed_tps DOUBLE [tok/s]: The target S; NULL when the tier has none.
--   error_rate DOUBLE: Attempts that ended in error or broke off / attempts.
--   max_error_rate DOUBLE: The most that the policy allows.
--   goodput DOUBLE: Share of all turns that met both targets.
--   window_s DOUBLE [s]: Length of the steady window; the extent of live traffic.
--   hold_s DOUBLE [s]: How long the target concurrency had held before the window.
--   completed_trajectories BIGINT: Trajectories completed in the window.
--   valid BOOLEAN: The population is large and steady enough by the policy's rules.
--   invalid_reason VARCHAR: Which rules it misses; NULL when valid.
--   holds BOOLEAN: Both targets and the error rate hold, valid or not; NULL when a figure is undefined and no other fails.
--   passed BOOLEAN: It holds and is valid.
--   margin DOUBLE: How far above the targets: min(P25/S, T/P95); below 1 a target is missed.
--   comparable BOOLEAN: Published results use this tier for this model; false for demo tiers and other models.
-- metric: slo_pass
--   column: passed
--   definition: The tier is met: both percentiles hold their targets, the error rate is within bounds, and the level is
--     valid. Undefined when a figure is undefined and nothing else fails.
--   formula: P25(output_speed) >= S and P95(ttft) <= T and error_rate <= e and valid
--   unit: yes or no
--   grain: tier and level
--   requires: streamed responses, token counts
--   source: AA-AgentPerf; the bound of the error rate is ours
-- metric: slo_valid
--   column: valid
--   definition: Enough trajectories were completed in the steady window, in all and per agent, the window is long enough,
--     and the target concurrency had held before it (benchmarks only).
--   formula: completed >= max(n, k x N) and |W| >= w and hold >= h
--   unit: yes or no
--   grain: tier and level
--   requires: level spans, or calls marked as the last of their trajectory
--   source: AA-AgentPerf
-- metric: slo_margin
--   column: margin
--   definition: How far the worse of the two percentiles is above its target; below 1 it misses it.
--   formula: min(P25(output_speed) / S, T / P95(ttft))
--   unit: ratio
--   grain: tier and level
--   requires: streamed responses, token counts
--   source: ours
-- metric: goodput
--   column: goodput
--   definition: Share of all turns that met both targets. A failed turn is a miss, and so is one without time to first token
--     or token count. A turn too short to have a speed (one token, or all output at one instant) is judged by its time to
--     first token alone, and so are turns with tool calls where the policy leaves these out.
--   formula: turns with ttft <= T and output_speed >= S / turns
--   unit: share
--   grain: tier and level
--   requires: call spans
--   source: ours, after DistServe and AIPerf
WITH judged AS (
    SELECT
        applied_tiers.*,
        population.benchmark_id,
        population.level,
        population.attempt_count,
        population.failed_attempt_count,
        is_failed(population.status) AS is_failure,
        population.ttft_s AS client_ttft_s,
        population.output_speed_tps,
        CASE applied_tiers.ttft_metric WHEN 'server_ttft' THEN population.server_ttft_s ELSE population.ttft_s END
            AS ttft_s,
        CASE WHEN NOT (applied_tiers.skip_tool_call_turns AND COALESCE(population.tool_call_count, 0) > 0)
            THEN population.output_speed_tps
        END AS speed_tps,
        COALESCE(
            population.output_tokens < 2
            OR population.generation_s <= 0
            OR (applied_tiers.skip_tool_call_turns AND population.tool_call_count > 0),
            FALSE
        ) AS has_no_speed
    FROM applied_tiers
    INNER JOIN population ON population.request_model IS NOT DISTINCT FROM applied_tiers.model
),

measured AS (
    SELECT
        policy,
        version,
        tier,
        model,
        benchmark_id,
        level,
        COUNT(*) AS turns,
        COUNT(*) FILTER (is_failure) AS failed_turns,
        SUM(failed_attempt_count) / SUM(attempt_count) AS error_rate,
        QUANTILE_CONT(client_ttft_s, 0.95) FILTER (NOT is_failure) AS ttft_p95_s,
        QUANTILE_CONT(output_speed_tps, 0.25) FILTER (NOT is_failure) AS output_speed_p25_tps,
        quantile_of_sorted(
            LIST(ttft_s ORDER BY ttft_s) FILTER (NOT is_failure AND ttft_s IS NOT NULL),
            ANY_VALUE(ttft_percentile) / 100
        ) AS ttft_s,
        quantile_of_sorted(
            LIST(speed_tps ORDER BY speed_tps) FILTER (NOT is_failure AND speed_tps IS NOT NULL),
            ANY_VALUE(speed_percentile) / 100
        ) AS speed_tps,
        COUNT(*) FILTER (
            NOT is_failure
            AND (max_ttft_s IS NULL OR ttft_s <= max_ttft_s)
            AND (min_output_speed_tps IS NULL OR speed_tps >= min_output_speed_tps OR has_no_speed)
        ) / COUNT(*) AS goodput,
        ANY_VALUE(max_ttft_s) AS max_ttft_s,
        ANY_VALUE(ttft_percentile) AS ttft_percentile,
        ANY_VALUE(min_output_speed_tps) AS min_output_speed_tps,
        ANY_VALUE(speed_percentile) AS speed_percentile,
        ANY_VALUE(max_error_rate) AS max_error_rate,
        ANY_VALUE(min_trajectories) AS min_trajectories,
        ANY_VALUE(min_trajectories_per_agent) AS min_trajectories_per_agent,
        ANY_VALUE(min_steady_s) AS min_steady_s,
        ANY_VALUE(min_hold_s) AS min_hold_s,
        BOOL_AND(is_comparable) AS comparable
    FROM judged
    GROUP BY policy, version, tier, model, benchmark_id, level
),

settled AS (
    SELECT
        measured.*,
        CASE WHEN measured.benchmark_id IS NULL THEN live_agents.agents ELSE levels.agents END AS agents,
        CASE WHEN measured.benchmark_id IS NULL THEN live_agents.window_s ELSE levels.window_s END AS window_s,
        CASE WHEN measured.benchmark_id IS NULL
            THEN live_agents.completed_trajectories
            ELSE levels.completed_trajectories
        END AS completed_trajectories,
        levels.hold_s
    FROM measured
    LEFT JOIN levels
        ON levels.benchmark_id = measured.benchmark_id AND levels.level IS NOT DISTINCT FROM measured.level
    LEFT JOIN live_agents ON measured.benchmark_id IS NULL AND live_agents.model IS NOT DISTINCT FROM measured.model
),

ruled AS (
    SELECT
        *,
        NULLIF(
            CONCAT_WS(
                '; ',
                CASE WHEN completed_trajectories < min_trajectories
                    THEN FORMAT('{} of {} trajectories completed', completed_trajectories, min_trajectories)
                END,
                CASE WHEN completed_trajectories < min_trajectories_per_agent * agents
                    THEN FORMAT(
                        '{:.1f} of {:g} trajectories completed per agent',
                        completed_trajectories / agents,
                        min_trajectories_per_agent
                    )
                END,
                CASE WHEN window_s < min_steady_s
                    THEN FORMAT('{:.0f} of {:g} s in steady state', FLOOR(window_s), min_steady_s)
                END,
                CASE
                    WHEN benchmark_id IS NULL OR min_hold_s = 0 THEN NULL
                    WHEN hold_s IS NULL THEN 'the target concurrency was not seen to be reached'
                    WHEN hold_s < min_hold_s
                        THEN FORMAT('concurrency held {:.0f} of {:g} s before', FLOOR(hold_s), min_hold_s)
                END
            ),
            ''
        ) AS invalid_reason,
        (min_output_speed_tps IS NULL OR speed_tps >= min_output_speed_tps)
        AND (max_ttft_s IS NULL OR ttft_s <= max_ttft_s)
        AND error_rate <= max_error_rate AS holds
    FROM settled
)

SELECT
    policy,
    version,
    tier,
    model,
    benchmark_id,
    level,
    agents,
    turns,
    failed_turns,
    ttft_p95_s,
    output_speed_p25_tps,
    ttft_percentile,
    ttft_s,
    max_ttft_s,
    speed_percentile,
    speed_tps,
    min_output_speed_tps,
    error_rate,
    max_error_rate,
    goodput,
    window_s,
    hold_s,
    completed_trajectories,
    invalid_reason IS NULL AS valid,
    invalid_reason,
    holds,
    holds AND invalid_reason IS NULL AS passed,
    CASE
        WHEN min_output_speed_tps IS NULL THEN max_ttft_s / NULLIF(ttft_s, 0)
        WHEN max_ttft_s IS NULL THEN speed_tps / min_output_speed_tps
        WHEN speed_tps IS NOT NULL AND ttft_s IS NOT NULL
            THEN LEAST(speed_tps / min_output_speed_tps, max_ttft_s / NULLIF(ttft_s, 0))
    END AS margin,
    comparable
FROM ruled
