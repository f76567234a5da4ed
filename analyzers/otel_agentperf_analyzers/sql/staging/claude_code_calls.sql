-- relation: claude_code_calls
-- description: LLM calls as Claude Code's own telemetry tells them, renamed: spans (`CLAUDE_CODE_ENHANCED_TELEMETRY_BETA`) and
--   log events (`OTEL_LOGS_EXPORTER`). A session is a trajectory, and so is each of its sub-agents; an interaction or a
--   prompt is a run. Its input tokens leave cached ones out, as the API's do. Calls outside interactions (titles, summaries)
--   are auxiliary. A span lasts through all attempts, an event through one; how many tools an answer asked for is not told,
--   by spans only whether it did. Events tell no time of a first token, but what the call cost.
-- grain: one row per `claude_code.llm_request` span, `claude_code.api_request` and `claude_code.api_error` event
-- requires: traces or log events of Claude Code
-- source: code.claude.com/docs/en/monitoring-usage
-- reads: spans
-- visibility: internal
-- storage: view
-- scope: trajectory
WITH told AS (
    SELECT
        *,
        name <> 'claude_code.llm_request' AS is_event,
        COALESCE("session.id", "gen_ai.conversation.id") AS session_id,
        attributes['parent_agent_id'] AS parent_agent_id,
        TRY_CAST(attributes['ttft_ms'] AS DOUBLE) / 1000 AS ttft_s,
        COALESCE(TRY_CAST(attributes['input_tokens'] AS BIGINT), "gen_ai.usage.input_tokens") AS fresh_tokens,
        TRY_CAST(attributes['cache_read_tokens'] AS BIGINT) AS cache_read_tokens,
        TRY_CAST(attributes['cache_creation_tokens'] AS BIGINT) AS cache_creation_tokens
    FROM spans
    WHERE name IN ('claude_code.llm_request', 'claude_code.api_request', 'claude_code.api_error')
)

SELECT
    trace_id,
    span_id,
    parent_span_id,
    service_name,
    service_instance_id,
    trajectory_id,
    CASE WHEN session_id IS NOT NULL THEN 'conversation' ELSE 'trace' END AS trajectory_source,
    CASE WHEN agent_id IS NOT NULL
        THEN COALESCE(session_id, trace_id) || COALESCE('/' || parent_agent_id, '')
    END AS parent_trajectory_id,
    FALSE AS is_final_call,
    CASE WHEN is_event THEN COALESCE(attributes['prompt.id'], trace_id) ELSE trace_id END AS run_id,
    0 AS segment,
    span_id AS turn_id,
    CASE
        WHEN attributes['llm_request.context'] = 'standalone' OR attributes['query_source'] IN ('auxiliary', 'compact')
            THEN 'auxiliary'
        ELSE 'turn'
    END AS kind,
    0 AS attempt_index,
    'claude-code' AS agent_name,
    session_id AS client_session_id,
    COALESCE(attributes['request_id'], "gen_ai.response.id", span_id) AS request_id,
    "gen_ai.response.id" AS response_id,
    'chat' AS operation,
    COALESCE("gen_ai.provider.name", "gen_ai.system", 'anthropic') AS provider,
    COALESCE("gen_ai.request.model", attributes['model']) AS request_model,
    TRUE AS stream,
    CASE
        WHEN name = 'claude_code.api_error' OR status_code = 'error' OR attributes['success'] = 'false' THEN 'error'
        ELSE 'ok'
    END AS status,
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
    TRY_CAST(attributes['cost_usd'] AS DOUBLE) AS told_cost,
    CASE WHEN is_event THEN 2 ELSE 1 END AS teller,
    links
FROM told
