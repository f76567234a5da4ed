-- relation: level_power
-- description: Mean power over steady windows, and over the extent of live traffic (benchmark NULL), from samples: the trapezoidal integral. Samples further apart than three
--   times the median interval cover nothing in between; less than 95 % coverage is no measurement.
-- grain: one row per window of a benchmark level, and one for live traffic
-- requires: power samples
-- source: agentperf-local
-- reads: level_windows, run_bounds, given_power
-- visibility: internal
-- storage: view
WITH windows AS (
    SELECT benchmark_id, level, start_ns, end_ns FROM level_windows
    UNION ALL
    SELECT NULL, NULL, MIN(start_ns), MAX(end_ns)
    FROM run_bounds
    WHERE benchmark_id IS NULL
    HAVING COUNT(*) > 0
),

pieces AS (
    SELECT
        at_ns AS start_ns,
        LEAD(at_ns) OVER (ORDER BY at_ns) AS end_ns,
        watts AS start_w,
        LEAD(watts) OVER (ORDER BY at_ns) AS end_w
    FROM given_power
),

dense AS (
    SELECT * FROM pieces
    WHERE end_ns - start_ns <= 3 * (SELECT MEDIAN(end_ns - start_ns) FROM pieces)
),

cut AS (
    SELECT
        w.benchmark_id,
        w.level,
        w.start_ns AS window_start_ns,
        w.end_ns AS window_end_ns,
        overlap_ns(dense.start_ns, dense.end_ns, w.start_ns, w.end_ns) AS shared_ns,
        -- The power in the middle of the shared part, which is its mean there.
        dense.start_w + (dense.end_w - dense.start_w)
        * ((GREATEST(dense.start_ns, w.start_ns) + LEAST(dense.end_ns, w.end_ns)) / 2 - dense.start_ns)
        / (dense.end_ns - dense.start_ns) AS mean_w
    FROM windows AS w
    INNER JOIN dense ON dense.start_ns < w.end_ns AND dense.end_ns > w.start_ns
)

SELECT
    benchmark_id,
    level,
    window_start_ns,
    SUM(shared_ns) / ANY_VALUE(window_end_ns - window_start_ns) AS coverage,
    CASE WHEN SUM(shared_ns) >= 0.95 * ANY_VALUE(window_end_ns - window_start_ns)
        THEN SUM(shared_ns * mean_w) / SUM(shared_ns)
    END AS mean_w,
    ANY_VALUE(window_end_ns - window_start_ns) AS window_ns
FROM cut
GROUP BY benchmark_id, level, window_start_ns
