-- relation: levels
-- description: Benchmark levels: one concurrency each, over its steady window. Figures are taken over turns with t0 in
--   the window; failed turns are in the counts and rates, never in the percentiles. Percentiles interpolate linearly at
--   rank (n-1)p.
-- grain: one row per benchmark and level
-- requires: call spans with benchmark tags
-- source: AA-AgentPerf methodology 2026-07
-- reads: population, level_windows, level_spans, level_power, attempts, run_bounds, trajectories, given_deployment
-- visibility: public
-- storage: view
-- filters: model=request_model benchmark=benchmark_id
-- order: benchmark_id, level
-- columns:
--   benchmark_id VARCHAR: The benchmark.
--   level BIGINT [agents]: Concurrent agents, as the benchmark tags its calls.
--   agents BIGINT [agents]: The same; the N of the formulas.
--   request_model VARCHAR: The model that most turns asked for.
--   preset VARCHAR: The rules that were played: agentperf, quick, smoke or custom; NULL when not told.
--   window_start TIMESTAMP WITH TIME ZONE: Start of the steady window.
--   window_end TIMESTAMP WITH TIME ZONE: End of the steady window; of the last one when the level was played again.
--   window_s DOUBLE [s]: Length of the steady window, |W|; the sum when there are several.
--   window_source VARCHAR: Where the window comes from: span (the level's own), phase (calls tagged steady), or calls.
--   hold_s DOUBLE [s]: From the first call of the last agent to start, so from when the target concurrency was reached,
--     to the window; 0 when it was reached within, NULL when fewer agents than the level has were seen.
--   turns BIGINT: Turns with t0 in the window.
--   failed_turns BIGINT: Those that ended in error, were cancelled or broke off.
--   attempts BIGINT: HTTP exchanges of these turns.
--   completed_trajectories BIGINT: Trajectories completed in the window: as the level's span says, else those whose
--     marked last turn ended in it.
--   inflight DOUBLE [calls]: Open calls, time-weighted mean over the window; auxiliary calls included.
--   active_agents DOUBLE [agents]: Agents within a run, tool calls included, time-weighted mean; sub-agents left out.
--   active_subagents DOUBLE [agents]: The same of sub-agents.
--   occupancy DOUBLE: inflight / agents.
--   ttft_p50_s DOUBLE [s]: Median time to first token.
--   ttft_p95_s DOUBLE [s]: 95th percentile of time to first token.
--   ttft_p99_s DOUBLE [s]: 99th percentile of time to first token.
--   output_speed_p25_tps DOUBLE [tok/s]: 25th percentile of output speed: three of four turns are at least as fast.
--   output_speed_p50_tps DOUBLE [tok/s]: Median output speed.
--   e2e_speed_p25_tps DOUBLE [tok/s]: 25th percentile of end-to-end speed.
--   e2e_speed_p50_tps DOUBLE [tok/s]: Median end-to-end speed.
--   pooled_speed_tps DOUBLE [tok/s]: Output speed pooled over turns that return no tool call.
--   pooled_e2e_speed_tps DOUBLE [tok/s]: End-to-end speed pooled over all turns.
--   tool_call_turn_share DOUBLE: Turns with tool calls / turns, failed ones left out; these are not in pooled_speed_tps.
--   interactivity_p50_tps DOUBLE [tok/s]: 1 / median time per output token.
--   interactivity_p90_tps DOUBLE [tok/s]: 1 / 90th percentile of time per output token.
--   e2e_norm_interactivity_p50_tps DOUBLE [tok/s]: 1 / median of end-to-end latency per output token.
--   e2e_norm_interactivity_p90_tps DOUBLE [tok/s]: 1 / 90th percentile of end-to-end latency per output token.
--   estimated_turns BIGINT: Turns whose tokens are an estimate; they are in no speed.
--   stalled_turn_share DOUBLE: Turns with a gap of more than one second / turns that tell.
--   e2e_latency_p50_s DOUBLE [s]: Median end-to-end latency.
--   e2e_latency_p95_s DOUBLE [s]: 95th percentile of end-to-end latency.
--   error_rate DOUBLE: Attempts that ended in error or broke off / attempts.
--   truncated_rate DOUBLE: Turns that broke off / turns.
--   cancelled_rate DOUBLE: Turns whose client left / turns.
--   output_throughput_tps DOUBLE [tok/s]: Output tokens of these turns per second of the window.
--   input_throughput_tps DOUBLE [tok/s]: Input tokens of these turns per second of the window.
--   total_throughput_tps DOUBLE [tok/s]: Both.
--   fresh_throughput_tps DOUBLE [tok/s]: Input not cached and output; NULL unless all these turns report cached tokens.
--   cache_hit DOUBLE: Cached / input tokens, over turns that report cached tokens.
--   optimal_cache_hit DOUBLE: What a perfect prefix cache per trajectory could have served of the input.
--   hit_efficiency DOUBLE: Cached tokens / what that cache would have served, over turns that tell both.
--   cost DOUBLE [currency]: Price of these turns; NULL when none has a price.
--   job_latency_mean_s DOUBLE [s]: Mean job latency of the trajectories whose marked last turn ended in the window.
--   jobs_per_hour_per_user DOUBLE [1/h]: 3600 / job_latency_mean_s.
--   accelerators BIGINT: Accelerators of the deployment, as the level's span says, else as given; NULL when not told.
--   jobs_per_hour_per_accelerator DOUBLE [1/h]: Completed trajectories per hour of the window and accelerator.
--   power_mean_w DOUBLE [W]: Mean power over the window: as the level's span says, else from power samples, else as given.
--   power_source VARCHAR: span, samples or given: where the power comes from.
--   power_coverage DOUBLE: Share of the window that power samples cover; NULL without samples.
--   energy_j DOUBLE [J]: Power x window.
--   energy_per_output_token_j DOUBLE [J]: Power x window / output tokens.
--   energy_per_trajectory_j DOUBLE [J]: Power x window / completed trajectories.
-- metric: slo_ttft
--   column: ttft_p95_s
--   definition: 95th percentile of time to first token over the turns of the level that did not fail.
--   formula: P95(ttft), linear interpolation at rank (n-1)p
--   unit: s
--   grain: level
--   requires: streamed responses
--   source: AA-AgentPerf
-- metric: slo_speed
--   column: output_speed_p25_tps
--   definition: 25th percentile of output speed over the turns of the level that did not fail. It is taken on speeds; 1 /
--     P75(tpot) is another number.
--   formula: P25(output_speed), linear interpolation at rank (n-1)p
--   unit: tok/s
--   grain: level
--   requires: streamed responses, token counts
--   source: AA-AgentPerf
-- metric: pooled_speed
--   column: pooled_speed_tps
--   definition: Output speed over all turns together: their tokens after the first, divided by the time these took. Turns
--     that return tool calls are left out, since servers often buffer their tokens; tool_call_turn_share says how many
--     these are. Estimated token counts are left out.
--   formula: sum (O - 1) / sum (tl - tf) over turns with O >= 2 and tl > tf
--   unit: tok/s
--   grain: level
--   requires: streamed responses, token counts
--   source: agentperf-local, output_tokens_per_second
-- metric: pooled_e2e_speed
--   column: pooled_e2e_speed_tps
--   definition: Output tokens of all turns that did not fail, divided by the sum of their durations.
--   formula: sum O / sum (te - t0)
--   unit: tok/s
--   grain: level
--   requires: token counts
--   source: agentperf-local, end_to_end_output_tokens_per_second
-- metric: tool_call_turn_share
--   column: tool_call_turn_share
--   definition: Share of the turns that returned tool calls and so are not in pooled_speed.
--   formula: turns with tool calls / turns, failed ones left out
--   unit: share
--   grain: level
--   requires: call spans with their tool call counts
--   source: ours
-- metric: interactivity_p50
--   column: interactivity_p50_tps
--   definition: What half of the users see at least: the inverse of the median time per output token.
--   formula: 1 / P50(tpot)
--   unit: tok/s
--   grain: level
--   requires: streamed responses, token counts
--   source: AIPerf, output token throughput per user
-- metric: interactivity_p90
--   column: interactivity_p90_tps
--   definition: What nine of ten users see at least: the inverse of the 90th percentile of time per output token. A
--     percentile of speeds is another quantity.
--   formula: 1 / P90(tpot)
--   unit: tok/s
--   grain: level
--   requires: streamed responses, token counts
--   source: AIPerf, output token throughput per user
-- metric: e2e_norm_interactivity_p50
--   column: e2e_norm_interactivity_p50_tps
--   definition: The inverse of the median end-to-end latency per output token, the wait for the first one included.
--   formula: 1 / P50((te - t0) / O)
--   unit: tok/s
--   grain: level
--   requires: token counts
--   source: ours
-- metric: e2e_norm_interactivity_p90
--   column: e2e_norm_interactivity_p90_tps
--   definition: The inverse of the 90th percentile of end-to-end latency per output token.
--   formula: 1 / P90((te - t0) / O)
--   unit: tok/s
--   grain: level
--   requires: token counts
--   source: ours
-- metric: stalled_turn_share
--   column: stalled_turn_share
--   definition: Share of the turns whose stream stood still for more than a second.
--   formula: turns with a chunk gap > 1 s / turns that tell their gaps
--   unit: share
--   grain: level
--   requires: streamed responses
--   source: ours
-- metric: optimal_cache_hit_of_level
--   column: optimal_cache_hit
--   definition: The share of the level's input that a perfect prefix cache could have served, given only the earlier turns of
--     the same trajectory.
--   formula: sum (optimal_cache_hit x I) / sum I over turns with both
--   unit: share
--   grain: level
--   requires: spans of the proxy, token counts
--   source: ours
-- metric: hit_efficiency_of_level
--   column: hit_efficiency
--   definition: How much of what could have been served from the prefix cache was.
--   formula: sum C / sum (optimal_cache_hit x I) over turns that have all three
--   unit: ratio
--   grain: level
--   requires: spans of the proxy, token counts with cached tokens
--   source: ours
-- metric: error_rate
--   column: error_rate
--   definition: Share of HTTP exchanges that ended in an error or broke off. A client that left is not the deployment's
--     error.
--   formula: attempts with status error or truncated / attempts
--   unit: share
--   grain: level
--   requires: call spans
--   source: ours
-- metric: truncated_rate
--   column: truncated_rate
--   definition: Share of turns whose stream ended without its terminal event.
--   formula: turns with status truncated / turns
--   unit: share
--   grain: level
--   requires: call spans
--   source: ours
-- metric: cancelled_rate
--   column: cancelled_rate
--   definition: Share of turns whose client left before the end.
--   formula: turns with status cancelled / turns
--   unit: share
--   grain: level
--   requires: call spans
--   source: ours
-- metric: inflight
--   column: inflight
--   definition: Open calls, weighted by time.
--   formula: sum |[t0, te] in W| over attempts / |W|
--   unit: calls
--   grain: level
--   requires: call spans
--   source: ours
-- metric: active_agents
--   column: active_agents
--   definition: Agents at work: from the start of a run's first turn to the end of its final response, tool calls included.
--     Sub-agents are counted apart.
--   formula: sum |run in W| over runs / |W|
--   unit: agents
--   grain: level
--   requires: call spans
--   source: AA-AgentPerf, concurrent agents
-- metric: occupancy
--   column: occupancy
--   definition: Open calls per agent.
--   formula: inflight / N
--   unit: calls per agent
--   grain: level
--   requires: call spans with benchmark tags
--   source: ours
-- metric: completed_trajectories
--   column: completed_trajectories
--   definition: Trajectories completed in the steady window.
--   formula: count of trajectories with te(last turn) in W
--   unit: trajectories
--   grain: level
--   requires: level spans, or calls marked as the last of their trajectory
--   source: AA-AgentPerf
-- metric: output_throughput
--   column: output_throughput_tps
--   definition: Output tokens per second of the whole level.
--   formula: sum O / |W|
--   unit: tok/s
--   grain: level
--   requires: token counts
--   source: ours
-- metric: input_throughput
--   column: input_throughput_tps
--   definition: Input tokens per second of the whole level, cached ones included.
--   formula: sum I / |W|
--   unit: tok/s
--   grain: level
--   requires: token counts
--   source: ours
-- metric: total_throughput
--   column: total_throughput_tps
--   definition: Input and output tokens per second of the whole level.
--   formula: sum (I + O) / |W|
--   unit: tok/s
--   grain: level
--   requires: token counts
--   source: ours
-- metric: fresh_throughput
--   column: fresh_throughput_tps
--   definition: Tokens per second that had to be computed: input that was not cached, and output.
--   formula: sum (I - C + O) / |W|
--   unit: tok/s
--   grain: level
--   requires: token counts with cached tokens on all turns
--   source: ours
-- metric: jobs_per_hour_per_user
--   column: jobs_per_hour_per_user
--   definition: Jobs that one agent gets done in an hour.
--   formula: 3600 / mean(job_latency) over trajectories completed in W
--   unit: 1/h
--   grain: level
--   requires: calls marked as the last of their trajectory
--   source: ours
-- metric: jobs_per_hour_per_accelerator
--   column: jobs_per_hour_per_accelerator
--   definition: Jobs that one accelerator gets done in an hour.
--   formula: 3600 x completed trajectories / (|W| x G)
--   unit: 1/h
--   grain: level
--   requires: the number of accelerators
--   source: ours
-- metric: energy
--   column: energy_j
--   definition: Energy of the deployment over the steady window. From power samples it is their trapezoidal integral, which
--     must cover 95 % of the window.
--   formula: P x |W|
--   unit: J
--   grain: level
--   requires: power, told by level spans, by samples or as a number
--   source: agentperf-local
-- metric: energy_per_output_token
--   column: energy_per_output_token_j
--   definition: Energy of the deployment per output token.
--   formula: P x |W| / sum O
--   unit: J
--   grain: level
--   requires: power, told by level spans, by samples or as a number
--   source: ours
-- metric: energy_per_trajectory
--   column: energy_per_trajectory_j
--   definition: Energy of the deployment per completed trajectory.
--   formula: P x |W| / completed trajectories
--   unit: J
--   grain: level
--   requires: power, told by level spans, by samples or as a number
--   source: ours
WITH windows AS (
    SELECT
        benchmark_id,
        level,
        MIN(start_ns) AS start_ns,
        MAX(end_ns) AS end_ns,
        SUM(end_ns - start_ns) AS length_ns,
        MIN(window_source) AS window_source
    FROM level_windows
    GROUP BY benchmark_id, level
),

told AS (
    SELECT
        benchmark_id,
        level,
        CAST(SUM(completed_trajectories) AS BIGINT) AS completed_trajectories,
        ARG_MAX(preset, start_ns) AS preset,
        ARG_MAX(accelerators, start_ns) AS accelerators,
        SUM(power_mean_w * (end_ns - start_ns)) / NULLIF(SUM(end_ns - start_ns) FILTER (power_mean_w IS NOT NULL), 0)
            AS power_mean_w
    FROM level_spans
    GROUP BY benchmark_id, level
),

sampled AS (
    SELECT
        benchmark_id,
        level,
        SUM(coverage * window_ns) / SUM(window_ns) AS coverage,
        CASE WHEN COUNT(*) = COUNT(mean_w) THEN SUM(mean_w * window_ns) / SUM(window_ns) END AS mean_w
    FROM level_power
    GROUP BY benchmark_id, level
),

good_turns AS (
    SELECT
        *,
        CASE WHEN usage_source <> 'estimated' AND NOT is_failed(status) THEN output_tokens END AS counted_tokens,
        COALESCE(tool_call_count, 0) > 0 AS has_tool_calls
    FROM population
),

of_turns AS (
    SELECT
        benchmark_id,
        level,
        MODE(request_model) AS request_model,
        COUNT(*) AS turns,
        COUNT(*) FILTER (is_failed(status)) AS failed_turns,
        SUM(attempt_count) AS attempts,
        SUM(failed_attempt_count) AS failed_attempts,
        COUNT(*) FILTER (status = 'truncated') AS truncated_turns,
        COUNT(*) FILTER (status = 'cancelled') AS cancelled_turns,
        QUANTILE_CONT(ttft_s, 0.5) FILTER (NOT is_failed(status)) AS ttft_p50_s,
        QUANTILE_CONT(ttft_s, 0.95) FILTER (NOT is_failed(status)) AS ttft_p95_s,
        QUANTILE_CONT(ttft_s, 0.99) FILTER (NOT is_failed(status)) AS ttft_p99_s,
        QUANTILE_CONT(output_speed_tps, 0.25) FILTER (counted_tokens IS NOT NULL) AS output_speed_p25_tps,
        QUANTILE_CONT(output_speed_tps, 0.5) FILTER (counted_tokens IS NOT NULL) AS output_speed_p50_tps,
        QUANTILE_CONT(e2e_speed_tps, 0.25) FILTER (counted_tokens IS NOT NULL) AS e2e_speed_p25_tps,
        QUANTILE_CONT(e2e_speed_tps, 0.5) FILTER (counted_tokens IS NOT NULL) AS e2e_speed_p50_tps,
        QUANTILE_CONT(e2e_latency_s, 0.5) FILTER (NOT is_failed(status)) AS e2e_latency_p50_s,
        QUANTILE_CONT(e2e_latency_s, 0.95) FILTER (NOT is_failed(status)) AS e2e_latency_p95_s,
        CAST(SUM(counted_tokens - 1) FILTER (output_speed_tps IS NOT NULL AND NOT has_tool_calls) AS DOUBLE)
            / SUM(generation_s) FILTER (
                output_speed_tps IS NOT NULL AND NOT has_tool_calls AND counted_tokens IS NOT NULL
            ) AS pooled_speed_tps,
        CAST(SUM(counted_tokens) AS DOUBLE) / NULLIF(SUM(e2e_latency_s) FILTER (counted_tokens IS NOT NULL), 0)
            AS pooled_e2e_speed_tps,
        COUNT(*) FILTER (has_tool_calls AND NOT is_failed(status)) / NULLIF(COUNT(*) FILTER (NOT is_failed(status)), 0)
            AS tool_call_turn_share,
        1 / QUANTILE_CONT(tpot_s, 0.5) FILTER (counted_tokens IS NOT NULL) AS interactivity_p50_tps,
        1 / QUANTILE_CONT(tpot_s, 0.9) FILTER (counted_tokens IS NOT NULL) AS interactivity_p90_tps,
        1 / QUANTILE_CONT(e2e_latency_s / NULLIF(counted_tokens, 0), 0.5) AS e2e_norm_interactivity_p50_tps,
        1 / QUANTILE_CONT(e2e_latency_s / NULLIF(counted_tokens, 0), 0.9) AS e2e_norm_interactivity_p90_tps,
        COUNT(*) FILTER (usage_source = 'estimated') AS estimated_turns,
        COUNT(*) FILTER (chunk_gap_max_s > 1) / NULLIF(COUNT(chunk_gap_max_s), 0) AS stalled_turn_share,
        SUM(optimal_cache_hit * input_tokens) / NULLIF(SUM(input_tokens) FILTER (optimal_cache_hit IS NOT NULL), 0)
            AS optimal_cache_hit,
        SUM(cached_input_tokens) FILTER (optimal_cache_hit IS NOT NULL)
            / NULLIF(SUM(optimal_cache_hit * input_tokens) FILTER (cached_input_tokens IS NOT NULL), 0)
            AS hit_efficiency,
        SUM(cost) AS cost,
        CAST(SUM(output_tokens) AS DOUBLE) AS output_tokens,
        CAST(SUM(input_tokens) AS DOUBLE) AS input_tokens,
        CAST(SUM(cached_input_tokens) AS DOUBLE) AS cached_input_tokens,
        CAST(SUM(input_tokens) FILTER (cached_input_tokens IS NOT NULL) AS DOUBLE) AS input_tokens_with_cached,
        COUNT(cached_input_tokens) = COUNT(*) AS all_report_cached
    FROM good_turns
    WHERE benchmark_id IS NOT NULL
    GROUP BY benchmark_id, level
),

of_calls AS (
    SELECT
        w.benchmark_id,
        w.level,
        SUM(overlap_ns(attempts.start_ns, attempts.end_ns, w.start_ns, w.end_ns)) AS open_ns
    FROM level_windows AS w
    INNER JOIN attempts ON attempts.benchmark_id = w.benchmark_id AND attempts.level IS NOT DISTINCT FROM w.level
    GROUP BY w.benchmark_id, w.level
),

of_runs AS (
    SELECT
        w.benchmark_id,
        w.level,
        COALESCE(
            SUM(overlap_ns(run_bounds.start_ns, run_bounds.end_ns, w.start_ns, w.end_ns)) FILTER (NOT is_subagent), 0
        ) AS active_ns,
        COALESCE(
            SUM(overlap_ns(run_bounds.start_ns, run_bounds.end_ns, w.start_ns, w.end_ns)) FILTER (is_subagent), 0
        ) AS active_subagents_ns
    FROM level_windows AS w
    INNER JOIN run_bounds ON run_bounds.benchmark_id = w.benchmark_id AND run_bounds.level IS NOT DISTINCT FROM w.level
    GROUP BY w.benchmark_id, w.level
),

of_trajectories AS (
    SELECT
        w.benchmark_id,
        w.level,
        COUNT(*) AS completed_trajectories,
        AVG(trajectories.job_latency_s) AS job_latency_mean_s
    FROM level_windows AS w
    INNER JOIN trajectories
        ON trajectories.benchmark_id = w.benchmark_id
        AND trajectories.level IS NOT DISTINCT FROM w.level
        AND trajectories.completed_ns BETWEEN w.start_ns AND w.end_ns
    GROUP BY w.benchmark_id, w.level
),

first_calls AS (
    SELECT benchmark_id, level, agent_index, MIN(start_ns) AS start_ns
    FROM attempts
    WHERE benchmark_id IS NOT NULL AND agent_index IS NOT NULL
    GROUP BY benchmark_id, level, agent_index
),

ramp AS (
    SELECT benchmark_id, level, COUNT(*) AS agents_seen, MAX(start_ns) AS reached_ns
    FROM first_calls
    GROUP BY benchmark_id, level
),

deployed AS (
    SELECT
        windows.benchmark_id,
        windows.level,
        COALESCE(told.accelerators, given_deployment.accelerators) AS accelerators,
        COALESCE(told.power_mean_w, sampled.mean_w, given_deployment.power_w) AS power_mean_w,
        COALESCE(told.completed_trajectories, of_trajectories.completed_trajectories, 0) AS completed_trajectories
    FROM windows
    LEFT JOIN told ON told.benchmark_id = windows.benchmark_id AND told.level IS NOT DISTINCT FROM windows.level
    LEFT JOIN of_trajectories
        ON of_trajectories.benchmark_id = windows.benchmark_id
        AND of_trajectories.level IS NOT DISTINCT FROM windows.level
    LEFT JOIN sampled
        ON sampled.benchmark_id = windows.benchmark_id AND sampled.level IS NOT DISTINCT FROM windows.level
    CROSS JOIN given_deployment
)

SELECT
    windows.benchmark_id,
    windows.level,
    windows.level AS agents,
    of_turns.request_model,
    told.preset,
    instant(windows.start_ns) AS window_start,
    instant(windows.end_ns) AS window_end,
    seconds(windows.length_ns) AS window_s,
    windows.window_source,
    CASE WHEN ramp.agents_seen >= windows.level THEN seconds(GREATEST(0, windows.start_ns - ramp.reached_ns)) END
        AS hold_s,
    COALESCE(of_turns.turns, 0) AS turns,
    COALESCE(of_turns.failed_turns, 0) AS failed_turns,
    COALESCE(CAST(of_turns.attempts AS BIGINT), 0) AS attempts,
    deployed.completed_trajectories,
    of_calls.open_ns / NULLIF(windows.length_ns, 0) AS inflight,
    of_runs.active_ns / NULLIF(windows.length_ns, 0) AS active_agents,
    of_runs.active_subagents_ns / NULLIF(windows.length_ns, 0) AS active_subagents,
    of_calls.open_ns / NULLIF(windows.length_ns, 0) / NULLIF(windows.level, 0) AS occupancy,
    of_turns.ttft_p50_s,
    of_turns.ttft_p95_s,
    of_turns.ttft_p99_s,
    of_turns.output_speed_p25_tps,
    of_turns.output_speed_p50_tps,
    of_turns.e2e_speed_p25_tps,
    of_turns.e2e_speed_p50_tps,
    of_turns.pooled_speed_tps,
    of_turns.pooled_e2e_speed_tps,
    of_turns.tool_call_turn_share,
    of_turns.interactivity_p50_tps,
    of_turns.interactivity_p90_tps,
    of_turns.e2e_norm_interactivity_p50_tps,
    of_turns.e2e_norm_interactivity_p90_tps,
    COALESCE(of_turns.estimated_turns, 0) AS estimated_turns,
    of_turns.stalled_turn_share,
    of_turns.e2e_latency_p50_s,
    of_turns.e2e_latency_p95_s,
    of_turns.failed_attempts / of_turns.attempts AS error_rate,
    of_turns.truncated_turns / of_turns.turns AS truncated_rate,
    of_turns.cancelled_turns / of_turns.turns AS cancelled_rate,
    of_turns.output_tokens / NULLIF(seconds(windows.length_ns), 0) AS output_throughput_tps,
    of_turns.input_tokens / NULLIF(seconds(windows.length_ns), 0) AS input_throughput_tps,
    (of_turns.input_tokens + of_turns.output_tokens) / NULLIF(seconds(windows.length_ns), 0) AS total_throughput_tps,
    CASE WHEN of_turns.all_report_cached
        THEN (of_turns.input_tokens - of_turns.cached_input_tokens + of_turns.output_tokens)
            / NULLIF(seconds(windows.length_ns), 0)
    END AS fresh_throughput_tps,
    of_turns.cached_input_tokens / NULLIF(of_turns.input_tokens_with_cached, 0) AS cache_hit,
    of_turns.optimal_cache_hit,
    of_turns.hit_efficiency,
    of_turns.cost,
    of_trajectories.job_latency_mean_s,
    3600 / NULLIF(of_trajectories.job_latency_mean_s, 0) AS jobs_per_hour_per_user,
    deployed.accelerators,
    3600 * deployed.completed_trajectories / NULLIF(seconds(windows.length_ns) * deployed.accelerators, 0)
        AS jobs_per_hour_per_accelerator,
    deployed.power_mean_w,
    CASE
        WHEN told.power_mean_w IS NOT NULL THEN 'span'
        WHEN sampled.mean_w IS NOT NULL THEN 'samples'
        WHEN given_deployment.power_w IS NOT NULL THEN 'given'
    END AS power_source,
    sampled.coverage AS power_coverage,
    deployed.power_mean_w * seconds(windows.length_ns) AS energy_j,
    deployed.power_mean_w * seconds(windows.length_ns) / NULLIF(of_turns.output_tokens, 0) AS energy_per_output_token_j,
    deployed.power_mean_w * seconds(windows.length_ns) / NULLIF(deployed.completed_trajectories, 0)
        AS energy_per_trajectory_j
FROM windows
LEFT JOIN told ON told.benchmark_id = windows.benchmark_id AND told.level IS NOT DISTINCT FROM windows.level
LEFT JOIN of_turns
    ON of_turns.benchmark_id = windows.benchmark_id AND of_turns.level IS NOT DISTINCT FROM windows.level
LEFT JOIN of_calls
    ON of_calls.benchmark_id = windows.benchmark_id AND of_calls.level IS NOT DISTINCT FROM windows.level
LEFT JOIN of_runs ON of_runs.benchmark_id = windows.benchmark_id AND of_runs.level IS NOT DISTINCT FROM windows.level
LEFT JOIN of_trajectories
    ON of_trajectories.benchmark_id = windows.benchmark_id AND of_trajectories.level IS NOT DISTINCT FROM windows.level
LEFT JOIN ramp ON ramp.benchmark_id = windows.benchmark_id AND ramp.level IS NOT DISTINCT FROM windows.level
LEFT JOIN sampled ON sampled.benchmark_id = windows.benchmark_id AND sampled.level IS NOT DISTINCT FROM windows.level
LEFT JOIN deployed ON deployed.benchmark_id = windows.benchmark_id AND deployed.level IS NOT DISTINCT FROM windows.level
CROSS JOIN given_deployment
