"""A model of serving: first come first served, continuous batching, chunked prefill, prefix cache, bounded KV memory.

The engine works in steps, as vLLM and SGLang do. A step computes up to `prefill_chunk_tokens` prompt tokens, of the
requests in prefill in order of arrival, and one further token for every request in decode. It lasts

    tokens of prefill / prefill_tokens_per_s  +  decode_ms + decode_slope_ms * (requests in decode - 1)

(without the second part when none is in decode), so a long prefill slows running decodes and the other way round. The
step in which a prefill ends brings the request's first token. A request is admitted at the start of a step, when fewer
than `max_batch` run and its KV blocks, for the prompt and for the output it will make, fit beside those of the running
requests; it holds them to its end. The blocks of its prompt that are in the cache are not computed again, but for the
last token, whose computation gives the first output token.

No I/O and no clock: the caller says what time it is and asks when the next step ends. All times are ns.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from otel_agentperf.simulate.config import SimulateConfig
from otel_agentperf.simulate.kvcache import KVCache, Lease

__all__ = ["Engine", "Generation", "Step"]


class Generation:
    """One request and the tokens made for it.

    Args:
        prompt_tokens: length of the prompt, 1 or more.
        output_tokens: tokens to make, 1 or more.
        digests: of the full blocks of prompt and output, in order; fewer are fine, what lacks is not cached.
    """

    __slots__ = (
        "_lease",
        "admitted_ns",
        "cached_tokens",
        "computed_tokens",
        "digests",
        "ended",
        "first_token_ns",
        "last_token_ns",
        "made_tokens",
        "output_tokens",
        "prompt_tokens",
        "submitted_ns",
    )

    def __init__(self, prompt_tokens: int, output_tokens: int, digests: Sequence[int] = ()) -> None:
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.digests = digests
        self.submitted_ns: int | None = None
        self.admitted_ns: int | None = None
        """It left the queue, its prefill began."""
        self.first_token_ns: int | None = None
        self.last_token_ns: int | None = None
        """The latest token so far."""
        self.cached_tokens = 0
        """Prompt tokens that were in the cache on admission."""
        self.computed_tokens = 0
        """Prompt tokens that are in memory, computed or cached."""
        self.made_tokens = 0
        self.ended = False
        """All tokens made, or cancelled."""
        self._lease: Lease | None = None


@dataclass(slots=True, frozen=True)
class Step:
    """What the end of a step brought."""

    end_ns: int
    advanced: Sequence[Generation]
    """Those that got a token."""
    admitted: Sequence[Generation]
    """Those that left the queue: the next step works for them."""


class Engine:
    """The deployment's scheduler."""

    def __init__(self, config: SimulateConfig) -> None:
        self.config = config
        self.cache = KVCache(config.kv_blocks)
        self.step_end_ns: int | None = None
        """When the step under way ends; None: idle."""
        self._waiting: deque[Generation] = deque()
        self._prefilling: dict[Generation, None] = {}
        self._decoding: dict[Generation, None] = {}
        self._chunks: list[tuple[Generation, int]] = []
        """Prompt tokens that the step under way computes."""
        self._memory_full = False
        """The first in the queue did not fit into memory, and no memory was freed since."""

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in prefill or in decode."""
        return len(self._prefilling) + len(self._decoding)

    def submit(self, generation: Generation, now_ns: int) -> Sequence[Generation]:
        """Take a request; returns the requests that this admits: itself or none.

        Steps that ended before `now_ns` must have been completed.

        Raises:
            ValueError: it would not even fit into an empty memory.
        """
        if self._blocks(generation) > self.cache.capacity:
            raise ValueError(f"{generation.prompt_tokens} + {generation.output_tokens} tokens do not fit into memory")
        generation.submitted_ns = now_ns
        self._waiting.append(generation)
        return self._start(now_ns) if self.step_end_ns is None else ()

    def cancel(self, generation: Generation, now_ns: int) -> Sequence[Generation]:
        """The client has left: free the slot and the memory at once. Returns the requests that this admits now."""
        if generation.ended:
            return ()
        generation.ended = True
        if generation.admitted_ns is None:
            self._waiting.remove(generation)
            # Behind a request that did not fit, a smaller one may.
            self._memory_full = False
            return ()
        self._prefilling.pop(generation, None)
        self._decoding.pop(generation, None)
        self._release(generation)
        # A step that works for nobody any more ends here.
        return self._start(now_ns) if not self.running else ()

    def complete(self) -> Step:
        """End the step under way, at `step_end_ns`, and begin the next."""
        end_ns = self.step_end_ns
        if end_ns is None:
            raise RuntimeError("no step is under way")
        advanced = list(self._decoding)
        for generation, tokens in self._chunks:
            if generation.ended:
                continue
            self._compute(generation, tokens)
            if generation.computed_tokens == generation.prompt_tokens:
                del self._prefilling[generation]
                generation.first_token_ns = end_ns
                self._decoding[generation] = None
                advanced.append(generation)
        for generation in advanced:
            generation.made_tokens += 1
            generation.last_token_ns = end_ns
            if generation.made_tokens == generation.output_tokens:
                generation.ended = True
                del self._decoding[generation]
                self._release(generation)
        return Step(end_ns, advanced, self._start(end_ns))

    def _start(self, now_ns: int) -> Sequence[Generation]:
        """Begin a step, or go idle. Returns the requests that left the queue."""
        admitted = self._admit(now_ns)
        self._chunks = []
        budget = self.config.prefill_chunk_tokens
        for generation in self._prefilling:
            if not budget:
                break
            tokens = min(generation.prompt_tokens - generation.computed_tokens, budget)
            self._chunks.append((generation, tokens))
            budget -= tokens
        self.step_end_ns = None
        if self.running:
            prefill_ns = self.config.prefill_ns(self.config.prefill_chunk_tokens - budget)
            self.step_end_ns = now_ns + prefill_ns + self.config.decode_ns(len(self._decoding))
        return admitted

    def _admit(self, now_ns: int) -> Sequence[Generation]:
        admitted: list[Generation] = []
        block = self.config.block_tokens
        while self._waiting and self.running < self.config.max_batch and not self._memory_full:
            generation = self._waiting[0]
            reusable = (generation.prompt_tokens - 1) // block
            lease = self.cache.lease(generation.digests, reusable, self._blocks(generation))
            if lease is None:
                self._memory_full = True
                break
            self._waiting.popleft()
            generation._lease = lease
            generation.admitted_ns = now_ns
            generation.cached_tokens = generation.computed_tokens = len(lease.shared) * block
            self._prefilling[generation] = None
            admitted.append(generation)
        return admitted

    def _blocks(self, generation: Generation) -> int:
        """KV blocks for its prompt and the output it will make."""
        return -(-(generation.prompt_tokens + generation.output_tokens) // self.config.block_tokens)

    def _compute(self, generation: Generation, tokens: int) -> None:
        generation.computed_tokens += tokens
        self._publish(generation, generation.computed_tokens)

    def _publish(self, generation: Generation, tokens: int) -> None:
        """The first `tokens` tokens of prompt and output are in memory: their full blocks can be shared."""
        lease = generation._lease
        if lease is not None:
            self.cache.publish(lease, generation.digests[len(lease.shared) : tokens // self.config.block_tokens])

    def _release(self, generation: Generation) -> None:
        lease = generation._lease
        if lease is None:
            return
        if generation.made_tokens:
            # The last token was made, but nothing was computed from it.
            self._publish(generation, generation.prompt_tokens + generation.made_tokens - 1)
        self.cache.release(lease)
        generation._lease = None
        self._memory_full = False
