-- relation: turn_loads
-- description: Turns of live traffic with the load they met: the mean number of agents at work while the turn was open.
-- grain: one row per turn
-- requires: call spans without benchmark tags
-- source: ours
-- reads: population, active_steps
-- visibility: internal
-- storage: view
WITH bounded AS (
    SELECT
        population.*,
        at_start.agents AS agents_at_start,
        at_start.agents_ns_so_far + at_start.agents * CAST(population.start_ns - at_start.at_ns AS DOUBLE)
            AS agents_ns_at_start
    FROM population
    ASOF INNER JOIN active_steps AS at_start
        ON at_start.model = COALESCE(population.request_model, '') AND at_start.at_ns <= population.start_ns
    WHERE population.benchmark_id IS NULL
)

SELECT
    bounded.request_model AS model,
    bounded.trajectory_id,
    CASE WHEN bounded.end_ns > bounded.start_ns
        THEN (
            at_end.agents_ns_so_far
            + at_end.agents * CAST(bounded.end_ns - at_end.at_ns AS DOUBLE)
            - bounded.agents_ns_at_start
        ) / (bounded.end_ns - bounded.start_ns)
        ELSE bounded.agents_at_start
    END AS agents,
    bounded.attempt_count,
    bounded.failed_attempt_count,
    is_failed(bounded.status) AS is_failure,
    bounded.usage_source = 'estimated' AS is_estimated,
    COALESCE(bounded.tool_call_count, 0) > 0 AS has_tool_calls,
    bounded.ttft_s,
    bounded.server_ttft_s,
    bounded.time_to_first_chunk_s,
    bounded.ttfot_s,
    bounded.tpot_s,
    bounded.e2e_latency_s,
    bounded.output_speed_tps,
    bounded.e2e_speed_tps
FROM bounded
ASOF INNER JOIN active_steps AS at_end
    ON at_end.model = COALESCE(bounded.request_model, '') AND at_end.at_ns <= bounded.end_ns
