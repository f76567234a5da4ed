-- relation: tool_calls
-- description: Tool executions. Gaps between turns stand in where there are no spans of tools, as rows without names:
--   of a benchmark each gap that no tool span tells of, once, since a replay waits there for the tool delay of its
--   recording; of other traffic, when the process that wrote the calls wrote no tool span at all, the gap between a turn
--   that asked for tools and the next turn of its run, once per call asked for. The proxy writes a tool's span before that
--   of the next turn, so a crash that leaves the turn leaves the tool.
-- grain: one row per tool call that was answered
-- requires: execute_tool spans, or turns with their tool call counts
-- source: GenAI semantic conventions v0.1.0; otel_agentperf.semconv
-- reads: tool_spans, turns, untold_tools
-- visibility: public
-- storage: table
-- scope: trajectory
-- filters: benchmark=benchmark_id trajectory=trajectory_id model=request_model
-- order: start_time, trajectory_id, tool_call_id
-- columns:
--   trajectory_id VARCHAR: The trajectory of the turn that asked.
--   run_id VARCHAR: Its agent run.
--   turn_id VARCHAR: The turn that asked.
--   turn_index BIGINT: Its index in the trajectory.
--   tool_name VARCHAR: The tool; NULL when its span is missing.
--   tool_call_id VARCHAR: The model's id of the call; NULL when there is none or the span is missing.
--   start_time TIMESTAMP WITH TIME ZONE: End of the response that asked; where the client tells a duration, that long
--     before the end.
--   end_time TIMESTAMP WITH TIME ZONE: Arrival of the request that carries the result.
--   duration_s DOUBLE [s]: End minus start.
--   duration_source VARCHAR: gap, or client when the client told the duration.
--   is_error BOOLEAN: The result is marked as an error; NULL when the span is missing.
--   is_repeated BOOLEAN: The trajectory has called this tool with these arguments before; NULL when the span is missing.
--   is_recovered BOOLEAN: Of an error: the next call of the same tool in the trajectory succeeded; NULL for all others.
--   is_inferred BOOLEAN: There is no span, the gap stands in.
--   agent_name VARCHAR: The agent, when known.
--   request_model VARCHAR: The model of the turn that asked.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level.
--   start_ns BIGINT [ns]: Start, nanoseconds since 1970.
--   end_ns BIGINT [ns]: End, nanoseconds since 1970.
-- metric: tool_time
--   column: duration_s
--   definition: Time of a tool call: from the end of the response that asked for it to the arrival of the request that
--     carries its result, or what the client says it took.
--   formula: t0(request with the result) - te(response that asked)
--   unit: s
--   grain: tool call
--   requires: execute_tool spans, or turns with their tool call counts
--   source: ours; AA-AgentPerf calls it tool delay
WITH told AS (
    SELECT
        tool_spans.trajectory_id,
        tool_spans.run_id,
        tool_spans.turn_id,
        turns.turn_index,
        tool_spans.tool_name,
        tool_spans.tool_call_id,
        tool_spans.duration_source,
        tool_spans.is_error,
        tool_spans.is_repeated,
        FALSE AS is_inferred,
        COALESCE(tool_spans.agent_name, turns.agent_name) AS agent_name,
        turns.request_model,
        turns.benchmark_id,
        turns.level,
        tool_spans.start_ns,
        tool_spans.end_ns
    FROM tool_spans
    LEFT JOIN turns USING (trajectory_id, turn_id)
),

chain AS (
    SELECT
        *,
        LEAD(start_ns) OVER (
            -- In a benchmark, runs are of the recording: the next turn of the trajectory counts.
            PARTITION BY trajectory_id, CASE WHEN benchmark_id IS NULL THEN run_id END
            ORDER BY start_ns, turn_index
        ) AS next_start_ns,
        CASE WHEN benchmark_id IS NULL THEN tool_call_count ELSE 1 END AS calls
    FROM turns
    WHERE kind = 'turn'
),

candidates AS (
    SELECT chain.*
    FROM chain
    LEFT JOIN untold_tools
        ON untold_tools.trajectory_id = chain.trajectory_id
        AND untold_tools.instance_id = COALESCE(chain.service_instance_id, '')
    WHERE chain.calls > 0
        AND chain.next_start_ns >= chain.end_ns
        AND (chain.benchmark_id IS NOT NULL OR untold_tools.instance_id IS NOT NULL)
),

-- Where every gap is told, which is usual, no tool span need be remembered.
told_turns AS (
    SELECT DISTINCT trajectory_id, turn_id
    FROM tool_spans
    WHERE turn_id IS NOT NULL AND trajectory_id IN (SELECT trajectory_id FROM candidates)
),

gaps AS (
    SELECT candidates.*
    FROM candidates
    ANTI JOIN told_turns
        ON told_turns.trajectory_id = candidates.trajectory_id AND told_turns.turn_id = candidates.turn_id
),

inferred AS (
    SELECT
        trajectory_id,
        run_id,
        turn_id,
        turn_index,
        CAST(NULL AS VARCHAR) AS tool_name,
        CAST(NULL AS VARCHAR) AS tool_call_id,
        'gap' AS duration_source,
        CAST(NULL AS BOOLEAN) AS is_error,
        CAST(NULL AS BOOLEAN) AS is_repeated,
        TRUE AS is_inferred,
        agent_name,
        request_model,
        benchmark_id,
        level,
        end_ns AS start_ns,
        next_start_ns AS end_ns,
        UNNEST(RANGE(calls)) AS position
    FROM gaps
),

calls_of_tools AS (
    FROM told UNION ALL BY NAME FROM inferred
)

SELECT
    trajectory_id,
    run_id,
    turn_id,
    turn_index,
    tool_name,
    tool_call_id,
    instant(start_ns) AS start_time,
    instant(end_ns) AS end_time,
    seconds(end_ns - start_ns) AS duration_s,
    duration_source,
    is_error,
    is_repeated,
    CASE WHEN is_error
        THEN COALESCE(
            NOT LEAD(is_error) OVER (PARTITION BY trajectory_id, tool_name ORDER BY end_ns, start_ns, tool_call_id),
            FALSE
        )
    END AS is_recovered,
    is_inferred,
    agent_name,
    request_model,
    benchmark_id,
    level,
    start_ns,
    end_ns
FROM calls_of_tools
