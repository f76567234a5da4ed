-- relation: task_families
-- description: Tasks: root trajectories with all their sub-agents, however deep. A sub-agent whose parent is not in the data
--   is a root of its own.
-- grain: one row per trajectory, with the root of its family
-- requires: call spans
-- source: ours
-- reads: trajectories
-- visibility: internal
-- storage: view
WITH RECURSIVE families AS (
    SELECT trajectory_id, trajectory_id AS root_id, 0 AS depth
    FROM trajectories
    WHERE parent_trajectory_id IS NULL
        OR parent_trajectory_id = trajectory_id
        OR parent_trajectory_id NOT IN (SELECT trajectory_id FROM trajectories)
    UNION ALL
    SELECT trajectories.trajectory_id, families.root_id, families.depth + 1
    FROM families
    INNER JOIN trajectories
        ON trajectories.parent_trajectory_id = families.trajectory_id
        AND trajectories.trajectory_id <> families.trajectory_id
    WHERE families.depth < 64
)

SELECT trajectory_id, root_id FROM families
