-- relation: claude_code_calls
-- description: LLM calls as Claude Code's own traces tell them (`CLAUDE_CODE_ENHANCED_TELEMETRY_BETA`), renamed. A session
--   is a trajectory, and so is each of its sub-agents; an interaction is a run. Its input tokens leave cached ones out,
--   as the API's do. Calls outside interactions (titles, summaries) are auxiliary. A span lasts through all attempts;
--   how many tools an answer asked for is not told, only whether it did.
-- grain: one row per `claude_code.llm_request` span
-- requires: traces of Claude Code
-- source: code.claude.com/docs/en/monitoring-usage, traces (beta)
-- reads: spans
-- visibility: internal
-- storage: view
WITH told AS (
    SELECT
        *,
        COALESCE(attributes['session.id'], "gen_ai.conversation.id") AS session_id,
        attributes['agent_id'] AS agent_id,
        attributes['parent_agent_id'] AS parent_agent_id,
        TRY_CAST(attributes['ttft_ms'] AS DOUBLE) / 1000 AS ttft_s,
        COALESCE(TRY_CAST(attributes['input_tokens'] AS BIGINT), "gen_ai.usage.input_tokens") AS fresh_tokens,
        TRY_CAST(attributes['cache_read_tokens'] AS BIGINT) AS cache_read_tokens,
        TRY_CAST(attributes['cache_creation_tokens'] AS BIGINT) AS cache_creation_tokens
    FROM spans
    WHERE name = 'claude_code.llm_request'
)

SELECT
    trace_id,
    span_id,
    parent_span_id,
    service_name,
    service_instance_id,
    COALESCE(session_id, trace_id) || COALESCE('/' || agent_id, '') AS trajectory_id,
    CASE WHEN session_id IS NOT NULL THEN 'conversation' ELSE 'trace' END AS trajectory_source,
    CASE WHEN agent_id IS NOT NULL
        THEN COALESCE(session_id, trace_id) || COALESCE('/' || parent_agent_id, '')
    END AS parent_trajectory_id,
    FALSE AS is_final_call,
    trace_id AS run_id,
    0 AS segment,
    span_id AS turn_id,
    CASE WHEN attributes['llm_request.context'] = 'standalone' THEN 'auxiliary' ELSE 'turn' END AS kind,
    0 AS attempt_index,
    'claude-code' AS agent_name,
    session_id AS client_session_id,
    COALESCE(attributes['request_id'], "gen_ai.response.id", span_id) AS request_id,
    "gen_ai.response.id" AS response_id,
    'chat' AS operation,
    COALESCE("gen_ai.provider.name", "gen_ai.system", 'anthropic') AS provider,
    COALESCE("gen_ai.request.model", attributes['model']) AS request_model,
    TRUE AS stream,
    CASE WHEN status_code = 'error' OR attributes['success'] = 'false' THEN 'error' ELSE 'ok' END AS status,
    TRY_CAST(attributes['status_code'] AS BIGINT) AS http_status,
    COALESCE("error.type", attributes['error']) AS error_type,
    CASE WHEN attributes['stop_reason'] IS NOT NULL THEN [attributes['stop_reason']] END AS finish_reasons,
    start_ns,
    end_ns,
    duration_s AS end_s,
    ttft_s AS first_output_s,
    CASE WHEN ttft_s IS NOT NULL THEN 'client' END AS ttft_source,
    fresh_tokens + COALESCE(cache_read_tokens, 0) + COALESCE(cache_creation_tokens, 0) AS input_tokens,
    cache_read_tokens AS cached_input_tokens,
    cache_creation_tokens AS cache_write_tokens,
    COALESCE(TRY_CAST(attributes['output_tokens'] AS BIGINT), "gen_ai.usage.output_tokens") AS output_tokens,
    CASE attributes['response.has_tool_call'] WHEN 'true' THEN 1 WHEN 'false' THEN 0 END AS tool_call_count,
    links
FROM told
