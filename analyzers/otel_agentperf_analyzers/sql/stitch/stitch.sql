-- relation: stitch
-- description: Where spans belong whose agent several processes told of: proxies behind a load balancer, or one proxy
--   before and after a restart. Trajectory, run, segment and turn are what one proxy would have told that had seen
--   all calls; the other relations hold these. What one process alone told of an agent stands, and is not here.
-- grain: one row per span of such agents
-- requires: agentperf.link.keys, written by proxies with one salt (`--salt-file`)
-- source: ours
-- reads: raw_spans, stitch_placed
-- visibility: public
-- storage: table
-- filters: trajectory=trajectory_id
-- order: trajectory_id, turn_index, attempt_index, span_id
-- columns:
--   trace_id VARCHAR: Trace of the span.
--   span_id VARCHAR: The span.
--   trajectory_id VARCHAR: The trajectory that it belongs to.
--   told_trajectory_id VARCHAR: The one that the span itself tells, found by the process that wrote it.
--   trajectory_source VARCHAR: The rule that placed the call, as in turns; NULL for spans that are no calls.
--   trajectory_confidence DOUBLE: Confidence in the placement, 0 to 1; 1 for an explicit identity.
--   parent_trajectory_id VARCHAR: The trajectory that started this one (a sub-agent's).
--   agent_depth BIGINT: 0 for a root agent, 1 for its sub-agents, and so on.
--   run_id VARCHAR: The agent run; of the root span that a proxy wrote only where that proxy saw
--     the run's last turn.
--   run_index BIGINT: From 0 within the trajectory.
--   segment BIGINT: From 0; one more after each compaction of the context.
--   turn_id VARCHAR: The turn; the same on all its attempts.
--   turn_index BIGINT: From 0 within the trajectory; NULL for auxiliary calls.
--   attempt_index BIGINT: From 0 within the turn.
--   shared_prefix_bytes BIGINT [bytes]: Leading message bytes that the turn before already sent.
WITH local_runs AS (
    SELECT
        instance_id,
        told_trajectory_id,
        told_run_id,
        ARG_MAX(trajectory_id, start_ns) AS trajectory_id,
        ARG_MAX(run_id, start_ns) AS run_id,
        ARG_MAX(run_index, start_ns) AS run_index,
        MAX(CASE WHEN turn_index IS NOT NULL THEN start_ns END) AS last_turn_ns
    FROM stitch_placed
    GROUP BY instance_id, told_trajectory_id, told_run_id
),

runs_here AS (
    SELECT trajectory_id, run_id, MAX(start_ns) AS last_turn_ns
    FROM stitch_placed
    WHERE turn_index IS NOT NULL
    GROUP BY trajectory_id, run_id
),

names AS (
    SELECT told_trajectory_id, ARG_MIN(trajectory_id, start_ns) AS trajectory_id
    FROM stitch_placed
    GROUP BY told_trajectory_id
),

of_runs AS (
    SELECT
        raw_spans.trace_id,
        raw_spans.span_id,
        local_runs.trajectory_id,
        local_runs.told_trajectory_id,
        CASE WHEN local_runs.last_turn_ns = runs_here.last_turn_ns THEN local_runs.run_id END AS run_id,
        local_runs.run_index
    FROM raw_spans
    INNER JOIN local_runs
        ON local_runs.told_trajectory_id = raw_spans."agentperf.trajectory.id"
        AND local_runs.told_run_id = raw_spans."agentperf.run.id"
        AND local_runs.instance_id = COALESCE(raw_spans.service_instance_id, '')
    LEFT JOIN runs_here
        ON runs_here.trajectory_id = local_runs.trajectory_id AND runs_here.run_id = local_runs.run_id
    WHERE raw_spans."gen_ai.operation.name" IN ('invoke_agent', 'execute_tool')
),

of_outcomes AS (
    SELECT raw_spans.trace_id, raw_spans.span_id, names.trajectory_id, names.told_trajectory_id
    FROM raw_spans
    INNER JOIN names ON names.told_trajectory_id = raw_spans."agentperf.trajectory.id"
    WHERE raw_spans."agentperf.outcome" IS NOT NULL AND raw_spans."agentperf.run.id" IS NULL
)

SELECT
    trace_id,
    span_id,
    trajectory_id,
    told_trajectory_id,
    trajectory_source,
    trajectory_confidence,
    parent_trajectory_id,
    agent_depth,
    run_id,
    run_index,
    segment,
    turn_id,
    turn_index,
    attempt_index,
    shared_prefix_bytes
FROM stitch_placed
UNION ALL BY NAME
SELECT trace_id, span_id, trajectory_id, told_trajectory_id, run_id, run_index FROM of_runs
UNION ALL BY NAME
SELECT trace_id, span_id, trajectory_id, told_trajectory_id FROM of_outcomes
