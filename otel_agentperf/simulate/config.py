"""What a simulated deployment can do, and how the model on it answers."""

import math
from typing import Any, Final

from msgspec import Struct

from otel_agentperf.errors import UsageError

__all__ = ["SimulateConfig"]

NS_PER_MS: Final = 1_000_000

_POSITIVE: Final = (
    "prefill_tokens_per_s",
    "decode_ms",
    "max_batch",
    "kv_tokens",
    "block_tokens",
    "prefill_chunk_tokens",
    "max_model_len",
    "output_tokens",
)
_SHARES: Final = ("reasoning_rate", "tool_call_rate", "error_rate", "cut_rate")


class SimulateConfig(Struct, frozen=True, kw_only=True):
    """A deployment of one model.

    Raises:
        UsageError: a value that makes no deployment.
    """

    prefill_tokens_per_s: float = 20_000.0
    """Prompt tokens per second that are not in the prefix cache, shared by all requests."""
    prefill_chunk_tokens: int = 512
    """Prompt tokens that one step may compute: the larger, the longer a prefill holds up running decodes."""
    decode_ms: float = 10.0
    """Duration of a decode step of one request, ms."""
    decode_slope_ms: float = 0.2
    """What each further request in the batch adds to a decode step, ms."""
    max_batch: int = 64
    """Requests that run at a time, in prefill or in decode; the others queue in order of arrival."""
    kv_tokens: int = 1_048_576
    """Tokens whose keys and values fit into memory: running requests and prefix cache together."""
    block_tokens: int = 16
    """Tokens of a KV block, the unit in which memory is given out and prefixes are shared."""
    max_model_len: int = 131_072
    """Longest context, prompt and output together, tokens."""
    model: str = "simulated"
    """Name in `/v1/models`; requests may name any model and are answered under the name they use."""
    output_tokens: int = 200
    """Median length of an answer that is left to end by itself, tokens."""
    output_spread: float = 0.8
    """Standard deviation of the logarithm of that length."""
    reasoning_rate: float = 0.5
    """Share of answers that begin with reasoning; on messages only where the request enables thinking."""
    tool_call_rate: float = 0.7
    """Share of answers that end in tool calls, where the request brings tools and leaves the choice."""
    error_rate: float = 0.0
    """Share of requests that get `error_status` instead of an answer."""
    error_status: int = 503
    cut_rate: float = 0.0
    """Share of answers whose connection is closed half way."""
    seed: int = 0
    """Same seed and same requests, same answers; ids also depend on the order in which requests arrive."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise _error(name, "must be a finite number", value)
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise _error(name, "must be above 0", getattr(self, name))
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise _error(name, "must be between 0 and 1", getattr(self, name))
        for name in ("decode_slope_ms", "output_spread"):
            if getattr(self, name) < 0:
                raise _error(name, "must not be below 0", getattr(self, name))
        if not 400 <= self.error_status <= 599:
            raise _error("error_status", "must be an HTTP status from 400 to 599", self.error_status)
        if not self.model:
            raise UsageError("model must not be empty")
        if self.max_model_len < 2:
            raise _error("max_model_len", "must be at least 2, a token of prompt and one of output", self.max_model_len)
        if self.kv_blocks * self.block_tokens < self.max_model_len:
            raise UsageError(
                f"kv-tokens {self.kv_tokens} (blocks of {self.block_tokens}) hold no request of max-model-len "
                f"{self.max_model_len}: raise the one or lower the other"
            )

    @classmethod
    def fitting(cls, **values: Any) -> "SimulateConfig":
        """A deployment with these values; the longest context that nothing is said about is what memory can hold."""
        if "max_model_len" not in values and "kv_tokens" in values:
            default = cls()
            block_tokens = max(values.get("block_tokens", default.block_tokens), 1)
            held = values["kv_tokens"] // block_tokens * block_tokens
            values["max_model_len"] = max(min(default.max_model_len, held), 2)
        return cls(**values)

    @property
    def kv_blocks(self) -> int:
        """KV blocks that fit into memory."""
        return self.kv_tokens // self.block_tokens

    def prefill_ns(self, tokens: int) -> int:
        """Time to compute prompt tokens."""
        return round(tokens * 1e9 / self.prefill_tokens_per_s)

    def decode_ns(self, batch: int) -> int:
        """Time of a step that gives each request of a batch one token; 0 for an empty batch."""
        return round((self.decode_ms + self.decode_slope_ms * (batch - 1)) * NS_PER_MS) if batch else 0


def _error(name: str, rule: str, value: object) -> UsageError:
    return UsageError(f"{name.replace('_', '-')} {rule}, not {value}")
