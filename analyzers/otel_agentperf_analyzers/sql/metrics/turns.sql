-- relation: turns
-- description: LLM calls, their attempts merged: answer, tokens, time to first token and speeds of the last attempt; end
--   to end from the first attempt's t0 to the last one's te. Failed turns keep their partial facts. Turns of other
--   instrumentations that number none are numbered in order of time.
-- grain: one row per LLM call
-- requires: call spans
-- source: GenAI semantic conventions v0.1.0; AA-AgentPerf methodology 2026-07
-- reads: attempts
-- visibility: public
-- storage: table
-- scope: trajectory
-- filters: model=request_model benchmark=benchmark_id trajectory=trajectory_id
-- order: start_time, trajectory_id, turn_index
-- columns:
--   request_id VARCHAR: The client's x-request-id where it sent one, else the provider's id, else ours; of the last
--     attempt.
--   trajectory_id VARCHAR: One agent's work on one task.
--   trajectory_source VARCHAR: The rule that placed the call: launcher, header, body, tool_call_id, prefix,
--     prefix_recorded, new; conversation or trace for spans of other instrumentations.
--   parent_trajectory_id VARCHAR: The trajectory that started this one (a sub-agent's).
--   run_id VARCHAR: The agent run: one user request to its final answer.
--   run_index BIGINT: From 0 within the trajectory.
--   segment BIGINT: From 0; one more after each compaction of the context.
--   turn_index BIGINT: From 0 within the trajectory; NULL for auxiliary calls.
--   turn_id VARCHAR: The turn; the same on all its attempts.
--   kind VARCHAR: turn, or auxiliary (title, summary, router, token count).
--   attempt_count BIGINT: HTTP exchanges of the turn.
--   failed_attempt_count BIGINT: Those that ended in error or broke off; a client that left is not among them.
--   dialect VARCHAR: Wire format: openai.chat, anthropic.messages, ...
--   provider VARCHAR: openai, anthropic, ...
--   request_model VARCHAR: The model asked for.
--   response_model VARCHAR: The model that answered.
--   status VARCHAR: ok, error, cancelled (the client left), truncated (the stream broke off), or partial (not fully
--     observed); of the last attempt.
--   benchmark_id VARCHAR: The benchmark; NULL for live traffic.
--   level BIGINT [agents]: Concurrent agents of the benchmark level.
--   phase VARCHAR: warmup, steady or drain; of the first attempt.
--   agent_index BIGINT: From 0; which agent of the level.
--   http_status BIGINT: Status that the client got; NULL when it got none.
--   error_type VARCHAR: What went wrong.
--   start_time TIMESTAMP WITH TIME ZONE: t0 of the first attempt.
--   end_time TIMESTAMP WITH TIME ZONE: te of the last attempt.
--   ttft_s DOUBLE [s]: Time to first token: first output chunk - t0.
--   server_ttft_s DOUBLE [s]: First output chunk - request sent to the upstream.
--   time_to_first_chunk_s DOUBLE [s]: First response body chunk - t0.
--   ttfot_s DOUBLE [s]: First output chunk that is not reasoning - t0.
--   e2e_latency_s DOUBLE [s]: Last te - first t0.
--   output_speed_tps DOUBLE [tok/s]: (output tokens - 1) / (last output chunk - first output chunk).
--   e2e_speed_tps DOUBLE [tok/s]: Output tokens / (te - t0).
--   tpot_s DOUBLE [s]: (last output chunk - first output chunk) / (output tokens - 1).
--   prefill_rate_tps DOUBLE [tok/s]: Input tokens not cached / time to first token.
--   ttft_source VARCHAR: What ttft_s ends at: first_output, or of other instrumentations first_chunk (it may hold only a
--     role) or client (as the client says it).
--   queue_s DOUBLE [s]: In the inference server's queue, as its own span or its response says; of the last attempt, as the
--     next three.
--   server_prefill_s DOUBLE [s]: In the server's prefill.
--   server_decode_s DOUBLE [s]: In the server's decode.
--   network_s DOUBLE [s]: server_ttft_s less the server's own time to first token.
--   generation_s DOUBLE [s]: First to last output chunk.
--   input_tokens BIGINT [tokens]: Input, cached tokens included.
--   cached_input_tokens BIGINT [tokens]: Input read from the cache; NULL when the server did not say.
--   output_tokens BIGINT [tokens]: Output, reasoning included.
--   reasoning_tokens BIGINT [tokens]: The part of the output that is reasoning; NULL when the server did not say.
--   usage_source VARCHAR: Who counted the tokens: server, estimated or none.
--   wasted_tokens BIGINT [tokens]: Input and output of attempts that failed, broke off, were aborted or repeated;
--     0 when there was no such attempt, NULL when no such attempt reported any.
--   agent_name VARCHAR: The agent, when known.
--   agent_depth BIGINT: 0 for a root agent, 1 for its sub-agents, and so on.
--   stream BOOLEAN: The client asked for a stream; NULL where other instrumentations do not say.
--   cache_write_tokens BIGINT [tokens]: Input written to the cache; NULL when the server did not say.
--   cost DOUBLE [currency]: Price of all its attempts; NULL when none has a price.
--   wasted_cost DOUBLE [currency]: The part of it that attempts cost that failed or were repeated; NULL when it is not known.
--   cost_basis VARCHAR: tokens, told or accelerators: what the cost of the last attempt is made from.
--   finish_reason VARCHAR: As the server wrote it; of the first choice.
--   tool_call_count BIGINT: Tool calls in the response.
--   chunk_count BIGINT: Output chunks of the stream.
--   chunk_gap_p50_s DOUBLE [s]: Median of the gaps between output chunks.
--   chunk_gap_p95_s DOUBLE [s]: 95th percentile of these gaps.
--   chunk_gap_p99_s DOUBLE [s]: 99th percentile of these gaps.
--   chunk_gap_max_s DOUBLE [s]: The longest of these gaps.
--   stalls BIGINT: Gaps of more than one second; NULL when it is not known.
--   proxy_overhead_s DOUBLE [s]: What the proxy added, waits for the client left out.
--   upload_s DOUBLE [s]: Waited for the client to send its request body.
--   client_session_id VARCHAR: The session id that the client itself sent.
--   user_agent VARCHAR: The client's User-Agent.
--   task_id VARCHAR: The recorded task of a replay, or what the launcher named.
--   task_domain VARCHAR: Family of the task, when told.
--   is_final_call BOOLEAN: The launcher marked the call as the last of its trajectory.
--   request_bytes BIGINT [bytes]: Request body.
--   shared_prefix_bytes BIGINT [bytes]: Leading message bytes that an earlier turn of the trajectory already sent.
--   system_bytes BIGINT [bytes]: System prompt in the request.
--   tools_bytes BIGINT [bytes]: Tool definitions in the request.
--   messages_bytes BIGINT [bytes]: Messages in the request, tool results left out.
--   tool_results_bytes BIGINT [bytes]: Tool results in the request.
--   optimal_cache_hit DOUBLE: Share of the request that begins as an earlier turn of the trajectory did, by bytes.
--   message_count BIGINT: Messages in the request.
--   server_address VARCHAR: The upstream's host.
--   deployment VARCHAR: The upstream's host and port.
--   start_ns BIGINT [ns]: t0 of the first attempt, nanoseconds since 1970.
--   end_ns BIGINT [ns]: te of the last attempt, nanoseconds since 1970.
--   trace_id VARCHAR: Trace of the last attempt's span.
--   span_id VARCHAR: The last attempt's span.
--   service_instance_id VARCHAR: Process that wrote it.
-- metric: ttft
--   column: ttft_s
--   definition: Time to first token, as the client sees it: from the request head received to the first chunk with
--     content, reasoning, or a tool name or arguments. A chunk with only a role does not count.
--   formula: tf - t0
--   unit: s
--   grain: turn
--   requires: a streamed response
--   source: AA-AgentPerf; agentperf-local
-- metric: server_ttft
--   column: server_ttft_s
--   definition: Time to first token from the moment the whole request was handed to the upstream, so a client's slow
--     upload is left out.
--   formula: tf - t_sent
--   unit: s
--   grain: turn
--   requires: a streamed response
--   source: ours
-- metric: time_to_first_chunk
--   column: time_to_first_chunk_s
--   definition: From the request head received to the first response body chunk, whatever it holds.
--   formula: tc - t0
--   unit: s
--   grain: turn
--   requires: a response body
--   source: GenAI semantic conventions, gen_ai.response.time_to_first_chunk
-- metric: queue_time
--   column: queue_s
--   definition: Time that the request waited in the inference server's queue, as the server's own span says. Where
--     several servers worked on it, their times add up. Without such a span what the response says counts (Groq), the
--     loading of the model included (Ollama).
--   formula: sum of gen_ai.latency.time_in_queue over the server's spans of the call; else agentperf.server.queue_s +
--     agentperf.server.load_s
--   unit: s
--   grain: turn
--   requires: the inference server's spans in the source
--   source: vLLM, gen_ai.latency.time_in_queue
-- metric: server_prefill_time
--   column: server_prefill_s
--   definition: Time from the request's first scheduling in the inference server to its first token; where the server
--     does not tell, its time to first token less the queue. Without a span of it, what its response says (llama.cpp,
--     Ollama, Groq).
--   formula: sum of gen_ai.latency.time_in_model_prefill; else agentperf.server.prefill_s
--   unit: s
--   grain: turn
--   requires: the inference server's spans in the source, or a response that tells
--   source: vLLM, gen_ai.latency.time_in_model_prefill
-- metric: server_decode_time
--   column: server_decode_s
--   definition: Time from the first to the last token inside the inference server; where the server does not tell, its
--     end-to-end time less its time to first token. Without a span of it, what its response says.
--   formula: sum of gen_ai.latency.time_in_model_decode; else agentperf.server.decode_s
--   unit: s
--   grain: turn
--   requires: the inference server's spans in the source, or a response that tells
--   source: vLLM, gen_ai.latency.time_in_model_decode
-- metric: network_time
--   column: network_s
--   definition: The part of the time to first token that passes outside the inference server's engine, on the network and
--     in front ends. Each time is of one clock, so that clocks need not agree. Without a span of the server, what its
--     response says of queue, loading and prefill stands in for its time to first token.
--   formula: tf - t_sent - sum of gen_ai.latency.time_to_first_token
--   unit: s
--   grain: turn
--   requires: a streamed response, the inference server's spans in the source
--   source: ours
-- metric: ttfot
--   column: ttfot_s
--   definition: Time to the first output token that is not reasoning.
--   formula: tn - t0
--   unit: s
--   grain: turn
--   requires: a streamed response with output beyond reasoning
--   source: AIPerf, time to first output token
-- metric: e2e_latency
--   column: e2e_latency_s
--   definition: From the first attempt's request head to the end of the last attempt, waits between attempts included.
--   formula: te(last attempt) - t0(first attempt)
--   unit: s
--   grain: turn
--   requires: a call span
--   source: AA-AgentPerf; GuideLLM request latency for one attempt
-- metric: output_speed
--   column: output_speed_tps
--   definition: Output tokens per second while the answer streams, of the last attempt. Undefined with fewer than two
--     tokens or when all output came at one instant. Chunks can hold several tokens and servers often buffer tool-call
--     arguments, which inflates it: read it beside e2e_speed.
--   formula: (O - 1) / (tl - tf)
--   unit: tok/s
--   grain: turn
--   requires: a streamed response, a token count
--   source: AA-AgentPerf; agentperf-local turn output speed
-- metric: e2e_speed
--   column: e2e_speed_tps
--   definition: Output tokens per second of the last attempt's whole duration, the wait for the first token included.
--   formula: O / (te - t0)
--   unit: tok/s
--   grain: turn
--   requires: a token count
--   source: AA-AgentPerf, announced for 2026-08
-- metric: tpot
--   column: tpot_s
--   definition: Time per output token after the first, also called inter-token latency.
--   formula: (tl - tf) / (O - 1)
--   unit: s
--   grain: turn
--   requires: a streamed response, a token count
--   source: AIPerf inter-token latency; GuideLLM's TPOT is (tl - t0) / O, another quantity
-- metric: prefill_rate
--   column: prefill_rate_tps
--   definition: Input tokens that were not cached, per second of time to first token. Undefined when the server does not
--     report cached tokens.
--   formula: (I - C) / ttft
--   unit: tok/s
--   grain: turn
--   requires: a streamed response, token counts, cached tokens reported
--   source: ours
-- metric: chunk_gap_p50
--   column: chunk_gap_p50_s
--   definition: Median of the gaps between consecutive output chunks of the stream.
--   formula: P50 of t(i+1) - t(i) over output chunks
--   unit: s
--   grain: turn
--   requires: a streamed response with two output chunks
--   source: AIPerf inter-chunk latency
-- metric: chunk_gap_p95
--   column: chunk_gap_p95_s
--   definition: 95th percentile of the gaps between consecutive output chunks of the stream.
--   formula: P95 of t(i+1) - t(i) over output chunks
--   unit: s
--   grain: turn
--   requires: a streamed response with two output chunks
--   source: AIPerf inter-chunk latency
-- metric: chunk_gap_p99
--   column: chunk_gap_p99_s
--   definition: 99th percentile of the gaps between consecutive output chunks of the stream.
--   formula: P99 of t(i+1) - t(i) over output chunks
--   unit: s
--   grain: turn
--   requires: a streamed response with two output chunks
--   source: AIPerf inter-chunk latency
-- metric: chunk_gap_max
--   column: chunk_gap_max_s
--   definition: The longest gap between consecutive output chunks of the stream: its worst stall.
--   formula: max of t(i+1) - t(i) over output chunks
--   unit: s
--   grain: turn
--   requires: a streamed response with two output chunks
--   source: ours
-- metric: stalls
--   column: stalls
--   definition: Gaps between consecutive output chunks of more than one second: the stream stood still. Where the spans
--     tell only the longest gap and it is longer, their number is unknown.
--   formula: count of t(i+1) - t(i) > 1 s over output chunks
--   unit: gaps
--   grain: turn
--   requires: a streamed response with two output chunks
--   source: ours
-- metric: optimal_cache_hit
--   column: optimal_cache_hit
--   definition: The share of the request that a perfect prefix cache could have served, given only the trajectory's own
--     earlier turns: the leading bytes that an earlier turn already sent. System prompt and tools are taken as unchanged
--     while their sizes are; where they changed, nothing is shared. Defined on bytes, so no tokenizer is needed.
--   formula: (system + tools + shared leading messages) / (system + tools + messages + tool results), in bytes; 0 when no
--     earlier turn had a system prompt and tools of these sizes
--   unit: share
--   grain: turn
--   requires: spans of the proxy
--   source: ours
-- metric: cost
--   column: cost
--   definition: Price of all attempts of the turn, failed ones included. Attempts without a price are left out of the sum.
--   formula: sum of attempt_cost over attempts
--   unit: currency
--   grain: turn
--   requires: a price table and token counts, or the number of accelerators and their price
--   source: ours
-- metric: proxy_overhead
--   column: proxy_overhead_s
--   definition: What the proxy itself added before the request's first byte and the response's first byte.
--   formula: (first byte upstream - t0 - wait for the client's body) + (first byte to client - first byte from upstream)
--   unit: s
--   grain: turn
--   requires: spans of the proxy
--   source: ours
WITH merged AS (
    -- Nearly all turns have one attempt, of which nothing need be gathered.
    SELECT
        trajectory_id,
        turn_id,
        kind,
        1 AS attempt_count,
        CASE WHEN status IN ('error', 'truncated') THEN 1 ELSE 0 END AS failed_attempt_count,
        start_ns,
        end_ns,
        phase,
        CASE WHEN is_failed(status) THEN 1 ELSE 0 END AS wasted_attempt_count,
        CASE WHEN is_failed(status) AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)
            THEN COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)
        END AS wasted_tokens,
        cost,
        CASE WHEN is_failed(status) THEN cost END AS wasted_cost,
        system_bytes,
        tools_bytes
    FROM attempts
    WHERE is_only
    UNION ALL
    SELECT
        trajectory_id,
        turn_id,
        ANY_VALUE(kind),
        COUNT(*),
        COUNT(*) FILTER (status IN ('error', 'truncated')),
        MIN(start_ns),
        MAX(end_ns),
        ARG_MIN(phase, start_ns),
        COUNT(*) FILTER (NOT is_last OR is_failed(status)),
        CAST(SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)) FILTER (
            (NOT is_last OR is_failed(status)) AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)
        ) AS BIGINT),
        SUM(cost),
        SUM(cost) FILTER (NOT is_last OR is_failed(status)),
        ARG_MIN(system_bytes, start_ns),
        ARG_MIN(tools_bytes, start_ns)
    FROM attempts
    WHERE NOT is_only
    GROUP BY trajectory_id, turn_id
),

