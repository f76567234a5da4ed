-- relation: benchmarks
-- description: Executions of a replay.
-- grain: one row per benchmark
-- requires: call spans with benchmark tags
-- source: otel_agentperf.semconv
-- reads: turns, attempts, trajectories, levels
-- visibility: public
-- storage: view
-- filters: model=request_model benchmark=benchmark_id
-- order: start_time, benchmark_id
-- columns:
--   benchmark_id VARCHAR: The benchmark.
--   request_model VARCHAR: The model that most turns asked for.
--   preset VARCHAR: The rules that were played: agentperf, quick, smoke or custom; NULL when not told.
--   levels BIGINT: Concurrency levels.
--   max_level BIGINT [agents]: The highest.
--   start_time TIMESTAMP WITH TIME ZONE: t0 of its first call, in any phase.
--   end_time TIMESTAMP WITH TIME ZONE: te of its last call, in any phase.
--   turns BIGINT: Turns in all phases.
--   steady_turns BIGINT: Turns with t0 in a steady window.
--   attempts BIGINT: HTTP exchanges in all phases, auxiliary calls included.
--   failed_attempts BIGINT: Those that ended in error or broke off.
--   trajectories BIGINT: Trajectories begun.
--   completed_trajectories BIGINT: Trajectories completed in steady windows.
--   input_tokens BIGINT [tokens]: Sum over its turns in all phases.
--   output_tokens BIGINT [tokens]: Sum over its turns in all phases.
--   accelerators BIGINT: Accelerators of the deployment; NULL when not told.
WITH of_turns AS (
    SELECT
        benchmark_id,
        MODE(request_model) AS request_model,
        COUNT(*) AS turns,
        CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
        CAST(SUM(output_tokens) AS BIGINT) AS output_tokens
    FROM turns
    WHERE benchmark_id IS NOT NULL AND kind = 'turn'
    GROUP BY benchmark_id
),

of_attempts AS (
    SELECT
        benchmark_id,
        MIN(start_time) AS start_time,
        MAX(end_time) AS end_time,
        COUNT(*) AS attempts,
        COUNT(*) FILTER (status IN ('error', 'truncated')) AS failed_attempts,
        COUNT(DISTINCT trajectory_id) AS trajectories
    FROM attempts
    WHERE benchmark_id IS NOT NULL
    GROUP BY benchmark_id
),

of_levels AS (
    SELECT
        benchmark_id,
        ANY_VALUE(preset) AS preset,
        COUNT(*) AS levels,
        MAX(level) AS max_level,
        CAST(SUM(turns) AS BIGINT) AS steady_turns,
        CAST(SUM(completed_trajectories) AS BIGINT) AS completed_trajectories,
        MAX(accelerators) AS accelerators
    FROM levels
    GROUP BY benchmark_id
)

SELECT
    benchmark_id,
    of_turns.request_model,
    of_levels.preset,
    of_levels.levels,
    of_levels.max_level,
    of_attempts.start_time,
    of_attempts.end_time,
    COALESCE(of_turns.turns, 0) AS turns,
    COALESCE(of_levels.steady_turns, 0) AS steady_turns,
    of_attempts.attempts,
    of_attempts.failed_attempts,
    of_attempts.trajectories,
    COALESCE(of_levels.completed_trajectories, 0) AS completed_trajectories,
    of_turns.input_tokens,
    of_turns.output_tokens,
    of_levels.accelerators
FROM of_attempts
LEFT JOIN of_turns USING (benchmark_id)
LEFT JOIN of_levels USING (benchmark_id)
