-- relation: stitch_units
-- description: Turns, each with all its attempts, and auxiliary calls. An attempt is the next one of a turn when the
--   one before with the same messages failed, and nothing else that failed could be meant.
-- grain: one row per call span, with the unit that it is of
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_calls
-- visibility: internal
-- storage: table
WITH ordered AS (
    SELECT
        call_id,
        pool,
        client,
        chain_end,
        start_ns,
        end_ns,
        is_failed(status) AS has_failed,
        MAX(CASE WHEN is_failed(status) THEN end_ns END) OVER (
            PARTITION BY pool, client, chain_end
            ORDER BY start_ns, call_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS failed_until_ns
    FROM stitch_calls
    WHERE kind = 'turn' AND chain_end IS NOT NULL
),

beside AS (
    SELECT
        *,
        LAG(has_failed) OVER same AS has_failed_before,
        LAG(end_ns) OVER same AS end_before_ns,
        COALESCE(LAG(failed_until_ns) OVER same > LAG(start_ns) OVER same, FALSE) AS may_be_another
    FROM ordered
    WINDOW same AS (PARTITION BY pool, client, chain_end ORDER BY start_ns, call_id)
),

numbered AS (
    SELECT
        *,
        SUM(CASE WHEN has_failed_before AND end_before_ns <= start_ns AND NOT may_be_another THEN 0 ELSE 1 END) OVER (
            PARTITION BY pool, client, chain_end ORDER BY start_ns, call_id
        ) AS turn_number
    FROM beside
),

of_turns AS (
    SELECT
        call_id,
        FIRST_VALUE(call_id) OVER turn AS unit_id,
        ROW_NUMBER() OVER turn - 1 AS attempt
    FROM numbered
    WINDOW turn AS (PARTITION BY pool, client, chain_end, turn_number ORDER BY start_ns, call_id)
)

SELECT
    stitch_calls.call_id,
    COALESCE(of_turns.unit_id, stitch_calls.call_id) AS unit_id,
    COALESCE(of_turns.attempt, 0) AS attempt,
    stitch_calls.pool,
    stitch_calls.kind,
    stitch_calls.start_ns,
    stitch_calls.end_ns
FROM stitch_calls
LEFT JOIN of_turns ON of_turns.call_id = stitch_calls.call_id
