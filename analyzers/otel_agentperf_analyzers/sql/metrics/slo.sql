-- relation: slo
-- description: Benchmark levels, and live traffic, judged by SLO tiers. By default each model is judged by the presets
--   that were made for it, or by a fallback preset when there are none. Live traffic has no level: its population is all
--   its turns, its agents are the mean number at work while any was, rounded. Failed turns are in no percentile; they are
--   bounded by the error rate. Speeds are taken over turns whose tokens the server counted; estimates are left out, and
--   counted, unless the policy uses them.
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
--   estimated_turns BIGINT: Turns whose tokens are an estimate; they have no speed here unless the policy uses estimates.
--   targets STRUCT(metric VARCHAR, percentile DOUBLE, bound VARCHAR, wanted DOUBLE, found DOUBLE, margin DOUBLE)[]: Each
--     target of the tier: its metric by its name in the catalogue, whether it bounds from below (min) or above (max), the
--     bound, the value at that percentile, and how far above the bound it is; both are NULL where undefined.
--   max_ttft_s DOUBLE [s]: The target T; NULL when the tier has none.
--   min_output_speed_tps DOUBLE [tok/s]: The target S; NULL when the tier has none.
--   error_rate DOUBLE: Attempts that ended in error or broke off / attempts.
--   max_error_rate DOUBLE: The most that the policy allows.
--   goodput DOUBLE: Share of all turns that met all targets.
--   window_s DOUBLE [s]: Length of the steady window; the extent of live traffic.
--   hold_s DOUBLE [s]: How long the target concurrency had held before the window.
--   completed_trajectories BIGINT: Trajectories completed in the window.
--   valid BOOLEAN: The population is large and steady enough by the policy's rules.
--   invalid_reason VARCHAR: Which rules it misses; NULL when valid.
--   holds BOOLEAN: All targets and the error rate hold, valid or not; NULL when a figure is undefined and no other fails.
--   passed BOOLEAN: It holds and is valid.
--   margin DOUBLE: How far above the targets, the least of them: min(P25/S, T/P95); below 1 a target is missed.
--   comparable BOOLEAN: Published results use this tier for this model; false for demo tiers and other models.
-- metric: slo_pass
--   column: passed
--   definition: The tier is met: all percentiles hold their targets, the error rate is within bounds, and the level is
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
--   definition: How far the worst of the percentiles is above its target; below 1 it misses it.
--   formula: min(P25(output_speed) / S, T / P95(ttft)), likewise for targets of other metrics
--   unit: ratio
--   grain: tier and level
--   requires: streamed responses, token counts
--   source: ours
-- metric: goodput
--   column: goodput
--   definition: Share of all turns that met all targets. A failed turn is a miss, and so is one without time to first token
--     or token count. A turn too short to have a speed (one token, or all output at one instant) is judged by its other
--     figures, and so are turns with tool calls where the policy leaves these out. Of several targets for one metric the
--     loosest counts for a single turn.
--   formula: turns with ttft <= T and output_speed >= S / turns
--   unit: share
--   grain: tier and level
--   requires: call spans
--   source: ours, after DistServe and AIPerf
WITH counted AS (
    SELECT
        request_model AS model,
        benchmark_id,
        level,
        COUNT(*) AS turns,
        COUNT(*) FILTER (is_failed(status)) AS failed_turns,
        COUNT(*) FILTER (usage_source = 'estimated') AS estimated_turns,
        SUM(failed_attempt_count) / SUM(attempt_count) AS error_rate,
        QUANTILE_CONT(ttft_s, 0.95) FILTER (NOT is_failed(status)) AS ttft_p95_s,
        QUANTILE_CONT(output_speed_tps, 0.25) FILTER (NOT is_failed(status) AND usage_source <> 'estimated')
            AS output_speed_p25_tps
    FROM population
    GROUP BY request_model, benchmark_id, level
),

-- Targets of one sample are bounds of the same figures.
tier_targets AS (
    SELECT
        *,
        DENSE_RANK() OVER (ORDER BY model, skip_tool_call_turns, use_estimated_tokens, target.metric) AS sample
    FROM (
        SELECT policy, version, tier, model, skip_tool_call_turns, use_estimated_tokens, UNNEST(targets) AS target
        FROM applied_tiers
    )
),

wanted AS (
    SELECT DISTINCT sample, model, skip_tool_call_turns, use_estimated_tokens, target.metric AS metric FROM tier_targets
),

