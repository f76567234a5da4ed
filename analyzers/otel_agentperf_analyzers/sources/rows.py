"""The rows that every source yields: one per span, with a column for each attribute that the analysis reads.

Such a column is named after its attribute, so that `sql/staging` alone says what an attribute means and which older
name stands in for it. All other attributes of a span are kept as text in `attributes`.
"""

from typing import Final

import pyarrow as pa

from otel_agentperf import semconv

TEXT: Final = pa.string()
INT: Final = pa.int64()
DOUBLE: Final = pa.float64()
BOOL: Final = pa.bool_()
TEXTS: Final = pa.list_(pa.string())
MAP: Final = pa.map_(pa.string(), pa.string())

ATTRIBUTES: Final[dict[str, pa.DataType]] = {
    semconv.GEN_AI_OPERATION_NAME: TEXT,
    semconv.GEN_AI_PROVIDER_NAME: TEXT,
    semconv.GEN_AI_CONVERSATION_ID: TEXT,
    semconv.GEN_AI_AGENT_NAME: TEXT,
    semconv.GEN_AI_REQUEST_MODEL: TEXT,
    semconv.GEN_AI_REQUEST_STREAM: BOOL,
    semconv.GEN_AI_REQUEST_MAX_TOKENS: INT,
    semconv.GEN_AI_REQUEST_REASONING_LEVEL: TEXT,
    semconv.GEN_AI_RESPONSE_ID: TEXT,
    semconv.GEN_AI_RESPONSE_MODEL: TEXT,
    semconv.GEN_AI_RESPONSE_FINISH_REASONS: TEXTS,
    semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: DOUBLE,
    semconv.GEN_AI_USAGE_INPUT_TOKENS: INT,
    semconv.GEN_AI_USAGE_OUTPUT_TOKENS: INT,
    semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: INT,
    semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: INT,
    semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: INT,
    semconv.GEN_AI_TOOL_NAME: TEXT,
    semconv.GEN_AI_TOOL_TYPE: TEXT,
    semconv.GEN_AI_TOOL_CALL_ID: TEXT,
    semconv.ERROR_TYPE: TEXT,
    semconv.HTTP_REQUEST_METHOD: TEXT,
    semconv.HTTP_RESPONSE_STATUS_CODE: INT,
    semconv.URL_PATH: TEXT,
    semconv.SERVER_ADDRESS: TEXT,
    semconv.SERVER_PORT: INT,
    semconv.USER_AGENT_ORIGINAL: TEXT,
    semconv.TRAJECTORY_ID: TEXT,
    semconv.TRAJECTORY_PARENT_ID: TEXT,
    semconv.TRAJECTORY_SOURCE: TEXT,
    semconv.TRAJECTORY_CONFIDENCE: DOUBLE,
    semconv.TRAJECTORY_FINAL: BOOL,
    semconv.RUN_ID: TEXT,
    semconv.RUN_INDEX: INT,
    semconv.SEGMENT_INDEX: INT,
    semconv.TURN_ID: TEXT,
    semconv.TURN_INDEX: INT,
    semconv.TURN_KIND: TEXT,
    semconv.ATTEMPT_INDEX: INT,
    semconv.AGENT_DEPTH: INT,
    semconv.TASK_ID: TEXT,
    semconv.TASK_DOMAIN: TEXT,
    semconv.OUTCOME: TEXT,
    semconv.BENCHMARK_ID: TEXT,
    semconv.LEVEL: INT,
    semconv.PHASE: TEXT,
    semconv.AGENT_INDEX: INT,
    semconv.TENANT: TEXT,
    semconv.DIALECT: TEXT,
    semconv.STATUS: TEXT,
    semconv.USAGE_SOURCE: TEXT,
    semconv.USAGE_COST: DOUBLE,
    semconv.SERVER_QUEUE_S: DOUBLE,
    semconv.SERVER_LOAD_S: DOUBLE,
    semconv.SERVER_PREFILL_S: DOUBLE,
    semconv.SERVER_DECODE_S: DOUBLE,
    semconv.REQUEST_ID: TEXT,
    semconv.REQUEST_BYTES: INT,
    semconv.RESPONSE_BYTES: INT,
    semconv.RETRY_AFTER_S: DOUBLE,
    semconv.RATE_LIMIT_REQUESTS_LIMIT: INT,
    semconv.RATE_LIMIT_REQUESTS_REMAINING: INT,
    semconv.RATE_LIMIT_TOKENS_LIMIT: INT,
    semconv.RATE_LIMIT_TOKENS_REMAINING: INT,
    semconv.RATE_LIMIT_INPUT_TOKENS_LIMIT: INT,
    semconv.RATE_LIMIT_INPUT_TOKENS_REMAINING: INT,
    semconv.RATE_LIMIT_OUTPUT_TOKENS_LIMIT: INT,
    semconv.RATE_LIMIT_OUTPUT_TOKENS_REMAINING: INT,
    semconv.TIME_FIRST_CHUNK: DOUBLE,
    semconv.TIME_FIRST_OUTPUT: DOUBLE,
    semconv.TIME_FIRST_ANSWER: DOUBLE,
    semconv.TIME_LAST_OUTPUT: DOUBLE,
    semconv.TIME_END: DOUBLE,
    semconv.TIME_SENT: DOUBLE,
    semconv.UPLOAD_S: DOUBLE,
    semconv.PROXY_OVERHEAD_S: DOUBLE,
    semconv.CHUNK_COUNT: INT,
    semconv.CHUNK_GAP_P50_S: DOUBLE,
    semconv.CHUNK_GAP_P95_S: DOUBLE,
    semconv.CHUNK_GAP_P99_S: DOUBLE,
    semconv.CHUNK_GAP_MAX_S: DOUBLE,
    semconv.CHUNK_STALL_COUNT: INT,
    semconv.PREFIX_SHARED_BYTES: INT,
    semconv.LINK_KEYS: TEXT,
    semconv.CONTEXT_SYSTEM_BYTES: INT,
    semconv.CONTEXT_TOOLS_BYTES: INT,
    semconv.CONTEXT_MESSAGES_BYTES: INT,
    semconv.CONTEXT_TOOL_RESULTS_BYTES: INT,
    semconv.MESSAGE_COUNT: INT,
    semconv.TOOL_CALL_COUNT: INT,
    semconv.TOOL_DURATION_SOURCE: TEXT,
    semconv.TOOL_ERROR: BOOL,
    semconv.TOOL_REPEATED: BOOL,
    semconv.TOOL_TURN_ID: TEXT,
    semconv.FRAMES_DROPPED: INT,
    semconv.BODY_UNREAD_BYTES: INT,
    semconv.LEVEL_COMPLETED: INT,
    semconv.LEVEL_PRESET: TEXT,
    semconv.ACCELERATOR_COUNT: INT,
    semconv.POWER_MEAN_W: DOUBLE,
    semconv.SERVER_TIME_IN_QUEUE: DOUBLE,
    semconv.SERVER_TIME_TO_FIRST_TOKEN: DOUBLE,
    semconv.SERVER_TIME_IN_PREFILL: DOUBLE,
    semconv.SERVER_TIME_IN_DECODE: DOUBLE,
    semconv.SERVER_E2E: DOUBLE,
    semconv.SESSION_ID: TEXT,
    semconv.CLAUDE_CODE_AGENT_ID: TEXT,
    semconv.OLD_SYSTEM: TEXT,
    semconv.OLD_USAGE_PROMPT_TOKENS: INT,
    semconv.OLD_USAGE_COMPLETION_TOKENS: INT,
    semconv.OLD_USAGE_CACHE_READ_INPUT_TOKENS: INT,
    semconv.OLD_USAGE_CACHE_CREATION_INPUT_TOKENS: INT,
    semconv.OLD_USAGE_CACHE_CREATION_TOKENS: INT,
}
"""Attributes with a column of their own, and its type."""

HEAD: Final[dict[str, pa.DataType]] = {
    "trace_id": TEXT,
    "span_id": TEXT,
    "parent_span_id": TEXT,
    "name": TEXT,
    "kind": INT,
    "start_unix_ns": INT,
    "end_unix_ns": INT,
    "status_code": INT,
    "status_message": TEXT,
    "events": TEXT,
    "links": TEXT,
    "service_name": TEXT,
    "service_instance_id": TEXT,
    "scope_name": TEXT,
    "resource_attributes": MAP,
    "attributes": MAP,
    "content": MAP,
}
"""Columns of every span. Ids are lower-case hex; `events` and `links` are the OTLP JSON text."""

CONTENT: Final = frozenset(
    (
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.GEN_AI_TOOL_DEFINITIONS,
    )
)
"""Attributes that hold prompts and answers: large, and read only by who asks for column `content`."""

SCHEMA: Final = pa.schema([*HEAD.items(), *ATTRIBUTES.items()])
