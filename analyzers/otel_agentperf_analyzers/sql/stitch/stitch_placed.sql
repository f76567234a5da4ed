-- relation: stitch_placed
-- description: The place of each call in its trajectory: run, segment, turn and attempt, by the rules of the proxy,
--   over all calls of the trajectory whoever told them.
-- grain: one row per call span that was placed anew
-- requires: agentperf.link.keys, written by proxies with one salt
-- source: ours
-- reads: stitch_calls, stitch_units, stitch_turns, stitch_places, stitch_links, stitch_words
-- visibility: internal
-- storage: table
WITH RECURSIVE results AS (
    SELECT
        stitch_words.call_id,
        ROW_NUMBER() OVER (
            PARTITION BY stitch_places.trajectory_id, stitch_words.key
            ORDER BY stitch_turns.start_ns, stitch_turns.unit_id
        ) AS place
    FROM stitch_words
    INNER JOIN stitch_turns ON stitch_turns.unit_id = stitch_words.call_id
    INNER JOIN stitch_places ON stitch_places.unit_id = stitch_words.call_id
    WHERE stitch_words.kind = 'r'
),

placed AS (
    SELECT
        stitch_turns.*,
        stitch_places.trajectory_id,
        stitch_places.source,
        stitch_places.confidence,
        stitch_places.parent_trajectory_id,
        stitch_places.chain_id,
        stitch_places.is_nested,
        stitch_places.verbatim_id,
        stitch_calls.told_parent_id,
        stitch_calls.told_confidence,
        stitch_calls.told_segment,
        stitch_calls.is_compacted,
        stitch_calls.summarizes,
        stitch_calls.first_mark,
        stitch_calls.run_mark,
        stitch_calls.ends_with_results,
        stitch_calls.message_count,
        stitch_calls.tools_bytes,
        stitch_calls.bytes_before_last,
        stitch_calls.bytes_before,
        stitch_calls.told_shared_bytes,
        stitch_links.before_id,
        stitch_links.source = 'summary' AS goes_on_from_summary,
        stitch_turns.unit_id IN (SELECT call_id FROM results WHERE place = 1) AS brings_results
    FROM stitch_turns
    INNER JOIN stitch_places ON stitch_places.unit_id = stitch_turns.unit_id
    INNER JOIN stitch_calls ON stitch_calls.call_id = stitch_turns.unit_id
    LEFT JOIN stitch_links ON stitch_links.unit_id = stitch_turns.unit_id
),

-- Summaries that were made of the trajectory's conversation, up to each call.
summarized AS (
    SELECT
        *,
        SUM(CASE WHEN summarizes AND kind <> 'turn' AND status = 'ok' THEN 1 ELSE 0 END) OVER (
            PARTITION BY trajectory_id ORDER BY start_ns, unit_id
        ) AS summaries
    FROM placed
),

