-- relation: stitch_parents
-- description: Conversations that another agent's tool call asked for in just these words, while that call waited for
--   its result or was answered last: sub-agents. Only words of some length tell.
-- grain: one row per sub-agent's chain of turns
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_turns, stitch_chains, stitch_words, stitch_units
-- visibility: internal
-- storage: table
WITH in_order AS (
    SELECT
        stitch_turns.*,
        CASE WHEN is_named THEN stitch_turns.pool ELSE stitch_chains.chain_id END AS line,
        stitch_chains.chain_id
    FROM stitch_turns
    INNER JOIN stitch_chains ON stitch_chains.unit_id = stitch_turns.unit_id
),

asking AS (
    SELECT
        *,
        LEAD(tool_call_count) OVER line_in_order AS next_tool_call_count,
        LEAD(end_ns) OVER line_in_order AS next_end_ns,
        LEAD(start_ns, 2) OVER line_in_order AS second_next_start_ns
    FROM in_order
    WINDOW line_in_order AS (PARTITION BY line ORDER BY start_ns, unit_id)
),

arguments AS (
    SELECT
        asking.unit_id,
        asking.line,
        asking.chain_id,
        asking.pool,
        asking.is_session,
        asking.scope_mark,
        asking.client,
        asking.start_ns,
        CASE
            WHEN asking.next_tool_call_count = 0 THEN asking.next_end_ns
            ELSE asking.second_next_start_ns
        END AS until_ns,
        stitch_words.key,
        COUNT(*) AS calls
    FROM stitch_words
    INNER JOIN stitch_units ON stitch_units.call_id = stitch_words.call_id
    INNER JOIN asking ON asking.unit_id = stitch_units.unit_id
    WHERE stitch_words.kind = 'A'
    GROUP BY ALL
),

heads AS (
    SELECT * FROM in_order WHERE unit_id = chain_id AND chain_before IS NULL AND told_source <> 'launcher'
),

found AS (
    SELECT
        heads.unit_id,
        heads.start_ns,
        arguments.unit_id AS asking_id,
        arguments.chain_id AS parent_chain_id,
        arguments.line,
        arguments.key,
        arguments.calls,
        arguments.pool = heads.pool AS is_inside,
        arguments.client = heads.client AS is_alike
    FROM heads
    INNER JOIN stitch_words ON stitch_words.call_id = heads.unit_id AND stitch_words.kind = 'q'
    INNER JOIN arguments ON arguments.key = stitch_words.key
    WHERE arguments.start_ns < heads.start_ns
        AND (arguments.until_ns IS NULL OR heads.start_ns < arguments.until_ns)
        AND arguments.line <> heads.line
        AND COALESCE(arguments.scope_mark, '') = COALESCE(heads.scope_mark, '')
        AND (arguments.pool = heads.pool OR NOT heads.is_session OR heads.is_first_of_pool)
),

-- An agent may start one of another kind; one of its own kind is the better guess.
ranked AS (
    SELECT *, BOOL_OR(is_alike) OVER (PARTITION BY unit_id) AS has_alike FROM found
),

counted AS (
    SELECT
        unit_id,
        MIN(start_ns) AS start_ns,
        ARG_MAX(asking_id, start_ns) AS asking_id,
        ANY_VALUE(parent_chain_id) AS parent_chain_id,
        ANY_VALUE(key) AS key,
        BOOL_AND(is_inside) AS is_inside,
        MAX(calls) AS calls
    FROM ranked
    WHERE is_alike OR NOT has_alike
    GROUP BY unit_id
    HAVING COUNT(DISTINCT line) = 1
),

placed AS (
    SELECT
        *,
        ROW_NUMBER() OVER (PARTITION BY asking_id, key ORDER BY start_ns, unit_id) AS place
    FROM counted
)

-- As many as were asked for.
SELECT unit_id AS chain_id, parent_chain_id, asking_id, is_inside FROM placed WHERE place <= calls
