-- relation: stitch_calls
-- description: LLM calls that several processes may each have told a part of the trajectory of, with the link keys
--   that say which call each may go on from. Calls are compared within a pool: of an agent or a session that names
--   itself, or of all agents of a tenant that do not. Where one process told all calls of a tenant, or of an agent
--   that a launcher names, they are not here: what it told stands.
-- grain: one row per call span of such pools
-- requires: agentperf.link.keys, written by proxies with one salt
-- source: ours
-- reads: raw_spans
-- visibility: internal
-- storage: table
WITH tenants AS (
    SELECT "agentperf.tenant" AS tenant
    FROM raw_spans
    WHERE "agentperf.dialect" IS NOT NULL AND "agentperf.tenant" IS NOT NULL
    GROUP BY "agentperf.tenant"
    HAVING COUNT(DISTINCT COALESCE(service_instance_id, '')) > 1
),

calls_of_several AS (
    SELECT
        trace_id || '-' || span_id AS call_id,
        trace_id,
        span_id,
        COALESCE(service_instance_id, '') AS instance_id,
        "agentperf.tenant" AS tenant,
        "agentperf.trajectory.id" AS told_trajectory_id,
        CASE
            WHEN ENDS_WITH("agentperf.trajectory.id", '@' || SUBSTR("agentperf.tenant", 1, 8))
                THEN SUBSTR("agentperf.trajectory.id", 1, LENGTH("agentperf.trajectory.id") - 9)
            ELSE "agentperf.trajectory.id"
        END AS verbatim_id,
        "agentperf.trajectory.source" AS told_source,
        "agentperf.trajectory.confidence" AS told_confidence,
        CASE
            WHEN ENDS_WITH("agentperf.trajectory.parent_id", '@' || SUBSTR("agentperf.tenant", 1, 8))
                THEN SUBSTR("agentperf.trajectory.parent_id", 1, LENGTH("agentperf.trajectory.parent_id") - 9)
            ELSE "agentperf.trajectory.parent_id"
        END AS told_parent_id,
        "agentperf.run.id" AS told_run_id,
        "agentperf.run.index" AS told_run_index,
        "agentperf.turn.index" AS told_turn_index,
        "agentperf.turn.kind" AS kind,
        "gen_ai.conversation.id" AS session_id,
        COALESCE("user_agent.original", '') || ' ' || COALESCE("agentperf.dialect", '') AS client,
        "agentperf.status" AS status,
        COALESCE("agentperf.tool.call_count", 0) AS tool_call_count,
        "agentperf.message.count" AS message_count,
        "agentperf.context.tools_bytes" AS tools_bytes,
        "agentperf.prefix.shared_bytes" AS told_shared_bytes,
        start_unix_ns AS start_ns,
        start_unix_ns
            + COALESCE(CAST(ROUND("agentperf.time.end" * 1e9) AS BIGINT), end_unix_ns - start_unix_ns) AS end_ns,
        ' ' || "agentperf.link.keys" || ' ' AS words,
        CONTAINS(' ' || "agentperf.link.keys" || ' ', ' i ') AS is_named,
        CONTAINS(' ' || "agentperf.link.keys" || ' ', ' x ') AS is_session
    FROM raw_spans
    WHERE "agentperf.link.keys" IS NOT NULL AND "agentperf.tenant" IN (SELECT tenant FROM tenants)
),

pooled AS (
    SELECT
        *,
        link_word(words, 's') AS scope_mark,
        tenant || CASE
            WHEN is_named THEN ' i ' || verbatim_id
            WHEN is_session THEN ' x ' || COALESCE(session_id, verbatim_id)
            ELSE ' - ' || COALESCE(link_word(words, 's'), '')
        END AS pool
    FROM calls_of_several
),

-- A launcher names an agent and who started it. What a proxy finds out about others it finds among the calls that it
-- saw.
sources AS (
    SELECT *, CASE WHEN is_named AND told_source = 'launcher' THEN pool ELSE tenant END AS compared_within FROM pooled
),

several AS (
    SELECT compared_within FROM sources GROUP BY compared_within HAVING COUNT(DISTINCT instance_id) > 1
)

SELECT
    call_id,
    trace_id,
    span_id,
    instance_id,
    tenant,
    told_trajectory_id,
    verbatim_id,
    told_source,
    told_confidence,
    told_parent_id,
    told_run_id,
    told_run_index,
    told_turn_index,
    kind,
    session_id,
    client,
    status,
    tool_call_count,
    message_count,
    tools_bytes,
    told_shared_bytes,
    start_ns,
    end_ns,
    words,
    is_named,
    is_session,
    scope_mark,
    pool,
    CONTAINS(words, ' y ') AS is_compacted,
    CONTAINS(words, ' u ') AS ends_with_text,
    CONTAINS(words, ' w ') AS ends_with_results,
    CONTAINS(words, ' z ') AS summarizes,
    link_word(words, 'e') AS chain_end,
    SPLIT_PART(link_word(words, 'n'), ':', 1) AS chain_before_last,
    SPLIT_PART(link_word(words, 'p'), ':', 1) AS chain_before,
    -- Bytes of these messages.
    TRY_CAST(SPLIT_PART(link_word(words, 'n'), ':', 2) AS BIGINT) AS bytes_before_last,
    TRY_CAST(SPLIT_PART(link_word(words, 'p'), ':', 2) AS BIGINT) AS bytes_before,
    link_word(words, 'b') AS goes_on_from,
    COALESCE(link_word(words, 'a'), link_word(words, 'b')) AS anchor,
    link_word(words, 'R') AS answer,
    link_word(words, 'W') AS named_response,
    link_word(words, 'V') AS response_key,
    link_word(words, 'o') AS opening,
    link_word(words, 'f') AS first_mark,
    link_word(words, 'k') AS run_mark,
    TRY_CAST(link_word(words, 'g') AS BIGINT) AS told_segment
FROM sources
WHERE compared_within IN (SELECT compared_within FROM several)
