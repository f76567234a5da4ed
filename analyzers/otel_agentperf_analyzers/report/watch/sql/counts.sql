-- How much there is.
SELECT
    COUNT(*) AS turns,
    COUNT(*) FILTER (is_failed(status)) AS failed_turns,
    COUNT(DISTINCT trajectory_id) AS agents,
    COUNT(DISTINCT trajectory_id) FILTER (end_time > $now - INTERVAL 1 MINUTE) AS agents_last_minute,
    MAX(end_time) AS last_end
FROM turns
WHERE kind = 'turn'
