"""Our own trace store, recorded with `proxy --capture shape` or `--capture content`: live traffic played again.

With content the messages go out as they were, in the shape of chat completions. With shapes each message has text made
for its hash: equal messages are equal again, prompts have the recorded number of tokens, and histories are shared as
they were. Of system prompts and tools only the sizes are known: trajectories share them when the first call of each
found something in the server's cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.resources.abc import Traversable
from typing import Any, Final

import msgspec

from otel_agentperf.errors import SourceError
from otel_agentperf.replay.formats.files import encode
from otel_agentperf.replay.formats.messages import message, tool_call
from otel_agentperf.replay.recorded import Call, Calls, Piece, read_calls
from otel_agentperf.replay.recording import Branch, Pieces, Recording, Task, Turn
from otel_agentperf.replay.vocabulary import Vocabulary

__all__ = ["Store", "boundaries", "recording_of", "scope_of", "segments"]


class Store:
    """Reads a store directory."""

    name = "store"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def recognises(self, place: Traversable) -> bool:
        return place.is_dir() and any(
            entry.name.startswith("spans-") and entry.name.endswith((".jsonl", ".jsonl.zst"))
            for entry in place.iterdir()
        )

    def load(self, place: Traversable) -> Recording:
        return recording_of(read_calls(str(place)), str(place), self._vocabulary)


_ROLES: Final = {"tools": "system", "system": "system", "developer": "system", "assistant": "assistant"}


def recording_of(calls: Calls, where: str, vocabulary: Vocabulary) -> Recording:
    """The trajectories of a store as tasks; sub-agents are branches of their parents.

    Raises:
        SourceError: the store was recorded without what a replay needs.
    """
    if not any(call.shape for call in calls.all()):
        raise SourceError(
            f"{where}: recorded without the shape of its prompts; run the proxy with --capture shape (or content)"
        )
    pieces = Pieces()
    digest = sha256()
    turns: dict[str, tuple[Turn, ...]] = {}
    for trajectory, own in calls.trajectories.items():
        usable = [call for call in own if call.shape and call.input_tokens]
        calls.left_out["no shape or no token count"] = (
            calls.left_out.get("no shape or no token count", 0) + len(own) - len(usable)
        )
        if usable:
            calls.trajectories[trajectory] = usable
            turns[trajectory] = tuple(_turns(usable, pieces, vocabulary))
            digest.update(encode([trajectory, *(list(map(_piece, call.shape or ())) for call in usable)]))
    tasks = _joined({name: calls.trajectories[name] for name in turns}, turns)
    if not tasks:
        raise SourceError(f"{where}: no turn has both a shape and a token count")
    name = where.rstrip("/").rpartition("/")[2] or "store"
    return Recording(name, Store.name, digest.hexdigest(), where, tuple(tasks))


def segments(call: Call, scope: str) -> list[Piece]:
    """The parts of a prompt in order: tools, system prompt, messages.

    Args:
        scope: of tools and system prompt, of which only the sizes are known: in one scope equal sizes are the same.
    """
    head = [
        Piece(role, size, f"{role}/{size}/{call.model}/{scope}")
        for role, size in (("tools", call.tools_bytes), ("system", call.system_bytes))
        if size
    ]
    return [*head, *(call.shape or ())]


def scope_of(calls: Sequence[Call]) -> str:
    """Of the tools and system prompts of a trajectory (`segments`)."""
    return "" if calls[0].cached_tokens else calls[0].trajectory


def boundaries(
    call: Call, before: "tuple[list[str], list[int]] | None", least: int, scope: str, beside: int = 0
) -> tuple[list[str], list[int]]:
    """Where each part of a prompt ends, in tokens, in proportion to bytes; parts that the prompt before begins with too
    keep their ends. The chained digests of the parts come with them.

    Args:
        before: the same of the turn before.
        least: tokens of the shortest part.
        scope: as of `segments`.
        beside: tokens of the prompt that belong to no part.
    """
    parts = segments(call, scope)
    chain: list[str] = []
    rolling = ""
    for part in parts:
        rolling = sha256(f"{rolling}/{part.role}/{part.digest}".encode()).hexdigest()[:24]
        chain.append(rolling)
    ends: list[int] = []
    if before is not None:
        for mine, theirs, end in zip(chain, before[0], before[1], strict=False):
            if mine != theirs:
                break
            ends.append(end)
    total = max((call.input_tokens or 0) - beside, least * len(parts))
    while ends and total - ends[-1] < least * (len(parts) - len(ends)):
        ends.pop()
    while len(ends) < len(parts):
        start = ends[-1] if ends else 0
        rest = parts[len(ends) :]
        share = rest[0].size / max(sum(part.size for part in rest), 1)
        length = max(least, round((total - start) * share))
        ends.append(total if len(rest) == 1 else min(start + length, total - least * (len(rest) - 1)))
    return chain, ends


def _piece(piece: Piece) -> list[Any]:
    return [piece.role, piece.size, piece.digest]


def _turns(own: Sequence[Call], pieces: Pieces, vocabulary: Vocabulary) -> Iterator[Turn]:
    before: tuple[list[str], list[int]] | None = None
    scope = scope_of(own)
    for index, call in enumerate(own):
        later = own[index + 1] if index + 1 < len(own) else None
        if call.content is not None:
            messages = tuple(_told(call.content, pieces))
            tools = pieces.share(encode(call.tools))[0] if call.tools else None
        else:
            before = boundaries(call, before, vocabulary.message_tokens + 1, scope, vocabulary.prompt_tokens)
            messages = tuple(_made(segments(call, scope), before, pieces, vocabulary))
            tools = None
        yield Turn(
            messages,
            tools,
            call.output_tokens,
            None,
            call.input_tokens,
            max(later.start_s - call.end_s, 0.0) if later is not None else 0.0,
            call.tools_called,
        )


def _made(
    parts: Sequence[Piece], bounds: tuple[list[str], list[int]], pieces: Pieces, vocabulary: Vocabulary
) -> Iterator[bytes]:
    """Messages of the recorded lengths."""
    start = 0
    for part, key, end in zip(parts, *bounds, strict=True):
        text = "".join(vocabulary.pieces(f"store/{key}", max(end - start - vocabulary.message_tokens, 1)))
        # A tool's result without the call that it answers is refused by every server.
        role = {"tools": "system", "system": "system", "developer": "system", "assistant": "assistant"}.get(
            part.role, "user"
        )
        yield message(pieces, role, text)
        start = end


def _told(content: Sequence[dict[str, Any]], pieces: Pieces) -> Iterator[bytes]:
    """Messages of the conventions as those of chat completions."""
    for each in content:
        role = str(each.get("role"))
        texts, calls, results, reasoning = [], [], [], []
        for part in each.get("parts") or ():
            match part.get("type"):
                case "text":
                    texts.append(str(part.get("content") or ""))
                case "reasoning":
                    reasoning.append(str(part.get("content") or ""))
                case "tool_call":
                    calls.append(
                        tool_call(str(part.get("id") or ""), str(part.get("name") or ""), part.get("arguments"))
                    )
                case "tool_call_response":
                    results.append((str(part.get("id") or ""), part.get("response")))
        for call_id, response in results:
            text = response if isinstance(response, str) else msgspec.json.encode(response).decode()
            yield message(pieces, "tool", text, tool_call_id=call_id)
        if texts or calls or reasoning or not results:
            members: dict[str, Any] = {"tool_calls": calls} if calls else {}
            if reasoning:
                members["reasoning_content"] = "".join(reasoning)
            yield message(pieces, role, "".join(texts) if texts or not calls else None, **members)


def _joined(own: dict[str, list[Call]], turns: dict[str, tuple[Turn, ...]]) -> list[Task]:
    """Tasks of the trajectories without a parent; the others are branches of theirs."""
    children: dict[str, list[str]] = {}
    for name, calls in own.items():
        parent = calls[0].parent
        if parent in own and parent != name:
            children.setdefault(str(parent), []).append(name)

    def task(name: str, above: frozenset[str]) -> Task:
        calls, made = own[name], list(turns[name])
        ends: dict[int, float] = {}
        for child in children.get(name, ()):
            if child in above:
                continue
            start_s, end_s = own[child][0].start_s, own[child][-1].end_s
            starts = max((index for index, call in enumerate(calls) if call.end_s <= start_s), default=0)
            joins = next((at for at, call in enumerate(calls) if at > starts and call.start_s >= end_s), len(calls))
            branch = Branch(task(child, above | {name}), max(start_s - calls[starts].end_s, 0.0), joins)
            made[starts] = replace(made[starts], branches=(*made[starts].branches, branch))
            ends[joins] = max(ends.get(joins, 0.0), end_s)
        for joins, end_s in ends.items():
            if joins < len(calls):
                waited_s = calls[joins].start_s - max(end_s, calls[joins - 1].end_s)
                made[joins - 1] = replace(made[joins - 1], tool_delay_s=max(waited_s, 0.0))
        return Task(name, calls[0].domain, tuple(made), calls[0].agent)

    inner = {child for group in children.values() for child in group}
    return [task(name, frozenset((name,))) for name in own if name not in inner]
