-- relation: concurrency
-- description: Open calls and active agents over time. The width of the buckets is the smallest of 1, 2, 5, 10, 15, 30 s,
--   1, 2, 5, 10, 15, 30 min, 1, 2, 4, 6, 12, 24 h that needs at most 240 of them for a benchmark, or for all live traffic;
--   they begin at multiples of the width since 1970. Each interval is cut at the bucket's bounds, so a mean is the sum of
--   the pieces divided by the width, and a maximum is that of the running count of pieces. Buckets in which nothing was
--   open have no row.
-- grain: one row per time bucket of a benchmark level, or of live traffic
-- requires: call spans
-- source: ours
-- reads: attempts, run_bounds
-- visibility: public
-- storage: view
-- filters: benchmark=benchmark_id
-- order: bucket_start, benchmark_id, level
-- columns:
--   bucket_start TIMESTAMP WITH TIME ZONE: Start of the bucket.
--   bucket_s DOUBLE [s]: Its width.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level; NULL for live traffic.
--   inflight DOUBLE [calls]: Open calls, time-weighted mean.
--   inflight_max BIGINT [calls]: The most open at once.
--   active_agents DOUBLE [agents]: Agents within a run, tool calls included, time-weighted mean; sub-agents left out.
--   active_agents_max BIGINT [agents]: The most at once.
--   active_subagents DOUBLE [agents]: Sub-agents within a run, time-weighted mean.
--   active_subagents_max BIGINT [agents]: The most at once.
--   calls_started BIGINT: Calls with t0 in the bucket.
--   calls_failed BIGINT: Those of them that ended in error or broke off.
WITH intervals AS (
    SELECT benchmark_id, level, 'call' AS subject, start_ns, end_ns, status IN ('error', 'truncated') AS is_failure
    FROM attempts
    UNION ALL
    SELECT
        benchmark_id,
        level,
        CASE WHEN is_subagent THEN 'subagent' ELSE 'agent' END AS subject,
        start_ns,
        end_ns,
        FALSE AS is_failure
    FROM run_bounds
),

extents AS (
    SELECT benchmark_id, MAX(end_ns) - MIN(start_ns) AS extent_ns FROM attempts GROUP BY benchmark_id
),

widths AS (
    SELECT
        benchmark_id,
        COALESCE(MIN(width_s) FILTER (extent_ns / (width_s * 1e9) <= 240), 86400) * CAST(1000000000 AS BIGINT) AS width_ns
    FROM extents
    CROSS JOIN (
        SELECT UNNEST([
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400
        ]) AS width_s
    )
    GROUP BY benchmark_id
),

cut AS (
    SELECT
        intervals.*,
        widths.width_ns,
        UNNEST(RANGE(intervals.start_ns // widths.width_ns, intervals.end_ns // widths.width_ns + 1)) AS bucket
    FROM intervals
    INNER JOIN widths ON widths.benchmark_id IS NOT DISTINCT FROM intervals.benchmark_id
),

pieces AS (
    SELECT
        *,
        start_ns // width_ns = bucket AS is_start,
        GREATEST(start_ns, bucket * width_ns) AS piece_start_ns,
        LEAST(end_ns, (bucket + 1) * width_ns) AS piece_end_ns
    FROM cut
),

changes AS (
    SELECT benchmark_id, level, bucket, subject, piece_start_ns AS at_ns, 1 AS change
    FROM pieces
    WHERE piece_end_ns > piece_start_ns
    UNION ALL
    SELECT benchmark_id, level, bucket, subject, piece_end_ns AS at_ns, -1 AS change
    FROM pieces
    WHERE piece_end_ns > piece_start_ns
),

counts AS (
    SELECT
        benchmark_id,
        level,
        bucket,
        subject,
        SUM(change) OVER (
            PARTITION BY benchmark_id, level, bucket, subject
            ORDER BY at_ns, change
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS count_now
    FROM changes
),

peaks AS (
    SELECT
        benchmark_id,
        level,
        bucket,
        CAST(MAX(count_now) FILTER (subject = 'call') AS BIGINT) AS calls,
        CAST(MAX(count_now) FILTER (subject = 'agent') AS BIGINT) AS agents,
        CAST(MAX(count_now) FILTER (subject = 'subagent') AS BIGINT) AS subagents
    FROM counts
    GROUP BY benchmark_id, level, bucket
),

means AS (
    SELECT
        benchmark_id,
        level,
        bucket,
        ANY_VALUE(width_ns) AS width_ns,
        COALESCE(SUM(piece_end_ns - piece_start_ns) FILTER (subject = 'call'), 0) AS calls_ns,
        COALESCE(SUM(piece_end_ns - piece_start_ns) FILTER (subject = 'agent'), 0) AS agents_ns,
        COALESCE(SUM(piece_end_ns - piece_start_ns) FILTER (subject = 'subagent'), 0) AS subagents_ns,
        COUNT(*) FILTER (subject = 'call' AND is_start) AS calls_started,
        COUNT(*) FILTER (subject = 'call' AND is_start AND is_failure) AS calls_failed
    FROM pieces
    WHERE is_start OR piece_end_ns > piece_start_ns
    GROUP BY benchmark_id, level, bucket
)

SELECT
    instant(means.bucket * means.width_ns) AS bucket_start,
    seconds(means.width_ns) AS bucket_s,
    means.benchmark_id,
    means.level,
    means.calls_ns / means.width_ns AS inflight,
    COALESCE(peaks.calls, 0) AS inflight_max,
    means.agents_ns / means.width_ns AS active_agents,
    COALESCE(peaks.agents, 0) AS active_agents_max,
    means.subagents_ns / means.width_ns AS active_subagents,
    COALESCE(peaks.subagents, 0) AS active_subagents_max,
    means.calls_started,
    means.calls_failed
FROM means
LEFT JOIN peaks
    ON peaks.bucket = means.bucket
    AND peaks.benchmark_id IS NOT DISTINCT FROM means.benchmark_id
    AND peaks.level IS NOT DISTINCT FROM means.level
