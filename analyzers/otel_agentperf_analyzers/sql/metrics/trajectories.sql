-- relation: trajectories
-- description: One agent's work on one task, all its agent runs. A sub-agent has a trajectory of its own, which is not
--   part of its parent's figures. Auxiliary calls (titles, summaries, routing) are counted but are in no other figure
--   than `auxiliary_tokens` and `cost`.
-- grain: one row per trajectory
-- requires: call spans
-- source: AA-AgentPerf methodology 2026-07; otel_agentperf.semconv
-- reads: turns, attempts, tool_calls, runs, time_shares, outcomes
-- visibility: public
-- storage: table
-- scope: trajectory
-- filters: model=request_model benchmark=benchmark_id trajectory=trajectory_id
-- order: start_time, trajectory_id
-- columns:
--   trajectory_id VARCHAR: The trajectory.
--   parent_trajectory_id VARCHAR: The trajectory that started this one (a sub-agent's).
--   trajectory_source VARCHAR: The rule that placed its first call: launcher, header, body, tool_call_id, prefix,
--     prefix_recorded, new; conversation or trace for spans of other instrumentations.
--   agent_name VARCHAR: The agent, when known.
--   task_domain VARCHAR: Family of the task, when told.
--   task_id VARCHAR: The recorded task of a replay, or what the launcher named.
--   request_model VARCHAR: The model that most turns asked for.
--   deployment VARCHAR: Host and port of the upstream that most turns went to.
--   tool_stack VARCHAR: Names of the tools that it called, sorted; NULL when it called none that is known.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level.
--   agent_index BIGINT: From 0; which agent of the level.
--   runs BIGINT: Agent runs.
--   turns BIGINT: LLM calls, auxiliary ones left out.
--   auxiliary_calls BIGINT: Titles, summaries, routing, token counts.
--   tool_calls BIGINT: Tool calls answered.
--   segments BIGINT: Stretches between compactions of the context; one more than there were compactions.
--   compactions BIGINT: How often the context was compacted.
--   start_time TIMESTAMP WITH TIME ZONE: t0 of the first call.
--   end_time TIMESTAMP WITH TIME ZONE: te of the last call.
--   job_latency_s DOUBLE [s]: First t0 to last te of its turns, waits for a human left out.
--   llm_time_s DOUBLE [s]: Union of the attempts of its turns.
--   tool_time_s DOUBLE [s]: Union of its tool calls.
--   harness_time_s DOUBLE [s]: Within its runs, neither the model nor a tool was at work.
--   human_time_s DOUBLE [s]: Between its runs: waits for the next request of a human; 0 in a benchmark.
--   input_tokens BIGINT [tokens]: Sum over its turns, cached tokens included.
--   cached_input_tokens BIGINT [tokens]: Sum over its turns that report them; NULL when none does.
--   output_tokens BIGINT [tokens]: Sum over its turns.
--   reasoning_tokens BIGINT [tokens]: Sum over its turns that report them; NULL when none does.
--   auxiliary_tokens BIGINT [tokens]: Input and output of its auxiliary calls.
--   wasted_tokens BIGINT [tokens]: Input and output of attempts that failed, broke off, were aborted or repeated, as far
--     as they reported any; 0 when there was no such attempt, NULL when none of them did.
--   max_context_tokens BIGINT [tokens]: The most input tokens of any turn.
--   cache_hit DOUBLE: Share of the input that was read from the cache, over turns that report it.
--   optimal_cache_hit DOUBLE: What a perfect prefix cache could have served of these turns' input.
--   hit_efficiency DOUBLE: cache_hit over turns that also tell the optimum / that optimum.
--   context_growth_tokens DOUBLE [tokens/turn]: Mean growth of the input from turn to turn, compactions left out.
--   system_share DOUBLE: Share of the system prompt in all that was sent, by bytes.
--   tools_share DOUBLE: Share of the tool definitions.
--   history_share DOUBLE: Share of the messages, tool results left out.
--   tool_results_share DOUBLE: Share of the tool results.
--   stalls BIGINT: Gaps of more than one second between output chunks, over its turns that tell; NULL when none does.
--   cost DOUBLE [currency]: Price of all attempts, auxiliary calls included; NULL when none has a price.
--   wasted_cost DOUBLE [currency]: What its wasted tokens cost; NULL when no cost of its turns is known.
--   unpriced_turns BIGINT: Calls without a price, which are left out of the cost.
--   estimated_turns BIGINT: Turns whose tokens are an estimate.
--   outcome VARCHAR: success or failure, as told by the launcher; unknown when nobody told.
--   retries BIGINT: Attempts beyond the first, over its turns.
--   tool_errors BIGINT: Tool results marked as errors.
--   repeated_tool_calls BIGINT: Tool calls with the same tool and arguments as an earlier one.
--   loops BIGINT: Stretches of three or more tool calls in a row that all repeat earlier ones.
--   recoveries BIGINT: Tool errors after which the next call of the same tool succeeded.
--   failed_turns BIGINT: Turns that ended in error, were cancelled or broke off.
--   status VARCHAR: Of its last run: ok, error, cancelled, truncated, partial or abandoned; in a benchmark, of its last
--     turn, since a recording goes on whatever the model answers.
--   is_completed BOOLEAN: In a benchmark: the launcher marked its last call, and that call did not fail. In live traffic:
--     its last turn did not fail and asked for no tool.
--   completed_ns BIGINT [ns]: When it was completed, nanoseconds since 1970; NULL when it was not.
-- metric: job_latency
--   column: job_latency_s
--   definition: How long the job took, tool calls included. The time between agent runs, when a human is on turn, is left
--     out and shown as human_time. Formed as the union of the runs of the trajectory, so runs that overlap count once. In a
--     benchmark nothing is left out: all its waits are delays of the recording.
--   formula: te(last turn) - t0(first turn) - human_time
--   unit: s
--   grain: trajectory
--   requires: call spans
--   source: AA-AgentPerf
-- metric: llm_time
--   column: llm_time_s
--   definition: Time in which at least one call of a turn was open.
--   formula: |union of [t0, te] over attempts of turns|
--   unit: s
--   grain: trajectory
--   requires: call spans
--   source: ours
-- metric: tool_time_of_trajectory
--   column: tool_time_s
--   definition: Time in which at least one tool call was open.
--   formula: |union of tool call intervals within the runs|
--   unit: s
--   grain: trajectory
--   requires: execute_tool spans, or turns with their tool call counts
--   source: ours
-- metric: harness_time
--   column: harness_time_s
--   definition: Time within the agent runs in which neither a call nor a tool was open, so the agent's own program was at
--     work; waits between the attempts of a retried turn are part of it.
--   formula: |union of runs| - |union of call and tool intervals|
--   unit: s
--   grain: trajectory
--   requires: call spans
--   source: ours
-- metric: human_time
--   column: human_time_s
--   definition: Time between the agent runs of a trajectory; 0 in a benchmark.
--   formula: te(last turn) - t0(first turn) - |union of runs|
--   unit: s
--   grain: trajectory
--   requires: call spans with run ids
--   source: ours
-- metric: cache_hit
--   column: cache_hit
--   definition: Share of the input tokens that was read from the prefix cache. Turns whose server does not report cached
--     tokens are left out of both sums.
--   formula: sum C / sum I over turns that report C
--   unit: share
--   grain: trajectory
--   requires: token counts with cached tokens
--   source: ours
-- metric: optimal_cache_hit_of_trajectory
--   column: optimal_cache_hit
--   definition: The share of the input that a perfect prefix cache could have served, given only the trajectory's own
--     earlier turns.
--   formula: sum (optimal_cache_hit x I) / sum I over turns with both
--   unit: share
--   grain: trajectory
--   requires: spans of the proxy, token counts
--   source: ours
-- metric: hit_efficiency
--   column: hit_efficiency
--   definition: How much of what could have been served from the prefix cache was, over turns that report cached tokens.
--     Above 1 when other trajectories had filled the cache before.
--   formula: sum C / sum (optimal_cache_hit x I) over turns that have all three
--   unit: ratio
--   grain: trajectory
--   requires: spans of the proxy, token counts with cached tokens
--   source: ours
-- metric: context_growth
--   column: context_growth_tokens
--   definition: How fast the context grows: mean difference of the input of consecutive turns, within segments, so that a
--     compaction is not a growth.
--   formula: mean of I(k+1) - I(k) over turns of one segment
--   unit: tokens/turn
--   grain: trajectory
--   requires: token counts of two turns of one segment
--   source: ours
-- metric: compactions
--   column: compactions
--   definition: How often the agent replaced its history by something shorter.
--   formula: segments - 1
--   unit: count
--   grain: trajectory
--   requires: spans of the proxy
--   source: ours
-- metric: context_system_share
--   column: system_share
--   definition: Share of the system prompt in what the trajectory sent, each turn's request counted whole.
--   formula: sum system bytes / sum (system + tools + messages + tool results)
--   unit: share
--   grain: trajectory
--   requires: spans of the proxy
--   source: ours
-- metric: context_tools_share
--   column: tools_share
--   definition: Share of the tool definitions in what the trajectory sent.
--   formula: sum tools bytes / sum (system + tools + messages + tool results)
--   unit: share
--   grain: trajectory
--   requires: spans of the proxy
--   source: ours
-- metric: context_history_share
--   column: history_share
--   definition: Share of messages that are not tool results in what the trajectory sent.
--   formula: sum messages bytes / sum (system + tools + messages + tool results)
--   unit: share
--   grain: trajectory
--   requires: spans of the proxy
--   source: ours
-- metric: context_tool_results_share
--   column: tool_results_share
--   definition: Share of tool results in what the trajectory sent.
--   formula: sum tool results bytes / sum (system + tools + messages + tool results)
--   unit: share
--   grain: trajectory
--   requires: spans of the proxy
--   source: ours
-- metric: cost_of_trajectory
--   column: cost
--   definition: Price of all attempts of the trajectory, retries and auxiliary calls included; sub-agents have their own.
--   formula: sum of attempt_cost over attempts
--   unit: currency
--   grain: trajectory
--   requires: a price table and token counts, or the number of accelerators and their price
--   source: ours
-- metric: outcome
--   column: outcome
--   definition: How the task came out: success or failure as the launcher, an outcome told later, or a file says; unknown
--     when nobody told. It is never guessed from the traffic.
--   formula: as told; the file wins, then the latest word
--   unit: success, failure or unknown
--   grain: trajectory
--   requires: an outcome told
--   source: ours
-- metric: max_context
--   column: max_context_tokens
--   definition: The largest context of the trajectory.
--   formula: max I
--   unit: tokens
--   grain: trajectory
--   requires: token counts
--   source: ours
-- metric: retries
--   column: retries
--   definition: HTTP exchanges beyond the first of each turn.
--   formula: sum of (attempts - 1) over turns
--   unit: attempts
--   grain: trajectory
--   requires: call spans
--   source: ours
-- metric: tool_errors
--   column: tool_errors
--   definition: Tool results that are marked as errors. Where tool spans are missing nothing is known of them.
--   formula: count of tool calls with an error result
--   unit: tool calls
--   grain: trajectory
--   requires: execute_tool spans
--   source: ours
-- metric: repeated_tool_calls
--   column: repeated_tool_calls
--   definition: Calls of a tool with the same arguments as an earlier call of the trajectory: the mark of a loop.
--   formula: count of tool calls marked as repeated
--   unit: tool calls
--   grain: trajectory
--   requires: execute_tool spans
--   source: ours
-- metric: loops
--   column: loops
--   definition: Stretches of three or more tool calls in a row that all repeat earlier ones: the agent goes round.
--   formula: count of maximal runs of repeated tool calls that are at least 3 long, in order of time
--   unit: count
--   grain: trajectory
--   requires: execute_tool spans
--   source: ours
-- metric: recoveries
--   column: recoveries
--   definition: Tool errors that the agent got over: the next call of the same tool succeeded.
--   formula: count of tool errors whose next call of the same tool is no error
--   unit: tool calls
--   grain: trajectory
--   requires: execute_tool spans
--   source: ours
-- metric: wasted_tokens
--   column: wasted_tokens
--   definition: Tokens that bought nothing: input and output of attempts that failed, broke off or were aborted, and of
--     those that a later attempt of the turn repeated.
--   formula: sum (I + O) over attempts of turns that are not the last one or did not succeed
--   unit: tokens
--   grain: trajectory
--   requires: token counts of such attempts
--   source: ours
-- metric: wasted_cost
--   column: wasted_cost
--   definition: What the attempts of turns cost that failed, broke off or were aborted, and those that a later attempt of the
--     turn repeated.
--   formula: sum of cost over attempts of turns that are not the last one or did not succeed
--   unit: currency
--   grain: trajectory
--   requires: prices, or costs that are told
--   source: ours
WITH in_order AS (
    SELECT
        *,
        input_tokens - LAG(input_tokens) OVER (PARTITION BY trajectory_id, kind, segment ORDER BY start_ns, turn_index)
            AS growth_tokens
    FROM turns
),

of_calls AS (
    SELECT
        trajectory_id,
        ANY_VALUE(parent_trajectory_id) AS parent_trajectory_id,
        ARG_MIN(trajectory_source, start_ns) AS trajectory_source,
        ANY_VALUE(agent_name) AS agent_name,
        ANY_VALUE(task_domain) AS task_domain,
        ANY_VALUE(task_id) AS task_id,
        COALESCE(MODE(request_model) FILTER (kind = 'turn'), MODE(request_model)) AS request_model,
        ANY_VALUE(benchmark_id) AS benchmark_id,
        ANY_VALUE(level) AS level,
        ANY_VALUE(agent_index) AS agent_index,
        COUNT(*) FILTER (kind = 'turn') AS turns,
        COUNT(*) FILTER (kind = 'auxiliary') AS auxiliary_calls,
        COALESCE(MAX(segment) FILTER (kind = 'turn') + 1, 0) AS segments,
        MIN(start_ns) AS start_ns,
        MAX(end_ns) AS end_ns,
        SUM(input_tokens) FILTER (kind = 'turn') AS input_tokens,
        SUM(cached_input_tokens) FILTER (kind = 'turn') AS cached_input_tokens,
        SUM(input_tokens) FILTER (kind = 'turn' AND cached_input_tokens IS NOT NULL) AS input_tokens_with_cached,
        SUM(output_tokens) FILTER (kind = 'turn') AS output_tokens,
        SUM(reasoning_tokens) FILTER (kind = 'turn') AS reasoning_tokens,
        SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)) FILTER (kind = 'auxiliary') AS auxiliary_tokens,
        CASE WHEN COUNT(*) FILTER (kind = 'turn' AND (attempt_count > 1 OR is_failed(status))) = 0
            THEN 0
            ELSE SUM(wasted_tokens) FILTER (kind = 'turn' AND (attempt_count > 1 OR is_failed(status)))
        END AS wasted_tokens,
        MAX(input_tokens) FILTER (kind = 'turn') AS max_context_tokens,
        MODE(deployment) AS deployment,
        SUM(optimal_cache_hit * input_tokens) AS optimal_tokens,
        SUM(input_tokens) FILTER (optimal_cache_hit IS NOT NULL) AS input_tokens_with_optimal,
        SUM(cached_input_tokens) FILTER (optimal_cache_hit IS NOT NULL AND input_tokens IS NOT NULL)
            AS cached_tokens_with_optimal,
        SUM(optimal_cache_hit * input_tokens) FILTER (cached_input_tokens IS NOT NULL) AS optimal_tokens_with_cached,
        AVG(growth_tokens) FILTER (kind = 'turn') AS context_growth_tokens,
        SUM(system_bytes) FILTER (kind = 'turn') AS system_bytes,
        SUM(tools_bytes) FILTER (kind = 'turn') AS tools_bytes,
        SUM(messages_bytes) FILTER (kind = 'turn') AS messages_bytes,
        SUM(tool_results_bytes) FILTER (kind = 'turn') AS tool_results_bytes,
        SUM(stalls) FILTER (kind = 'turn') AS stalls,
        COUNT(*) FILTER (cost IS NULL) AS unpriced_turns,
        COUNT(*) FILTER (kind = 'turn' AND usage_source = 'estimated') AS estimated_turns,
        SUM(cost) AS cost,
        SUM(wasted_cost) FILTER (kind = 'turn') AS wasted_cost,
        COALESCE(SUM(attempt_count - 1) FILTER (kind = 'turn'), 0) AS retries,
        COUNT(*) FILTER (kind = 'turn' AND is_failed(status)) AS failed_turns,
        BOOL_OR(is_final_call AND NOT is_failed(status)) AS has_final_call,
        ARG_MAX(NOT is_failed(status) AND COALESCE(tool_call_count, 0) = 0, end_ns) FILTER (kind = 'turn')
            AS ends_with_answer,
        ARG_MAX(status, end_ns) FILTER (kind = 'turn') AS last_turn_status,
        MAX(end_ns) FILTER (kind = 'turn') AS last_turn_end_ns
    FROM in_order
    GROUP BY trajectory_id
),

