-- relation: capacity
-- description: How many concurrent agents a deployment serves while an SLO tier holds. Of a replay: the highest level that
--   passes below the first that misses. Of live traffic: the highest load that is shown to hold below the first that is
--   shown to fail (see capacity_curve); where nothing failed it is a lower bound. Normalised by accelerators, power and price
--   as the level's span tells them, else as they are given.
-- grain: one row per tier, requested model and benchmark (NULL for live traffic)
-- requires: call spans
-- source: AA-AgentPerf methodology 2026-07
-- reads: slo, levels, capacity_curve, live_agents, level_power, given_deployment
-- visibility: public
-- storage: view
-- filters: model=model benchmark=benchmark_id
-- order: policy, version, tier, model, method, benchmark_id
-- columns:
--   policy VARCHAR: The SLO policy.
--   version VARCHAR: Its version.
--   tier VARCHAR: The tier within the policy.
--   model VARCHAR: The model asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   method VARCHAR: replay or live.
--   max_agents BIGINT [agents]: The result; NULL when no level passes, or no load is shown to hold.
--   last_pass BIGINT [agents]: The same: the lower end of the bracket.
--   first_fail BIGINT [agents]: The lowest level that misses a target, or the lowest load shown to fail; NULL when none does.
--   is_monotone BOOLEAN: No level or load above a failure holds; otherwise the bracket is doubtful.
--   max_agents_if_valid BIGINT [agents]: Of a replay the same, levels included that are too small or short to be valid.
--   statement VARCHAR: What it comes to, in words.
--   agents_now DOUBLE [agents]: Of live traffic: mean number of agents at work while any was.
--   headroom_agents DOUBLE [agents]: max_agents - agents_now.
--   accelerators BIGINT: Accelerators of the deployment; NULL when not told.
--   power_w DOUBLE [W]: Mean power at max_agents, of live traffic over its extent; NULL when not told.
--   price_per_hour DOUBLE [currency/h]: Price of one accelerator; NULL when not told.
--   agents_per_accelerator DOUBLE [agents]: max_agents / accelerators.
--   agents_per_mw DOUBLE [agents/MW]: max_agents / power.
--   agents_per_dollar_hour DOUBLE [agents per currency/h]: max_agents / (accelerators x price).
--   comparable BOOLEAN: Published results use this tier for this model.
-- metric: max_agents
--   column: max_agents
--   definition: The most concurrent agents for which the tier holds. A replay's levels must be valid and pass; live traffic
--     shows a load to hold when the bootstrap intervals over trajectories lie within the targets.
--   formula: highest level that passes below the first that misses; its bracket is [last_pass, first_fail]
--   unit: agents
--   grain: system
--   requires: benchmark levels, or live traffic at several loads
--   source: AA-AgentPerf; the live method is ours
-- metric: agents_per_accelerator
--   column: agents_per_accelerator
--   definition: Concurrent agents for each accelerator of the deployment.
--   formula: max_agents / G
--   unit: agents per accelerator
--   grain: system
--   requires: max_agents, the number of accelerators
--   source: AA-AgentPerf
-- metric: agents_per_mw
--   column: agents_per_mw
--   definition: Concurrent agents for each megawatt that the deployment draws.
--   formula: max_agents x 1,000,000 / P
--   unit: agents per MW
--   grain: system
--   requires: max_agents, power
--   source: AA-AgentPerf
-- metric: agents_per_dollar_hour
--   column: agents_per_dollar_hour
--   definition: Concurrent agents for each unit of currency that the deployment costs per hour.
--   formula: max_agents / (G x price per accelerator-hour)
--   unit: agents per currency/h
--   grain: system
--   requires: max_agents, the number of accelerators and their price
--   source: AA-AgentPerf
-- metric: headroom
--   column: headroom_agents
--   definition: How many more agents could be at work than are on average, as far as the data shows.
--   formula: max_agents - mean active agents while any was at work
--   unit: agents
--   grain: system, live
--   requires: live traffic at several loads
--   source: ours
WITH of_levels AS (
    SELECT *, MIN(level) FILTER (NOT holds) OVER (PARTITION BY policy, version, tier, model, benchmark_id) AS first_fail
    FROM slo
    WHERE benchmark_id IS NOT NULL AND level IS NOT NULL
),

of_replays AS (
    SELECT
        policy,
        version,
        tier,
        model,
        benchmark_id,
        'replay' AS method,
        MAX(level) FILTER (passed AND level < COALESCE(first_fail, level + 1)) AS max_agents,
        MAX(level) FILTER (holds AND level < COALESCE(first_fail, level + 1)) AS max_agents_if_valid,
        MAX(first_fail) AS first_fail,
        NOT COALESCE(BOOL_OR(holds AND level > first_fail), FALSE) AS is_monotone,
        CAST(NULL AS DOUBLE) AS agents_now,
        CAST(NULL AS BIGINT) AS judged,
        CAST(NULL AS BIGINT) AS judged_defined,
        MAX(level) AS highest,
        BOOL_AND(comparable) AS comparable
    FROM of_levels
    GROUP BY policy, version, tier, model, benchmark_id
),

