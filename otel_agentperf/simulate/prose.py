"""Text that looks like a coding agent's, cut into tokens: the same stretch of prose for the same place in it."""

import random
from typing import Final

from otel_agentperf.simulate.tokens import TOKEN_BYTES

__all__ = ["PROSE_TOKENS", "prose"]

PROSE_TOKENS: Final = 4096
"""Tokens after which the prose repeats."""

_SUBJECTS: Final = (
    "the parser", "this test", "the build", "the cache", "that function", "the config loader", "the request handler",
    "the migration", "the retry loop", "the caller", "the scheduler", "the fixture", "the lock", "the index",
)  # fmt: skip
_VERBS: Final = (
    "returns", "drops", "expects", "raises", "overwrites", "keeps", "reads", "skips", "validates", "reuses", "closes",
)  # fmt: skip
_OBJECTS: Final = (
    "an empty list", "the old value", "a stale handle", "the second argument", "its own timeout", "a partial result",
    "the wrong encoding", "every header", "the last entry", "a relative path", "the default branch",
    "one byte too many",
)  # fmt: skip
_TAILS: Final = (
    "when the file is missing", "after the first retry", "on an empty input", "before the lock is held",
    "so I will check the call sites", "which explains the failing test", "unless the flag is set", "in both branches",
)  # fmt: skip


def _write() -> tuple[bytes, ...]:
    rng = random.Random(2026)
    text = ""
    while len(text) < PROSE_TOKENS * TOKEN_BYTES:
        sentence = " ".join(rng.choice(words) for words in (_SUBJECTS, _VERBS, _OBJECTS, _TAILS))
        text += sentence[0].upper() + sentence[1:] + rng.choice((". ", ". ", ". ", ".\n"))
    data = text.encode("ascii")
    # Twice, so that every stretch up to the whole length is one slice.
    return tuple([data[at : at + TOKEN_BYTES] for at in range(0, PROSE_TOKENS * TOKEN_BYTES, TOKEN_BYTES)] * 2)


_PIECES: Final = _write()


def prose(place: int, tokens: int) -> list[bytes]:
    """`tokens` pieces of ASCII text, of four bytes each, from a place on."""
    start = place % PROSE_TOKENS
    pieces = list(_PIECES[start : start + min(tokens, PROSE_TOKENS)])
    while len(pieces) < tokens:
        pieces += pieces[: tokens - len(pieces)]
    return pieces
