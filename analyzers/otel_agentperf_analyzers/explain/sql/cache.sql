-- What the prefix cache served and could have served, and what contexts are made of, by model and deployment.
WITH of_turns AS (
    SELECT
        request_model,
        deployment,
        COUNT(*) AS turns,
        CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
        SUM(cached_input_tokens) / NULLIF(SUM(input_tokens) FILTER (cached_input_tokens IS NOT NULL), 0) AS cache_hit,
        SUM(optimal_cache_hit * input_tokens) / NULLIF(SUM(input_tokens) FILTER (optimal_cache_hit IS NOT NULL), 0)
            AS optimal_cache_hit,
        SUM(cached_input_tokens) FILTER (optimal_cache_hit IS NOT NULL)
            / NULLIF(SUM(optimal_cache_hit * input_tokens) FILTER (cached_input_tokens IS NOT NULL), 0) AS hit_efficiency,
        MAX(input_tokens) AS max_context_tokens,
        SUM(system_bytes) / NULLIF(SUM(system_bytes + tools_bytes + messages_bytes + tool_results_bytes), 0)
            AS system_share,
        SUM(tools_bytes) / NULLIF(SUM(system_bytes + tools_bytes + messages_bytes + tool_results_bytes), 0)
            AS tools_share,
        SUM(messages_bytes) / NULLIF(SUM(system_bytes + tools_bytes + messages_bytes + tool_results_bytes), 0)
            AS history_share,
        SUM(tool_results_bytes) / NULLIF(SUM(system_bytes + tools_bytes + messages_bytes + tool_results_bytes), 0)
            AS tool_results_share
    FROM turns
    WHERE kind = 'turn' AND ($benchmark IS NULL OR benchmark_id = $benchmark) AND ($model IS NULL OR request_model = $model)
    GROUP BY request_model, deployment
),

of_trajectories AS (
    SELECT
        request_model,
        deployment,
        AVG(context_growth_tokens) AS context_growth_tokens,
        CAST(SUM(compactions) AS BIGINT) AS compactions
    FROM trajectories
    WHERE ($benchmark IS NULL OR benchmark_id = $benchmark) AND ($model IS NULL OR request_model = $model)
    GROUP BY request_model, deployment
)

SELECT
    of_turns.* EXCLUDE (request_model),
    of_turns.request_model AS model,
    of_trajectories.context_growth_tokens,
    COALESCE(of_trajectories.compactions, 0) AS compactions
FROM of_turns
LEFT JOIN of_trajectories
    ON of_trajectories.request_model IS NOT DISTINCT FROM of_turns.request_model
    AND of_trajectories.deployment IS NOT DISTINCT FROM of_turns.deployment
ORDER BY of_turns.turns DESC, model, of_turns.deployment