of_bins AS (
    SELECT
        *,
        LEN(LIST_FILTER(targets, LAMBDA each: each.found IS NULL)) = 0 AS is_defined,
        GREATEST(agents_low, CAST(FLOOR(agents_mean) AS BIGINT)) AS agents,
        MIN(agents_low) FILTER (verdict = 'fails') OVER (PARTITION BY policy, version, tier, model) AS first_fail
    FROM capacity_curve
),

of_live AS (
    SELECT
        of_bins.policy,
        of_bins.version,
        of_bins.tier,
        of_bins.model,
        CAST(NULL AS VARCHAR) AS benchmark_id,
        'live' AS method,
        MAX(of_bins.agents) FILTER (of_bins.verdict = 'holds' AND of_bins.agents_low < COALESCE(of_bins.first_fail, of_bins.agents_low + 1))
            AS max_agents,
        CAST(NULL AS BIGINT) AS max_agents_if_valid,
        MAX(of_bins.first_fail) AS first_fail,
        NOT COALESCE(BOOL_OR(of_bins.verdict = 'holds' AND of_bins.agents_low > of_bins.first_fail), FALSE) AS is_monotone,
        ANY_VALUE(live_agents.agents_mean) AS agents_now,
        COUNT(*) FILTER (of_bins.verdict <> 'too few') AS judged,
        COUNT(*) FILTER (of_bins.verdict <> 'too few' AND of_bins.is_defined) AS judged_defined,
        MAX(of_bins.agents_high) AS highest,
        COALESCE(BOOL_AND(slo.comparable), FALSE) AS comparable
    FROM of_bins
    LEFT JOIN live_agents ON live_agents.model IS NOT DISTINCT FROM of_bins.model
    LEFT JOIN slo
        ON slo.policy = of_bins.policy
        AND slo.version = of_bins.version
        AND slo.tier = of_bins.tier
        AND slo.model IS NOT DISTINCT FROM of_bins.model
        AND slo.benchmark_id IS NULL
    GROUP BY of_bins.policy, of_bins.version, of_bins.tier, of_bins.model
),

found AS (
    FROM of_replays UNION ALL BY NAME FROM of_live
),

live_power AS (
    SELECT 'live' AS method, mean_w FROM level_power WHERE benchmark_id IS NULL
),

deployed AS (
    SELECT
        found.*,
        COALESCE(levels.accelerators, given.accelerators) AS accelerators,
        COALESCE(levels.power_mean_w, CASE WHEN found.method = 'live' THEN COALESCE(live_power.mean_w, given.power_w) END)
            AS power_w,
        given.price_per_hour
    FROM found
    CROSS JOIN given_deployment AS given
    LEFT JOIN levels
        ON levels.benchmark_id = found.benchmark_id
        AND levels.level = COALESCE(found.max_agents, found.max_agents_if_valid, found.first_fail)
    LEFT JOIN live_power ON live_power.method = found.method
)

SELECT
    policy,
    version,
    tier,
    model,
    benchmark_id,
    method,
    max_agents,
    max_agents AS last_pass,
    first_fail,
    is_monotone,
    max_agents_if_valid,
    CONCAT(
        CASE
            WHEN method = 'replay' AND max_agents IS NULL AND max_agents_if_valid IS NOT NULL
                THEN FORMAT('{} agents held it, but no level is valid as a result', max_agents_if_valid)
            WHEN method = 'replay' AND max_agents IS NULL AND first_fail IS NOT NULL THEN FORMAT('missed at {} already', first_fail)
            WHEN method = 'replay' AND max_agents IS NULL THEN 'no level can be judged'
            WHEN method = 'replay' AND first_fail IS NULL THEN FORMAT('at least {}: no level missed it', max_agents)
            WHEN method = 'replay' THEN FORMAT('{} agents; missed at {}', max_agents, first_fail)
            WHEN judged = 0 THEN 'the data cannot say: no load was met by enough trajectories'
            WHEN max_agents IS NULL AND first_fail IS NOT NULL THEN FORMAT('no load is shown to hold; {} is shown to fail', first_fail)
            WHEN max_agents IS NULL AND judged_defined = 0
                THEN 'the data cannot say: no load has a value for each target'
            WHEN max_agents IS NULL THEN 'the data cannot say: every interval reaches over a target'
            WHEN first_fail IS NOT NULL THEN FORMAT('{} agents; {} is shown to fail', max_agents, first_fail)
            WHEN max_agents >= highest THEN FORMAT('at least {}: more were never at work', max_agents)
            ELSE FORMAT('at least {}: up to {} were at work, of which the data cannot say', max_agents, highest)
        END,
        CASE
            WHEN method = 'replay' AND max_agents < max_agents_if_valid
                THEN FORMAT('; {} held it, but the level is not valid as a result', max_agents_if_valid)
        END,
        CASE WHEN NOT is_monotone THEN '; more agents than that hold it again, so it is doubtful' END
    ) AS statement,
    agents_now,
    max_agents - agents_now AS headroom_agents,
    accelerators,
    power_w,
    price_per_hour,
    max_agents / accelerators AS agents_per_accelerator,
    max_agents * 1e6 / power_w AS agents_per_mw,
    max_agents / (accelerators * price_per_hour) AS agents_per_dollar_hour,
    comparable
FROM deployed
