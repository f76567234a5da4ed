-- relation: runs
-- description: Agent runs: one user request to its final answer.
-- grain: one row per agent run
-- requires: call spans
-- source: OpenTelemetry GenAI invoke_agent; otel_agentperf.semconv
-- reads: turns, tool_calls, time_shares, run_bounds, run_spans
-- visibility: public
-- storage: view
-- scope: trajectory
-- filters: model=request_model benchmark=benchmark_id trajectory=trajectory_id
-- order: start_time, trajectory_id, run_index
-- columns:
--   trajectory_id VARCHAR: The trajectory.
--   run_id VARCHAR: The run.
--   run_index BIGINT: From 0 within the trajectory.
--   parent_trajectory_id VARCHAR: The trajectory that started this one.
--   agent_name VARCHAR: The agent, when known.
--   request_model VARCHAR: The model that most turns asked for.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level.
--   turns BIGINT: LLM calls, auxiliary ones left out: the iterations of the agent.
--   tool_calls BIGINT: Tool calls answered.
--   tool_errors BIGINT: Tool results marked as errors.
--   start_time TIMESTAMP WITH TIME ZONE: t0 of the first turn.
--   end_time TIMESTAMP WITH TIME ZONE: te of the last turn.
--   duration_s DOUBLE [s]: End minus start.
--   llm_time_s DOUBLE [s]: Union of the attempts of its turns.
--   tool_time_s DOUBLE [s]: Union of its tool calls.
--   harness_time_s DOUBLE [s]: The rest: neither the model nor a tool was at work.
--   input_tokens BIGINT [tokens]: Sum over its turns.
--   output_tokens BIGINT [tokens]: Sum over its turns.
--   cost DOUBLE [currency]: Price of its turns; NULL when none has a price.
--   status VARCHAR: ok, error, cancelled or abandoned as the run's own span says; else the status of its last turn.
-- metric: iterations
--   column: turns
--   definition: LLM calls of an agent run, auxiliary calls and retries left out.
--   formula: count of turns of the run
--   unit: turns
--   grain: agent run
--   requires: call spans
--   source: ours
WITH of_turns AS (
    SELECT
        trajectory_id,
        run_id,
        MIN(run_index) AS run_index,
        ANY_VALUE(parent_trajectory_id) AS parent_trajectory_id,
        ANY_VALUE(agent_name) AS agent_name,
        COUNT(*) AS turns,
        CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
        CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
        SUM(cost) AS cost,
        ARG_MAX(status, end_ns) AS last_status
    FROM turns
    WHERE kind = 'turn'
    GROUP BY trajectory_id, run_id
),

of_tools AS (
    SELECT trajectory_id, run_id, COUNT(*) AS tool_calls, COUNT(*) FILTER (is_error) AS tool_errors
    FROM tool_calls
    GROUP BY trajectory_id, run_id
)

SELECT
    trajectory_id,
    run_id,
    COALESCE(
        of_turns.run_index,
        ROW_NUMBER() OVER (PARTITION BY trajectory_id ORDER BY run_bounds.start_ns, run_id) - 1
    ) AS run_index,
    of_turns.parent_trajectory_id,
    of_turns.agent_name,
    run_bounds.model AS request_model,
    run_bounds.benchmark_id,
    run_bounds.level,
    of_turns.turns,
    COALESCE(of_tools.tool_calls, 0) AS tool_calls,
    COALESCE(of_tools.tool_errors, 0) AS tool_errors,
    instant(run_bounds.start_ns) AS start_time,
    instant(run_bounds.end_ns) AS end_time,
    seconds(time_shares.run_ns) AS duration_s,
    seconds(time_shares.llm_ns) AS llm_time_s,
    seconds(time_shares.tool_ns) AS tool_time_s,
    seconds(time_shares.run_ns - time_shares.busy_ns) AS harness_time_s,
    of_turns.input_tokens,
    of_turns.output_tokens,
    of_turns.cost,
    COALESCE(run_spans.status, of_turns.last_status) AS status
FROM of_turns
INNER JOIN run_bounds USING (trajectory_id, run_id)
INNER JOIN time_shares USING (trajectory_id, run_id)
LEFT JOIN of_tools USING (trajectory_id, run_id)
LEFT JOIN run_spans USING (trajectory_id, run_id)
