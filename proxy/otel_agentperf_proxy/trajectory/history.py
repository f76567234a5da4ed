"""The prefix chain: one rolling digest per message, so that "begins with the same messages" is one comparison.

A chain is a bytes object of `DIGEST_BYTES` per message: entry i covers messages 0 to i. Two chains agree at i exactly
when all messages up to i are equal (up to a collision of 128-bit hashes). Chains start from the tenant's name, so
chains of two tenants never meet.
"""

from collections.abc import Sequence
from typing import Final

import xxhash

from otel_agentperf_proxy.facts import Message

DIGEST_BYTES: Final = 16


def chain(tenant: str, messages: Sequence[Message]) -> bytes:
    """The chain of `messages`: `DIGEST_BYTES * len(messages)` bytes."""
    rolling = tenant.encode()
    entries = []
    for message in messages:
        rolling = xxhash.xxh3_128_digest(b"%b\0%b\0%b" % (rolling, message.role.encode(), message.digest))
        entries.append(rolling)
    return b"".join(entries)


def entry(of: bytes, count: int) -> bytes:
    """The digest that covers the first `count` messages; empty when there are not so many."""
    return of[(count - 1) * DIGEST_BYTES : count * DIGEST_BYTES] if count > 0 else b""


def length(of: bytes) -> int:
    """Messages that the chain covers."""
    return len(of) // DIGEST_BYTES


def shared(one: bytes, other: bytes) -> int:
    """How many leading messages two chains have in common."""
    low, high = 0, min(length(one), length(other))
    while low < high:
        middle = (low + high + 1) // 2
        if entry(one, middle) == entry(other, middle):
            low = middle
        else:
            high = middle - 1
    return low
