-- relation: accelerator_shares
-- description: What calls cost by the accelerators' time: at each moment the deployment's price is shared equally by the
--   calls that are open. Time in which none is open is nobody's. Only when a price per accelerator-hour was given.
-- grain: one row per moment at which a call begins or ends
-- requires: the number of accelerators and their price per hour
-- source: ours
-- reads: calls, given_deployment
-- visibility: internal
-- storage: view
WITH priced AS (
    SELECT calls.start_ns, calls.end_ns, given.accelerators * given.price_per_hour / 3600e9 AS price_per_ns
    FROM calls
    INNER JOIN given_deployment AS given ON given.accelerators * given.price_per_hour > 0
),

changes AS (
    SELECT at_ns, SUM(change) AS change, ANY_VALUE(price_per_ns) AS price_per_ns
    FROM (
        SELECT start_ns AS at_ns, 1 AS change, price_per_ns FROM priced
        UNION ALL
        SELECT end_ns, -1, price_per_ns FROM priced
    )
    GROUP BY at_ns
),

counts AS (
    SELECT
        at_ns,
        price_per_ns,
        SUM(change) OVER (ORDER BY at_ns) AS open_calls,
        LEAD(at_ns) OVER (ORDER BY at_ns) - at_ns AS lasts_ns
    FROM changes
)

SELECT
    at_ns,
    COALESCE(
        SUM(CASE WHEN open_calls > 0 THEN lasts_ns * price_per_ns / open_calls END) OVER (
            ORDER BY at_ns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        0
    ) AS cost_so_far
FROM counts
