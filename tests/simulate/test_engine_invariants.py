"""What holds for the engine whatever requests come and leave."""

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf.simulate import Engine, Generation, SimulateConfig

_BLOCK = 4
_LIMIT = 120

_requests = st.lists(
    st.tuples(
        st.integers(0, 200),  # ms after the one before
        st.integers(1, 100),  # prompt tokens
        st.integers(1, 20),  # output tokens
        st.integers(0, 3),  # family: equal leading tokens
        st.integers(0, 30),  # blocks that it shares with its family
        st.none() | st.integers(0, 300),  # cancelled after, ms
    ),
    min_size=1,
    max_size=25,
)
_deployments = st.builds(
    SimulateConfig,
    prefill_tokens_per_s=st.sampled_from([100.0, 1000.0, 50_000.0]),
    prefill_chunk_tokens=st.sampled_from([1, 16, 64, 1000]),
    decode_ms=st.sampled_from([0.5, 10.0]),
    decode_slope_ms=st.sampled_from([0.0, 1.0]),
    max_batch=st.integers(1, 8),
    block_tokens=st.just(_BLOCK),
    kv_tokens=st.sampled_from([_LIMIT, 200, 1000]),
    max_model_len=st.just(_LIMIT),
)


def _digests(number: int, prompt: int, output: int, family: int, shared: int) -> list[int]:
    blocks = (prompt + output) // _BLOCK
    return [family * 1000 + at if at < shared else 1_000_000 * (number + 1) + at for at in range(blocks)]


class _Watch:
    """Steps an engine and checks it after everything that happens."""

    def __init__(self, config: SimulateConfig) -> None:
        self.engine = Engine(config)
        self.tokens: dict[Generation, int] = {}
        self.last_ns = 0

    def step(self) -> None:
        end_ns = self.engine.step_end_ns
        assert end_ns is not None
        assert end_ns >= self.last_ns
        self.last_ns = end_ns
        step = self.engine.complete()
        assert step.end_ns == end_ns
        assert len(set(step.advanced)) == len(step.advanced)
        for generation in step.advanced:
            self.tokens[generation] = self.tokens.get(generation, 0) + 1
        self.check()

    def check(self) -> None:
        engine, config = self.engine, self.engine.config
        cache = engine.cache
        assert cache.in_use >= 0
        assert cache.in_use + cache.idle <= config.kv_blocks
        assert engine.running <= config.max_batch
        if not engine.running:
            assert cache.in_use == 0
            assert engine.waiting == 0
        assert (engine.step_end_ns is None) == (engine.running == 0)


def _play(config: SimulateConfig, requests: list[tuple[int, int, int, int, int, int | None]]) -> list[Generation]:
    watch = _Watch(config)
    engine = watch.engine
    events: list[tuple[int, int, Generation, bool]] = []
    at_ns = 0
    generations = []
    for number, (gap, prompt, output, family, shared, patience) in enumerate(requests):
        at_ns += gap * 1_000_000
        generation = Generation(prompt, output, _digests(number, prompt, output, family, shared))
        generations.append(generation)
        events.append((at_ns, number, generation, False))
        if patience is not None:
            events.append((at_ns + patience * 1_000_000, number, generation, True))
    for now_ns, _, generation, leaves in sorted(events, key=lambda event: (event[0], event[1], event[3])):
        while engine.step_end_ns is not None and engine.step_end_ns <= now_ns:
            watch.step()
        (engine.cancel if leaves else engine.submit)(generation, now_ns)
        watch.check()
    while engine.step_end_ns is not None:
        watch.step()
    for generation, request in zip(generations, requests, strict=True):
        assert generation.made_tokens == watch.tokens.get(generation, 0) <= generation.output_tokens
        assert generation.ended
        if request[5] is None:
            assert generation.made_tokens == generation.output_tokens
    return generations


@settings(max_examples=150, deadline=None)
@given(_deployments, _requests)
def test_memory_and_batch_stay_bounded_and_every_request_gets_exactly_its_tokens(config, requests):
    for generation in _play(config, requests):
        assert generation.cached_tokens < generation.prompt_tokens
        assert generation.cached_tokens % _BLOCK == 0
        if generation.first_token_ns is not None:
            assert generation.submitted_ns <= generation.admitted_ns < generation.first_token_ns
            assert generation.first_token_ns <= generation.last_token_ns


@settings(max_examples=30, deadline=None)
@given(_deployments, _requests)
def test_the_same_requests_take_the_same_time(config, requests):
    def outcome() -> list[tuple[int | None, int | None, int | None, int]]:
        return [
            (one.admitted_ns, one.first_token_ns, one.last_token_ns, one.cached_tokens)
            for one in _play(config, requests)
        ]

    assert outcome() == outcome()


@settings(max_examples=50, deadline=None)
@given(_deployments, _requests)
def test_requests_are_admitted_in_order_of_arrival(config, requests):
    admitted = [one.admitted_ns for one in _play(config, requests) if one.admitted_ns is not None]
    assert admitted == sorted(admitted)
