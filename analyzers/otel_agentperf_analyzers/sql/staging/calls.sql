-- relation: calls
-- description: LLM calls, each once: of one that a client and our proxy both tell, the proxy's span.
-- grain: one row per call
-- requires: call spans
-- source: ours
-- reads: call_spans, repeated_calls
-- visibility: internal
-- storage: view
FROM call_spans
ANTI JOIN repeated_calls USING (trace_id, span_id)