figures AS (
    SELECT
        wanted.sample,
        population.benchmark_id,
        population.level,
        CASE
            WHEN is_failed(population.status) THEN NULL
            WHEN wanted.metric IN ('output_speed', 'tpot')
                AND wanted.skip_tool_call_turns
                AND population.tool_call_count > 0
                THEN NULL
            WHEN wanted.metric IN ('output_speed', 'tpot', 'e2e_speed')
                AND NOT wanted.use_estimated_tokens
                AND population.usage_source = 'estimated'
                THEN NULL
            ELSE turn_metric(
                wanted.metric,
                population.ttft_s,
                population.server_ttft_s,
                population.time_to_first_chunk_s,
                population.ttfot_s,
                population.tpot_s,
                population.e2e_latency_s,
                population.output_speed_tps,
                population.e2e_speed_tps
            )
        END AS figure
    FROM wanted
    INNER JOIN population ON population.request_model IS NOT DISTINCT FROM wanted.model
),

-- A sort or lists of all figures would need memory where there are very many turns. So they are counted in buckets of
-- one percent first, and only those with a percentile are sorted. Figures up to 0, should there be any, share a bucket.
samples AS (
    SELECT
        *,
        CASE WHEN figure > 0 THEN FLOOR(LN(figure) * 100) WHEN figure <= 0 THEN -100000 END AS bucket
    FROM figures
),

buckets AS (
    SELECT sample, benchmark_id, level, bucket, COUNT(figure) AS turns
    FROM samples
    GROUP BY sample, benchmark_id, level, bucket
),

