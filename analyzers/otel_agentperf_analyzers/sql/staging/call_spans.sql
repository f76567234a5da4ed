-- relation: call_spans
-- description: LLM calls as spans tell them, renamed, with what older or other instrumentations write standing in:
--   `gen_ai.usage.prompt_tokens` and `completion_tokens`, `gen_ai.system`; the conversation, else the trace, where no
--   trajectory is named; the span itself where no turn is; the first chunk where the first output is not told. A call
--   ends `agentperf.time.end` after its start (monotonic), else where its span ends. Server spans (an inference server's
--   own) are no calls. Claude Code's own telemetry has names of its own. Where several proxies told of an agent, a call's
--   place is the one that `stitch` found.
-- grain: one row per call span
-- requires: call spans
-- source: GenAI semantic conventions v0.1.0 and before; otel_agentperf.semconv
-- reads: spans, stitch, claude_code_calls
-- visibility: internal
-- storage: view
-- scope: trajectory
SELECT
    spans.trace_id,
    spans.span_id,
    parent_span_id,
    service_name,
    service_instance_id,
    spans.trajectory_id,
    COALESCE(
        stitch.trajectory_source,
        "agentperf.trajectory.source",
        CASE WHEN "gen_ai.conversation.id" IS NOT NULL THEN 'conversation' ELSE 'trace' END
    ) AS trajectory_source,
    COALESCE(stitch.trajectory_confidence, "agentperf.trajectory.confidence") AS trajectory_confidence,
    CASE WHEN stitch.span_id IS NOT NULL THEN stitch.parent_trajectory_id ELSE "agentperf.trajectory.parent_id" END
        AS parent_trajectory_id,
    COALESCE("agentperf.trajectory.final", FALSE) AS is_final_call,
    COALESCE(stitch.run_id, "agentperf.run.id", spans.trace_id) AS run_id,
    COALESCE(stitch.run_index, "agentperf.run.index") AS run_index,
    COALESCE(stitch.segment, "agentperf.segment.index", 0) AS segment,
    COALESCE(stitch.turn_id, "agentperf.turn.id", spans.span_id) AS turn_id,
    COALESCE(stitch.turn_index, "agentperf.turn.index") AS turn_index,
    COALESCE("agentperf.turn.kind", CASE "gen_ai.operation.name" WHEN 'embeddings' THEN 'auxiliary' ELSE 'turn' END)
        AS kind,
    COALESCE(stitch.attempt_index, "agentperf.attempt.index", 0) AS attempt_index,
    "gen_ai.agent.name" AS agent_name,
    COALESCE(stitch.agent_depth, "agentperf.agent.depth") AS agent_depth,
    "gen_ai.conversation.id" AS client_session_id,
    "agentperf.task.id" AS task_id,
    "agentperf.task.domain" AS task_domain,
    "agentperf.benchmark.id" AS benchmark_id,
    "agentperf.level" AS level,
    "agentperf.phase" AS phase,
    "agentperf.agent.index" AS agent_index,
    "agentperf.tenant" AS tenant,
    COALESCE("agentperf.request.id", "gen_ai.response.id", spans.span_id) AS request_id,
    "gen_ai.response.id" AS response_id,
    "agentperf.dialect" AS dialect,
    COALESCE("gen_ai.operation.name", 'chat') AS operation,
    COALESCE("gen_ai.provider.name", "gen_ai.system") AS provider,
    "gen_ai.request.model" AS request_model,
    "gen_ai.response.model" AS response_model,
    "gen_ai.request.reasoning.level" AS reasoning_level,
    "gen_ai.request.max_tokens" AS max_tokens,
    COALESCE(
        "gen_ai.request.stream",
        -- Ours say it of every stream; others need not.
        CASE
            WHEN "agentperf.dialect" IS NOT NULL THEN FALSE
            WHEN "gen_ai.response.time_to_first_chunk" IS NOT NULL THEN TRUE
        END
    ) AS stream,
    COALESCE(
        "agentperf.status",
        CASE WHEN status_code = 'error' OR "error.type" IS NOT NULL THEN 'error' ELSE 'ok' END
    ) AS status,
    "http.response.status_code" AS http_status,
    "error.type" AS error_type,
    "gen_ai.response.finish_reasons" AS finish_reasons,
    "server.address" AS server_address,
    "server.port" AS server_port,
    "user_agent.original" AS user_agent,
    start_ns,
    start_ns + COALESCE(CAST(ROUND("agentperf.time.end" * 1e9) AS BIGINT), end_ns - start_ns) AS end_ns,
    "agentperf.time.sent" AS sent_s,
    COALESCE("agentperf.time.first_chunk", "gen_ai.response.time_to_first_chunk") AS first_chunk_s,
    COALESCE(
        "agentperf.time.first_output",
        CASE WHEN "agentperf.dialect" IS NULL THEN "gen_ai.response.time_to_first_chunk" END
    ) AS first_output_s,
    CASE
        WHEN "agentperf.time.first_output" IS NOT NULL THEN 'first_output'
        WHEN "agentperf.dialect" IS NULL AND "gen_ai.response.time_to_first_chunk" IS NOT NULL THEN 'first_chunk'
    END AS ttft_source,
    "agentperf.time.first_answer" AS first_answer_s,
    "agentperf.time.last_output" AS last_output_s,
    COALESCE("agentperf.time.end", duration_s) AS end_s,
    "agentperf.upload_s" AS upload_s,
    "agentperf.proxy.overhead_s" AS proxy_overhead_s,
    COALESCE("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens") AS input_tokens,
    COALESCE("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens") AS cached_input_tokens,
    COALESCE(
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens"
    ) AS cache_write_tokens,
    COALESCE("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens") AS output_tokens,
    "gen_ai.usage.reasoning.output_tokens" AS reasoning_tokens,
    "agentperf.usage.source" AS usage_source,
    "agentperf.usage.cost" AS told_cost,
    "agentperf.server.queue_s" AS told_queue_s,
    "agentperf.server.load_s" AS told_load_s,
    "agentperf.server.prefill_s" AS told_prefill_s,
    "agentperf.server.decode_s" AS told_decode_s,
    "agentperf.response.retry_after_s" AS retry_after_s,
    -- The least that is left of any of the limits; a limit of 0 leaves nothing.
    LEAST(
        "agentperf.rate_limit.requests.remaining" / NULLIF("agentperf.rate_limit.requests.limit", 0),
        "agentperf.rate_limit.tokens.remaining" / NULLIF("agentperf.rate_limit.tokens.limit", 0),
        "agentperf.rate_limit.input_tokens.remaining" / NULLIF("agentperf.rate_limit.input_tokens.limit", 0),
        "agentperf.rate_limit.output_tokens.remaining" / NULLIF("agentperf.rate_limit.output_tokens.limit", 0)
    ) AS rate_limit_left,
    "agentperf.tool.call_count" AS tool_call_count,
    "agentperf.chunk.count" AS chunk_count,
    "agentperf.chunk.gap_p50_s" AS chunk_gap_p50_s,
    "agentperf.chunk.gap_p95_s" AS chunk_gap_p95_s,
    "agentperf.chunk.gap_p99_s" AS chunk_gap_p99_s,
    "agentperf.chunk.gap_max_s" AS chunk_gap_max_s,
    "agentperf.chunk.stall_count" AS stall_count,
    "agentperf.request.bytes" AS request_bytes,
    "agentperf.response.bytes" AS response_bytes,
    COALESCE(stitch.shared_prefix_bytes, "agentperf.prefix.shared_bytes") AS shared_prefix_bytes,
    "agentperf.context.system_bytes" AS system_bytes,
    "agentperf.context.tools_bytes" AS tools_bytes,
    "agentperf.context.messages_bytes" AS messages_bytes,
    "agentperf.context.tool_results_bytes" AS tool_results_bytes,
    "agentperf.message.count" AS message_count,
    "agentperf.observation.dropped" AS dropped_parts,
    "agentperf.observation.unread_bytes" AS unread_bytes,
    CASE WHEN "agentperf.dialect" IS NOT NULL THEN 0 ELSE 1 END AS teller,
    links
FROM spans
LEFT JOIN stitch ON stitch.trace_id = spans.trace_id AND stitch.span_id = spans.span_id
WHERE kind IS DISTINCT FROM 'server'
    AND NOT STARTS_WITH(name, 'claude_code.')
    AND COALESCE(
        "gen_ai.latency.e2e", "gen_ai.latency.time_to_first_token", "gen_ai.latency.time_in_queue"
    ) IS NULL
    AND (
        "gen_ai.operation.name" IN ('chat', 'text_completion', 'generate_content', 'embeddings')
        OR "agentperf.dialect" IS NOT NULL
        OR ("gen_ai.operation.name" IS NULL AND "gen_ai.request.model" IS NOT NULL)
    )
UNION ALL BY NAME
FROM claude_code_calls
