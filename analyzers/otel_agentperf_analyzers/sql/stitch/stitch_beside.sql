-- relation: stitch_beside
-- description: Auxiliary calls of agents that nobody names, and the chain of turns that each is about: the one that it
--   holds the conversation of, else the one that was given the same words at about the same time, where only one was.
-- grain: one row per auxiliary call that was found a place
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_turns, stitch_chains, stitch_claims, stitch_words
-- visibility: internal
-- storage: table
WITH auxiliary AS (
    SELECT stitch_turns.*, stitch_claims.before_id, stitch_claims.source, stitch_claims.confidence
    FROM stitch_turns
    LEFT JOIN stitch_claims ON stitch_claims.unit_id = stitch_turns.unit_id
    WHERE stitch_turns.kind <> 'turn' AND NOT stitch_turns.is_named AND NOT stitch_turns.is_session
),

turns_of AS (
    SELECT stitch_turns.*, stitch_chains.chain_id
    FROM stitch_turns
    INNER JOIN stitch_chains ON stitch_chains.unit_id = stitch_turns.unit_id
),

by_conversation AS (
    SELECT auxiliary.unit_id, turns_of.chain_id, auxiliary.source, auxiliary.confidence
    FROM auxiliary
    INNER JOIN turns_of ON turns_of.unit_id = auxiliary.before_id
),

by_almost_all AS (
    SELECT auxiliary.unit_id, ANY_VALUE(turns_of.chain_id) AS chain_id
    FROM auxiliary
    INNER JOIN turns_of
        ON turns_of.pool = auxiliary.pool AND turns_of.chain_before_last = auxiliary.chain_before_last
    WHERE auxiliary.before_id IS NULL AND turns_of.start_ns < auxiliary.start_ns
    GROUP BY auxiliary.unit_id
    HAVING COUNT(DISTINCT turns_of.chain_id) = 1
),

same_words AS (
    SELECT DISTINCT
        auxiliary.unit_id,
        auxiliary.start_ns,
        turns_of.unit_id AS turn_id,
        turns_of.chain_id,
        auxiliary.start_ns <= turns_of.start_ns AS comes_first
    FROM auxiliary
    INNER JOIN stitch_words ON stitch_words.call_id = auxiliary.unit_id AND stitch_words.kind = 'q'
    INNER JOIN turns_of
        ON turns_of.pool = auxiliary.pool
        AND turns_of.client = auxiliary.client
        AND turns_of.opening = stitch_words.key
    WHERE auxiliary.before_id IS NULL
        AND turns_of.ends_with_text
        AND turns_of.start_ns - auxiliary.start_ns <= 10000000000
        AND auxiliary.start_ns - turns_of.start_ns <= 2000000000
),

counted AS (
    SELECT
        *,
        COUNT(*) OVER (PARTITION BY unit_id) AS turns,
        SUM(CASE WHEN comes_first THEN 1 ELSE 0 END) OVER (PARTITION BY turn_id) AS before_count,
        ROW_NUMBER() OVER (PARTITION BY turn_id, comes_first ORDER BY start_ns, unit_id) AS place
    FROM same_words
),

by_words AS (
    SELECT unit_id, chain_id
    FROM counted
    WHERE turns = 1
        AND place = 1
        AND (CASE WHEN comes_first THEN before_count = 1 ELSE before_count = 0 END)
)

SELECT unit_id, chain_id, source, confidence FROM by_conversation
UNION ALL
SELECT unit_id, chain_id, 'prefix', 0.8 FROM by_almost_all
UNION ALL
SELECT unit_id, chain_id, 'text', 0.8
FROM by_words
WHERE unit_id NOT IN (SELECT unit_id FROM by_almost_all)
