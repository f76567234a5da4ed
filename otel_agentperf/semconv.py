"""The span vocabulary: every attribute, span name and enumerated value that the proxy writes and the analyzers read.

Names under `gen_ai.` follow the OpenTelemetry GenAI semantic conventions (`open-telemetry/semantic-conventions-genai`,
v0.1.0, status Development), pinned here because the constants of the Python package lag behind. Names under
`agentperf.` are ours. `http.`, `url.`, `server.`, `network.`, `user_agent.` and `error.` are the stable general
conventions.

Each constant says: meaning, type, and when it is set. "Call span" is the CLIENT span of one HTTP exchange (an attempt).
Times are monotonic; a `double` in seconds unless the name says otherwise. An attribute that is not known is absent,
never zero.
"""

from typing import Final

SCOPE_NAME: Final = "otel_agentperf"
"""Instrumentation scope of every span we write."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai/0.1.0"
"""Schema of the GenAI conventions that the `gen_ai.` names follow."""

# --- GenAI conventions: the call -----------------------------------------------------------------------------------

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
"""string; every GenAI span: `chat`, `text_completion`, `generate_content`, `embeddings`, `invoke_agent`,
`execute_tool`."""

GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
"""string; every call span: `openai`, `anthropic`, `gcp.gemini`, `ollama`, or what the configuration names."""

GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
"""string; only an id that the client itself sent (a session id). Inferred ids go to `agentperf.trajectory.id`."""

GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
"""string; call, run and tool spans, when the agent is known from its headers or from the launcher."""

GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
"""string; the model the client asked for."""

GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
"""boolean; only set, to true, when the client asked for a stream."""

GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
"""int; output token limit asked for."""

GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
"""double."""

GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
"""double."""

GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
"""double."""

GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
"""int."""

GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
"""int; only when not 1."""

GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
"""string[]."""

GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
"""double."""

GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
"""double."""

GEN_AI_REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
"""string; the reasoning effort asked for."""

GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
"""string; the earlier response that the request continues on the server."""

GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
"""string; `text` or `json`, when the request says so."""

GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
"""string; the provider's id of the response."""

GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
"""string; the model that answered."""

GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
"""string[]; one per choice, as the server wrote them; `error` for a truncated stream."""

GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""double, s; request head received to the first response body chunk."""

GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
"""int; prompt tokens INCLUDING those read from and written to the cache (Anthropic's three counters are summed)."""

GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
"""int; generated tokens, reasoning included."""

GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
"""int; prompt tokens served from the cache; absent when the server did not say."""

GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
"""int; prompt tokens written to the cache; absent when the server did not say."""

GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
"""int; the part of the output tokens that is reasoning; absent when the server did not say."""

GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
"""string; tool spans."""

GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
"""string; tool spans: `function`."""

GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
"""string; tool spans, when the model gave the call an id."""

GEN_AI_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
"""string; evaluation spans: `outcome`, how the trajectory's task came out."""

GEN_AI_EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
"""string; evaluation spans: `success` or `failure`."""

GEN_AI_EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
"""double; evaluation spans: a figure to the label, when told."""

# Content: opt-in only (`--capture content`).

GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
"""string, JSON of the conventions' message schema; only with content capture."""

GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
"""string, JSON; only with content capture."""

GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
"""string, JSON; only with content capture."""

GEN_AI_TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
"""string, JSON; only with content capture."""

# --- General conventions -------------------------------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
"""string; spans that ended badly: the HTTP status as text, the provider's error type, or one of `ErrorType`."""

HTTP_REQUEST_METHOD: Final = "http.request.method"
"""string."""

HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
"""int; absent when no response head was sent to the client."""

URL_PATH: Final = "url.path"
"""string; the path as forwarded, without the query (which may hold keys)."""

NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
"""string; `websocket` on calls that were messages of a WebSocket; absent on HTTP."""

SERVER_ADDRESS: Final = "server.address"
"""string; the upstream's host, not the proxy's."""

SERVER_PORT: Final = "server.port"
"""int; the upstream's port."""

USER_AGENT_ORIGINAL: Final = "user_agent.original"
"""string; the client's User-Agent."""

# --- Ours: where a call belongs ------------------------------------------------------------------------------------

TRAJECTORY_ID: Final = "agentperf.trajectory.id"
"""string; call, run and tool spans: one agent's work on one task."""

TRAJECTORY_PARENT_ID: Final = "agentperf.trajectory.parent_id"
"""string; the trajectory that started this one (a sub-agent's)."""

TRAJECTORY_SOURCE: Final = "agentperf.trajectory.source"
"""string; the rule that decided: `launcher`, `header`, `body`, `response_id`, `tool_call_id`, `prefix`,
`prefix_recorded`, `summary`, `text`, `sub_agent`, `new`; see `Source`."""

TRAJECTORY_CONFIDENCE: Final = "agentperf.trajectory.confidence"
"""double in [0, 1]; 1 for an explicit identity."""

TRAJECTORY_FINAL: Final = "agentperf.trajectory.final"
"""boolean; call spans, only when true: the launcher or the client says that this call is the last of its trajectory."""

RUN_ID: Final = "agentperf.run.id"
"""string; the agent run (one user request to its final answer) within the trajectory."""

RUN_INDEX: Final = "agentperf.run.index"
"""int, from 0 within the trajectory."""

SEGMENT_INDEX: Final = "agentperf.segment.index"
"""int, from 0; grows by one at each compaction of the context."""

TURN_ID: Final = "agentperf.turn.id"
"""string; the same on all attempts of one LLM call; the grain of the `turns` relation."""

TURN_INDEX: Final = "agentperf.turn.index"
"""int, from 0 within the trajectory; absent on auxiliary calls."""

TURN_KIND: Final = "agentperf.turn.kind"
"""string; `turn` or `auxiliary` (title, summary, router, token count)."""

ATTEMPT_INDEX: Final = "agentperf.attempt.index"
"""int, from 0; an attempt above 0 is a retry."""

AGENT_DEPTH: Final = "agentperf.agent.depth"
"""int; 0 for a root agent, 1 for its sub-agents, and so on."""

TASK_ID: Final = "agentperf.task.id"
"""string; the recorded task that a replay plays, or what the launcher names."""

TASK_DOMAIN: Final = "agentperf.task.domain"
"""string; family of the task, when told."""

OUTCOME: Final = "agentperf.outcome"
"""string; `success` or `failure`, when the launcher tells, or, on a span of its own, who judged it later."""

BENCHMARK_ID: Final = "agentperf.benchmark.id"
"""string; one execution of a replay."""

LEVEL: Final = "agentperf.level"
"""int; concurrent agents of the benchmark level that the call belongs to."""

PHASE: Final = "agentperf.phase"
"""string; `warmup`, `steady` or `drain`."""

AGENT_INDEX: Final = "agentperf.agent.index"
"""int, from 0; which closed-loop agent of the level."""

TENANT: Final = "agentperf.tenant"
"""string, 16 hex digits; keyed hash of the credential. The key is random per store; the credential is never kept."""

# --- Ours: what happened to a call ---------------------------------------------------------------------------------

DIALECT: Final = "agentperf.dialect"
"""string; wire format of the call: `openai.chat`, `anthropic.messages`, ...; absent on plain HTTP spans."""

STATUS: Final = "agentperf.status"
"""string; one of `Status`."""

SLO_MET: Final = "agentperf.slo.met"
"""boolean; call spans of turns, where the proxy is told tiers (`--slo`): all targets of all tiers for the model are
met, as by `goodput`; on metrics those of one tier."""

SLO_MISSED: Final = "agentperf.slo.missed"
"""string[]; call spans of turns that miss tiers: these, as `POLICY@VERSION:TIER`."""

USAGE_SOURCE: Final = "agentperf.usage.source"
"""string; `server`, `estimated` or `none`: who counted the tokens."""

USAGE_COST: Final = "agentperf.usage.cost"
"""double, US dollars; what the server says that the call cost (OpenRouter); absent when it does not say."""

SERVER_QUEUE_S: Final = "agentperf.server.queue_s"
"""double, s; waited in the server's queue, as the server says in its response (Groq)."""

SERVER_LOAD_S: Final = "agentperf.server.load_s"
"""double, s; loading the model, as the server says in its response (Ollama)."""

SERVER_PREFILL_S: Final = "agentperf.server.prefill_s"
"""double, s; reading the prompt, as the server says in its response (llama.cpp, Ollama, Groq)."""

SERVER_DECODE_S: Final = "agentperf.server.decode_s"
"""double, s; generating, as the server says in its response (llama.cpp, Ollama, Groq)."""

REQUEST_ID: Final = "agentperf.request.id"
"""string; the client's `x-request-id`, else the provider's request id header, else one we made."""

REQUEST_BYTES: Final = "agentperf.request.bytes"
"""int; request body bytes as received."""

RESPONSE_BYTES: Final = "agentperf.response.bytes"
"""int; response body bytes as received from the upstream."""

RETRY_AFTER_S: Final = "agentperf.response.retry_after_s"
"""double, s; how long the response asks to wait (`retry-after-ms`, `retry-after`); absent when it does not."""

RATE_LIMIT_REQUESTS_LIMIT: Final = "agentperf.rate_limit.requests.limit"
"""int; requests allowed at a time, as the response's head tells."""

RATE_LIMIT_REQUESTS_REMAINING: Final = "agentperf.rate_limit.requests.remaining"
"""int; of these, how many are left."""

RATE_LIMIT_TOKENS_LIMIT: Final = "agentperf.rate_limit.tokens.limit"
"""int; tokens allowed at a time, as the response's head tells."""

RATE_LIMIT_TOKENS_REMAINING: Final = "agentperf.rate_limit.tokens.remaining"
"""int; of these, how many are left."""

RATE_LIMIT_INPUT_TOKENS_LIMIT: Final = "agentperf.rate_limit.input_tokens.limit"
"""int; input tokens allowed at a time, as the response's head tells."""

RATE_LIMIT_INPUT_TOKENS_REMAINING: Final = "agentperf.rate_limit.input_tokens.remaining"
"""int; of these, how many are left."""

RATE_LIMIT_OUTPUT_TOKENS_LIMIT: Final = "agentperf.rate_limit.output_tokens.limit"
"""int; output tokens allowed at a time, as the response's head tells."""

RATE_LIMIT_OUTPUT_TOKENS_REMAINING: Final = "agentperf.rate_limit.output_tokens.remaining"
"""int; of these, how many are left."""

TIME_FIRST_CHUNK: Final = "agentperf.time.first_chunk"
"""double, s from t0; first response body chunk read from the upstream."""

TIME_FIRST_OUTPUT: Final = "agentperf.time.first_output"
"""double, s from t0; first chunk with non-empty content, reasoning, or tool name/arguments: TTFT. Streams only."""

TIME_FIRST_ANSWER: Final = "agentperf.time.first_answer"
"""double, s from t0; first output chunk that is not reasoning. Streams only."""

TIME_LAST_OUTPUT: Final = "agentperf.time.last_output"
"""double, s from t0; last output chunk. Streams only."""

TIME_END: Final = "agentperf.time.end"
"""double, s from t0; the exchange ended (stream closed, error, or cancel)."""

TIME_SENT: Final = "agentperf.time.sent"
"""double, s from t0; last byte of the request handed to the upstream's socket."""

UPLOAD_S: Final = "agentperf.upload_s"
"""double, s; waited for the client to send its request body."""

PROXY_OVERHEAD_S: Final = "agentperf.proxy.overhead_s"
"""double, s; (first byte written upstream - t0 - upload) + (first byte to the client - first byte from upstream)."""

CHUNK_COUNT: Final = "agentperf.chunk.count"
"""int; output chunks of a stream (not TCP reads)."""

CHUNK_GAP_P50_S: Final = "agentperf.chunk.gap_p50_s"
"""double, s; gaps between consecutive output chunks."""

CHUNK_GAP_P95_S: Final = "agentperf.chunk.gap_p95_s"
"""double, s."""

CHUNK_GAP_P99_S: Final = "agentperf.chunk.gap_p99_s"
"""double, s."""

CHUNK_GAP_MAX_S: Final = "agentperf.chunk.gap_max_s"
"""double, s."""

CHUNK_STALL_COUNT: Final = "agentperf.chunk.stall_count"
"""int; gaps between consecutive output chunks of more than `STALL_S`."""

PREFIX_SHARED_BYTES: Final = "agentperf.prefix.shared_bytes"
"""int; leading message bytes of the request that an earlier turn of the trajectory already sent."""

LINK_KEYS: Final = "agentperf.link.keys"
"""string; call spans: salted hashes of what tells which calls belong together (messages, tool-call ids, texts), words
with spaces between, for joining the calls of several proxies with one salt; their meaning is in
`otel_agentperf_proxy.trajectory.link_keys`."""

CONTEXT_SYSTEM_BYTES: Final = "agentperf.context.system_bytes"
"""int; request bytes of the system prompt."""

CONTEXT_TOOLS_BYTES: Final = "agentperf.context.tools_bytes"
"""int; request bytes of the tool definitions."""

CONTEXT_MESSAGES_BYTES: Final = "agentperf.context.messages_bytes"
"""int; request bytes of the messages, tool results left out."""

CONTEXT_TOOL_RESULTS_BYTES: Final = "agentperf.context.tool_results_bytes"
"""int; request bytes of tool results in the messages."""

SHAPE_MESSAGES: Final = "agentperf.shape.messages"
"""string; only with `--capture shape`: of each message of the request, in order and without system prompts,
`ROLE:BYTES:HASH`, with spaces between; equal messages of one store have equal hashes, keyed by the store's salt."""

MESSAGE_COUNT: Final = "agentperf.message.count"
"""int; messages in the request."""

TOOL_CALL_COUNT: Final = "agentperf.tool.call_count"
"""int; tool calls in the response."""

TOOL_DURATION_SOURCE: Final = "agentperf.tool.duration_source"
"""string; tool spans: `gap` (end of the asking response to the request with the result) or `client`."""

TOOL_ERROR: Final = "agentperf.tool.error"
"""boolean; tool spans, only when true: the result is marked as an error."""

TOOL_REPEATED: Final = "agentperf.tool.repeated"
"""boolean; tool spans, only when true: same tool, same arguments as an earlier call of the trajectory."""

TOOL_TURN_ID: Final = "agentperf.tool.turn_id"
"""string; tool spans: `agentperf.turn.id` of the turn that asked for the tool."""

FRAMES_DROPPED: Final = "agentperf.observation.dropped"
"""int; parts of this call that the observer did not get; absent when none."""

BODY_UNREAD_BYTES: Final = "agentperf.observation.unread_bytes"
"""int; body bytes past the observation limit, passed on but not looked at; absent when none."""

# --- Ours: levels of a benchmark (one span each, its bounds are the steady window) -----------------------------------

LEVEL_COMPLETED: Final = "agentperf.benchmark.completed_trajectories"
"""int; trajectories completed inside the steady window."""

LEVEL_PRESET: Final = "agentperf.benchmark.preset"
"""string; the rules that were played: `agentperf`, `quick`, `smoke`, or `custom`."""

ACCELERATOR_COUNT: Final = "agentperf.accelerator.count"
"""int; accelerators of the deployment, when told."""

POWER_MEAN_W: Final = "agentperf.power.mean_w"
"""double, W; mean power over the steady window, when known."""

# --- General conventions: log records --------------------------------------------------------------------------------

LOGGER_NAME: Final = "logger.name"
"""string; log records: the logger of the program."""

PROCESS_PID: Final = "process.pid"
"""int; log records: the process that wrote it."""

EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
"""string; log records with an exception: its traceback."""

# --- Ours: attributes of metrics only ---------------------------------------------------------------------------------

GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"
"""string; metrics of the older generation: `input` or `output`."""

GEN_AI_TOKEN_MODALITY: Final = "gen_ai.token.modality"
"""string; counters of tokens: `unknown`, for servers do not tell."""

SERVICE_VERSION: Final = "service.version"
"""string; version of the proxy."""

AGENT_KIND: Final = "agentperf.agent.kind"
"""string; `agent`, or `sub_agent` for one that another agent started."""

AGENT_STATE: Final = "agentperf.agent.state"
"""string; one of `AgentState`."""

TURN_DEPTH: Final = "agentperf.turn.depth"
"""string; class of a turn's index in its trajectory: `0`, `1-4`, `5-19`, `20-49`, `50+`."""

SLO_TIER: Final = "agentperf.slo.tier"
"""string; an SLO tier as `POLICY@VERSION:TIER`."""

SLO_TARGET: Final = "agentperf.slo.target"
"""string; a target's metric (`ttft`, `output_speed`, ...), or `error_rate`."""

WORKER: Final = "agentperf.worker"
"""string; index of a relay process, from 0."""

EXCHANGE_OUTCOME: Final = "agentperf.exchange.outcome"
"""string; how an HTTP exchange ended: `complete`, `client_disconnected`, `upstream_failed`, `shutdown`."""

USAGE_STEP: Final = "agentperf.usage.step"
"""string; `asked` or `hidden`."""

FAILURE_KIND: Final = "agentperf.failure.kind"
"""string; which part of the observer failed, and the exception's type."""

OVERFLOWED: Final = "agentperf.overflowed"
"""string; the attribute that had no room for a value, or `series`."""

# --- Spans of inference servers (vLLM, SGLang, TensorRT-LLM): read, never written ------------------------------------

SERVER_TIME_IN_QUEUE: Final = "gen_ai.latency.time_in_queue"
"""double, s; the request waited in the engine's queue."""

SERVER_TIME_TO_FIRST_TOKEN: Final = "gen_ai.latency.time_to_first_token"
"""double, s; the request's arrival in the engine to its first token."""

SERVER_TIME_IN_PREFILL: Final = "gen_ai.latency.time_in_model_prefill"
"""double, s; first scheduled to first token."""

SERVER_TIME_IN_DECODE: Final = "gen_ai.latency.time_in_model_decode"
"""double, s; first to last token."""

SERVER_E2E: Final = "gen_ai.latency.e2e"
"""double, s; the request's arrival in the engine to its end."""

# --- Claude Code's own telemetry: read, never written ----------------------------------------------------------------

CLAUDE_CODE_PREFIX: Final = "claude_code."
"""How the names of Claude Code's own spans and events begin."""

SESSION_ID: Final = "session.id"
"""string; the session that a span or an event of Claude Code belongs to."""

CLAUDE_CODE_AGENT_ID: Final = "agent_id"
"""string; the sub-agent within the session; absent for the main agent."""

# --- The older generation: read, never written ----------------------------------------------------------------------

OLD_SYSTEM: Final = "gen_ai.system"
"""string; `gen_ai.provider.name` before v1.37 of the conventions."""

OLD_USAGE_PROMPT_TOKENS: Final = "gen_ai.usage.prompt_tokens"
"""int; `gen_ai.usage.input_tokens` before v1.27."""

OLD_USAGE_COMPLETION_TOKENS: Final = "gen_ai.usage.completion_tokens"
"""int; `gen_ai.usage.output_tokens` before v1.27."""

OLD_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read_input_tokens"
"""int; `gen_ai.usage.cache_read.input_tokens` as instrumentations wrote it before the conventions had a name."""

OLD_USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
"""int; `gen_ai.usage.cache_write.input_tokens` before the standalone release."""

OLD_USAGE_CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation_input_tokens"
"""int; the same, as instrumentations wrote it before the conventions had a name."""

# --- Values --------------------------------------------------------------------------------------------------------

OPERATION_CHAT: Final = "chat"
"""`gen_ai.operation.name` of an LLM call; the span's name is `chat {model}`."""

OPERATION_TEXT_COMPLETION: Final = "text_completion"
"""`gen_ai.operation.name` of an LLM call that goes on from a text."""

OPERATION_EMBEDDINGS: Final = "embeddings"
"""`gen_ai.operation.name` of a call for embeddings: no turn, nothing is generated."""

OPERATION_GENERATE_CONTENT: Final = "generate_content"
"""`gen_ai.operation.name` of an LLM call in Google's format."""

OPERATION_INVOKE_AGENT: Final = "invoke_agent"
"""`gen_ai.operation.name` of an agent run; the span's name is `invoke_agent {agent}`."""

OPERATION_EXECUTE_TOOL: Final = "execute_tool"
"""`gen_ai.operation.name` of a tool call; the span's name is `execute_tool {tool}`."""

SPAN_EVALUATION: Final = "gen_ai.evaluation.result"
"""Name of an evaluation span: an outcome that was told later. The conventions have it as an event; ours is a span
without duration, so that it goes where spans go."""

EVALUATION_OUTCOME: Final = "outcome"
"""`gen_ai.evaluation.name` of the outcome of a trajectory."""

OUTCOME_SUCCESS: Final = "success"
"""`agentperf.outcome`: the task was done."""

OUTCOME_FAILURE: Final = "failure"
"""`agentperf.outcome`: it was not."""

SPAN_LEVEL: Final = "benchmark_level"
"""Name of a level span."""

STALL_S: Final = 1.0
"""Seconds; a longer gap between output chunks is a stall."""

KIND_TURN: Final = "turn"
"""`agentperf.turn.kind`: a step of the agent's work."""

KIND_AUXILIARY: Final = "auxiliary"
"""`agentperf.turn.kind`: a call beside the work: a title, a summary, a router's question, a token count."""

PHASE_WARMUP: Final = "warmup"
"""`agentperf.phase`: the level fills up to its agents."""

PHASE_STEADY: Final = "steady"
"""`agentperf.phase`: all agents of the level are at work; what the level is judged by."""

PHASE_DRAIN: Final = "drain"
"""`agentperf.phase`: the steady window is over, trajectories come to their end."""

WEBSOCKET: Final = "websocket"
"""`network.protocol.name`: the request was a message, and each event of its stream another."""

USAGE_SERVER: Final = "server"
"""`agentperf.usage.source`: the response told its token counts."""

USAGE_ESTIMATED: Final = "estimated"
"""`agentperf.usage.source`: the server told none, and whoever wrote the span estimated them. Ours does so for calls
that ended well: a token for each output chunk where these are as small as tokens, else one for 3.4 bytes of text."""

USAGE_NONE: Final = "none"
"""`agentperf.usage.source`: nobody counted; the counts are absent."""

DURATION_GAP: Final = "gap"
"""`agentperf.tool.duration_source`: from the end of the asking response to the request with the result."""

DURATION_CLIENT: Final = "client"
"""`agentperf.tool.duration_source`: the client told how long the tool ran."""


class Status:
    """Values of `agentperf.status`."""

    OK: Final = "ok"
    """The response came to its end, and the end was good."""
    ERROR: Final = "error"
    """An error status, an error event in the stream, or the upstream failed before the first byte."""
    CANCELLED: Final = "cancelled"
    """The client left before the terminal event."""
    TRUNCATED: Final = "truncated"
    """The upstream's stream ended without its terminal event, or the engine gave the answer up (`abort`)."""
    PARTIAL: Final = "partial"
    """The observer missed a part of the call; what is known is right but incomplete."""
    ABANDONED: Final = "abandoned"
    """Runs only: no activity up to the idle limit."""


class ErrorType:
    """Values of `error.type` that no server gives."""

    CLIENT_DISCONNECTED: Final = "client_disconnected"
    """The client left before the response was complete."""
    UPSTREAM_CONNECT: Final = "upstream_connect_failed"
    """No connection to the upstream: refused, unreachable, name not found, TLS failed."""
    UPSTREAM_TIMEOUT: Final = "upstream_timeout"
    """Connecting to the upstream took too long, or its response did where a limit is set."""
    UPSTREAM_RESET: Final = "upstream_reset"
    """The upstream ended the connection before its response was complete."""
    UPSTREAM_PROTOCOL: Final = "upstream_protocol_error"
    """What the upstream sent is not HTTP/1.1."""
    TRUNCATED: Final = "truncated"
    """The stream ended cleanly, but without its terminal event, or with an answer that was given up."""
    PROXY_SHUTDOWN: Final = "proxy_shutdown"
    """The proxy was told to end, and the exchange had not ended within the time to drain."""
    REQUEST_REFUSED: Final = "request_refused"
    """The proxy refused the request: its body is too large, or no upstream is meant for it."""
    PROXY_ERROR: Final = "proxy_error"
    """The proxy itself failed, or the upstream's response cannot be written to the client."""
    TOOL: Final = "tool_error"
    """Tool spans: the result that the client sent is marked as an error."""


class AgentState:
    """Values of `agentperf.agent.state`."""

    TTFT: Final = "ttft"
    """Waiting for the first output of a streamed turn."""
    DECODE: Final = "decode"
    """From the first output of a streamed turn to its end."""
    CALL: Final = "call"
    """In a turn that was not streamed, or that failed before its first output."""
    TOOL: Final = "tool"
    """Tools run: between a turn that asked for them and the one with their results."""
    HARNESS: Final = "harness"
    """Between the turns of a run, and no tool is known to run."""
    IDLE: Final = "idle"
    """Between the runs of a trajectory: a human's turn."""


class Source:
    """Values of `agentperf.trajectory.source`."""

    LAUNCHER: Final = "launcher"
    """A launcher tag names the trajectory."""
    HEADER: Final = "header"
    """A header of the agent names its session, and its agent where it has several."""
    BODY: Final = "body"
    """A field of the request's body names the session."""
    TOOL_CALL_ID: Final = "tool_call_id"
    """The request returns results of tool calls that a turn of the trajectory asked for."""
    PREFIX: Final = "prefix"
    """The request's messages continue those of a turn with the answer it got, or repeat those of a failed one."""
    PREFIX_RECORDED: Final = "prefix_recorded"
    """The request's messages continue those of a turn, with another answer than it got: a recording is played."""
    RESPONSE_ID: Final = "response_id"
    """The request names the trajectory's latest response, as one whose history the server holds."""
    SUMMARY: Final = "summary"
    """The request holds the summary that was just made of the trajectory's conversation: its next segment."""
    SUB_AGENT: Final = "sub_agent"
    """The call starts a trajectory, and its text is what a waiting tool call of the parent trajectory asked with."""
    TEXT: Final = "text"
    """An auxiliary call and the trajectory hold the same text."""
    NEW: Final = "new"
    """Nothing matched: the call starts a trajectory."""


# --- Launcher tags --------------------------------------------------------------------------------------------------

TAG_HEADER_PREFIX: Final = "x-agentperf-"
"""Request headers `x-agentperf-trajectory-id`, ... : tag names with `.` as `-`; removed before forwarding."""

TAG_BAGGAGE_PREFIX: Final = "agentperf."
"""W3C baggage entries `agentperf.trajectory.id=...`; removed before forwarding, other entries pass."""

TAG_PATH_PREFIX: Final = "/~/"
"""Path prefix `/~/trajectory.id=X;level=8/v1/...`; removed before forwarding."""

LAUNCHER_TAGS: Final = {
    "trajectory.id": TRAJECTORY_ID,
    "trajectory.final": TRAJECTORY_FINAL,
    "parent.id": TRAJECTORY_PARENT_ID,
    "agent.name": GEN_AI_AGENT_NAME,
    "benchmark.id": BENCHMARK_ID,
    "level": LEVEL,
    "agent.index": AGENT_INDEX,
    "phase": PHASE,
    "task.id": TASK_ID,
    "task.domain": TASK_DOMAIN,
    "outcome": OUTCOME,
}
"""Tag name (without prefix) to span attribute. `level` and `agent.index` are ints, `trajectory.final` is a boolean."""
