-- relation: level_spans
-- description: Benchmark levels as their own spans tell them: the bounds are the steady window. A level that was played
--   again has several.
-- grain: one row per benchmark_level span
-- requires: benchmark_level spans
-- source: otel_agentperf.semconv
-- reads: spans
-- visibility: internal
-- storage: view
SELECT
    "agentperf.benchmark.id" AS benchmark_id,
    "agentperf.level" AS level,
    start_ns,
    end_ns,
    "agentperf.benchmark.completed_trajectories" AS completed_trajectories,
    "agentperf.benchmark.preset" AS preset,
    "agentperf.accelerator.count" AS accelerators,
    "agentperf.power.mean_w" AS power_mean_w
FROM spans
WHERE name = 'benchmark_level' AND "agentperf.benchmark.id" IS NOT NULL
