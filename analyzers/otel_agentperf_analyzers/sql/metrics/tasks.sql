-- relation: tasks
-- description: What work got done, how long it took and what it cost, by whatever one compares: all, agent, model, tool
--   stack, deployment, task domain, benchmark level. A task is a root trajectory with its sub-agents: tokens and cost are
--   the family's, times and outcome the root's. A completed task is one whose outcome is told as success; without outcomes
--   the figures of completed tasks are NULL, and those of ended trajectories stand beside them.
-- grain: one row per dimension and value of it, benchmark and level (NULL for live traffic)
-- requires: call spans
-- source: ours
-- reads: trajectories, task_families, work_scopes
-- visibility: public
-- storage: view
-- filters: benchmark=benchmark_id
-- order: benchmark_id, level, dimension, tasks, dimension_value
-- columns:
--   dimension VARCHAR: What the tasks are grouped by: all, agent, model, tool_stack, deployment or task_domain.
--   dimension_value VARCHAR: The agent, the model, ...; NULL where it is not known, and for all.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level; NULL for live traffic.
--   tasks BIGINT: Root trajectories with at least one turn.
--   ended BIGINT: Those whose last turn is an answer, or that the launcher marked as complete.
--   succeeded BIGINT: Outcome success.
--   failed BIGINT: Outcome failure.
--   unknown BIGINT: No outcome told.
--   success_rate DOUBLE: Succeeded / (succeeded + failed); NULL when none was told.
--   job_latency_mean_s DOUBLE [s]: Mean job latency of the ended ones.
--   job_latency_p50_s DOUBLE [s]: Median job latency of the ended ones.
--   job_latency_p95_s DOUBLE [s]: 95th percentile of job latency of the ended ones.
--   busy_s DOUBLE [s]: Time in which any of them was at work.
--   tasks_per_hour DOUBLE [1/h]: Succeeded per hour of busy_s; NULL without outcomes.
--   ended_per_hour DOUBLE [1/h]: Ended per hour of busy_s.
--   turns_mean DOUBLE: Turns per task, sub-agents included.
--   tool_errors BIGINT: Tool results marked as errors.
--   recoveries BIGINT: Tool errors after which the next call of the same tool succeeded.
--   loops BIGINT: Stretches of repeated tool calls.
--   retries BIGINT: Attempts beyond the first.
--   tokens BIGINT [tokens]: Input and output of all calls, auxiliary ones included.
--   wasted_tokens BIGINT [tokens]: Tokens of attempts that bought nothing; NULL when none reported any.
--   tokens_per_completed_task DOUBLE [tokens]: Tokens of all tasks with an outcome / succeeded.
--   cost DOUBLE [currency]: Price of all calls; NULL when none has a price.
--   wasted_cost DOUBLE [currency]: What the wasted tokens cost; NULL when no cost is known.
--   unpriced_calls BIGINT: Calls without a price, which are left out of the cost.
--   cost_per_task DOUBLE [currency]: Cost / tasks.
--   cost_per_completed_task DOUBLE [currency]: Cost of all tasks with an outcome / succeeded.
-- metric: success_rate
--   column: success_rate
--   definition: Share of the tasks whose outcome is success, of those whose outcome is known. Unknown outcomes are counted,
--     never guessed.
--   formula: succeeded / (succeeded + failed)
--   unit: share
--   grain: all, agent, model, tool stack, deployment, task domain
--   requires: outcomes
--   source: ours
-- metric: tasks_per_hour
--   column: tasks_per_hour
--   definition: Tasks brought to success per hour in which any task of the group was at work; hours in which none was do not
--     count.
--   formula: 3600 x succeeded / |union of the runs of the group's tasks|
--   unit: 1/h
--   grain: all, agent, model, tool stack, deployment, task domain
--   requires: outcomes
--   source: ours
-- metric: ended_per_hour
--   column: ended_per_hour
--   definition: Tasks that came to an end, good or bad, per hour in which any task of the group was at work.
--   formula: 3600 x ended / |union of the runs of the group's tasks|
--   unit: 1/h
--   grain: all, agent, model, tool stack, deployment, task domain
--   requires: call spans
--   source: ours
-- metric: tokens_per_completed_task
--   column: tokens_per_completed_task
--   definition: Tokens that a success takes, those of failed tasks included. Tasks with unknown outcome are left out.
--   formula: sum (I + O) over tasks with an outcome / succeeded
--   unit: tokens
--   grain: all, agent, model, tool stack, deployment, task domain
--   requires: outcomes, token counts
--   source: ours
-- metric: cost_per_completed_task
--   column: cost_per_completed_task
--   definition: What a success costs, the cost of failed tasks included. Tasks with unknown outcome are left out.
--   formula: sum of cost over tasks with an outcome / succeeded
--   unit: currency
--   grain: all, agent, model, tool stack, deployment, task domain
--   requires: outcomes, prices
--   source: ours
-- metric: cost_per_task
--   column: cost_per_task
--   definition: Mean price of a task, whatever came of it.
--   formula: sum of cost / tasks
--   unit: currency
--   grain: all, agent, model, tool stack, deployment, task domain
--   requires: prices
--   source: ours
WITH of_families AS (
    SELECT
        task_families.root_id,
        SUM(members.turns) AS turns,
        SUM(members.tool_errors) AS tool_errors,
        SUM(members.recoveries) AS recoveries,
        SUM(members.loops) AS loops,
        SUM(members.retries) AS retries,
        SUM(
            COALESCE(members.input_tokens, 0) + COALESCE(members.output_tokens, 0) + COALESCE(members.auxiliary_tokens, 0)
        ) AS tokens,
        SUM(members.wasted_tokens) AS wasted_tokens,
        SUM(members.cost) AS cost,
        SUM(members.wasted_cost) AS wasted_cost,
        SUM(members.unpriced_turns) AS unpriced_calls
    FROM task_families
    INNER JOIN trajectories AS members USING (trajectory_id)
    GROUP BY task_families.root_id
),

