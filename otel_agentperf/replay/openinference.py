"""Spans with the attributes of OpenInference beside their own: what Phoenix and Arize read of an LLM call, a tool call
and an agent run. Pure: lines of OTLP JSON in, lines of OTLP JSON out; see arize-ai.github.io/openinference/spec.

Messages are flattened into attributes as OpenInference has them, and their own attributes left out, since they would
say the same again. Spans that are none of these pass as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from otel_agentperf import semconv

__all__ = ["Converted", "converted"]

SPAN_KIND: Final = "openinference.span.kind"
SESSION_ID: Final = "session.id"
AGENT_NAME: Final = "agent.name"
INPUT_VALUE: Final = "input.value"
INPUT_MIME_TYPE: Final = "input.mime_type"
OUTPUT_VALUE: Final = "output.value"
OUTPUT_MIME_TYPE: Final = "output.mime_type"
MODEL_NAME: Final = "llm.model_name"
REQUEST_MODEL_NAME: Final = "llm.request.model_name"
RESPONSE_MODEL_NAME: Final = "llm.response.model_name"
PROVIDER: Final = "llm.provider"
INVOCATION_PARAMETERS: Final = "llm.invocation_parameters"
FINISH_REASON: Final = "llm.finish_reason"
TOKENS_PROMPT: Final = "llm.token_count.prompt"
TOKENS_COMPLETION: Final = "llm.token_count.completion"
TOKENS_TOTAL: Final = "llm.token_count.total"
TOKENS_CACHE_READ: Final = "llm.token_count.prompt_details.cache_read"
TOKENS_CACHE_WRITE: Final = "llm.token_count.prompt_details.cache_write"
TOKENS_REASONING: Final = "llm.token_count.completion_details.reasoning"
COST_TOTAL: Final = "llm.cost.total"
INPUT_MESSAGES: Final = "llm.input_messages"
OUTPUT_MESSAGES: Final = "llm.output_messages"
TOOLS: Final = "llm.tools"
TOOL_SCHEMA: Final = "tool.json_schema"
MESSAGE_ROLE: Final = "message.role"
MESSAGE_CONTENT: Final = "message.content"
MESSAGE_CONTENTS: Final = "message.contents"
CONTENT_TYPE: Final = "message_content.type"
CONTENT_TEXT: Final = "message_content.text"
MESSAGE_TOOL_CALLS: Final = "message.tool_calls"
MESSAGE_TOOL_CALL_ID: Final = "message.tool_call_id"
TOOL_CALL_ID: Final = "tool_call.id"
TOOL_CALL_NAME: Final = "tool_call.function.name"
TOOL_CALL_ARGUMENTS: Final = "tool_call.function.arguments"
TOOL_NAME: Final = "tool.name"
TOOL_ID: Final = "tool.id"
EMBEDDING_MODEL_NAME: Final = "embedding.model_name"

TEXT: Final = "text/plain"

_KINDS: Final = {
    semconv.OPERATION_CHAT: "LLM",
    semconv.OPERATION_GENERATE_CONTENT: "LLM",
    semconv.OPERATION_TEXT_COMPLETION: "LLM",
    semconv.OPERATION_EMBEDDINGS: "EMBEDDING",
    semconv.OPERATION_EXECUTE_TOOL: "TOOL",
    semconv.OPERATION_INVOKE_AGENT: "AGENT",
}

_COPIED: Final = {
    semconv.GEN_AI_PROVIDER_NAME: PROVIDER,
    semconv.GEN_AI_REQUEST_MODEL: REQUEST_MODEL_NAME,
    semconv.GEN_AI_RESPONSE_MODEL: RESPONSE_MODEL_NAME,
    semconv.GEN_AI_USAGE_INPUT_TOKENS: TOKENS_PROMPT,
    semconv.GEN_AI_USAGE_OUTPUT_TOKENS: TOKENS_COMPLETION,
    semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: TOKENS_CACHE_READ,
    semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: TOKENS_CACHE_WRITE,
    semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: TOKENS_REASONING,
    semconv.USAGE_COST: COST_TOTAL,
}
"""Of LLM calls, as they are."""

_PARAMETERS: Final = {
    semconv.GEN_AI_REQUEST_MAX_TOKENS: "max_tokens",
    semconv.GEN_AI_REQUEST_TEMPERATURE: "temperature",
    semconv.GEN_AI_REQUEST_TOP_P: "top_p",
    semconv.GEN_AI_REQUEST_TOP_K: "top_k",
    semconv.GEN_AI_REQUEST_SEED: "seed",
    semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY: "frequency_penalty",
    semconv.GEN_AI_REQUEST_PRESENCE_PENALTY: "presence_penalty",
    semconv.GEN_AI_REQUEST_STOP_SEQUENCES: "stop",
    semconv.GEN_AI_REQUEST_REASONING_LEVEL: "reasoning_effort",
    semconv.GEN_AI_REQUEST_STREAM: "stream",
}

_MESSAGES: Final = (
    semconv.GEN_AI_INPUT_MESSAGES,
    semconv.GEN_AI_OUTPUT_MESSAGES,
    semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
    semconv.GEN_AI_TOOL_DEFINITIONS,
)

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode

_Json = dict[str, Any]


@dataclass
class Converted:
    """What was written, counted while it is."""

    spans: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    broken_lines: int = 0


def converted(lines: Iterable[bytes], counted: Converted) -> Iterator[bytes]:
    """Lines of OTLP JSON with these attributes; what is no such line is left out and counted."""
    for line in lines:
        try:
            document = _decode(line)
            for resource in document["resourceSpans"]:
                for scope in resource.get("scopeSpans") or ():
                    for span in scope.get("spans") or ():
                        kind = _extend(span)
                        counted.spans += 1
                        counted.kinds[kind] = counted.kinds.get(kind, 0) + 1
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            counted.broken_lines += 1
            continue
        yield _encode(document) + b"\n"


def _extend(span: _Json) -> str:
    """Add the attributes to a span; its kind comes back, empty when it has none."""
    own = {each["key"]: _plain(each["value"]) for each in span.get("attributes") or ()}
    kind = _KINDS.get(str(own.get(semconv.GEN_AI_OPERATION_NAME)), "")
    if not kind:
        return ""
    made: _Json = {SPAN_KIND: kind}
    if session := own.get(semconv.GEN_AI_CONVERSATION_ID) or own.get(semconv.TRAJECTORY_ID):
        made[SESSION_ID] = session
    if agent := own.get(semconv.GEN_AI_AGENT_NAME):
        made[AGENT_NAME] = agent
    if kind == "LLM":
        made |= dict(_of_call(own))
    elif kind == "EMBEDDING":
        made[EMBEDDING_MODEL_NAME] = own.get(semconv.GEN_AI_RESPONSE_MODEL) or own.get(semconv.GEN_AI_REQUEST_MODEL)
    elif kind == "TOOL":
        made[TOOL_NAME] = own.get(semconv.GEN_AI_TOOL_NAME)
        made[TOOL_ID] = own.get(semconv.GEN_AI_TOOL_CALL_ID)
    kept = [each for each in span["attributes"] if each["key"] not in _MESSAGES and each["key"] not in made]
    added = [{"key": key, "value": _value(value)} for key, value in made.items() if value is not None]
    span["attributes"] = kept + added
    return kind


def _of_call(own: _Json) -> Iterator[tuple[str, Any]]:
    for name, other in _COPIED.items():
        if name in own:
            yield other, own[name]
    yield MODEL_NAME, own.get(semconv.GEN_AI_RESPONSE_MODEL) or own.get(semconv.GEN_AI_REQUEST_MODEL)
    tokens = [own.get(name) for name in (semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.GEN_AI_USAGE_OUTPUT_TOKENS)]
    if None not in tokens:
        yield TOKENS_TOTAL, sum(tokens)
    parameters = {short: own[name] for name, short in _PARAMETERS.items() if name in own}
    if parameters:
        yield INVOCATION_PARAMETERS, _encode(parameters).decode()
    if reasons := own.get(semconv.GEN_AI_RESPONSE_FINISH_REASONS):
        yield FINISH_REASON, reasons[0]
    system = _list(own.get(semconv.GEN_AI_SYSTEM_INSTRUCTIONS))
    received = _list(own.get(semconv.GEN_AI_INPUT_MESSAGES))
    answered = _list(own.get(semconv.GEN_AI_OUTPUT_MESSAGES))
    if system:
        received = [{"role": "system", "parts": system}, *received]
    for prefix, messages in ((INPUT_MESSAGES, received), (OUTPUT_MESSAGES, answered)):
        number = 0
        for message in messages:
            for flat in _flattened(message):
                yield from ((f"{prefix}.{number}.{key}", value) for key, value in flat.items())
                number += 1
    if received and (text := _text(received[-1])):
        yield INPUT_VALUE, text
        yield INPUT_MIME_TYPE, TEXT
    if answered and (text := "".join(map(_text, answered))):
        yield OUTPUT_VALUE, text
        yield OUTPUT_MIME_TYPE, TEXT
    for number, tool in enumerate(_list(own.get(semconv.GEN_AI_TOOL_DEFINITIONS))):
        yield f"{TOOLS}.{number}.{TOOL_SCHEMA}", _encode(tool).decode()


def _flattened(message: _Json) -> Iterator[_Json]:
    """A message as OpenInference has it; results of tools are a message each."""
    parts = message.get("parts") or ()
    results = [part for part in parts if part.get("type") == "tool_call_response"]
    others = [part for part in parts if part.get("type") != "tool_call_response"]
    for part in results:
        yield {MESSAGE_ROLE: "tool", MESSAGE_TOOL_CALL_ID: part.get("id"), MESSAGE_CONTENT: _response(part)}
    if not others and results:
        return
    flat: _Json = {MESSAGE_ROLE: str(message.get("role"))}
    texts = [part for part in others if part.get("type") in ("text", "reasoning")]
    if any(part["type"] == "reasoning" for part in texts):
        for number, part in enumerate(texts):
            flat[f"{MESSAGE_CONTENTS}.{number}.{CONTENT_TYPE}"] = part["type"]
            flat[f"{MESSAGE_CONTENTS}.{number}.{CONTENT_TEXT}"] = str(part.get("content") or "")
    elif texts:
        flat[MESSAGE_CONTENT] = "".join(str(part.get("content") or "") for part in texts)
    calls = [part for part in others if part.get("type") == "tool_call"]
    for number, part in enumerate(calls):
        arguments = part.get("arguments")
        at = f"{MESSAGE_TOOL_CALLS}.{number}"
        flat[f"{at}.{TOOL_CALL_ID}"] = part.get("id")
        flat[f"{at}.{TOOL_CALL_NAME}"] = str(part.get("name") or "")
        flat[f"{at}.{TOOL_CALL_ARGUMENTS}"] = (
            arguments if isinstance(arguments, str) else _encode({} if arguments is None else arguments).decode()
        )
    yield flat


def _response(part: _Json) -> str:
    response = part.get("response")
    return response if isinstance(response, str) else _encode(response).decode()


def _text(message: _Json) -> str:
    said = []
    for part in message.get("parts") or ():
        if part.get("type") == "text":
            said.append(str(part.get("content") or ""))
        elif part.get("type") == "tool_call_response":
            said.append(_response(part))
    return "".join(said)


def _list(text: Any) -> list[_Json]:
    """A list of objects from its JSON; what is none counts as absent."""
    if not isinstance(text, str):
        return []
    try:
        found = _decode(text)
    except msgspec.DecodeError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _plain(value: _Json) -> Any:
    [(kind, content)] = value.items()
    match kind:
        case "intValue":
            return int(content)
        case "arrayValue":
            return [_plain(each) for each in content.get("values") or ()]
        case _:
            return content


def _value(given: Any) -> _Json:
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    if isinstance(given, float):
        return {"doubleValue": given}
    if isinstance(given, Sequence) and not isinstance(given, str):
        return {"arrayValue": {"values": [_value(each) for each in given]}}
    return {"stringValue": str(given)}
