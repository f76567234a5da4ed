-- relation: untold_tools
-- description: Trajectories with calls of processes that wrote no tool span at all, so that gaps between turns stand in.
-- grain: one row per trajectory and such a process
-- requires: call spans
-- source: ours
-- reads: call_spans, tool_tellings
-- visibility: internal
-- storage: table
WITH tellers AS (
    SELECT DISTINCT COALESCE(service_instance_id, '') AS instance_id FROM tool_tellings
)

SELECT DISTINCT trajectory_id, COALESCE(service_instance_id, '') AS instance_id
FROM call_spans
WHERE tool_call_count > 0
    AND benchmark_id IS NULL
    AND COALESCE(service_instance_id, '') NOT IN (SELECT instance_id FROM tellers)