numbered AS (
    SELECT
        *,
        ROW_NUMBER() OVER (PARTITION BY trajectory_id, kind ORDER BY start_ns, turn_id) - 1 AS position,
        ROW_NUMBER() OVER (
            PARTITION BY trajectory_id, kind, system_bytes, tools_bytes ORDER BY start_ns, turn_id
        ) > 1 AS has_seen_head
    FROM merged
)

SELECT
    last.request_id,
    last.trajectory_id,
    last.trajectory_source,
    last.parent_trajectory_id,
    last.run_id,
    last.run_index,
    last.segment,
    CASE WHEN last.kind = 'turn' THEN COALESCE(last.turn_index, numbered.position) END AS turn_index,
    last.turn_id,
    last.kind,
    numbered.attempt_count,
    numbered.failed_attempt_count,
    last.dialect,
    last.provider,
    last.request_model,
    last.response_model,
    last.status,
    last.benchmark_id,
    last.level,
    numbered.phase,
    last.agent_index,
    last.http_status,
    last.error_type,
    instant(numbered.start_ns) AS start_time,
    instant(numbered.end_ns) AS end_time,
    last.ttft_s,
    last.server_ttft_s,
    last.time_to_first_chunk_s,
    last.ttfot_s,
    CASE WHEN numbered.attempt_count = 1 THEN last.e2e_latency_s ELSE seconds(numbered.end_ns - numbered.start_ns) END
        AS e2e_latency_s,
    last.output_speed_tps,
    last.e2e_speed_tps,
    last.tpot_s,
    last.prefill_rate_tps,
    last.ttft_source,
    last.queue_s,
    last.server_prefill_s,
    last.server_decode_s,
    last.network_s,
    last.generation_s,
    last.input_tokens,
    last.cached_input_tokens,
    last.output_tokens,
    last.reasoning_tokens,
    last.usage_source,
    CASE WHEN numbered.wasted_attempt_count = 0 THEN 0 ELSE numbered.wasted_tokens END AS wasted_tokens,
    last.agent_name,
    last.agent_depth,
    last.stream,
    last.cache_write_tokens,
    numbered.cost,
    CASE WHEN numbered.wasted_attempt_count > 0 THEN numbered.wasted_cost WHEN numbered.cost IS NOT NULL THEN 0 END
        AS wasted_cost,
    last.cost_basis,
    last.finish_reason,
    last.tool_call_count,
    last.chunk_count,
    last.chunk_gap_p50_s,
    last.chunk_gap_p95_s,
    last.chunk_gap_p99_s,
    last.chunk_gap_max_s,
    last.stalls,
    last.proxy_overhead_s,
    last.upload_s,
    last.client_session_id,
    last.user_agent,
    last.task_id,
    last.task_domain,
    last.is_final_call,
    last.request_bytes,
    last.shared_prefix_bytes,
    last.system_bytes,
    last.tools_bytes,
    last.messages_bytes,
    last.tool_results_bytes,
    CASE
        WHEN last.kind <> 'turn' OR last.shared_prefix_bytes IS NULL THEN NULL
        WHEN numbered.has_seen_head
            THEN (last.system_bytes + last.tools_bytes + last.shared_prefix_bytes)
                / NULLIF(last.system_bytes + last.tools_bytes + last.messages_bytes + last.tool_results_bytes, 0)
        WHEN last.system_bytes + last.tools_bytes + last.messages_bytes + last.tool_results_bytes > 0 THEN 0
    END AS optimal_cache_hit,
    last.message_count,
    last.server_address,
    last.server_address || COALESCE(':' || CAST(last.server_port AS VARCHAR), '') AS deployment,
    numbered.start_ns,
    numbered.end_ns,
    last.trace_id,
    last.span_id,
    last.service_instance_id
FROM attempts AS last
INNER JOIN numbered USING (trajectory_id, turn_id)
WHERE last.is_last
