-- The most agents that any turn of live traffic met.
SELECT COALESCE(MAX(GREATEST(ROUND_EVEN(agents, 0), 1)), 0) AS agents FROM turn_loads
