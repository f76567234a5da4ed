-- relation: stitch_tools
-- description: Tool executions of agents whose calls several proxies told of: from the end of the response that asked
--   to the first call that brings the result, whoever told either; as long as the client says, where it does. The id
--   of the tool call is its link key.
-- grain: one row per tool call that was answered
-- requires: agentperf.link.keys
-- source: ours
-- reads: stitch_placed, stitch_words, stitch_calls
-- visibility: internal
-- storage: table
-- columns:
--   trace_id VARCHAR: Trace of the call that asked.
--   span_id VARCHAR: The link key: there is no span.
--   service_instance_id VARCHAR: The process that told of the call that asked.
--   trajectory_id VARCHAR: The trajectory.
--   run_id VARCHAR: The agent run.
--   turn_id VARCHAR: The turn that asked.
--   tool_name VARCHAR: The tool.
--   tool_call_id VARCHAR: The link key.
--   start_ns BIGINT [ns]: Start.
--   end_ns BIGINT [ns]: End.
--   duration_source VARCHAR: gap or client.
--   is_error BOOLEAN: The result is marked as an error.
--   is_repeated BOOLEAN: Same tool, same arguments as an earlier call of the trajectory.
WITH asked AS (
    SELECT
        stitch_placed.trajectory_id,
        stitch_placed.run_id,
        stitch_placed.turn_id,
        stitch_placed.trace_id,
        stitch_placed.instance_id,
        stitch_calls.end_ns,
        stitch_placed.start_ns,
        stitch_words.key,
        stitch_words.name,
        stitch_words.digest,
        stitch_words.place,
        ROW_NUMBER() OVER (
            PARTITION BY stitch_placed.trajectory_id, stitch_words.key
            ORDER BY stitch_placed.start_ns DESC, stitch_words.place
        ) AS recency
    FROM stitch_words
    INNER JOIN stitch_placed ON stitch_placed.call_id = stitch_words.call_id
    INNER JOIN stitch_calls ON stitch_calls.call_id = stitch_words.call_id
    WHERE stitch_words.kind = 't' AND stitch_placed.turn_index IS NOT NULL
),

brought AS (
    SELECT
        stitch_placed.trajectory_id,
        stitch_placed.call_id,
        stitch_placed.start_ns,
        stitch_words.key,
        stitch_words.is_error,
        ROW_NUMBER() OVER (
            PARTITION BY stitch_placed.trajectory_id, stitch_words.key
            ORDER BY stitch_placed.start_ns, stitch_placed.call_id, stitch_words.place
        ) AS place
    FROM stitch_words
    INNER JOIN stitch_placed ON stitch_placed.call_id = stitch_words.call_id
    WHERE stitch_words.kind = 'r'
),

executed AS (
    SELECT
        asked.trajectory_id,
        asked.run_id,
        asked.turn_id,
        asked.trace_id,
        asked.instance_id,
        asked.key,
        asked.name,
        asked.digest,
        asked.end_ns AS asked_ns,
        brought.call_id AS brought_by,
        brought.start_ns AS brought_ns,
        brought.is_error,
        ROW_NUMBER() OVER (PARTITION BY brought.call_id, asked.name ORDER BY asked.start_ns, asked.place) AS place
    FROM asked
    INNER JOIN brought ON brought.trajectory_id = asked.trajectory_id AND brought.key = asked.key
    WHERE asked.recency = 1 AND brought.place = 1 AND brought.start_ns > asked.start_ns
),

durations AS (
    SELECT
        call_id,
        name,
        CAST(key AS BIGINT) * 1000000 AS duration_ns,
        ROW_NUMBER() OVER (PARTITION BY call_id, name ORDER BY place) AS place
    FROM stitch_words
    WHERE kind = 'd'
)

SELECT
    executed.trace_id,
    executed.key AS span_id,
    executed.instance_id AS service_instance_id,
    executed.trajectory_id,
    executed.run_id,
    executed.turn_id,
    executed.name AS tool_name,
    executed.key AS tool_call_id,
    CASE
        WHEN durations.duration_ns IS NOT NULL THEN executed.brought_ns - durations.duration_ns
        ELSE LEAST(executed.asked_ns, executed.brought_ns)
    END AS start_ns,
    executed.brought_ns AS end_ns,
    CASE WHEN durations.duration_ns IS NOT NULL THEN 'client' ELSE 'gap' END AS duration_source,
    executed.is_error,
    ROW_NUMBER() OVER (
        PARTITION BY executed.trajectory_id, executed.name, executed.digest
        ORDER BY executed.brought_ns, executed.asked_ns, executed.key
    ) > 1 AS is_repeated
FROM executed
LEFT JOIN durations
    ON durations.call_id = executed.brought_by
    AND durations.name = executed.name
    AND durations.place = executed.place
