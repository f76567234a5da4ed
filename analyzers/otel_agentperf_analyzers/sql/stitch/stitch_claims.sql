-- relation: stitch_claims
-- description: What a turn or an auxiliary call goes on from, by the rules of the proxy: the response that it names;
--   the turn whose tool calls it answers; the turn whose messages it begins with, and whose answer follows in it.
--   Where several could be meant there is none (`before_id` NULL, `candidates` above 1).
-- grain: one row per unit that goes on from something
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_calls, stitch_units, stitch_turns, stitch_words
-- visibility: internal
-- storage: table
WITH answers AS (
    SELECT DISTINCT stitch_units.unit_id, stitch_units.pool, stitch_units.start_ns, stitch_calls.answer
    FROM stitch_calls
    INNER JOIN stitch_units ON stitch_units.call_id = stitch_calls.call_id
    WHERE stitch_calls.answer IS NOT NULL AND stitch_calls.kind = 'turn'
),

responses AS (
    SELECT DISTINCT stitch_units.unit_id, stitch_units.pool, stitch_units.start_ns, stitch_calls.response_key
    FROM stitch_calls
    INNER JOIN stitch_units ON stitch_units.call_id = stitch_calls.call_id
    WHERE stitch_calls.response_key IS NOT NULL AND stitch_calls.kind = 'turn'
),

asked AS (
    SELECT DISTINCT asking.unit_id, asking.pool, stitch_words.key, asking.start_ns, asking.chain_end
    FROM stitch_words
    INNER JOIN stitch_units ON stitch_units.call_id = stitch_words.call_id
    INNER JOIN stitch_turns AS asking ON asking.unit_id = stitch_units.unit_id
    WHERE stitch_words.kind = 't' AND asking.kind = 'turn'
),

answered AS (
    SELECT DISTINCT
        stitch_turns.unit_id,
        stitch_words.key,
        asked.unit_id AS before_id,
        asked.start_ns AS before_start_ns,
        COALESCE(asked.chain_end = stitch_turns.chain_before, FALSE) AS is_exact
    FROM stitch_words
    INNER JOIN stitch_turns ON stitch_turns.unit_id = stitch_words.call_id
    INNER JOIN asked ON asked.pool = stitch_turns.pool AND asked.key = stitch_words.key
    WHERE stitch_words.kind = 'r' AND asked.start_ns < stitch_turns.start_ns AND asked.unit_id <> stitch_turns.unit_id
),

-- Of several turns that emitted the same id, the one whose messages the call begins with.
by_key AS (
    SELECT
        unit_id,
        key,
        BOOL_OR(is_exact) AS is_exact,
        CASE WHEN BOOL_OR(is_exact) THEN COUNT(*) FILTER (is_exact) ELSE COUNT(*) END AS candidates,
        CASE
            WHEN BOOL_OR(is_exact) THEN ARG_MAX(before_id, before_start_ns) FILTER (is_exact)
            ELSE ARG_MAX(before_id, before_start_ns)
        END AS before_id,
        MAX(before_start_ns) AS before_start_ns
    FROM answered
    GROUP BY unit_id, key
),

by_tool_call_id AS (
    SELECT
        unit_id,
        ARG_MAX(before_id, before_start_ns) AS before_id,
        MIN(candidates) AS candidates,
        BOOL_OR(is_exact) AS is_exact
    FROM by_key
    GROUP BY unit_id
),

by_response_id AS (
    SELECT stitch_turns.unit_id, ANY_VALUE(responses.unit_id) AS before_id, COUNT(*) AS candidates
    FROM stitch_turns
    INNER JOIN responses
        ON responses.pool = stitch_turns.pool AND responses.response_key = stitch_turns.named_response
    WHERE responses.start_ns < stitch_turns.start_ns
    GROUP BY stitch_turns.unit_id
),

by_prefix AS (
    SELECT stitch_turns.unit_id, ANY_VALUE(answers.unit_id) AS before_id, COUNT(*) AS candidates
    FROM stitch_turns
    INNER JOIN answers ON answers.pool = stitch_turns.pool AND answers.answer = stitch_turns.goes_on_from
    WHERE answers.start_ns < stitch_turns.start_ns AND answers.unit_id <> stitch_turns.unit_id
    GROUP BY stitch_turns.unit_id
),

found AS (
    SELECT unit_id, before_id, candidates, 'response_id' AS source, 1.0 AS confidence, 1 AS rank FROM by_response_id
    UNION ALL
    SELECT unit_id, before_id, candidates, 'tool_call_id', CASE WHEN is_exact THEN 0.99 ELSE 0.95 END, 2
    FROM by_tool_call_id
    UNION ALL
    SELECT unit_id, before_id, candidates, 'prefix', 0.95, 3 FROM by_prefix
)

SELECT
    unit_id,
    CASE WHEN MIN(candidates) = 1 THEN ARG_MIN(before_id, rank) FILTER (candidates = 1) END AS before_id,
    ARG_MIN(source, rank) FILTER (candidates = 1) AS source,
    ARG_MIN(confidence, rank) FILTER (candidates = 1) AS confidence,
    MIN(candidates) AS candidates
FROM found
GROUP BY unit_id
