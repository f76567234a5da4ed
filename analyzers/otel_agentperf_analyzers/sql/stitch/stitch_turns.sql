-- relation: stitch_turns
-- description: The units of stitch_units with what their first attempt asked with and their last one answered.
-- grain: one row per unit
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_calls, stitch_units
-- visibility: internal
-- storage: table
WITH latest AS (
    SELECT
        stitch_units.unit_id,
        MAX(stitch_units.end_ns) AS end_ns,
        ARG_MAX(stitch_calls.status, stitch_units.attempt) AS status,
        ARG_MAX(stitch_calls.tool_call_count, stitch_units.attempt) AS tool_call_count,
        ARG_MAX(COALESCE(stitch_calls.answer, ''), stitch_units.attempt) AS answer
    FROM stitch_units
    INNER JOIN stitch_calls ON stitch_calls.call_id = stitch_units.call_id
    GROUP BY stitch_units.unit_id
)

SELECT
    stitch_calls.call_id AS unit_id,
    stitch_calls.pool,
    stitch_calls.tenant,
    stitch_calls.scope_mark,
    stitch_calls.client,
    stitch_calls.kind,
    stitch_calls.is_named,
    stitch_calls.is_session,
    stitch_calls.told_source,
    ROW_NUMBER() OVER (PARTITION BY stitch_calls.pool ORDER BY stitch_calls.start_ns, stitch_calls.call_id) = 1
        AS is_first_of_pool,
    stitch_calls.chain_end,
    stitch_calls.chain_before,
    stitch_calls.chain_before_last,
    stitch_calls.goes_on_from,
    stitch_calls.anchor,
    stitch_calls.opening,
    stitch_calls.ends_with_text,
    stitch_calls.named_response,
    stitch_calls.start_ns,
    latest.end_ns,
    latest.status,
    latest.tool_call_count,
    NULLIF(latest.answer, '') AS answer
FROM stitch_calls
INNER JOIN latest ON latest.unit_id = stitch_calls.call_id
