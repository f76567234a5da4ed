-- relation: spans
-- description: Every span of the source as it is. A column per attribute that the analysis reads, under the
--   attribute's own name; what else a span carries is in `attributes`.
-- grain: one row per span
-- requires: any trace source
-- source: OpenTelemetry trace data model; GenAI semantic conventions v0.1.0; otel_agentperf.semconv
-- reads: raw_spans, stitch
-- visibility: public
-- storage: view
-- scope: trajectory
-- filters: model=gen_ai.request.model benchmark=agentperf.benchmark.id trajectory=trajectory_id
-- order: start_time
-- columns:
--   trace_id VARCHAR: Trace, 32 hex digits; one trace per agent run.
--   span_id VARCHAR: Span, 16 hex digits.
--   parent_span_id VARCHAR: The span that this one is part of; NULL for a root.
--   name VARCHAR: Name of the span, such as `chat MODEL`.
--   kind VARCHAR: internal, server, client, producer or consumer; NULL when not told.
--   trajectory_id VARCHAR: What the span belongs to: where several proxies told of an agent, what `stitch` finds; else
--     agentperf.trajectory.id, else the conversation, else the trace; of Claude Code's own telemetry the session, and
--     below it the sub-agent.
--   start_time TIMESTAMP WITH TIME ZONE: Start.
--   end_time TIMESTAMP WITH TIME ZONE: End.
--   duration_s DOUBLE [s]: End minus start.
--   start_ns BIGINT [ns]: Start, nanoseconds since 1970.
--   end_ns BIGINT [ns]: End, nanoseconds since 1970.
--   status_code VARCHAR: OTel status, unset, ok or error.
--   status_message VARCHAR: OTel status message.
--   service_name VARCHAR: `service.name` of the resource.
--   service_instance_id VARCHAR: `service.instance.id` of the resource: which process wrote the span.
--   scope_name VARCHAR: Instrumentation scope.
--   resource_attributes MAP(VARCHAR, VARCHAR): Other attributes of the resource, as text.
--   attributes MAP(VARCHAR, VARCHAR): Attributes without a column of their own, as text; lists and maps as JSON.
--   content MAP(VARCHAR, VARCHAR): Prompts and answers, where they were captured: the attributes that hold them, JSON.
--   events VARCHAR: Events, OTLP JSON.
--   links VARCHAR: Links, OTLP JSON.
--   "gen_ai.operation.name" VARCHAR: Every GenAI span: chat, text_completion, embeddings, invoke_agent,
--     execute_tool.
--   "gen_ai.provider.name" VARCHAR: Every call span: openai, anthropic, or what the configuration names.
--   "gen_ai.conversation.id" VARCHAR: Only an id that the client itself sent (a session id). Inferred ids go to
--     agentperf.trajectory.id.
--   "gen_ai.agent.name" VARCHAR: call, run and tool spans, when the agent is known from its headers or from the
--     launcher.
--   "gen_ai.request.model" VARCHAR: The model the client asked for.
--   "gen_ai.request.stream" BOOLEAN: Only set, to true, when the client asked for a stream.
--   "gen_ai.request.max_tokens" BIGINT: Output token limit asked for.
--   "gen_ai.request.reasoning.level" VARCHAR: The reasoning effort asked for.
--   "gen_ai.response.id" VARCHAR: The provider's id of the response.
--   "gen_ai.response.model" VARCHAR: The model that answered.
--   "gen_ai.response.finish_reasons" VARCHAR[]: One per choice, as the server wrote them; error for a truncated
--     stream.
--   "gen_ai.response.time_to_first_chunk" DOUBLE [s]: Request head received to the first response body chunk.
--   "gen_ai.usage.input_tokens" BIGINT [tokens]: Prompt tokens INCLUDING those read from and written to the cache
--     (Anthropic's three counters are summed).
--   "gen_ai.usage.output_tokens" BIGINT [tokens]: Generated tokens, reasoning included.
--   "gen_ai.usage.cache_read.input_tokens" BIGINT [tokens]: Prompt tokens served from the cache; absent when the
--     server did not say.
--   "gen_ai.usage.cache_write.input_tokens" BIGINT [tokens]: Prompt tokens written to the cache; absent when the
--     server did not say.
--   "gen_ai.usage.reasoning.output_tokens" BIGINT [tokens]: The part of the output tokens that is reasoning;
--     absent when the server did not say.
--   "gen_ai.tool.name" VARCHAR: The tool.
--   "gen_ai.tool.type" VARCHAR: function.
--   "gen_ai.tool.call.id" VARCHAR: Tool spans, when the model gave the call an id.
--   "error.type" VARCHAR: Spans that ended badly: the HTTP status as text, the provider's error type, or one of ours
--     (client_disconnected, upstream_timeout, ...).
--   "http.request.method" VARCHAR: Method of the request.
--   "http.response.status_code" BIGINT: Absent when no response head was sent to the client.
--   "url.path" VARCHAR: The path as forwarded, without the query (which may hold keys).
--   "server.address" VARCHAR: The upstream's host, not the proxy's.
--   "server.port" BIGINT: The upstream's port.
--   "user_agent.original" VARCHAR: The client's User-Agent.
--   "agentperf.trajectory.id" VARCHAR: call, run and tool spans: one agent's work on one task.
--   "agentperf.trajectory.parent_id" VARCHAR: The trajectory that started this one (a sub-agent's).
--   "agentperf.trajectory.source" VARCHAR: The rule that decided: launcher, header, body, tool_call_id, prefix,
--     prefix_recorded, new.
--   "agentperf.trajectory.confidence" DOUBLE: In [0, 1]; 1 for an explicit identity.
--   "agentperf.trajectory.final" BOOLEAN: Call spans, only when true: the launcher says that this call is the last
--     of its trajectory.
--   "agentperf.run.id" VARCHAR: The agent run (one user request to its final answer) within the trajectory.
--   "agentperf.run.index" BIGINT: From 0 within the trajectory.
--   "agentperf.segment.index" BIGINT: From 0; grows by one at each compaction of the context.
--   "agentperf.turn.id" VARCHAR: The same on all attempts of one LLM call; the grain of the turns relation.
--   "agentperf.turn.index" BIGINT: From 0 within the trajectory; absent on auxiliary calls.
--   "agentperf.turn.kind" VARCHAR: turn or auxiliary (title, summary, router, token count).
--   "agentperf.attempt.index" BIGINT: From 0; an attempt above 0 is a retry.
--   "agentperf.agent.depth" BIGINT: 0 for a root agent, 1 for its sub-agents, and so on.
--   "agentperf.task.id" VARCHAR: The recorded task that a replay plays, or what the launcher names.
--   "agentperf.task.domain" VARCHAR: Family of the task, when told.
--   "agentperf.outcome" VARCHAR: Success or failure, when the launcher tells.
--   "agentperf.benchmark.id" VARCHAR: One execution of a replay.
--   "agentperf.level" BIGINT: Concurrent agents of the benchmark level that the call belongs to.
--   "agentperf.phase" VARCHAR: warmup, steady or drain.
--   "agentperf.agent.index" BIGINT: From 0; which closed-loop agent of the level.
--   "agentperf.tenant" VARCHAR: 16 hex digits; keyed hash of the credential. The key is random per store; the
--     credential is never kept.
--   "agentperf.dialect" VARCHAR: Wire format of the call: openai.chat, anthropic.messages, ...; absent on plain
--     HTTP spans.
--   "agentperf.status" VARCHAR: ok, error, cancelled, truncated or partial; runs also abandoned.
--   "agentperf.usage.source" VARCHAR: server, estimated or none: who counted the tokens.
--   "agentperf.usage.cost" DOUBLE [USD]: What the server says that the call cost (OpenRouter); absent when it does
--     not say.
--   "agentperf.server.queue_s" DOUBLE [s]: Waited in the server's queue, as the server says in its response (Groq).
--   "agentperf.server.load_s" DOUBLE [s]: Loading the model, as the server says in its response (Ollama).
--   "agentperf.server.prefill_s" DOUBLE [s]: Reading the prompt, as the server says in its response (llama.cpp, Ollama,
--     Groq).
--   "agentperf.server.decode_s" DOUBLE [s]: Generating, as the server says in its response (llama.cpp, Ollama, Groq).
--   "agentperf.request.id" VARCHAR: The client's x-request-id, else the provider's request id header, else one we
--     made.
--   "agentperf.request.bytes" BIGINT [bytes]: Request body bytes as received.
--   "agentperf.response.bytes" BIGINT [bytes]: Response body bytes as received from the upstream.
--   "agentperf.response.retry_after_s" DOUBLE [s]: How long the response asks to wait; absent when it does not.
--   "agentperf.rate_limit.requests.limit" BIGINT: Requests allowed at a time, as the response's head tells.
--   "agentperf.rate_limit.requests.remaining" BIGINT: Of these, how many are left.
--   "agentperf.rate_limit.tokens.limit" BIGINT [tokens]: Tokens allowed at a time, as the response's head tells.
--   "agentperf.rate_limit.tokens.remaining" BIGINT [tokens]: Of these, how many are left.
--   "agentperf.rate_limit.input_tokens.limit" BIGINT [tokens]: Input tokens allowed at a time, as the response's head
--     tells.
--   "agentperf.rate_limit.input_tokens.remaining" BIGINT [tokens]: Of these, how many are left.
--   "agentperf.rate_limit.output_tokens.limit" BIGINT [tokens]: Output tokens allowed at a time, as the response's head
--     tells.
--   "agentperf.rate_limit.output_tokens.remaining" BIGINT [tokens]: Of these, how many are left.
--   "agentperf.time.first_chunk" DOUBLE [s]: From t0; first response body chunk read from the upstream.
--   "agentperf.time.first_output" DOUBLE [s]: From t0; first chunk with non-empty content, reasoning, or tool
--     name/arguments: TTFT. Streams only.
--   "agentperf.time.first_answer" DOUBLE [s]: From t0; first output chunk that is not reasoning. Streams only.
--   "agentperf.time.last_output" DOUBLE [s]: From t0; last output chunk. Streams only.
--   "agentperf.time.end" DOUBLE [s]: From t0; the exchange ended (stream closed, error, or cancel).
--   "agentperf.time.sent" DOUBLE [s]: From t0; last byte of the request handed to the upstream's socket.
--   "agentperf.upload_s" DOUBLE [s]: Waited for the client to send its request body.
--   "agentperf.proxy.overhead_s" DOUBLE [s]: (first byte written upstream - t0 - upload) + (first byte to the
--     client - first byte from upstream).
--   "agentperf.chunk.count" BIGINT: Output chunks of a stream (not TCP reads).
--   "agentperf.chunk.gap_p50_s" DOUBLE [s]: Median of the gaps between consecutive output chunks.
--   "agentperf.chunk.gap_p95_s" DOUBLE [s]: 95th percentile of these gaps.
--   "agentperf.chunk.gap_p99_s" DOUBLE [s]: 99th percentile of these gaps.
--   "agentperf.chunk.gap_max_s" DOUBLE [s]: The longest of these gaps.
--   "agentperf.chunk.stall_count" BIGINT: Gaps between consecutive output chunks of more than one second.
--   "agentperf.prefix.shared_bytes" BIGINT [bytes]: Leading message bytes of the request that an earlier turn of
--     the trajectory already sent.
--   "agentperf.link.keys" VARCHAR: Call spans: salted hashes by which the calls of several proxies are joined.
--   "agentperf.context.system_bytes" BIGINT [bytes]: Request bytes of the system prompt.
--   "agentperf.context.tools_bytes" BIGINT [bytes]: Request bytes of the tool definitions.
--   "agentperf.context.messages_bytes" BIGINT [bytes]: Request bytes of the messages, tool results left out.
--   "agentperf.context.tool_results_bytes" BIGINT [bytes]: Request bytes of tool results in the messages.
--   "agentperf.message.count" BIGINT: Messages in the request.
--   "agentperf.tool.call_count" BIGINT: Tool calls in the response.
--   "agentperf.tool.duration_source" VARCHAR: Tool spans: gap (end of the asking response to the request with the
--     result) or client.
--   "agentperf.tool.error" BOOLEAN: Tool spans, only when true: the result is marked as an error.
--   "agentperf.tool.repeated" BOOLEAN: Tool spans, only when true: same tool, same arguments as an earlier call of
--     the trajectory.
--   "agentperf.tool.turn_id" VARCHAR: Tool spans: agentperf.turn.id of the turn that asked for the tool.
--   "agentperf.observation.dropped" BIGINT: Parts of this call that the observer did not get; absent when none.
--   "agentperf.observation.unread_bytes" BIGINT [bytes]: Body bytes past the observation limit, passed on but not
--     looked at; absent when none.
--   "agentperf.benchmark.completed_trajectories" BIGINT: Trajectories completed inside the steady window.
--   "agentperf.benchmark.preset" VARCHAR: The rules that were played: agentperf, quick, smoke, or custom.
--   "agentperf.accelerator.count" BIGINT: Accelerators of the deployment, when told.
--   "agentperf.power.mean_w" DOUBLE [W]: Mean power over the steady window, when known.
--   "gen_ai.latency.time_in_queue" DOUBLE [s]: An inference server's own span: the request waited in its queue.
--   "gen_ai.latency.time_to_first_token" DOUBLE [s]: An inference server's own span: arrival to first token.
--   "gen_ai.latency.time_in_model_prefill" DOUBLE [s]: An inference server's own span: first scheduled to first token.
--   "gen_ai.latency.time_in_model_decode" DOUBLE [s]: An inference server's own span: first to last token.
--   "gen_ai.latency.e2e" DOUBLE [s]: An inference server's own span: arrival to end.
--   "session.id" VARCHAR: Claude Code's own telemetry: the session.
--   agent_id VARCHAR: Claude Code's own telemetry: the sub-agent within the session; absent for the main agent.
--   "gen_ai.system" VARCHAR: gen_ai.provider.name before v1.37 of the conventions.
--   "gen_ai.usage.prompt_tokens" BIGINT [tokens]: gen_ai.usage.input_tokens before v1.27.
--   "gen_ai.usage.completion_tokens" BIGINT [tokens]: gen_ai.usage.output_tokens before v1.27.
--   "gen_ai.usage.cache_read_input_tokens" BIGINT [tokens]: gen_ai.usage.cache_read.input_tokens as
--     instrumentations wrote it before the conventions had a name.
--   "gen_ai.usage.cache_creation.input_tokens" BIGINT [tokens]: gen_ai.usage.cache_write.input_tokens before the
--     standalone release.
--   "gen_ai.usage.cache_creation_input_tokens" BIGINT [tokens]: The same, as instrumentations wrote it before the
--     conventions had a name.
SELECT
    trace_id,
    span_id,
    parent_span_id,
    name,
    CASE kind
        WHEN 1 THEN 'internal'
        WHEN 2 THEN 'server'
        WHEN 3 THEN 'client'
        WHEN 4 THEN 'producer'
        WHEN 5 THEN 'consumer'
    END AS kind,
    CASE
        WHEN stitched_trajectory_id IS NOT NULL THEN stitched_trajectory_id
        WHEN STARTS_WITH(name, 'claude_code.')
            THEN COALESCE("session.id", "gen_ai.conversation.id", trace_id) || COALESCE('/' || agent_id, '')
        ELSE COALESCE("agentperf.trajectory.id", "gen_ai.conversation.id", trace_id)
    END AS trajectory_id,
    instant(start_unix_ns) AS start_time,
    instant(end_unix_ns) AS end_time,
    seconds(end_unix_ns - start_unix_ns) AS duration_s,
    start_unix_ns AS start_ns,
    end_unix_ns AS end_ns,
    CASE status_code WHEN 1 THEN 'ok' WHEN 2 THEN 'error' ELSE 'unset' END AS status_code,
    status_message,
    service_name,
    service_instance_id,
    scope_name,
    resource_attributes,
    attributes,
    content,
    events,
    links,
    COLUMNS(* EXCLUDE (
        trace_id, span_id, parent_span_id, name, kind, start_unix_ns, end_unix_ns, status_code, status_message,
        service_name, service_instance_id, scope_name, resource_attributes, attributes, content, events, links,
        stitched_trajectory_id
    ))
FROM (
    SELECT raw_spans.*, stitch.trajectory_id AS stitched_trajectory_id
    FROM raw_spans
    LEFT JOIN stitch ON stitch.trace_id = raw_spans.trace_id AND stitch.span_id = raw_spans.span_id
)