stretches AS (
    SELECT
        trajectory_id,
        is_repeated,
        ROW_NUMBER() OVER (PARTITION BY trajectory_id ORDER BY start_ns, end_ns, tool_call_id)
        - ROW_NUMBER() OVER (PARTITION BY trajectory_id, is_repeated ORDER BY start_ns, end_ns, tool_call_id) AS stretch
    FROM tool_calls
),

of_loops AS (
    SELECT trajectory_id, COUNT(*) AS loops
    FROM (
        SELECT trajectory_id FROM stretches WHERE is_repeated GROUP BY trajectory_id, stretch HAVING COUNT(*) >= 3
    )
    GROUP BY trajectory_id
),

of_tools AS (
    SELECT
        trajectory_id,
        COUNT(*) AS tool_calls,
        STRING_AGG(DISTINCT tool_name, ',' ORDER BY tool_name) AS tool_stack,
        COUNT(*) FILTER (is_error) AS tool_errors,
        COUNT(*) FILTER (is_repeated) AS repeated_tool_calls,
        COUNT(*) FILTER (is_recovered) AS recoveries
    FROM tool_calls
    GROUP BY trajectory_id
),

of_runs AS (
    SELECT trajectory_id, COUNT(*) AS runs, ARG_MAX(status, end_time) AS status
    FROM runs
    GROUP BY trajectory_id
),

