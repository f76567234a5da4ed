"""Marks of texts: 8 bytes each, by which texts are compared that are no longer kept.

A text has one mark for all of it, and one for each of its longer lines: so it can be told again inside a text that
wraps it (a summary in the first message after a compaction, a sub-agent's report in the result of a tool). White space
at the ends does not count. Marks are collected in `bytes`, one after another.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from xxhash import xxh3_64_digest

MARK_BYTES: Final = 8

MIN_LINE_CHARS: Final = 16
"""A shorter line says too little."""

MAX_LINES: Final = 128
"""Lines of a text that are marked; of a tool result `MAX_RESULT_LINES`."""

MAX_RESULT_LINES: Final = 32
MAX_CHARS: Final = 32_768
"""How far into a text lines are looked for; into a tool result, `MAX_RESULT_CHARS`."""

MAX_RESULT_CHARS: Final = 4096

MAX_TEXTS: Final = 8
"""Texts of one message that are marked as a whole."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{12,64}")
_ID_CHARS: Final = 256
"""How far from the start or the end of a tool result ids are looked for."""

_MAX_IDS: Final = 8
_JSON: Final = msgspec.json.Decoder()


def mark(text: str) -> bytes:
    """The mark of a whole text."""
    return xxh3_64_digest(text.strip().encode("utf-8", "surrogatepass"))


def of_texts(texts: Iterable[str]) -> bytes:
    """The marks of the texts, each as a whole."""
    marks = []
    for text in texts:
        if text:
            marks.append(mark(text))
            if len(marks) == MAX_TEXTS:
                break
    return b"".join(marks)


def of_lines(text: str, limit: int = MAX_LINES) -> bytes:
    """The marks of the lines of a text; for JSON objects and lists, of the lines of the strings in them."""
    marks: list[bytes] = []
    for line in text[:MAX_CHARS].splitlines():
        line = line.strip()
        if len(line) < MIN_LINE_CHARS:
            continue
        if line[0] in "{[" and line[-1] in "}]" and (strings := _strings(line)):
            for string in strings:
                marks += [mark(part) for part in string.splitlines() if len(part.strip()) >= MIN_LINE_CHARS]
        else:
            marks.append(xxh3_64_digest(line.encode("utf-8", "surrogatepass")))
        if len(marks) >= limit:
            break
    return b"".join(marks[:limit])


def of_result(text: str) -> bytes:
    """The marks of a tool result's first lines, and of what looks like an id near its start or its end."""
    edges = text if len(text) <= 2 * _ID_CHARS else f"{text[:_ID_CHARS]} {text[-_ID_CHARS:]}"
    ids = [found for found in _ID.findall(edges) if not (found.isalpha() or found.isdigit())]
    return of_lines(text[:MAX_RESULT_CHARS], MAX_RESULT_LINES) + b"".join([mark(found) for found in ids[:_MAX_IDS]])


def split(marks: bytes) -> list[bytes]:
    """The single marks."""
    return [marks[at : at + MARK_BYTES] for at in range(0, len(marks), MARK_BYTES)]


def holds(marks: bytes, other: bytes) -> bool:
    """Whether a text with the lines `marks` repeats one with the lines `other`.

    They have half of the shorter one in common, and three lines at least where there are so many: headings that all
    texts of a kind have in common are not enough.
    """
    if not marks or not other:
        return False
    mine, others = set(split(marks)), set(split(other))
    common = len(mine & others)
    fewer = min(len(mine), len(others))
    return common >= min(3, len(others)) and 2 * common >= fewer


def _strings(json: str) -> list[str]:
    try:
        waiting = [_JSON.decode(json)]
    except (ValueError, RecursionError):
        return []
    found = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return found
