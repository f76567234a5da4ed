-- relation: server_spans
-- description: What inference servers tell of a request (vLLM's `llm_request`, SGLang, TensorRT-LLM), renamed. Where a
--   server does not tell prefill or decode, they are what is left of its own time to first token and of its end to end.
-- grain: one row per span with `gen_ai.latency.*`
-- requires: spans of inference servers
-- source: vLLM vllm/tracing; SGLang; TensorRT-LLM
-- reads: spans
-- visibility: internal
-- storage: view
SELECT
    trace_id,
    span_id,
    parent_span_id,
    links,
    "gen_ai.latency.time_in_queue" AS queue_s,
    COALESCE(
        "gen_ai.latency.time_in_model_prefill",
        "gen_ai.latency.time_to_first_token" - "gen_ai.latency.time_in_queue"
    ) AS prefill_s,
    COALESCE(
        "gen_ai.latency.time_in_model_decode",
        "gen_ai.latency.e2e" - "gen_ai.latency.time_to_first_token"
    ) AS decode_s,
    COALESCE(
        "gen_ai.latency.time_to_first_token",
        "gen_ai.latency.time_in_queue" + "gen_ai.latency.time_in_model_prefill"
    ) AS first_token_s
FROM spans
WHERE "agentperf.dialect" IS NULL
    AND COALESCE(
        "gen_ai.latency.e2e", "gen_ai.latency.time_to_first_token", "gen_ai.latency.time_in_queue"
    ) IS NOT NULL
