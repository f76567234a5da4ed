"""Recorded calls as ATIF 1.8 trajectories (github.com/laude-institute/harbor, docs/rfcs: Agent Trajectory Interchange
Format). Pure: calls in, files' names and bytes out.

One document per trajectory that has no parent; sub-agents are embedded, referred to by the result of the tool that
asked for them, or by a result of their own. An agent's step is one turn: its answer, the calls of tools in it, their
results from the next turn, its tokens. What a client told beside results is a step of `user` or `system`; answers that
no recorded turn gave are marked as copied context.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.exports import Files, file_name
from otel_agentperf.replay.recorded import Call, Calls

__all__ = ["VERSION", "atif"]

VERSION: Final = "ATIF-v1.8"

_UNKNOWN: Final = "unknown"
"""The format asks for a name and a version of the agent; traffic tells the name at most."""

_ORDER: Final = (
    "step_id",
    "timestamp",
    "source",
    "model_name",
    "message",
    "reasoning_content",
    "tool_calls",
    "observation",
    "metrics",
    "llm_call_count",
    "is_copied_context",
    "extra",
)
"""Members of a step, as the format lists them."""

_encode: Final = msgspec.json.Encoder().encode

_Json = dict[str, Any]


def atif(calls: Calls, where: str) -> Files:
    """Files of the trajectories that were recorded with their messages.

    Raises:
        SourceError: none was.
    """
    own = {
        name: [call for call in group if call.content is not None and call.output is not None]
        for name, group in calls.trajectories.items()
    }
    missing = sum(len(calls.trajectories[name]) - len(group) for name, group in own.items())
    own = {name: group for name, group in own.items() if group}
    if not own:
        raise SourceError(f"{where}: atif needs the messages; run the proxy with --capture content")
    if missing:
        calls.left_out["no messages"] = calls.left_out.get("no messages", 0) + missing
    children: dict[str, list[str]] = {}
    for name, group in own.items():
        parent = group[0].parent
        if parent in own and parent != name:
            children.setdefault(str(parent), []).append(name)
    inner = {child for group in children.values() for child in group}
    for name in own:
        if name not in inner:
            document = _document(name, own, children, frozenset())
            yield f"{file_name(name)}.json", msgspec.json.format(_encode(document), indent=1) + b"\n"


def _document(
    name: str, own: Mapping[str, Sequence[Call]], children: Mapping[str, Sequence[str]], above: frozenset[str]
) -> _Json:
    calls = own[name]
    below = [child for child in children.get(name, ()) if child not in above]
    steps = list(_Story(calls).steps())
    for child in below:
        _refer(steps, child, own[child][0])
    for number, step in enumerate(steps, 1):
        step["step_id"] = number
    agent: _Json = {"name": calls[0].agent or _UNKNOWN, "version": _UNKNOWN, "model_name": calls[0].model}
    tools = [tool for tool in calls[0].tools or () if isinstance(tool, dict)]
    if tools:
        agent["tool_definitions"] = tools
    document: _Json = {
        "schema_version": VERSION,
        "trajectory_id": name,
        "session_id": name,
        "agent": agent,
        "steps": [_ordered(step) for step in steps],
        "final_metrics": _totals(calls, len(steps)),
    }
    if below:
        inside = above | {name}
        document["subagent_trajectories"] = [_document(child, own, children, inside) for child in below]
    return document


def _totals(calls: Sequence[Call], steps: int) -> _Json:
    totals: _Json = {"total_steps": steps}
    for name, key in (("prompt", "input_tokens"), ("completion", "output_tokens"), ("cached", "cached_tokens")):
        known = [value for call in calls if (value := getattr(call, key)) is not None]
        if known:
            totals[f"total_{name}_tokens"] = sum(known)
    return totals


def _ordered(step: _Json) -> _Json:
    """As the format lists them; what is about the making stays here."""
    return {name: step[name] for name in _ORDER if step.get(name) not in (None, [], {})} | {"message": step["message"]}


class _Story:
    """Follows a conversation from call to call."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._made: list[_Json] = []

    def steps(self) -> list[_Json]:
        """All steps, without their numbers."""
        before: Sequence[_Json] = ()
        for call in self._calls:
            messages = call.content or ()
            # What was sent before is sent again, and then the answer: both are told already.
            shared = _shared(before, messages)
            goes_on = shared == len(before)
            fresh = list(messages[shared:])
            if before and goes_on and fresh and fresh[0].get("role") == "assistant":
                del fresh[0]
            if before and not goes_on:
                # The history was rewritten, as by a compaction: what stands in it unchanged is told already.
                known = {_key(message) for message in before}
                fresh = [message for message in fresh if _key(message) not in known]
            for message in fresh:
                self._message(message, call)
            self._answer(call)
            before = messages
        return self._made

    def _message(self, message: _Json, call: Call) -> None:
        role, parts = message.get("role"), message.get("parts") or ()
        results = [part for part in parts if part.get("type") == "tool_call_response"]
        for part in results:
            self._result(part, call)
        text = _text(parts)
        if role == "assistant":
            self._made.append({**_said(parts), "source": "agent", "is_copied_context": True})
        elif text or not results:
            source = "system" if role in ("system", "developer") else "user"
            self._made.append({"source": source, "timestamp": _iso(call.start_s), "message": text})

    def _result(self, part: _Json, call: Call) -> None:
        """A tool's result goes to the step that asked for it; else it is what the user says."""
        content = part.get("response")
        text = content if isinstance(content, str) else _encode(content).decode()
        asked = part.get("id")
        for step in reversed(self._made):
            if asked is not None and any(each["tool_call_id"] == asked for each in step.get("tool_calls") or ()):
                results = step.setdefault("observation", {"results": []})["results"]
                results.append({"source_call_id": asked, "content": text})
                return
        self._made.append({"source": "user", "timestamp": _iso(call.start_s), "message": text})

    def _answer(self, call: Call) -> None:
        parts = [part for message in call.output or () for part in message.get("parts") or ()]
        metrics: _Json = {}
        for name, value in (
            ("prompt_tokens", call.input_tokens),
            ("completion_tokens", call.output_tokens),
            ("cached_tokens", call.cached_tokens),
        ):
            if value is not None:
                metrics[name] = value
        times = {"duration_s": round(call.end_s - call.start_s, 6)}
        if call.ttft_s is not None:
            times["ttft_s"] = round(call.ttft_s, 6)
        self._made.append(
            {
                **_said(parts, f"call-{call.index}"),
                "source": "agent",
                "timestamp": _iso(call.end_s),
                "model_name": call.model,
                "metrics": {**metrics, "extra": times},
                "llm_call_count": 1,
                "extra": {"turn_index": call.index, "finish_reasons": list(call.finish_reasons)},
                "ended_s": call.end_s,
            }
        )


