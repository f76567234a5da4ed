-- relation: level_windows
-- description: The steady windows of benchmark levels: the bounds of the level's own spans; where these are missing (a
--   crash) the extent of its calls in phase steady; where no call is tagged with a phase, of all its calls.
-- grain: one row per window; a level that was played again has several
-- requires: call spans with benchmark tags
-- source: AA-AgentPerf methodology 2026-07
-- reads: attempts, level_spans
-- visibility: internal
-- storage: table
WITH of_calls AS (
    SELECT
        benchmark_id,
        level,
        MIN(start_ns) FILTER (phase = 'steady') AS steady_start_ns,
        MAX(end_ns) FILTER (phase = 'steady') AS steady_end_ns,
        MIN(start_ns) AS start_ns,
        MAX(end_ns) AS end_ns,
        COUNT(phase) > 0 AS has_phases
    FROM attempts
    WHERE benchmark_id IS NOT NULL
    GROUP BY benchmark_id, level
),

with_span AS (
    SELECT DISTINCT benchmark_id, level FROM level_spans
),

without_span AS (
    SELECT of_calls.*
    FROM of_calls
    LEFT JOIN with_span
        ON with_span.benchmark_id = of_calls.benchmark_id AND with_span.level IS NOT DISTINCT FROM of_calls.level
    WHERE with_span.benchmark_id IS NULL
)

SELECT benchmark_id, level, start_ns, end_ns, 'span' AS window_source FROM level_spans
UNION ALL
SELECT benchmark_id, level, steady_start_ns, steady_end_ns, 'phase' FROM without_span WHERE steady_start_ns IS NOT NULL
UNION ALL
SELECT benchmark_id, level, start_ns, end_ns, 'calls' FROM without_span WHERE NOT has_phases
