-- Functions that the relations share.

-- A count of nanoseconds since 1970 as a point in time (microseconds are what TIMESTAMPTZ can hold).
CREATE MACRO instant(unix_ns) AS make_timestamptz(unix_ns // 1000);

-- Nanoseconds as seconds.
CREATE MACRO seconds(ns) AS ns / 1e9;

-- The part of an interval that no earlier one covers, in nanoseconds, when `reached_ns` is the latest end of the
-- intervals that start before it (NULL for the first). Its sum over intervals in order of start is the measure of
-- their union.
CREATE MACRO newly_covered(start_ns, end_ns, reached_ns) AS
    GREATEST(0, end_ns - GREATEST(start_ns, COALESCE(reached_ns, start_ns)));

-- Nanoseconds that an interval and a window share.
CREATE MACRO overlap_ns(start_ns, end_ns, window_start_ns, window_end_ns) AS
    GREATEST(0, LEAST(end_ns, window_end_ns) - GREATEST(start_ns, window_start_ns));

-- Whether a call or turn of that status failed: its figures stay out of percentiles. A partial one did not: what is
-- known of it is right.
CREATE MACRO is_failed(status) AS status IN ('error', 'cancelled', 'truncated');

-- The figure of a turn that a target bounds, by the metric's name in the catalogue.
CREATE MACRO turn_metric(
    metric, ttft_s, server_ttft_s, time_to_first_chunk_s, ttfot_s, tpot_s, e2e_latency_s, output_speed_tps, e2e_speed_tps
) AS
    CASE metric
        WHEN 'ttft' THEN ttft_s
        WHEN 'server_ttft' THEN server_ttft_s
        WHEN 'time_to_first_chunk' THEN time_to_first_chunk_s
        WHEN 'ttfot' THEN ttfot_s
        WHEN 'tpot' THEN tpot_s
        WHEN 'e2e_latency' THEN e2e_latency_s
        WHEN 'output_speed' THEN output_speed_tps
        WHEN 'e2e_speed' THEN e2e_speed_tps
    END;

-- Whether bounds, a struct of low and high, bound nothing.
CREATE MACRO is_open(bounds) AS bounds.low IS NULL AND bounds.high IS NULL;

-- Whether a value keeps within bounds; NULL for a value that is undefined.
CREATE MACRO is_within(figure, bounds) AS
    (bounds.low IS NULL OR figure >= bounds.low) AND (bounds.high IS NULL OR figure <= bounds.high);

-- The word of this kind among link keys, without its letter; NULL when there is none.
CREATE MACRO link_word(words, kind) AS NULLIF(REGEXP_EXTRACT(words, ' ' || kind || '([^ ]+)', 1), '');