def _said(parts: Sequence[_Json], prefix: str = "call") -> _Json:
    """Message, reasoning and calls of tools."""
    said: _Json = {"message": _text(parts)}
    reasoning = "".join(_string(part) for part in parts if part.get("type") == "reasoning")
    if reasoning:
        said["reasoning_content"] = reasoning
    calls = [part for part in parts if part.get("type") == "tool_call"]
    if calls:
        said["tool_calls"] = [
            {
                "tool_call_id": str(part.get("id") or f"{prefix}-{number}"),
                "function_name": str(part.get("name") or ""),
                "arguments": _arguments(part.get("arguments")),
            }
            for number, part in enumerate(calls)
        ]
    return said


def _arguments(given: Any) -> _Json:
    """Arguments as an object: text that is none becomes its `input`."""
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except msgspec.DecodeError:
            return {"input": given}
    if given is None:
        return {}
    return given if isinstance(given, dict) else {"input": given}


def _text(parts: Sequence[_Json]) -> str:
    """Text, and names of what is none."""
    said = []
    for part in parts:
        match part.get("type"):
            case "text":
                said.append(_string(part))
            case "reasoning" | "tool_call" | "tool_call_response":
                pass
            case kind:
                said.append(f"[{part.get('modality') or kind}]")
    return "".join(said)


def _string(part: _Json) -> str:
    content = part.get("content")
    return content if isinstance(content, str) else ""


def _refer(steps: list[_Json], child: str, first: Call) -> None:
    """Refer to a sub-agent from the result of the tool that started it: the last one called before it began whose
    arguments hold its words; where none does, from a result that no tool gave."""
    reference = [{"trajectory_id": child}]
    words = next((_text(each.get("parts") or ()) for each in first.content or () if each.get("role") == "user"), "")
    started = [step for step in steps if step.get("ended_s", first.start_s + 1) <= first.start_s]
    for step in reversed(started):
        for call in step.get("tool_calls") or ():
            if words and any(words == value for value in call["arguments"].values()):
                results = step.setdefault("observation", {"results": []})["results"]
                found = next((each for each in results if each.get("source_call_id") == call["tool_call_id"]), None)
                if found is None:
                    found = {"source_call_id": call["tool_call_id"]}
                    results.append(found)
                found.setdefault("subagent_trajectory_ref", []).extend(reference)
                return
    step = started[-1] if started else next(each for each in steps if each["source"] == "agent")
    results = step.setdefault("observation", {"results": []})["results"]
    results.append({"subagent_trajectory_ref": reference})


def _shared(before: Sequence[_Json], now: Sequence[_Json]) -> int:
    """How many messages two histories begin with in common."""
    count = 0
    for one, other in zip(before, now, strict=False):
        if _key(one) != _key(other):
            break
        count += 1
    return count


def _key(message: _Json) -> bytes:
    return msgspec.json.encode([message.get("role"), message.get("parts")], order="sorted")


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")
