-- When the first call began.
SELECT MIN(start_ns) AS start_ns FROM attempts WHERE trajectory_id IS NOT NULL