stacked AS (
    SELECT
        *,
        CAST(
            SUM(turns) OVER (
                PARTITION BY sample, benchmark_id, level ORDER BY bucket
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS BIGINT
        ) - turns AS turns_below
    FROM buckets
    WHERE bucket IS NOT NULL
),

-- The place of each percentile among the figures: linear interpolation at rank (n-1)p, as QUANTILE_CONT has it.
places AS (
    SELECT
        asked.sample,
        asked.percentile,
        counts.benchmark_id,
        counts.level,
        (counts.turns - 1) * (asked.percentile / 100) AS place
    FROM (SELECT DISTINCT sample, target.percentile AS percentile FROM tier_targets) AS asked
    INNER JOIN (
        SELECT sample, benchmark_id, level, CAST(SUM(turns) AS BIGINT) AS turns
        FROM buckets
        GROUP BY sample, benchmark_id, level
    ) AS counts
        ON counts.sample = asked.sample
),

near AS (
    SELECT DISTINCT stacked.sample, stacked.benchmark_id, stacked.level, stacked.bucket, stacked.turns_below
    FROM stacked
    INNER JOIN places
        ON places.sample = stacked.sample
        AND places.benchmark_id IS NOT DISTINCT FROM stacked.benchmark_id
        AND places.level IS NOT DISTINCT FROM stacked.level
    WHERE stacked.turns_below <= CEIL(places.place) AND stacked.turns_below + stacked.turns > FLOOR(places.place)
),

ranked AS (
    SELECT
        samples.sample,
        samples.benchmark_id,
        samples.level,
        samples.figure,
        near.turns_below - 1 + ROW_NUMBER() OVER (
            PARTITION BY samples.sample, samples.benchmark_id, samples.level, samples.bucket ORDER BY samples.figure
        ) AS rank
    FROM samples
    INNER JOIN near
        ON near.sample = samples.sample
        AND near.bucket = samples.bucket
        AND near.benchmark_id IS NOT DISTINCT FROM samples.benchmark_id
        AND near.level IS NOT DISTINCT FROM samples.level
),

neighbours AS (
    SELECT
        places.sample,
        places.percentile,
        places.benchmark_id,
        places.level,
        places.place,
        MAX(ranked.figure) FILTER (ranked.rank = FLOOR(places.place)) AS low,
        MAX(ranked.figure) FILTER (ranked.rank = CEIL(places.place)) AS high
    FROM places
    LEFT JOIN ranked
        ON ranked.sample = places.sample
        AND ranked.benchmark_id IS NOT DISTINCT FROM places.benchmark_id
        AND ranked.level IS NOT DISTINCT FROM places.level
    GROUP BY places.sample, places.percentile, places.benchmark_id, places.level, places.place
),

measured AS (
    SELECT
        tier_targets.policy,
        tier_targets.version,
        tier_targets.tier,
        tier_targets.model,
        neighbours.benchmark_id,
        neighbours.level,
        tier_targets.target,
        neighbours.low + (neighbours.high - neighbours.low) * (neighbours.place - FLOOR(neighbours.place)) AS figure
    FROM tier_targets
    INNER JOIN neighbours
        ON neighbours.sample = tier_targets.sample AND neighbours.percentile = tier_targets.target.percentile
),

margins AS (
    SELECT
        *,
        CASE target.bound WHEN 'min' THEN figure / target.value ELSE target.value / NULLIF(figure, 0) END AS margin,
        CASE target.bound WHEN 'min' THEN figure >= target.value ELSE figure <= target.value END AS is_held
    FROM measured
),

of_targets AS (
    SELECT
        policy,
        version,
        tier,
        model,
        benchmark_id,
        level,
        LIST(
            {
                'metric': target.metric,
                'percentile': target.percentile,
                'bound': target.bound,
                'wanted': target.value,
                'found': figure,
                'margin': margin
            }
            ORDER BY target.metric, target.percentile
        ) AS targets,
        MAX(target.value) FILTER (target.metric IN ('ttft', 'server_ttft') AND target.bound = 'max') AS max_ttft_s,
        MIN(target.value) FILTER (target.metric = 'output_speed' AND target.bound = 'min') AS min_output_speed_tps,
        CASE WHEN COUNT(*) = COUNT(margin) THEN MIN(margin) END AS margin,
        CASE WHEN COUNT(*) FILTER (NOT is_held) > 0 THEN FALSE WHEN COUNT(*) = COUNT(is_held) THEN TRUE END AS targets_hold
    FROM margins
    GROUP BY policy, version, tier, model, benchmark_id, level
),

met AS (
    SELECT
        applied_tiers.policy,
        applied_tiers.version,
        applied_tiers.tier,
        applied_tiers.model,
        population.benchmark_id,
        population.level,
        COUNT(*) FILTER (
            NOT is_failed(population.status)
            AND is_within(population.ttft_s, bounds.ttft)
            AND is_within(population.server_ttft_s, bounds.server_ttft)
            AND is_within(population.time_to_first_chunk_s, bounds.time_to_first_chunk)
            AND is_within(population.ttfot_s, bounds.ttfot)
            AND is_within(population.e2e_latency_s, bounds.e2e_latency)
            AND (
                population.usage_source IS DISTINCT FROM 'estimated'
                OR use_estimated_tokens
                OR is_open(bounds.output_speed) AND is_open(bounds.tpot) AND is_open(bounds.e2e_speed)
            )
            AND is_within(population.e2e_speed_tps, bounds.e2e_speed)
            AND (
                is_within(population.output_speed_tps, bounds.output_speed) AND is_within(population.tpot_s, bounds.tpot)
                OR COALESCE(
                    population.output_tokens < 2
                    OR population.generation_s <= 0
                    OR skip_tool_call_turns AND population.tool_call_count > 0,
                    FALSE
                )
            )
        ) / COUNT(*) AS goodput
    FROM applied_tiers
    INNER JOIN population ON population.request_model IS NOT DISTINCT FROM applied_tiers.model
    GROUP BY ALL
),

settled AS (
    SELECT
        applied_tiers.* EXCLUDE (targets, bounds),
        counted.* EXCLUDE (model),
        of_targets.targets,
        of_targets.max_ttft_s,
        of_targets.min_output_speed_tps,
        of_targets.margin,
        of_targets.targets_hold,
        met.goodput,
        CASE WHEN counted.benchmark_id IS NULL THEN live_agents.agents ELSE levels.agents END AS agents,
        CASE WHEN counted.benchmark_id IS NULL THEN live_agents.window_s ELSE levels.window_s END AS window_s,
        CASE WHEN counted.benchmark_id IS NULL
            THEN live_agents.completed_trajectories
            ELSE levels.completed_trajectories
        END AS completed_trajectories,
        levels.hold_s
    FROM applied_tiers
    INNER JOIN counted ON counted.model IS NOT DISTINCT FROM applied_tiers.model
    INNER JOIN of_targets
        ON of_targets.policy = applied_tiers.policy
        AND of_targets.version = applied_tiers.version
        AND of_targets.tier = applied_tiers.tier
        AND of_targets.model IS NOT DISTINCT FROM applied_tiers.model
        AND of_targets.benchmark_id IS NOT DISTINCT FROM counted.benchmark_id
        AND of_targets.level IS NOT DISTINCT FROM counted.level
    INNER JOIN met
        ON met.policy = applied_tiers.policy
        AND met.version = applied_tiers.version
        AND met.tier = applied_tiers.tier
        AND met.model IS NOT DISTINCT FROM applied_tiers.model
        AND met.benchmark_id IS NOT DISTINCT FROM counted.benchmark_id
        AND met.level IS NOT DISTINCT FROM counted.level
    LEFT JOIN levels
        ON levels.benchmark_id = counted.benchmark_id AND levels.level IS NOT DISTINCT FROM counted.level
    LEFT JOIN live_agents ON counted.benchmark_id IS NULL AND live_agents.model IS NOT DISTINCT FROM counted.model
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
        targets_hold AND error_rate <= max_error_rate AS holds
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
    estimated_turns,
    targets,
    max_ttft_s,
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
    margin,
    is_comparable AS comparable
FROM ruled
