-- relation: stitch_places
-- description: The trajectory of each unit: of an agent that names itself its own, of a session the session's, of its
--   sub-agents and of agents that nobody names the chain of their turns. Ids are those that a proxy told, where it
--   told them of the first call; what two tenants call the same is told apart as a proxy does.
-- grain: one row per unit
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_calls, stitch_turns, stitch_chains, stitch_parents, stitch_beside, stitch_links
-- visibility: internal
-- storage: table
WITH chained AS (
    SELECT
        stitch_turns.unit_id,
        stitch_turns.pool,
        stitch_turns.kind,
        stitch_turns.is_named,
        stitch_turns.is_session,
        COALESCE(stitch_chains.chain_id, stitch_beside.chain_id, stitch_turns.unit_id) AS chain_id,
        COALESCE(stitch_links.source, stitch_beside.source) AS source,
        COALESCE(stitch_links.confidence, stitch_beside.confidence) AS confidence
    FROM stitch_turns
    LEFT JOIN stitch_chains ON stitch_chains.unit_id = stitch_turns.unit_id
    LEFT JOIN stitch_beside ON stitch_beside.unit_id = stitch_turns.unit_id
    LEFT JOIN stitch_links ON stitch_links.unit_id = stitch_turns.unit_id
),

trailed AS (
    SELECT
        chained.*,
        stitch_parents.parent_chain_id,
        CASE
            WHEN is_named OR (is_session AND (kind <> 'turn' OR NOT COALESCE(stitch_parents.is_inside, FALSE)))
                THEN pool
            ELSE pool || ' ' || chained.chain_id
        END AS line
    FROM chained
    LEFT JOIN stitch_parents ON stitch_parents.chain_id = chained.chain_id
),

heads AS (
    SELECT
        stitch_calls.call_id,
        stitch_calls.trace_id,
        stitch_calls.span_id,
        stitch_calls.tenant,
        stitch_calls.verbatim_id,
        stitch_calls.told_trajectory_id,
        stitch_calls.session_id,
        stitch_calls.told_turn_index,
        stitch_calls.kind,
        stitch_calls.start_ns
    FROM stitch_calls
),

-- Of tenants with the same name for a trajectory the first one keeps it.
owners AS (
    SELECT verbatim_id, ARG_MIN(tenant, start_ns) AS tenant
    FROM (
        SELECT
            tenant,
            start_ns,
            CASE WHEN is_named THEN verbatim_id ELSE COALESCE(session_id, verbatim_id) END AS verbatim_id
        FROM stitch_calls
        WHERE is_named OR is_session
    )
    GROUP BY verbatim_id
),

named AS (
    SELECT
        trailed.*,
        heads.trace_id,
        heads.span_id,
        heads.tenant,
        CASE
            WHEN trailed.is_named THEN heads.verbatim_id
            ELSE COALESCE(heads.session_id, heads.verbatim_id)
        END AS verbatim_id,
        CASE
            WHEN heads.told_turn_index = 0 THEN heads.told_trajectory_id
            ELSE heads.trace_id || heads.span_id
        END AS chain_name
    FROM trailed
    INNER JOIN heads ON heads.call_id = CASE WHEN trailed.is_named THEN trailed.unit_id ELSE trailed.chain_id END
),

identified AS (
    SELECT
        named.unit_id,
        named.verbatim_id,
        named.line,
        named.chain_id,
        named.parent_chain_id,
        named.source,
        named.confidence,
        named.is_session AND named.line <> named.pool AS is_nested,
        CASE
            WHEN NOT named.is_named AND NOT named.is_session THEN named.chain_name
            ELSE named.verbatim_id
                || CASE WHEN owners.tenant = named.tenant THEN '' ELSE '@' || SUBSTR(named.tenant, 1, 8) END
                || CASE WHEN named.line = named.pool THEN '' ELSE '/' || named.span_id END
        END AS trajectory_id
    FROM named
    LEFT JOIN owners ON owners.verbatim_id = named.verbatim_id
)

SELECT
    identified.unit_id,
    identified.trajectory_id,
    identified.verbatim_id,
    identified.source,
    identified.confidence,
    identified.chain_id,
    identified.is_nested,
    parents.trajectory_id AS parent_trajectory_id
FROM identified
LEFT JOIN identified AS parents ON parents.unit_id = identified.parent_chain_id
