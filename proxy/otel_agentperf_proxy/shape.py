"""Conversations without their words (`--capture shape`): for each message its role, its size, and a salted hash. Pure.

Enough to replay the traffic with the same lengths and the same shared prefixes. The hash is keyed by the store's salt:
equal messages of one store have equal hashes, and nothing can be tried against them without the store.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.facts import Message

__all__ = ["shape_key", "shape_of"]

HASH_BYTES: Final = 8

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")


def shape_key(config: ProxyConfig) -> bytes | None:
    """The key of the hashes; None when shapes are not wanted."""
    return bytes.fromhex(config.salt)[:64] if config.capture == "shape" else None


def shape_of(messages: Sequence[Message], key: bytes) -> str:
    """`ROLE:BYTES:HASH` of each message, in order, with spaces between."""
    return " ".join(
        f"{_NO_NAME.sub('_', message.role)}:{message.size}:"
        f"{blake2b(message.digest, key=key, digest_size=HASH_BYTES).hexdigest()}"
        for message in messages
    )
