"""KV memory: a bounded number of blocks, shared between requests with equal leading tokens, evicted by least use.

A block is known by the digest of all tokens up to its end (`tokens.Chain`), so equal digests mean equal prefixes. Every
block is in one of three states: pinned (running requests use it), idle (kept as cache), or private (given to one
request and not yet filled). Pinned + idle + private never exceed the capacity.
"""

from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["KVCache", "Lease"]


class Lease:
    """The blocks of one running request: those it shares, by digest, and how many are its own."""

    __slots__ = ("private", "shared")

    def __init__(self, shared: list[int], private: int) -> None:
        self.shared = shared
        self.private = private


class KVCache:
    """The blocks of a deployment."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._pins: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Least recently used first."""
        self._private = 0

    @property
    def in_use(self) -> int:
        """Blocks that running requests hold."""
        return len(self._pins) + self._private

    @property
    def idle(self) -> int:
        """Blocks kept as cache, free to be evicted."""
        return len(self._idle)

    def match(self, digests: Sequence[int], limit: int) -> int:
        """How many leading blocks are in memory, at most `limit`."""
        pins, idle = self._pins, self._idle
        count = 0
        for digest in digests[:limit]:
            if digest not in pins and digest not in idle:
                break
            count += 1
        return count

    def lease(self, digests: Sequence[int], limit: int, blocks: int) -> Lease | None:
        """Give a request `blocks` blocks, as many of them as possible (at most `limit`) from the cache.

        None when memory is too full, even with the whole cache evicted.
        """
        shared = list(digests[: self.match(digests, limit)])
        private = blocks - len(shared)
        pins, idle = self._pins, self._idle
        if self.in_use + sum([digest in idle for digest in shared]) + private > self.capacity:
            return None
        for digest in shared:
            if digest in idle:
                del idle[digest]
                pins[digest] = 1
            else:
                pins[digest] += 1
        self._private += private
        for _ in range(self.in_use + len(idle) - self.capacity):
            idle.popitem(last=False)
        return Lease(shared, private)

    def publish(self, lease: Lease, digests: Sequence[int]) -> None:
        """Private blocks are filled: others may share them. Twins computed meanwhile by others become one block."""
        pins, idle = self._pins, self._idle
        for digest in digests:
            idle.pop(digest, None)
            pins[digest] = pins.get(digest, 0) + 1
        lease.shared += digests
        lease.private -= len(digests)
        self._private -= len(digests)

    def release(self, lease: Lease) -> None:
        """The request has ended: its shared blocks stay as cache, the end of the prefix first in line for eviction."""
        pins = self._pins
        for digest in reversed(lease.shared):
            pins[digest] -= 1
            if not pins[digest]:
                del pins[digest]
                self._idle[digest] = None
        self._private -= lease.private
        lease.shared = []
        lease.private = 0
