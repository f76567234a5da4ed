-- relation: work_scopes
-- description: The time that counts as work, for runs and for whole trajectories: a run is work from its first t0 to its
--   last te; a trajectory is work during its runs, the time between them is a human's. In a benchmark there is no human:
--   what looks like another request is recorded too, so the whole trajectory is work from its first t0 to its last te.
-- grain: one row per agent run (of_run_id = run_id), and per trajectory one for each run, or one in all in a benchmark
--   (run_id NULL; of_run_id says whose calls lie in it, NULL for all)
-- requires: call spans
-- source: ours
-- reads: run_bounds
-- visibility: internal
-- storage: view
-- scope: trajectory
SELECT trajectory_id, run_id, run_id AS of_run_id, start_ns, end_ns FROM run_bounds
UNION ALL
SELECT trajectory_id, NULL, run_id, start_ns, end_ns FROM run_bounds WHERE benchmark_id IS NULL
UNION ALL
SELECT trajectory_id, NULL, NULL, MIN(start_ns), MAX(end_ns)
FROM run_bounds
WHERE benchmark_id IS NOT NULL
GROUP BY trajectory_id
