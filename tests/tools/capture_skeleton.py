"""Makes skeletons of captured agent traffic: real structure, ids, sizes and timing, no text.

    python tests/tools/capture_skeleton.py SOURCE TARGET

SOURCE holds folders of captures, one JSON object per HTTP exchange and line; TARGET gets the same folders with one
`.jsonl.zst` per capture. Words are replaced as `skeleton.py` does, the same word by the same filler of the same length,
so texts that repeat or contain one another still do. What stays: roles, types, statuses, names of models and tools,
header fields, ids wherever they stand, and the phrases that rules know agents by. Pieces of a stream are filled as the
text they make together, and cut again where they were cut.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import zstandard
from skeleton import fill, fill_json

from otel_agentperf_proxy.dialects import auxiliary

KEPT: Final = frozenset(
    (
        *("type", "role", "object", "status", "name", "model", "modelVersion", "namespace", "required", "effort"),
        *("finish_reason", "finishReason", "stop_reason", "stop_sequence", "tool_choice", "responseMimeType", "detail"),
        *("thinkingLevel", "include", "anthropic_version", "service_tier", "code"),
        *("request_kind", "thread_source", "subagent_kind"),
    )
)
"""Members whose strings are words of the format."""

IDS: Final = frozenset(
    (
        *("id", "call_id", "tool_use_id", "tool_call_id", "item_id", "responseId", "response_id", "agent_id"),
        *("session_id", "thread_id", "turn_id", "root_turn_id", "parent_turn_id", "parent_thread_id", "window_id"),
        *("prompt_cache_key", "previous_response_id", "conversation"),
    )
)
"""Members that hold ids."""

ID_HEADERS: Final = re.compile(r"(session|thread|agent|window|affinity|trace|correlation)[-_]?(id|affinity)?$")

RECORDS: Final = frozenset(("user_id", "x-codex-turn-metadata"))
"""Members that hold a JSON object as text."""

DESCRIBING: Final = frozenset(("description", "definition", "text", "title"))
"""Text in the definition of a tool."""

ARGUMENTS: Final = frozenset(("input", "args", "arguments"))
"""What a tool was called with: no name and no type in it is one of the format."""

PHRASES: Final = (
    *(prompt.phrase.decode() for prompt in auxiliary.PROMPTS),
    *(phrase.decode() for phrase in auxiliary.SUMMARIES),
    "This session is being continued from a previous conversation that ran out of context.",
    "Another language model started to solve this problem and produced a summary of its thinking process.",
)

_HIDDEN: Final = "\ue000"
"""No letter, so that it stays: it stands for what is kept while the rest is filled."""

_ID: Final = re.compile(r"[A-Za-z0-9_.:#/-]{8,160}")
_DATA: Final = re.compile(r"^(data: )(.*?)(\r?)$", re.MULTILINE)


class Skeleton:
    """Fills the texts of one capture."""

    def __init__(self, exchanges: list[dict[str, Any]]) -> None:
        ids = {found for exchange in exchanges for found in _ids_of(exchange)}
        kept = sorted((*ids, *PHRASES), key=len, reverse=True)
        self._kept = re.compile("|".join(map(re.escape, kept)))
        self._start = exchanges[0]["t_request"]

    def exchange(self, exchange: dict[str, Any]) -> dict[str, Any]:
        """One line of a capture without its text; times are seconds from the capture's first request."""
        at: Callable[[float], float] = lambda time: round(time - self._start, 4)  # noqa: E731
        text = "".join(chunk for _, chunk in exchange["chunks"])
        filled = self._response(text)
        if len(filled) != len(text):
            raise ValueError(f"exchange {exchange['seq']}: the response changed its length")
        chunks, done = [], 0
        for time, chunk in exchange["chunks"]:
            chunks.append([at(time), filled[done : done + len(chunk)]])
            done += len(chunk)
        return {
            "seq": exchange["seq"],
            "t_request": at(exchange["t_request"]),
            "t_body": at(exchange["t_body"]),
            "t_end": at(exchange["t_end"]),
            "conn": exchange["conn"],
            "method": exchange["method"],
            "path": exchange["path"],
            "headers": [[name, self._header(value)] for name, value in exchange["headers"]],
            "body": self._value(exchange["body"], ()) if isinstance(exchange["body"], dict) else None,
            "status": exchange["status"],
            "response_headers": exchange["response_headers"],
            "chunks": chunks,
            "note": exchange["note"],
        }

    def _fill(self, text: str, how: Callable[[str], str] = fill) -> str:
        """The text filled but for ids and phrases in it."""
        kept: list[str] = []

        def hide(match: re.Match[str]) -> str:
            kept.append(match[0])
            return _HIDDEN

        filled = how(self._kept.sub(hide, text))
        waiting = iter(kept)
        return re.sub(_HIDDEN, lambda _: next(waiting), filled)

    def _header(self, value: str) -> str:
        return self._record(value) if value.startswith("{") else value

    def _record(self, text: str) -> str:
        value = _loads(text)
        return self._fill(text) if value is None else _dumps(self._value(value, ("",)), text)

    def _value(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, str):
            return self._string(value, path)
        if isinstance(value, list):
            return [self._value(each, path) for each in value]
        if isinstance(value, dict):
            # A member that is named after a path tells of somebody's files.
            return {
                self._fill(key) if "/" in key else key: self._value(each, (*path, key)) for key, each in value.items()
            }
        return value

    def _string(self, value: str, path: tuple[str, ...]) -> str:
        key = path[-1] if path else ""
        if path and path[0] == "tools":
            return self._fill(value) if key in DESCRIBING else value
        if not ARGUMENTS.isdisjoint(path[2:-1]):
            return self._fill(value)
        if key in KEPT:
            return value
        if key in RECORDS:
            return self._record(value)
        return self._fill(value, fill_json if value.startswith(("{", "[")) else fill)

    def _response(self, text: str) -> str:
        """The body of a response: JSON, or events whose data is JSON."""
        if not text.startswith(("data:", "event:")):
            value = _loads(text)
            return text if value is None else _dumps(self._value(value, ("",)), text)
        events = [(match, _loads(match[2])) for match in _DATA.finditer(text)]
        pieces: dict[Any, list[list[Any]]] = {}
        for at, (_, value) in enumerate(events):
            for path, holder, key in _strings(value, ()):
                whole = path if "delta" in path and path[-1] not in KEPT else (at, *path)
                name = (value.get("type"), value.get("index"), value.get("item_id"), *whole)
                pieces.setdefault(name, []).append([holder, key])
        for name, leaves in pieces.items():
            whole_text = "".join(holder[key] for holder, key in leaves)
            told = tuple(part for part in name[3:] if isinstance(part, str))
            filled = self._string(whole_text, told)
            done = 0
            for holder, key in leaves:
                length = len(holder[key])
                holder[key] = filled[done : done + length]
                done += length
        values = iter(events)

        def replaced(match: re.Match[str]) -> str:
            _, value = next(values)
            return match[0] if value is None else f"{match[1]}{_dumps(value, match[2])}{match[3]}"

        return _DATA.sub(replaced, text)