of_time AS (
    SELECT * FROM time_shares WHERE run_id IS NULL
),

judged AS (
    SELECT
        *,
        system_bytes + tools_bytes + messages_bytes + tool_results_bytes AS context_bytes,
        COALESCE(CASE WHEN benchmark_id IS NULL THEN ends_with_answer ELSE has_final_call END, FALSE) AS is_completed
    FROM of_calls
)

SELECT
    trajectory_id,
    judged.parent_trajectory_id,
    judged.trajectory_source,
    judged.agent_name,
    judged.task_domain,
    judged.task_id,
    judged.request_model,
    judged.deployment,
    of_tools.tool_stack,
    judged.benchmark_id,
    judged.level,
    judged.agent_index,
    COALESCE(of_runs.runs, 0) AS runs,
    judged.turns,
    judged.auxiliary_calls,
    COALESCE(of_tools.tool_calls, 0) AS tool_calls,
    judged.segments,
    GREATEST(judged.segments - 1, 0) AS compactions,
    instant(judged.start_ns) AS start_time,
    instant(judged.end_ns) AS end_time,
    seconds(of_time.run_ns) AS job_latency_s,
    seconds(of_time.llm_ns) AS llm_time_s,
    seconds(of_time.tool_ns) AS tool_time_s,
    seconds(of_time.run_ns - of_time.busy_ns) AS harness_time_s,
    seconds(of_time.extent_ns - of_time.run_ns) AS human_time_s,
    CAST(judged.input_tokens AS BIGINT) AS input_tokens,
    CAST(judged.cached_input_tokens AS BIGINT) AS cached_input_tokens,
    CAST(judged.output_tokens AS BIGINT) AS output_tokens,
    CAST(judged.reasoning_tokens AS BIGINT) AS reasoning_tokens,
    CAST(judged.auxiliary_tokens AS BIGINT) AS auxiliary_tokens,
    CAST(judged.wasted_tokens AS BIGINT) AS wasted_tokens,
    judged.max_context_tokens,
    CASE WHEN judged.input_tokens_with_cached > 0
        THEN CAST(judged.cached_input_tokens AS DOUBLE) / CAST(judged.input_tokens_with_cached AS DOUBLE)
    END AS cache_hit,
    judged.optimal_tokens / NULLIF(judged.input_tokens_with_optimal, 0) AS optimal_cache_hit,
    judged.cached_tokens_with_optimal / NULLIF(judged.optimal_tokens_with_cached, 0) AS hit_efficiency,
    judged.context_growth_tokens,
    judged.system_bytes / NULLIF(context_bytes, 0) AS system_share,
    judged.tools_bytes / NULLIF(context_bytes, 0) AS tools_share,
    judged.messages_bytes / NULLIF(context_bytes, 0) AS history_share,
    judged.tool_results_bytes / NULLIF(context_bytes, 0) AS tool_results_share,
    CAST(judged.stalls AS BIGINT) AS stalls,
    judged.cost,
    judged.wasted_cost,
    judged.unpriced_turns,
    judged.estimated_turns,
    COALESCE(outcomes.outcome, 'unknown') AS outcome,
    CAST(judged.retries AS BIGINT) AS retries,
    COALESCE(of_tools.tool_errors, 0) AS tool_errors,
    COALESCE(of_tools.repeated_tool_calls, 0) AS repeated_tool_calls,
    COALESCE(of_loops.loops, 0) AS loops,
    COALESCE(of_tools.recoveries, 0) AS recoveries,
    judged.failed_turns,
    CASE WHEN judged.benchmark_id IS NULL THEN of_runs.status ELSE judged.last_turn_status END AS status,
    judged.is_completed,
    CASE WHEN judged.is_completed THEN judged.last_turn_end_ns END AS completed_ns
FROM judged
LEFT JOIN of_tools USING (trajectory_id)
LEFT JOIN of_loops USING (trajectory_id)
LEFT JOIN of_runs USING (trajectory_id)
LEFT JOIN of_time USING (trajectory_id)
LEFT JOIN outcomes USING (trajectory_id)
