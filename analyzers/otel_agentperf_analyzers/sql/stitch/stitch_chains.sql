-- relation: stitch_chains
-- description: Turns that belong together, under the name of the first. Calls of one conversation all hold its first
--   answer, so a conversation whose turns follow one another is one chain at once, whatever of it is missing. Where it
--   forks, or where two conversations are word for word the same, each turn is followed to the one before.
--   Conversations that go on from each other (summaries, histories that were cut) are followed too.
-- grain: one row per turn
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_turns, stitch_links, stitch_claims
-- visibility: internal
-- storage: table
WITH RECURSIVE turns_of AS (
    SELECT
        stitch_turns.unit_id,
        stitch_turns.pool || ' ' || COALESCE(stitch_turns.anchor, stitch_turns.answer, stitch_turns.unit_id)
            AS conversation,
        stitch_turns.anchor IS NULL AS is_fresh,
        stitch_turns.chain_end,
        stitch_turns.start_ns,
        stitch_links.before_id,
        COALESCE(stitch_claims.candidates, 0) AS candidates
    FROM stitch_turns
    LEFT JOIN stitch_links ON stitch_links.unit_id = stitch_turns.unit_id
    LEFT JOIN stitch_claims ON stitch_claims.unit_id = stitch_turns.unit_id
    WHERE stitch_turns.kind = 'turn'
),

beside AS (
    SELECT
        turns_of.*,
        before.conversation AS before_conversation,
        ROW_NUMBER() OVER (PARTITION BY turns_of.conversation ORDER BY turns_of.start_ns, turns_of.unit_id) AS place,
        COUNT(*) OVER (PARTITION BY turns_of.conversation, turns_of.chain_end) AS same_messages
    FROM turns_of
    LEFT JOIN turns_of AS before ON before.unit_id = turns_of.before_id
),

shapes AS (
    SELECT
        conversation,
        MAX(same_messages) = 1
        AND SUM(CASE WHEN is_fresh THEN 1 ELSE 0 END) <= 1
        -- None forks off, and none may be of several.
        AND SUM(CASE WHEN before_id IS NULL AND candidates > 0 THEN 1 ELSE 0 END) = 0
        -- Somebody was seen to get an answer that is in it: a recording that is played several times is not one.
        AND SUM(CASE WHEN is_fresh OR before_conversation = conversation THEN 1 ELSE 0 END) > 0 AS is_one
    FROM beside
    GROUP BY conversation
),

nodes AS (
    SELECT
        beside.unit_id,
        beside.start_ns,
        beside.before_id,
        CASE WHEN shapes.is_one THEN beside.conversation ELSE beside.unit_id END AS node,
        CASE WHEN shapes.is_one THEN beside.place ELSE 1 END AS place
    FROM beside
    INNER JOIN shapes ON shapes.conversation = beside.conversation
),

edges AS (
    SELECT nodes.node, before.node AS before_node
    FROM nodes
    INNER JOIN nodes AS before ON before.unit_id = nodes.before_id
    WHERE nodes.place = 1 AND nodes.node <> before.node
),

walk AS (
    SELECT node, before_node AS root FROM edges WHERE before_node NOT IN (SELECT node FROM edges)
    UNION ALL
    SELECT edges.node, walk.root
    FROM walk
    INNER JOIN edges ON edges.before_node = walk.node
)

SELECT
    nodes.unit_id,
    FIRST_VALUE(nodes.unit_id) OVER (
        PARTITION BY COALESCE(walk.root, nodes.node) ORDER BY nodes.start_ns, nodes.unit_id
    ) AS chain_id
FROM nodes
LEFT JOIN walk ON walk.node = nodes.node