def _strings(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Each string with its path of names and positions and where it stands."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in pairs:
        inside = (*path, key) if isinstance(value, dict) else (*path, f"[{key}]", *path[-1:])
        if isinstance(each, str):
            yield inside, value, key
        else:
            yield from _strings(each, inside)


def _ids_of(exchange: dict[str, Any]) -> Iterator[str]:
    for name, value in exchange["headers"]:
        if ID_HEADERS.search(name.lower()) and _ID.fullmatch(value):
            yield value
        if value.startswith("{"):
            yield from _ids(json.loads(value))
    yield from _ids(exchange["body"])
    text = "".join(chunk for _, chunk in exchange["chunks"])
    yield from _ids(_loads(text))
    for match in _DATA.finditer(text):
        yield from _ids(_loads(match[2]))


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _ids(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in IDS and isinstance(each, str) and _ID.fullmatch(each):
                yield each
            elif isinstance(each, str) and each.startswith("{") and key not in ARGUMENTS:
                yield from _ids(_loads(each))
            else:
                yield from _ids(each)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _dumps(value: Any, as_in: str) -> str:
    """JSON in the way that `as_in` was written."""
    for options in ({}, {"separators": (",", ":")}, {"ensure_ascii": False}):
        if json.dumps(json.loads(as_in), **options) == as_in:  # type: ignore[arg-type]
            return json.dumps(value, **options)  # type: ignore[arg-type]
    raise ValueError(f"cannot write JSON as in {as_in[:80]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make skeletons of captured agent traffic.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    for path in sorted(options.source.glob("*/*.jsonl")):
        exchanges = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        skeleton = Skeleton(exchanges)
        lines = [json.dumps(skeleton.exchange(one), ensure_ascii=False, separators=(",", ":")) for one in exchanges]
        target = options.target / path.parent.name / f"{path.name}.zst"
        target.parent.mkdir(parents=True, exist_ok=True)
        data = "".join(f"{line}\n" for line in lines).encode()
        parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=24)
        target.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(data))
        print(f"{target}: {len(exchanges)} exchanges, {len(data)} bytes, {target.stat().st_size} compressed")


if __name__ == "__main__":
    main()
