-- relation: stitch_links
-- description: The turn that each turn goes on from. Of several that go on from one turn the first does, the others
--   begin trajectories of their own, as forks do in a proxy. A turn without any such claim may still go on from a
--   turn that nobody goes on from and whose answer is not in it (it failed, or its harness leaves it out), or hold
--   the summary that was just made of a conversation.
-- grain: one row per turn that goes on
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_turns, stitch_claims, stitch_units, stitch_words, stitch_calls
-- visibility: internal
-- storage: table
WITH longer AS (
    -- Turns that begin with all messages of another one, and add a text: the answer to it may have been left out, and
    -- no shorter match counts.
    SELECT
        turns_of.unit_id,
        before.unit_id AS before_id,
        before.end_ns <= turns_of.start_ns
        AND (is_failed(before.status) OR (before.tool_call_count = 0 AND before.chain_before IS NOT NULL)) AS is_likely
    FROM stitch_turns AS turns_of
    INNER JOIN stitch_turns AS before
        ON before.pool = turns_of.pool AND before.chain_end = turns_of.chain_before_last
    WHERE turns_of.kind = 'turn' AND before.kind = 'turn' AND before.start_ns < turns_of.start_ns
),

claims AS (
    SELECT
        stitch_claims.unit_id,
        stitch_claims.before_id,
        stitch_claims.source,
        stitch_claims.confidence,
        ROW_NUMBER() OVER (
            PARTITION BY stitch_claims.before_id ORDER BY stitch_turns.start_ns, stitch_turns.unit_id
        ) AS place
    FROM stitch_claims
    INNER JOIN stitch_turns ON stitch_turns.unit_id = stitch_claims.unit_id
    WHERE stitch_turns.kind = 'turn'
        AND stitch_claims.before_id IS NOT NULL
        AND stitch_turns.unit_id NOT IN (SELECT unit_id FROM longer)
),

sure AS (
    SELECT unit_id, before_id, source, confidence FROM claims WHERE place = 1
),

unclaimed AS (
    SELECT *
    FROM stitch_turns
    WHERE kind = 'turn' AND unit_id NOT IN (SELECT unit_id FROM stitch_claims)
),

-- Turns that nobody goes on from, to be the one before of an unclaimed turn.
left_over AS (
    SELECT * FROM stitch_turns WHERE kind = 'turn' AND unit_id NOT IN (SELECT before_id FROM sure)
),

-- Of those that failed there may be no answer to go on from. Where there was one and another comes back, a recording
-- may be played, or the span of the true turn be missing: that tells nothing.
guesses AS (
    SELECT unclaimed.unit_id, left_over.unit_id AS before_id
    FROM unclaimed
    INNER JOIN left_over ON left_over.pool = unclaimed.pool AND left_over.chain_end = unclaimed.chain_before
    WHERE left_over.answer IS NULL
        AND left_over.end_ns <= unclaimed.start_ns
        AND left_over.status <> 'error'
        AND unclaimed.unit_id NOT IN (SELECT unit_id FROM longer)
    UNION ALL
    SELECT longer.unit_id, longer.before_id
    FROM longer
    INNER JOIN left_over ON left_over.unit_id = longer.before_id
    WHERE longer.is_likely
),

counted AS (
    SELECT
        *,
        COUNT(*) OVER (PARTITION BY unit_id) AS before_count,
        COUNT(*) OVER (PARTITION BY before_id) AS after_count
    FROM guesses
),

likely AS (
    SELECT unit_id, before_id FROM counted WHERE before_count = 1 AND after_count = 1
),

summaries AS (
    SELECT
        stitch_calls.call_id,
        stitch_calls.pool,
        stitch_calls.client,
        stitch_calls.start_ns,
        stitch_calls.kind,
        stitch_words.key,
        COUNT(*) OVER (PARTITION BY stitch_calls.call_id) AS line_count
    FROM stitch_words
    INNER JOIN stitch_calls ON stitch_calls.call_id = stitch_words.call_id
    WHERE stitch_words.kind = 'S'
),

repeated AS (
    SELECT
        unclaimed.unit_id,
        unclaimed.start_ns,
        summaries.call_id,
        summaries.kind,
        summaries.start_ns AS summary_start_ns
    FROM unclaimed
    INNER JOIN stitch_words ON stitch_words.call_id = unclaimed.unit_id AND stitch_words.kind = 'l'
    INNER JOIN summaries
        ON summaries.pool = unclaimed.pool
        AND summaries.client = unclaimed.client
        AND summaries.key = stitch_words.key
    WHERE summaries.start_ns < unclaimed.start_ns AND unclaimed.unit_id NOT IN (SELECT unit_id FROM likely)
    GROUP BY unclaimed.unit_id, unclaimed.start_ns, summaries.call_id, summaries.kind, summaries.start_ns
    HAVING COUNT(DISTINCT summaries.key) >= LEAST(3, MIN(summaries.line_count))
),

-- An auxiliary call that made a summary is of the turn that it goes on from.
summarized AS (
    SELECT
        repeated.unit_id,
        CASE WHEN repeated.kind = 'turn' THEN stitch_units.unit_id ELSE stitch_claims.before_id END AS before_id,
        CASE WHEN repeated.kind = 'turn' THEN 0.7 ELSE 0.9 END AS confidence,
        ROW_NUMBER() OVER (PARTITION BY repeated.unit_id ORDER BY repeated.summary_start_ns DESC) AS recency,
        ROW_NUMBER() OVER (PARTITION BY repeated.call_id ORDER BY repeated.start_ns, repeated.unit_id) AS place
    FROM repeated
    INNER JOIN stitch_units ON stitch_units.call_id = repeated.call_id
    LEFT JOIN stitch_claims ON stitch_claims.unit_id = repeated.call_id
)

SELECT unit_id, before_id, source, confidence FROM sure
UNION ALL
SELECT unit_id, before_id, 'prefix', 0.7 FROM likely
UNION ALL
SELECT unit_id, before_id, 'summary', confidence
FROM summarized
WHERE recency = 1 AND place = 1 AND before_id IS NOT NULL
