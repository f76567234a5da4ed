"""Recorded calls in the formats that other tools replay. Pure: data in, files' names and bytes out.

    weka              one JSON file per trajectory: token counts, ids of prefix blocks, times; sub-agents inside
    aiperf            JSON lines of AIPerf's mooncake-trace with sessions: messages, output lengths, delays
    guidellm-otel     JSON lines, one trajectory each, with GenAI spans
    agentperf-local   a manifest, and a file of turns per trajectory

Weka's needs the shape of prompts, the others their content.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count, zip_longest
from typing import Any, Final

import msgspec

from otel_agentperf import semconv
from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.store import boundaries, recording_of, scope_of
from otel_agentperf.replay.recorded import Call, Calls
from otel_agentperf.replay.recording import Task, Turn
from otel_agentperf.replay.vocabulary import FourByteVocabulary

__all__ = ["EXPORTS", "Files", "agentperf_local", "aiperf", "guidellm_otel", "weka"]

BLOCK_TOKENS: Final = 64
"""Of Weka's traces."""

_encode: Final = msgspec.json.Encoder().encode

Files = Iterator[tuple[str, bytes]]
"""Name within the export, empty for the export itself, and content."""


def weka(calls: Calls, where: str) -> Files:
    """One trace per trajectory that has no parent.

    Raises:
        SourceError: no call has the shape of its prompt.
    """
    own = {
        name: [call for call in group if call.shape and call.input_tokens and call.output_tokens is not None]
        for name, group in calls.trajectories.items()
    }
    own = {name: group for name, group in own.items() if group}
    if not own:
        raise SourceError(f"{where}: weka needs the shape of prompts; run the proxy with --capture shape (or content)")
    children: dict[str, list[str]] = {}
    for name, group in own.items():
        if group[0].parent in own:
            children.setdefault(str(group[0].parent), []).append(name)
    inner = {child for group in children.values() for child in group}
    for name in own:
        if name not in inner:
            yield f"trace_{file_name(name)}.json", _encode(_weka_trace(name, own, children))


