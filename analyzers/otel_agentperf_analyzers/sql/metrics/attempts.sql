-- relation: attempts
-- description: HTTP exchanges with an inference endpoint. A turn that was retried has several. Times count from t0, the
--   request head received by the proxy; partial facts of failed attempts are kept.
-- grain: one row per HTTP exchange
-- requires: call spans
-- source: GenAI semantic conventions v0.1.0; otel_agentperf.semconv
-- reads: calls, token_prices, accelerator_shares, server_times
-- visibility: public
-- storage: table
-- scope: trajectory
-- filters: model=request_model benchmark=benchmark_id trajectory=trajectory_id
-- order: start_time
-- columns:
--   turn_id VARCHAR: The turn; the same on all its attempts.
--   attempt_index BIGINT: From 0 within the turn.
--   is_last BOOLEAN: The turn's last attempt, whose answer counts.
--   is_only BOOLEAN: The turn has no other attempt.
--   request_id VARCHAR: The client's x-request-id where it sent one, else the provider's id, else ours.
--   response_id VARCHAR: The provider's id of the response.
--   trace_id VARCHAR: Trace of the call span.
--   span_id VARCHAR: The call span.
--   parent_span_id VARCHAR: Its parent.
--   trajectory_id VARCHAR: One agent's work on one task.
--   trajectory_source VARCHAR: The rule that placed the call: launcher, header, body, tool_call_id, prefix,
--     prefix_recorded, new; conversation or trace for spans of other instrumentations.
--   trajectory_confidence DOUBLE: Confidence in the placement, 0 to 1; 1 for an explicit identity.
--   parent_trajectory_id VARCHAR: The trajectory that started this one (a sub-agent's).
--   run_id VARCHAR: The agent run: one user request to its final answer.
--   run_index BIGINT: From 0 within the trajectory.
--   segment BIGINT: From 0; one more after each compaction of the context.
--   turn_index BIGINT: From 0 within the trajectory; NULL for auxiliary calls.
--   kind VARCHAR: turn, or auxiliary (title, summary, router, token count).
--   agent_name VARCHAR: The agent, when known.
--   agent_depth BIGINT: 0 for a root agent, 1 for its sub-agents, and so on.
--   client_session_id VARCHAR: The session id that the client itself sent.
--   task_id VARCHAR: The recorded task of a replay, or what the launcher named.
--   task_domain VARCHAR: Family of the task, when told.
--   is_final_call BOOLEAN: The launcher marked the call as the last of its trajectory.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level.
--   phase VARCHAR: warmup, steady or drain.
--   agent_index BIGINT: From 0; which agent of the level.
--   dialect VARCHAR: Wire format: openai.chat, anthropic.messages, ...
--   operation VARCHAR: GenAI operation: chat, text_completion, ...
--   provider VARCHAR: openai, anthropic, ...
--   server_address VARCHAR: The upstream's host.
--   server_port BIGINT: The upstream's port.
--   request_model VARCHAR: The model asked for.
--   response_model VARCHAR: The model that answered.
--   reasoning_level VARCHAR: Reasoning effort asked for.
--   max_tokens BIGINT [tokens]: Output limit asked for.
--   stream BOOLEAN: The client asked for a stream; NULL where other instrumentations do not say.
--   status VARCHAR: ok, error, cancelled (the client left), truncated (the stream broke off), or partial (not fully
--     observed).
--   http_status BIGINT: Status that the client got; NULL when it got none.
--   error_type VARCHAR: What went wrong.
--   finish_reason VARCHAR: As the server wrote it; of the first choice.
--   start_time TIMESTAMP WITH TIME ZONE: t0, request head received.
--   end_time TIMESTAMP WITH TIME ZONE: te, stream closed.
--   start_ns BIGINT [ns]: t0, nanoseconds since 1970.
--   end_ns BIGINT [ns]: te, nanoseconds since 1970.
--   upload_s DOUBLE [s]: Waited for the client to send its request body.
--   sent_s DOUBLE [s]: t0 to the last byte of the request handed to the upstream.
--   time_to_first_chunk_s DOUBLE [s]: t0 to the first response body chunk.
--   ttft_s DOUBLE [s]: t0 to the first output chunk; streams only.
--   server_ttft_s DOUBLE [s]: The request sent to the first output chunk; streams only.
--   ttfot_s DOUBLE [s]: t0 to the first output chunk that is not reasoning; streams only.
--   ttft_source VARCHAR: What ttft_s ends at: first_output, or of other instrumentations first_chunk (it may hold only a
--     role) or client (as the client says it).
--   queue_s DOUBLE [s]: In the inference server's queue, as its own span says, else its response, which may also tell of
--     loading the model.
--   server_prefill_s DOUBLE [s]: In its prefill.
--   server_decode_s DOUBLE [s]: In its decode.
--   network_s DOUBLE [s]: server_ttft_s less the server's own time to first token.
--   generation_s DOUBLE [s]: First to last output chunk; streams only.
--   e2e_latency_s DOUBLE [s]: t0 to te.
--   output_speed_tps DOUBLE [tok/s]: (output tokens - 1) / generation_s.
--   e2e_speed_tps DOUBLE [tok/s]: Output tokens / e2e_latency_s.
--   tpot_s DOUBLE [s]: generation_s / (output tokens - 1).
--   prefill_rate_tps DOUBLE [tok/s]: Input tokens not cached / ttft_s.
--   input_tokens BIGINT [tokens]: Input, cached tokens included.
--   cached_input_tokens BIGINT [tokens]: Input read from the cache; NULL when the server did not say.
--   cache_write_tokens BIGINT [tokens]: Input written to the cache; NULL when the server did not say.
--   output_tokens BIGINT [tokens]: Output, reasoning included.
--   reasoning_tokens BIGINT [tokens]: The part of the output that is reasoning; NULL when the server did not say.
--   usage_source VARCHAR: Who counted the tokens: server, estimated or none.
--   cost DOUBLE [currency]: Price of the tokens, else what the server or client says that it cost (US dollars), else the
--     share of the accelerators' price; NULL when none is known.
--   cost_basis VARCHAR: tokens, told or accelerators: what the cost is made from.
--   tool_call_count BIGINT: Tool calls in the response.
--   chunk_count BIGINT: Output chunks of the stream.
--   chunk_gap_p50_s DOUBLE [s]: Median of the gaps between output chunks.
--   chunk_gap_p95_s DOUBLE [s]: 95th percentile of these gaps.
--   chunk_gap_p99_s DOUBLE [s]: 99th percentile of these gaps.
--   chunk_gap_max_s DOUBLE [s]: The longest of these gaps.
--   stalls BIGINT: Gaps of more than one second.
--   proxy_overhead_s DOUBLE [s]: What the proxy added, waits for the client left out.
--   request_bytes BIGINT [bytes]: Request body.
--   response_bytes BIGINT [bytes]: Response body.
--   shared_prefix_bytes BIGINT [bytes]: Leading message bytes that an earlier turn of the trajectory already sent.
--   system_bytes BIGINT [bytes]: System prompt in the request.
--   tools_bytes BIGINT [bytes]: Tool definitions in the request.
--   messages_bytes BIGINT [bytes]: Messages in the request, tool results left out.
--   tool_results_bytes BIGINT [bytes]: Tool results in the request.
--   message_count BIGINT: Messages in the request.
--   retry_after_s DOUBLE [s]: How long the response asks to wait; NULL when it does not.
--   rate_limit_left DOUBLE: Share that is left of the rate limit that is nearest, as the response's head tells.
--   user_agent VARCHAR: The client's User-Agent.
--   tenant VARCHAR: Keyed hash of the credential.
--   service_name VARCHAR: Service that wrote the span.
--   service_instance_id VARCHAR: Process that wrote the span.
--   dropped_parts BIGINT: Parts of the call that the observer missed; NULL when none.
--   unread_bytes BIGINT [bytes]: Body bytes past the observation limit; NULL when none.
-- metric: attempt_cost
--   column: cost
--   definition: Price of one HTTP exchange, failed ones included as far as their tokens are known. Input that the server
--     does not report as cached counts as fresh, as it is billed. Token counts that are estimates have no price. Where no
--     price fits, it is what the server or the client says that the call cost; else, with the accelerators' price per
--     hour given, that is shared by the calls that are open, moment by moment.
--   formula: (I - C - W) x input + C x cached_input + W x cache_write + O x output; else what is told; else the integral of
--     G x price / calls open over [t0, te]
--   unit: currency
--   grain: attempt
--   requires: a price table and token counts, or a cost that is told, or the number of accelerators and their price
--   source: ours
-- metric: rate_limit_left
--   column: rate_limit_left
--   definition: How much is left of the rate limit that the call came nearest to, of requests or of tokens.
--   formula: min over limits of remaining / limit
--   unit: share
--   grain: attempt
--   requires: a response whose head tells of rate limits
--   source: ours
WITH repeated AS (
    SELECT trajectory_id, turn_id FROM calls GROUP BY trajectory_id, turn_id HAVING COUNT(*) > 1
),

-- Of the few turns with several attempts only: a state for each turn would not fit where there are very many.
last_attempts AS (
    SELECT calls.trajectory_id, calls.turn_id, ARG_MAX(calls.span_id, (calls.attempt_index, calls.start_ns, calls.span_id)) AS last_span_id
    FROM calls
    INNER JOIN repeated ON repeated.trajectory_id = calls.trajectory_id AND repeated.turn_id = calls.turn_id
    GROUP BY calls.trajectory_id, calls.turn_id
),

priced AS (
    SELECT
        calls.*,
        last_attempts.last_span_id,
        COALESCE(
            calls.usage_source,
            CASE WHEN calls.output_tokens IS NULL AND calls.input_tokens IS NULL THEN 'none' ELSE 'server' END
        ) AS counted_by,
        LIST_FILTER(
            token_prices.prices,
            LAMBDA each: COALESCE(calls.start_ns >= each.from_ns, TRUE) AND COALESCE(calls.start_ns < each.until_ns, TRUE)
        )[1] AS price,
        share_at_end.cost_so_far - share_at_start.cost_so_far AS accelerator_cost,
        COALESCE(server_times.queue_s, calls.told_queue_s + COALESCE(calls.told_load_s, 0), calls.told_load_s) AS queue_s,
        COALESCE(server_times.prefill_s, calls.told_prefill_s) AS server_prefill_s,
        COALESCE(server_times.decode_s, calls.told_decode_s) AS server_decode_s,
        COALESCE(
            server_times.first_token_s,
            calls.told_prefill_s + COALESCE(calls.told_queue_s, 0) + COALESCE(calls.told_load_s, 0)
        ) AS server_first_token_s
    FROM calls
    LEFT JOIN last_attempts ON last_attempts.trajectory_id = calls.trajectory_id AND last_attempts.turn_id = calls.turn_id
    LEFT JOIN server_times ON server_times.trace_id = calls.trace_id AND server_times.span_id = calls.span_id
    LEFT JOIN token_prices
        ON token_prices.request_model IS NOT DISTINCT FROM calls.request_model
        AND token_prices.response_model IS NOT DISTINCT FROM calls.response_model
        AND token_prices.provider IS NOT DISTINCT FROM calls.provider
        AND token_prices.server_address IS NOT DISTINCT FROM calls.server_address
    LEFT JOIN accelerator_shares AS share_at_start ON share_at_start.at_ns = calls.start_ns
    LEFT JOIN accelerator_shares AS share_at_end ON share_at_end.at_ns = calls.end_ns
),

costed AS (
    SELECT
        *,
        CASE WHEN counted_by <> 'estimated' AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)
            THEN (COALESCE(input_tokens, 0) - COALESCE(cached_input_tokens, 0) - COALESCE(cache_write_tokens, 0)) * price.input
                + COALESCE(cached_input_tokens, 0) * price.cached_input
                + COALESCE(cache_write_tokens, 0) * price.cache_write
                + COALESCE(output_tokens, 0) * price.output
        END AS token_cost
    FROM priced
)

