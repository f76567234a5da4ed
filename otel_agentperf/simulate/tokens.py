"""Tokens without a tokenizer: a token is four bytes of UTF-8, about what English text and code have on average.

Every section of a prompt (a message, its calls, a tool's definition) begins with one special token and its text is
padded to whole tokens, so that a section's tokens do not depend on what stands before it, and equal leading sections
give equal leading tokens. A text of n tokens is 4 n bytes, which makes counts exact and slicing cheap.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest, xxh32_digest

__all__ = ["TOKEN_BYTES", "Chain", "ChainCache", "Section", "pad", "special"]

Section = tuple[Callable[[msgspec.Raw], bytes], msgspec.Raw]
"""A part of a prompt as raw JSON, with the function that renders it as whole tokens."""

TOKEN_BYTES: Final = 4
MAX_CACHED_BLOCKS: Final = 1_000_000
"""Digests that a `ChainCache` keeps, some 40 MB."""
_SEED_MASK: Final = (1 << 64) - 1


def special(name: str) -> bytes:
    """The token that stands for a role, the start of a call, and the like."""
    return xxh32_digest(name.encode("utf-8", "replace"))


def pad(text: bytes) -> bytes:
    """The text, filled up to whole tokens."""
    return text + b" " * (-len(text) % TOKEN_BYTES)


class Chain:
    """A sequence of tokens as the digests of its full blocks; immutable.

    A block's digest covers all tokens up to its end. `digests` are those of the blocks that this chain has beyond the
    one it extends.
    """

    __slots__ = ("block_bytes", "digests", "last", "tail", "tokens")

    def __init__(self, block_bytes: int, tokens: int, last: int, tail: bytes, digests: list[int]) -> None:
        self.block_bytes = block_bytes
        self.tokens = tokens
        self.last = last
        """Digest of the last full block."""
        self.tail = tail
        """The tokens after it."""
        self.digests = digests

    @classmethod
    def empty(cls, block_tokens: int) -> "Chain":
        return cls(block_tokens * TOKEN_BYTES, 0, 0, b"", [])

    @property
    def digest(self) -> int:
        """Of all tokens."""
        return xxh3_64_intdigest(self.tail, self.last)

    def extend(self, text: bytes) -> "Chain":
        """This chain and further tokens; `text` is whole tokens."""
        data = self.tail + text if self.tail else text
        size = self.block_bytes
        end = len(data) - len(data) % size
        last = self.last
        digests = []
        for start in range(0, end, size):
            last = xxh3_64_intdigest(data[start : start + size], last)
            digests.append(last)
        return Chain(size, self.tokens + len(text) // TOKEN_BYTES, last, data[end:], digests)


class ChainCache:
    """Remembers the chains of prompts by their raw sections, so that a conversation's history is not read again.

    A prompt of 743 messages of which two are new costs a digest over its bytes and the reading of two.
    """

    def __init__(self, block_tokens: int, max_blocks: int = MAX_CACHED_BLOCKS) -> None:
        self._empty = Chain.empty(block_tokens)
        self._max_blocks = max_blocks
        self._blocks = 0
        self._chains: OrderedDict[int, Chain] = OrderedDict()

    def build(self, sections: Iterable[Section]) -> tuple[Chain, list[int]]:
        """The chain of a prompt and the digests of all its full blocks.

        What a section's rendering raises comes through.
        """
        chain = self._empty
        key = 0
        digests: list[int] = []
        for render, raw in sections:
            key = xxh3_64_intdigest(raw, key ^ hash(render) & _SEED_MASK)
            found = self._chains.get(key)
            if found is None:
                found = chain.extend(render(raw))
                self._keep(key, found)
            else:
                self._chains.move_to_end(key)
            chain = found
            digests += chain.digests
        return chain, digests

    def _keep(self, key: int, chain: Chain) -> None:
        self._chains[key] = chain
        self._blocks += 1 + len(chain.digests)
        while self._blocks > self._max_blocks:
            _, evicted = self._chains.popitem(last=False)
            self._blocks -= 1 + len(evicted.digests)
