-- relation: capacity_curve
-- description: Live traffic by the load it met: figures of each SLO tier over the turns that ran while so many agents were at
--   work. A turn's load is the mean number of active agents while it was open. Loads are taken together in bins that are a
--   quarter as wide as their lowest load. Intervals hold 95 % of bootstrap resamples of trajectories, not of turns, since
--   turns of one trajectory are alike; a bin of fewer than 10 trajectories, or fewer than the policy asks for, is not judged.
-- grain: one row per tier, requested model and bin of agents
-- requires: call spans without benchmark tags
-- source: ours
-- reads: curve_rows
-- visibility: public
-- storage: view
-- filters: model=model
-- order: policy, version, tier, model, agents_low
-- columns:
--   policy VARCHAR: The SLO policy.
--   version VARCHAR: Its version.
--   tier VARCHAR: The tier within the policy.
--   model VARCHAR: The model asked for.
--   agents_low BIGINT [agents]: The bin's lowest load.
--   agents_high BIGINT [agents]: Its highest.
--   agents_mean DOUBLE [agents]: Mean load of its turns.
--   turns BIGINT: Turns in the bin.
--   failed_turns BIGINT: Those that failed and so are in no percentile.
--   trajectories BIGINT: Trajectories that these belong to.
--   targets STRUCT(metric VARCHAR, percentile DOUBLE, bound VARCHAR, wanted DOUBLE, found DOUBLE, low DOUBLE, high DOUBLE)[]: Each target of the tier: the value at its percentile, with its interval; NULL where undefined.
--   error_rate DOUBLE: Attempts that ended in error or broke off / attempts.
--   error_rate_low DOUBLE: Lower end of its interval.
--   error_rate_high DOUBLE: Upper end of its interval.
--   max_error_rate DOUBLE: The most that the policy allows.
--   verdict VARCHAR: holds (all intervals lie within the targets), fails (one lies beyond its target), unclear, or too few
--     (trajectories to judge by).
SELECT
    policy,
    version,
    tier,
    model,
    agents_low,
    agents_high,
    agents_mean,
    turns,
    failed_turns,
    trajectories,
    targets,
    error_rate,
    error_rate_low,
    error_rate_high,
    max_error_rate,
    verdict
FROM curve_rows
