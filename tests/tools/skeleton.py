"""Makes the skeleton of a recording in agentperf-local's format: real structure, sizes and timing, no text.

    python tests/tools/skeleton.py SOURCE TARGET TASK[:TURNS] ...

SOURCE is a directory with a manifest, TARGET a new directory for the skeleton of the named tasks, each cut after TURNS
turns. Every word becomes a filler word of the same length, always the same one, with the same capitals; numbers become
other numbers; punctuation, white space and escapes stay. So texts that repeat or contain one another still do. Roles,
ids, names of tools, parameters and arguments, counts and times stay as they are.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = ["fill", "fill_json", "skeleton_of_manifest", "skeleton_of_turn"]

WORDS: Final = {
    1: "a i o",
    2: "as at be by do go he if in is it me my no of on or so to up us we",
    3: "air arm art bay bed box cup day ear eye fan fog gap hat ice ink jar key leg map net oak pan ray sea",
    4: "arch bank barn bell bird boat bone book cake card clay coal cord corn door drum dust farm fern fire",
    5: "apple beach bench bread brick brush chair chalk cloud coral crane earth field flame frost glass grain",
    6: "anchor basket bottle bridge bucket butter button candle canyon carpet castle cotton copper forest",
    7: "blanket cabinet ceiling chimney compass cushion feather furnace gallery harvest kitchen lantern",
    8: "aqueduct backpack bathroom blizzard bookcase building calendar campfire daylight doorstep",
    9: "afternoon billboard blueberry boulevard bracelets butterfly cardboard chocolate classroom courtyard",
    10: "basketball binoculars blackboard bookseller candlewick earthquake lighthouse motorcycle strawberry",
    11: "blacksmiths broadcaster caterpillar countryside grandmother honeysuckle marketplace planetarium",
    12: "broadcasters cabinetmaker caterpillars headquarters housekeeping lighthouses neighborhood",
}
"""Filler by length. Longer words are put together from these."""

_TOKEN: Final = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|[A-Za-z]+|[0-9]+|[^\x00-\x7f]")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?')
_FOREIGN: Final = {2: "ø", 3: "あ", 4: "𝕒"}
"""Letters that stand for letters outside ASCII, by their length in UTF-8."""


def fill(text: str) -> str:
    """A text with its words replaced; as long as before, in characters and in UTF-8."""
    return _TOKEN.sub(lambda match: _replacement(match[0]), text)


def fill_json(text: str) -> str:
    """JSON text with the string values filled; names of members and all else stay. Other text is filled whole."""
    try:
        json.loads(text)
    except ValueError:
        return fill(text)
    return _STRING.sub(lambda match: match[0] if match[2] else f'"{fill(match[1])}"', text)


def skeleton_of_turn(turn: dict[str, Any]) -> dict[str, Any]:
    """One line of a trace without its text."""
    return {
        **turn,
        "messages": [_message(message) for message in turn["messages"]],
        "tools": _descriptions(turn["tools"]),
        "recorded_tool_calls_after": [_call(call) for call in turn["recorded_tool_calls_after"]],
    }


def skeleton_of_manifest(manifest: dict[str, Any], turns: dict[str, list[dict[str, Any]]], name: str) -> dict[str, Any]:
    """The manifest for the turns that were kept, by task."""
    tasks = []
    for task in manifest["tasks"]:
        kept = turns.get(task["task_id"])
        if kept is not None:
            tasks.append(
                {
                    **{key: value for key, value in task.items() if key != "tool_environment"},
                    "trace": f"traces/{task['task_id']}.jsonl",
                    "model_calls": len(kept),
                    "tool_calls": sum(len(turn["recorded_tool_calls_after"]) for turn in kept),
                    "total_recorded_tool_delay_ms": sum(turn["simulated_tool_delay_ms_after"] for turn in kept),
                }
            )
    return {**manifest, "name": name, "source": f"skeleton of {manifest['name']}", "tasks": tasks}


@cache
def _replacement(token: str) -> str:
    first = token[0]
    if first == "\\":
        return token
    if not first.isascii():
        return _FOREIGN[len(first.encode())] if first.isalpha() else first
    if first.isdigit():
        return "".join(_pick("0123456789", f"{token}/{at}") for at in range(len(token)))
    filler = _word(token.lower())
    return "".join(new.upper() if old.isupper() else new for old, new in zip(token, filler, strict=True))


def _word(word: str) -> str:
    longest = max(WORDS)
    parts = [min(longest, len(word) - at) for at in range(0, len(word), longest)]
    return "".join(_pick(_fillers(length), f"{word}/{at}") for at, length in enumerate(parts))


@cache
def _fillers(length: int) -> tuple[str, ...]:
    return tuple(word for word in WORDS[length].split() if len(word) == length and word.isalpha())


def _pick(choices: str | tuple[str, ...], key: str) -> str:
    return choices[int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % len(choices)]


def _message(message: dict[str, Any]) -> dict[str, Any]:
    filled = dict(message)
    if "content" in message:
        filled["content"] = _content(message["content"])
    if message.get("tool_calls"):
        filled["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": fill_json(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return filled


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return fill(content)
    if isinstance(content, list):
        return [{**part, "text": fill(part["text"])} if "text" in part else part for part in content]
    return content


def _call(call: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _values(value, keep={"tool_call_id"}) if name in ("action", "output") else value
        for name, value in call.items()
    }


def _values(value: Any, keep: set[str]) -> Any:
    """A JSON value with its strings filled, those of some members left out."""
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, list):
        return [_values(each, keep) for each in value]
    if isinstance(value, dict):
        return {name: each if name in keep else _values(each, keep) for name, each in value.items()}
    return value


def _descriptions(schema: Any) -> Any:
    """A tool definition with its descriptions filled."""
    if isinstance(schema, list):
        return [_descriptions(each) for each in schema]
    if isinstance(schema, dict):
        return {
            name: fill(each) if name == "description" and isinstance(each, str) else _descriptions(each)
            for name, each in schema.items()
        }
    return schema


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the skeleton of a recording in agentperf-local's format.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("tasks", nargs="+", metavar="TASK[:TURNS]")
    options = parser.parse_args()
    found = sorted(options.source.glob("manifest*.json"))
    if not found:
        parser.error(f"no manifest in {options.source}")
    manifest = json.loads(found[-1].read_text(encoding="utf-8"))
    traces = {task["task_id"]: task["trace"] for task in manifest["tasks"]}
    kept = {}
    dump: Callable[[Any], str] = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))  # noqa: E731
    (options.target / "traces").mkdir(parents=True, exist_ok=True)
    for wanted in options.tasks:
        task, _, turns = wanted.partition(":")
        if task not in traces:
            parser.error(f"no task {task}")
        lines = (options.source / traces[task]).read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        kept[task] = [skeleton_of_turn(row) for row in rows[: int(turns) if turns else None]]
        text = "".join(f"{dump(row)}\n" for row in kept[task])
        (options.target / "traces" / f"{task}.jsonl").write_text(text, encoding="utf-8")
    result = skeleton_of_manifest(manifest, kept, options.target.name)
    (options.target / "manifest.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
