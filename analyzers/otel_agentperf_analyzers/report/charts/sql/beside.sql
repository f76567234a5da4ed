-- What a trajectory did beside its exchanges: tools, sub-agents, waits for a human.
SELECT event, name, turn_index, status, offset_s AS start_s, offset_s + duration_s AS end_s, note
FROM timeline
WHERE trajectory_id = $trajectory AND event IN ('tool', 'subagent', 'human')
ORDER BY offset_s, rank