SELECT
    turn_id,
    attempt_index,
    last_span_id IS NULL OR span_id = last_span_id AS is_last,
    last_span_id IS NULL AS is_only,
    request_id,
    response_id,
    trace_id,
    span_id,
    parent_span_id,
    trajectory_id,
    trajectory_source,
    trajectory_confidence,
    parent_trajectory_id,
    run_id,
    run_index,
    segment,
    turn_index,
    kind,
    agent_name,
    agent_depth,
    client_session_id,
    task_id,
    task_domain,
    is_final_call,
    benchmark_id,
    level,
    phase,
    agent_index,
    dialect,
    operation,
    provider,
    server_address,
    server_port,
    request_model,
    response_model,
    reasoning_level,
    max_tokens,
    stream,
    status,
    http_status,
    error_type,
    finish_reasons[1] AS finish_reason,
    instant(start_ns) AS start_time,
    instant(end_ns) AS end_time,
    start_ns,
    end_ns,
    upload_s,
    sent_s,
    first_chunk_s AS time_to_first_chunk_s,
    first_output_s AS ttft_s,
    first_output_s - sent_s AS server_ttft_s,
    first_answer_s AS ttfot_s,
    ttft_source,
    queue_s,
    server_prefill_s,
    server_decode_s,
    first_output_s - sent_s - server_first_token_s AS network_s,
    last_output_s - first_output_s AS generation_s,
    end_s AS e2e_latency_s,
    CASE
        WHEN output_tokens >= 2 AND last_output_s > first_output_s
            THEN (output_tokens - 1) / (last_output_s - first_output_s)
    END AS output_speed_tps,
    CASE WHEN end_s > 0 THEN output_tokens / end_s END AS e2e_speed_tps,
    CASE WHEN output_tokens >= 2 AND last_output_s > first_output_s
        THEN (last_output_s - first_output_s) / (output_tokens - 1)
    END AS tpot_s,
    CASE WHEN first_output_s > 0 THEN (input_tokens - cached_input_tokens) / first_output_s END AS prefill_rate_tps,
    input_tokens,
    cached_input_tokens,
    cache_write_tokens,
    output_tokens,
    reasoning_tokens,
    counted_by AS usage_source,
    COALESCE(token_cost, told_cost, accelerator_cost) AS cost,
    CASE
        WHEN token_cost IS NOT NULL THEN 'tokens'
        WHEN told_cost IS NOT NULL THEN 'told'
        WHEN accelerator_cost IS NOT NULL THEN 'accelerators'
    END AS cost_basis,
    tool_call_count,
    chunk_count,
    chunk_gap_p50_s,
    chunk_gap_p95_s,
    chunk_gap_p99_s,
    chunk_gap_max_s,
    COALESCE(stall_count, CASE WHEN chunk_gap_max_s <= 1 THEN 0 END) AS stalls,
    proxy_overhead_s,
    request_bytes,
    response_bytes,
    shared_prefix_bytes,
    system_bytes,
    tools_bytes,
    messages_bytes,
    tool_results_bytes,
    message_count,
    retry_after_s,
    rate_limit_left,
    user_agent,
    tenant,
    service_name,
    service_instance_id,
    dropped_parts,
    unread_bytes
FROM costed
