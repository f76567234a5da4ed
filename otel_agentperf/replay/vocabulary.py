"""Text that is so many tokens long, for recordings that keep lengths and no words. Pure, but for reading a tokenizer.

Text is made in pieces of one token each. The first pieces of a stretch spell its key, so that different keys give
different tokens; the rest is taken from a pool of words.
"""

import hashlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from otel_agentperf.errors import SourceError, UsageError

__all__ = ["FourByteVocabulary", "TokenizerVocabulary", "Vocabulary"]

KEY_PIECES: Final = 4
POOL_PIECES: Final = 8192


class Vocabulary(Protocol):
    """What one token is."""

    name: str
    message_tokens: int
    """Tokens that a message has beside those of its text, as far as that is known."""
    prompt_tokens: int
    """Tokens that a prompt has beside its messages, likewise."""

    def pieces(self, key: str, count: int) -> list[str]:
        """Text for a key, `count` pieces of one token; longer texts of the same key begin with the shorter ones."""

    def count(self, text: str) -> int:
        """Tokens of a text."""


class _Pool:
    """Pieces by key, from some hundred words or more."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        random = Random(len(words))
        # Twice, so that every stretch is one slice.
        self._pool = random.choices(words, k=POOL_PIECES) * 2

    def pieces(self, key: str, count: int) -> list[str]:
        number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=16).digest(), "big")
        start, number = number % POOL_PIECES, number // POOL_PIECES
        made = []
        for _ in range(min(KEY_PIECES, count)):
            number, digit = divmod(number, len(self._words))
            made.append(self._words[digit])
        while len(made) < count:
            made += self._pool[start : start + min(count - len(made), POOL_PIECES)]
        return made


class FourByteVocabulary(_Pool):
    """Tokens of four bytes, about what English and code have on average, and exactly what the simulator counts."""

    name = "four bytes"
    message_tokens = 2
    """The simulator's: where a message begins, and where it ends."""
    prompt_tokens = 1
    """The simulator's: where the answer begins."""

    def __init__(self) -> None:
        consonants, vowels = "bdfghklmnprstvz", "aeiou"
        super().__init__([f"{''.join(letters)} " for letters in product(consonants, vowels, consonants)])

    def count(self, text: str) -> int:
        return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


class TokenizerVocabulary(_Pool):
    """The tokens of a tokenizer: a directory with `tokenizer.json`. The text is exact; what a chat template adds is not
    known here.

    Raises:
        UsageError: the package `tokenizers` is not installed.
        SourceError: there is no tokenizer, or its words do not stay whole when they are put together.
    """

    message_tokens = 0
    prompt_tokens = 0

    def __init__(self, directory: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as exc:
            raise UsageError("a tokenizer needs the package tokenizers (pip install tokenizers)") from exc
        path = directory / "tokenizer.json" if directory.is_dir() else directory
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as exc:
            raise SourceError(f"cannot read a tokenizer from {path}: {exc}") from exc
        self.name = str(path)
        super().__init__(self._whole_words(path))

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _whole_words(self, path: Path) -> list[str]:
        """Words with a space before them that are one token each, alone and beside one another."""
        candidates = sorted({self._tokenizer.decode([token]) for token in range(self._tokenizer.get_vocab_size())})
        words = [
            word
            for word in candidates
            if len(word) > 2 and word[0] == " " and word[1:].isascii() and word[1:].isalpha() and self.count(word) == 1
        ]
        random = Random(0)
        for _ in range(3):
            sample = random.choices(words, k=2000) if words else []
            if len(words) < 100 or self.count("".join(sample)) != len(sample):
                raise SourceError(f"{path}: no text of a certain number of tokens can be made with this tokenizer")
        return words
