-- relation: token_prices
-- description: The entries of the price table that fit a model, provider and host, in the order of the table; which of them
--   holds for an attempt is a question of its time.
-- grain: one row per model asked for, model that answered, provider and host
-- requires: a price table
-- source: otel_agentperf.pricing
-- reads: calls, given_prices
-- visibility: internal
-- storage: view
-- scope: trajectory
WITH keys AS (
    SELECT DISTINCT request_model, response_model, provider, server_address FROM calls
    WHERE EXISTS (FROM given_prices)
),

patterns AS (
    SELECT *, UNNEST(models) AS model_pattern FROM given_prices
),

of_models AS (
    SELECT DISTINCT patterns.* EXCLUDE (model_pattern), keys.*
    FROM patterns
    INNER JOIN keys
        ON LOWER(COALESCE(keys.request_model, '')) GLOB LOWER(patterns.model_pattern)
        OR LOWER(COALESCE(keys.response_model, '')) GLOB LOWER(patterns.model_pattern)
),

of_providers AS (
    SELECT *, UNNEST(providers) AS provider_pattern FROM of_models
),

of_servers AS (
    SELECT *, UNNEST(servers) AS server_pattern
    FROM of_providers
    WHERE LOWER(COALESCE(provider, '')) GLOB LOWER(provider_pattern)
)

SELECT
    request_model,
    response_model,
    provider,
    server_address,
    -- Structs sort by their first field.
    LIST_SORT(LIST(DISTINCT {
        'position': position,
        'from_ns': from_ns,
        'until_ns': until_ns,
        'input': input,
        'cached_input': cached_input,
        'cache_write': cache_write,
        'output': output
    })) AS prices
FROM of_servers
WHERE LOWER(COALESCE(server_address, '')) GLOB LOWER(server_pattern)
GROUP BY request_model, response_model, provider, server_address