roots AS (
    SELECT
        root.trajectory_id AS root_id,
        root.benchmark_id,
        root.level,
        root.outcome,
        root.is_completed,
        root.job_latency_s,
        of_families.* EXCLUDE (root_id),
        UNNEST([
            {'dimension': 'all', 'dimension_value': CAST(NULL AS VARCHAR)},
            {'dimension': 'agent', 'dimension_value': root.agent_name},
            {'dimension': 'model', 'dimension_value': root.request_model},
            {'dimension': 'tool_stack', 'dimension_value': root.tool_stack},
            {'dimension': 'deployment', 'dimension_value': root.deployment},
            {'dimension': 'task_domain', 'dimension_value': root.task_domain}
        ], recursive := TRUE)
    FROM trajectories AS root
    INNER JOIN of_families ON of_families.root_id = root.trajectory_id
    WHERE root.turns > 0
),

laid AS (
    SELECT
        roots.dimension,
        roots.dimension_value,
        roots.benchmark_id,
        roots.level,
        scopes.start_ns,
        scopes.end_ns,
        MAX(scopes.end_ns) OVER (
            PARTITION BY roots.dimension, roots.dimension_value, roots.benchmark_id, roots.level
            ORDER BY scopes.start_ns, scopes.end_ns
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS reached_ns
    FROM roots
    INNER JOIN work_scopes AS scopes ON scopes.trajectory_id = roots.root_id AND scopes.run_id IS NULL
),

busy AS (
    SELECT
        dimension,
        dimension_value,
        benchmark_id,
        level,
        seconds(SUM(newly_covered(start_ns, end_ns, reached_ns))) AS busy_s
    FROM laid
    GROUP BY ALL
),

summed AS (
    SELECT
        dimension,
        dimension_value,
        benchmark_id,
        level,
        COUNT(*) AS tasks,
        COUNT(*) FILTER (is_completed) AS ended,
        COUNT(*) FILTER (outcome = 'success') AS succeeded,
        COUNT(*) FILTER (outcome = 'failure') AS failed,
        COUNT(*) FILTER (outcome NOT IN ('success', 'failure')) AS unknown,
        AVG(job_latency_s) FILTER (is_completed) AS job_latency_mean_s,
        QUANTILE_CONT(job_latency_s, 0.5) FILTER (is_completed) AS job_latency_p50_s,
        QUANTILE_CONT(job_latency_s, 0.95) FILTER (is_completed) AS job_latency_p95_s,
        SUM(turns) / COUNT(*) AS turns_mean,
        CAST(SUM(tool_errors) AS BIGINT) AS tool_errors,
        CAST(SUM(recoveries) AS BIGINT) AS recoveries,
        CAST(SUM(loops) AS BIGINT) AS loops,
        CAST(SUM(retries) AS BIGINT) AS retries,
        CAST(SUM(tokens) AS BIGINT) AS tokens,
        CAST(SUM(wasted_tokens) AS BIGINT) AS wasted_tokens,
        CAST(SUM(tokens) FILTER (outcome IN ('success', 'failure')) AS DOUBLE) AS tokens_with_outcome,
        SUM(cost) AS cost,
        SUM(wasted_cost) AS wasted_cost,
        CAST(SUM(unpriced_calls) AS BIGINT) AS unpriced_calls,
        SUM(cost) FILTER (outcome IN ('success', 'failure')) AS cost_with_outcome
    FROM roots
    GROUP BY dimension, dimension_value, benchmark_id, level
)

SELECT
    summed.dimension,
    summed.dimension_value,
    summed.benchmark_id,
    summed.level,
    summed.tasks,
    summed.ended,
    summed.succeeded,
    summed.failed,
    summed.unknown,
    summed.succeeded / NULLIF(summed.succeeded + summed.failed, 0) AS success_rate,
    summed.job_latency_mean_s,
    summed.job_latency_p50_s,
    summed.job_latency_p95_s,
    busy.busy_s,
    CASE WHEN summed.succeeded + summed.failed > 0 THEN 3600 * summed.succeeded / NULLIF(busy.busy_s, 0) END
        AS tasks_per_hour,
    3600 * summed.ended / NULLIF(busy.busy_s, 0) AS ended_per_hour,
    summed.turns_mean,
    summed.tool_errors,
    summed.recoveries,
    summed.loops,
    summed.retries,
    summed.tokens,
    summed.wasted_tokens,
    summed.tokens_with_outcome / NULLIF(summed.succeeded, 0) AS tokens_per_completed_task,
    summed.cost,
    summed.wasted_cost,
    summed.unpriced_calls,
    summed.cost / summed.tasks AS cost_per_task,
    summed.cost_with_outcome / NULLIF(summed.succeeded, 0) AS cost_per_completed_task
FROM summed
INNER JOIN busy
    ON busy.dimension = summed.dimension
    AND busy.dimension_value IS NOT DISTINCT FROM summed.dimension_value
    AND busy.benchmark_id IS NOT DISTINCT FROM summed.benchmark_id
    AND busy.level IS NOT DISTINCT FROM summed.level