def _weka_trace(name: str, own: Mapping[str, Sequence[Call]], children: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    calls = own[name]
    origin = calls[0].start_s
    ids: dict[str, int] = {}
    numbers = count(1)
    entries = [
        (call.start_s, entry) for call, entry in zip(calls, _weka_calls(calls, origin, ids, numbers), strict=True)
    ]
    below = list(children.get(name, ()))
    while below:
        child = below.pop(0)
        # A sub-agent of a sub-agent stands beside it: the format has one level.
        below += children.get(child, ())
        entries.append((own[child][-1].end_s, _weka_agent(child, own[child], origin, ids, numbers)))
    head = _head_tokens(calls)
    return {
        "id": name,
        "models": sorted({call.model for call in calls}),
        "block_size": BLOCK_TOKENS,
        "hash_id_scope": "local",
        "tool_tokens": head["tools"],
        "system_tokens": head["system"],
        "requests": [entry for _, entry in sorted(entries, key=lambda pair: pair[0])],
    }


def _weka_agent(
    name: str, calls: Sequence[Call], origin: float, ids: dict[str, int], numbers: "count[int]"
) -> dict[str, Any]:
    """A sub-agent: `t` is when it ended, as in the published traces; its requests count from its own beginning."""
    head = _head_tokens(calls)
    start_s, end_s = calls[0].start_s, calls[-1].end_s
    return {
        "t": round(end_s - origin, 3),
        "type": "subagent",
        "agent_id": name,
        "subagent_type": calls[0].agent or "subagent",
        "duration_ms": round((end_s - start_s) * 1000),
        "total_tokens": sum((call.input_tokens or 0) + (call.output_tokens or 0) for call in calls),
        "tool_use_count": sum(len(call.tools_called) for call in calls),
        "status": "completed",
        "models": sorted({call.model for call in calls}),
        "tool_tokens": head["tools"],
        "system_tokens": head["system"],
        "requests": list(_weka_calls(calls, start_s, ids, numbers)),
    }


def _weka_calls(
    calls: Sequence[Call], origin: float, ids: dict[str, int], numbers: "count[int]"
) -> Iterator[dict[str, Any]]:
    before: tuple[list[str], list[int]] | None = None
    scope = scope_of(calls)
    for index, call in enumerate(calls):
        before = boundaries(call, before, 1, scope)
        earlier = calls[index - 1] if index else None
        entry = {
            "t": round(call.start_s - origin, 3),
            "type": "s" if call.stream else "n",
            "model": call.model,
            "in": call.input_tokens,
            "out": call.output_tokens,
            "hash_ids": _blocks(*before, ids, numbers),
            "input_types": ["text"] if earlier is None else ["tool_result" if earlier.tools_called else "text"],
            "output_types": ["tool_use"] if call.tools_called else ["text"],
            "stop": "tool_use" if call.tools_called else "end_turn",
            "api_time": round(call.end_s - call.start_s, 3),
            "think_time": round(max(call.start_s - earlier.end_s, 0.0), 3) if earlier is not None else 0.0,
        }
        if call.stream and call.ttft_s is not None:
            entry["ttft"] = round(call.ttft_s, 3)
        yield entry


def _blocks(chain: Sequence[str], ends: Sequence[int], ids: dict[str, int], numbers: "count[int]") -> list[int]:
    """Ids of the full blocks of a prompt: the same where everything up to the block's end is."""
    found = []
    part = 0
    for number in range(ends[-1] // BLOCK_TOKENS):
        while ends[part] < (number + 1) * BLOCK_TOKENS:
            part += 1
        key = f"{chain[part]}/{number}"
        if key not in ids:
            ids[key] = next(numbers)
        found.append(ids[key])
    return found


def _head_tokens(calls: Sequence[Call]) -> dict[str, int]:
    """Tokens of tools and system prompt of the first call, in proportion to bytes."""
    call = calls[0]
    total = call.tools_bytes + call.system_bytes + sum(piece.size for piece in call.shape or ())
    scale = (call.input_tokens or 0) / max(total, 1)
    return {"tools": round(call.tools_bytes * scale), "system": round(call.system_bytes * scale)}


def aiperf(calls: Calls, where: str) -> Files:
    """AIPerf's mooncake-trace: each turn with its messages, sessions one after the other."""
    rows = []
    for task in _family(calls, where, "aiperf"):
        for index, turn in enumerate(task.turns):
            row: dict[str, Any] = {
                "session_id": task.id,
                "messages": [msgspec.Raw(message) for message in turn.messages],
                "output_length": max(turn.target_output_tokens or 1, 1),
            }
            if turn.tools is not None:
                row["tools"] = msgspec.Raw(turn.tools)
            if index:
                row["delay"] = round((task.turns[index - 1].tool_delay_s or 0.0) * 1000, 3)
            rows.append(_encode(row))
    yield "", b"".join(row + b"\n" for row in rows)


def guidellm_otel(calls: Calls, where: str) -> Files:
    """GuideLLM's OTel traces: each trajectory one line with its spans, messages as the conventions have them."""
    _require_content(calls, where, "guidellm-otel")
    lines = []
    for name, group in calls.trajectories.items():
        told = [call for call in group if call.content is not None and call.input_tokens is not None]
        spans = [_span(call, later) for call, later in zip_longest(told, told[1:])]
        if spans:
            lines.append(_encode({"trace_id": name, "spans": spans}))
    yield "", b"".join(line + b"\n" for line in lines)


def _span(call: Call, later: Call | None) -> dict[str, Any]:
    """A call as a span; `duration` (s) is beside what OpenTelemetry has, for the pauses between calls."""
    output, reasons = _answer(call, later)
    attributes = {
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_CHAT,
        semconv.GEN_AI_REQUEST_MODEL: call.model,
        semconv.GEN_AI_USAGE_INPUT_TOKENS: call.input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: call.output_tokens or 0,
        semconv.GEN_AI_INPUT_MESSAGES: _encode(call.content).decode(),
        semconv.GEN_AI_OUTPUT_MESSAGES: _encode(output).decode(),
        semconv.GEN_AI_RESPONSE_FINISH_REASONS: reasons,
    }
    if call.tools:
        attributes[semconv.GEN_AI_TOOL_DEFINITIONS] = _encode(call.tools).decode()
    return {
        "span_id": call.span_id,
        "parent_span_id": None,
        "start_time": _iso(call.start_s),
        "end_time": _iso(call.end_s),
        "duration": round(call.end_s - call.start_s, 6),
        "status": {"code": 1},
        "attributes": attributes,
    }


_TOOL_ENDS: Final = frozenset(("tool_calls", "tool_call", "tool_use", "function_call"))
"""Reasons for which GuideLLM takes an answer for tool calls, whatever it says."""


def _answer(call: Call, later: Call | None) -> tuple[Sequence[Mapping[str, Any]], list[str]]:
    """The answer of a call, and why it ended, so that GuideLLM sends one request for each call.

    It follows a conversation from one call to the next: where the next one goes on with another answer, as when
    recordings are played, that one is told. After an answer with tool calls it sends the tools' results, as the next
    call, when these are all that came; else a request of its own would come in between, so that such an answer is told
    without its tool calls.
    """
    output: Sequence[Mapping[str, Any]] = call.output or ()
    reasons = list(call.finish_reasons)
    before, after = call.content or (), (later.content or ()) if later is not None else ()
    added = after[len(before) :] if after[: len(before)] == before else ()
    if added and added[0].get("role") == "assistant":
        said, *rest = added
        if all(_parts(said) != _parts(each) for each in output):
            output, reasons = ({**said, "finish_reason": "stop"},), ["stop"]
            if _has(said, "tool_call"):
                output, reasons = ({**said, "finish_reason": "tool_calls"},), ["tool_calls"]
        if rest and all(_has_only(each, "tool_call_response") for each in rest):
            return output, reasons
    if any(_has(each, "tool_call") for each in output) or not _TOOL_ENDS.isdisjoint(reasons):
        output = [
            {
                **each,
                "parts": [part for part in _parts(each) if part.get("type") != "tool_call"],
                "finish_reason": "stop",
            }
            for each in output
        ]
        reasons = ["stop"]
    return output, reasons


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return message.get("parts") or ()


def _has(message: Mapping[str, Any], kind: str) -> bool:
    return any(part.get("type") == kind for part in _parts(message))


def _has_only(message: Mapping[str, Any], kind: str) -> bool:
    return bool(_parts(message)) and all(part.get("type") == kind for part in _parts(message))


def agentperf_local(calls: Calls, where: str) -> Files:
    """A directory that agentperf-local and `replay` read."""
    tasks = []
    for number, task in enumerate(_family(calls, where, "agentperf-local")):
        trace = f"traces/{number:04}-{file_name(task.id)}.jsonl"
        tasks.append(
            {
                "task_id": task.id,
                "trace": trace,
                "source_recording": task.id,
                "family": task.domain or "recorded",
                "model_calls": len(task.turns),
                "tool_calls": sum(len(turn.tools_called) for turn in task.turns),
                "total_recorded_tool_delay_ms": sum(1000 * (turn.tool_delay_s or 0.0) for turn in task.turns),
                "required_context_tokens": task.context_tokens,
            }
        )
        rows = [_local_row(task, index, turn) for index, turn in enumerate(task.turns)]
        yield trace, b"".join(row + b"\n" for row in rows)
    name = where.rstrip("/").rpartition("/")[2] or "recorded"
    manifest = {"name": name, "version": 1, "source": where, "mode": "single_user_agentic_replay", "tasks": tasks}
    yield "manifest.json", msgspec.json.format(_encode(manifest), indent=2) + b"\n"


def _local_row(task: Task, index: int, turn: Turn) -> bytes:
    delay_ms = 1000 * (turn.tool_delay_s or 0.0)
    # What each tool took is not known: that they took the delay together is what the format has it for.
    calls = [{"tool_name": name, "duration_ms": delay_ms / len(turn.tools_called)} for name in turn.tools_called]
    return _encode(
        {
            "version": 1,
            "turn_id": f"{task.id}:{index}",
            "task_id": task.id,
            "conversation_id": task.id,
            "conversation_idx": index,
            "messages": [msgspec.Raw(message) for message in turn.messages],
            "tools": msgspec.Raw(turn.tools or b"[]"),
            "target_output_tokens": turn.target_output_tokens,
            "recorded_prompt_tokens": turn.input_tokens,
            "simulated_tool_delay_ms_after": delay_ms,
            "recorded_tool_calls_after": calls,
        }
    )


def _family(calls: Calls, where: str, form: str) -> Iterator[Task]:
    """All trajectories with their messages; sub-agents stand beside their parents, as these formats have no others."""
    _require_content(calls, where, form)
    for task in recording_of(calls, where, FourByteVocabulary()).tasks:
        yield from task.family()


def _require_content(calls: Calls, where: str, form: str) -> None:
    if not any(call.content for call in calls.all()):
        raise SourceError(f"{where}: {form} needs the messages; run the proxy with --capture content")


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")


def file_name(name: str) -> str:
    """A trajectory's id as part of a file's name; what no file's name can hold is replaced by a hash."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:80]
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"


EXPORTS: Final = {
    "weka": weka,
    "aiperf": aiperf,
    "guidellm-otel": guidellm_otel,
    "agentperf-local": agentperf_local,
}
"""By the name of the format."""