turns_in_order AS (
    SELECT
        *,
        ROW_NUMBER() OVER in_order - 1 AS turn_number,
        LAG(summaries) OVER in_order AS summaries_before,
        LAG(chain_end) OVER in_order AS chain_end_before,
        LAG(first_mark) OVER in_order AS first_mark_before,
        LAG(run_mark) OVER in_order AS run_mark_before,
        LAG(message_count) OVER in_order AS message_count_before,
        LAG(tool_call_count) OVER in_order AS tool_call_count_before,
        LAG(status) OVER in_order AS status_before,
        MAX(end_ns) OVER (
            PARTITION BY trajectory_id ORDER BY start_ns, unit_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS busy_until_ns
    FROM summarized
    WHERE kind = 'turn'
    WINDOW in_order AS (PARTITION BY trajectory_id ORDER BY start_ns, unit_id)
),

facts AS (
    SELECT
        *,
        busy_until_ns > start_ns AS is_parallel,
        -- Tools that wait for results, or results that come.
        (tool_call_count_before > 0 AND NOT is_failed(status_before)) OR brings_results AS has_tools_between,
        tool_call_count_before = 0 AND status_before = 'ok' AS is_answered_before,
        CASE
            WHEN chain_end_before = chain_before THEN bytes_before
            WHEN chain_end_before = chain_before_last THEN bytes_before_last
        END AS kept_bytes
    FROM turns_in_order
),

compactions AS (
    SELECT
        *,
        CASE
            WHEN turn_number = 0 THEN FALSE
            WHEN COALESCE(goes_on_from_summary, FALSE) THEN TRUE
            WHEN is_parallel THEN FALSE
            WHEN summaries > summaries_before OR is_compacted THEN kept_bytes IS NULL
            ELSE (is_named OR is_session)
                AND told_source = 'header'
                AND NOT has_tools_between
                AND first_mark <> first_mark_before
                AND tools_bytes > 0
                AND message_count < message_count_before
        END AS has_compacted
    FROM facts
),

requests AS (
    SELECT
        *,
        CASE
            WHEN turn_number = 0 THEN TRUE
            WHEN is_parallel THEN FALSE
            WHEN run_mark IS NOT NULL AND run_mark_before IS NOT NULL THEN run_mark <> run_mark_before
            WHEN has_compacted THEN is_answered_before
            WHEN is_answered_before THEN NOT has_tools_between AND NOT ends_with_results
            ELSE ends_with_text AND NOT has_tools_between
        END AS begins_run
    FROM compactions
),

counted AS (
    SELECT
        *,
        CAST(SUM(CASE WHEN begins_run THEN 1 ELSE 0 END) OVER in_order AS BIGINT) - 1 AS run_number,
        COALESCE(told_segment, CAST(SUM(CASE WHEN has_compacted THEN 1 ELSE 0 END) OVER in_order AS BIGINT))
            AS segment_number
    FROM requests
    WINDOW in_order AS (PARTITION BY trajectory_id ORDER BY start_ns, unit_id)
),

-- An auxiliary call is of the run that its trajectory works on, or worked on last.
numbered AS (
    SELECT
        unit_id,
        trajectory_id,
        COALESCE(MAX(run_number) OVER so_far, 0) AS run_number,
        COALESCE(MAX(segment_number) OVER so_far, 0) AS segment_number
    FROM (
        SELECT unit_id, trajectory_id, start_ns, run_number, segment_number FROM counted
        UNION ALL
        SELECT unit_id, trajectory_id, start_ns, NULL, NULL FROM placed WHERE kind <> 'turn'
    )
    WINDOW so_far AS (PARTITION BY trajectory_id ORDER BY start_ns, unit_id)
),

-- The ids of agents and sessions that name themselves.
names AS (
    SELECT tenant, verbatim_id, MIN(trajectory_id) AS trajectory_id
    FROM placed
    WHERE (is_named OR is_session) AND NOT is_nested
    GROUP BY tenant, verbatim_id
),

-- Who started whom: what agents say of themselves, else what was found.
parents AS (
    SELECT
        placed.trajectory_id,
        MAX(COALESCE(
            CASE WHEN placed.is_named THEN COALESCE(names.trajectory_id, placed.told_parent_id) END,
            placed.parent_trajectory_id
        )) AS parent_trajectory_id
    FROM placed
    LEFT JOIN names ON names.tenant = placed.tenant AND names.verbatim_id = placed.told_parent_id
    GROUP BY placed.trajectory_id
),

depths AS (
    SELECT trajectory_id, 1 AS depth
    FROM parents
    WHERE parent_trajectory_id IS NOT NULL
        AND parent_trajectory_id NOT IN (SELECT trajectory_id FROM parents WHERE parent_trajectory_id IS NOT NULL)
    UNION ALL
    SELECT parents.trajectory_id, depths.depth + 1
    FROM depths
    INNER JOIN parents ON parents.parent_trajectory_id = depths.trajectory_id
    WHERE depths.depth < 64
),

-- A run keeps the id that a proxy gave it when that proxy counted as is counted here.
run_ids AS (
    SELECT numbered.trajectory_id, numbered.run_number, MIN(stitch_calls.told_run_id) AS run_id
    FROM numbered
    INNER JOIN stitch_calls ON stitch_calls.call_id = numbered.unit_id
    WHERE stitch_calls.told_trajectory_id = numbered.trajectory_id
        AND stitch_calls.told_run_index = numbered.run_number
    GROUP BY numbered.trajectory_id, numbered.run_number
)

SELECT
    stitch_calls.call_id,
    stitch_calls.trace_id,
    stitch_calls.span_id,
    stitch_calls.instance_id,
    stitch_calls.told_trajectory_id,
    stitch_calls.told_run_id,
    stitch_calls.start_ns,
    stitch_units.unit_id,
    placed.trajectory_id,
    CASE
        WHEN placed.is_named THEN placed.told_source
        WHEN stitch_units.attempt > 0 THEN 'prefix'
        WHEN placed.is_session AND NOT placed.is_nested THEN placed.told_source
        WHEN placed.source IS NOT NULL THEN placed.source
        WHEN placed.kind = 'turn' AND placed.unit_id <> placed.chain_id THEN 'prefix'
        WHEN parents.parent_trajectory_id IS NOT NULL THEN 'sub_agent'
        ELSE 'new'
    END AS trajectory_source,
    CASE
        WHEN placed.is_named THEN placed.told_confidence
        WHEN stitch_units.attempt > 0 THEN 0.9
        WHEN placed.is_session AND NOT placed.is_nested THEN placed.told_confidence
        WHEN placed.confidence IS NOT NULL THEN placed.confidence
        WHEN placed.kind = 'turn' AND placed.unit_id <> placed.chain_id THEN 0.9
        WHEN parents.parent_trajectory_id IS NOT NULL THEN 0.8
        WHEN placed.chain_before IS NOT NULL THEN 0.5
        ELSE 1.0
    END AS trajectory_confidence,
    parents.parent_trajectory_id,
    CAST(COALESCE(depths.depth, 0) AS BIGINT) AS agent_depth,
    COALESCE(run_ids.run_id, placed.trajectory_id || '/' || CAST(numbered.run_number AS VARCHAR)) AS run_id,
    numbered.run_number AS run_index,
    numbered.segment_number AS segment,
    units.span_id AS turn_id,
    counted.turn_number AS turn_index,
    stitch_units.attempt AS attempt_index,
    CASE
        WHEN counted.turn_number IS NULL THEN NULL
        WHEN counted.kept_bytes IS NOT NULL THEN counted.kept_bytes
        WHEN counted.turn_number = 0 THEN 0
        ELSE counted.told_shared_bytes
    END AS shared_prefix_bytes
FROM stitch_units
INNER JOIN stitch_calls ON stitch_calls.call_id = stitch_units.call_id
INNER JOIN stitch_calls AS units ON units.call_id = stitch_units.unit_id
INNER JOIN placed ON placed.unit_id = stitch_units.unit_id
INNER JOIN numbered ON numbered.unit_id = stitch_units.unit_id
INNER JOIN parents ON parents.trajectory_id = placed.trajectory_id
LEFT JOIN counted ON counted.unit_id = stitch_units.unit_id
LEFT JOIN depths ON depths.trajectory_id = placed.trajectory_id
LEFT JOIN run_ids
    ON run_ids.trajectory_id = placed.trajectory_id AND run_ids.run_number = numbered.run_number
