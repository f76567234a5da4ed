"""The model of serving, in numbers that can be checked by hand.

A prompt token takes 1 ms, a decode step 10 ms and 1 ms more for each further request in it; times are (admitted, first
token, last token) in ms. A block has 4 tokens.
"""

import pytest


def test_one_request_waits_for_its_prefill_and_then_gets_a_token_per_step(bench, times):
    b = bench()
    one = b.submit(5, prompt=100, output=3)
    b.run()
    assert times(one) == (5, 105, 125)
    assert b.engine.step_end_ns is None


def test_a_request_of_one_token_ends_with_its_prefill(bench, times):
    b = bench()
    one = b.submit(0, prompt=7, output=1)
    b.run()
    assert times(one) == (0, 7, 7)
    assert one.ended


def test_decode_steps_grow_with_the_batch(bench, times):
    b = bench()
    three = [b.submit(0, prompt=10, output=3) for _ in range(3)]
    b.run()
    # The first is alone in its step; the others are computed together in the next, beside its second token.
    first_step = 10
    second_step = 20 + 10
    full = 10 + 2
    assert times(three[0]) == (0, first_step, first_step + second_step + full)
    together = first_step + second_step
    assert times(three[1]) == times(three[2]) == (10, together, together + full + 11)


def test_a_prefill_slows_running_decodes_and_the_other_way_round(bench, times):
    b = bench(prefill_chunk_tokens=50)
    one = b.submit(0, prompt=50, output=4)
    two = b.submit(1, prompt=100, output=1)
    b.run()
    # Two chunks of 50, each in a step of its own with one token for the first request.
    assert times(one) == (0, 50, 50 + 60 + 60 + 10)
    assert times(two) == (50, 170, 170)


def test_prefills_share_a_chunk_in_order_of_arrival(bench, times):
    b = bench(prefill_chunk_tokens=60)
    blocker = b.submit(0, prompt=60, output=1)
    early = b.submit(1, prompt=40, output=1)
    late = b.submit(2, prompt=40, output=1)
    b.run()
    assert times(blocker) == (0, 60, 60)
    # 40 + 20 tokens, then the other 20.
    assert times(early) == (60, 120, 120)
    assert times(late) == (60, 140, 140)


def test_requests_beyond_the_batch_queue_in_order_of_arrival(bench, times):
    b = bench(max_batch=1)
    one, two, three = (b.submit(at, prompt=10, output=2) for at in (0, 1, 2))
    b.run()
    assert times(one) == (0, 10, 20)
    assert times(two) == (20, 30, 40)
    assert times(three) == (40, 50, 60)


def test_equal_leading_tokens_are_computed_once(bench, times):
    b = bench()
    first = b.submit(0, prompt=100, output=1, digests=list(range(25)))
    again = b.submit(200, prompt=100, output=1, digests=list(range(25)))
    longer = b.submit(300, prompt=110, output=1, digests=[*range(25), 900, 901])
    other = b.submit(400, prompt=100, output=1, digests=[*range(10), *range(500, 515)])
    b.run()
    assert first.cached_tokens == 0
    # The last token is always computed, so its block is, too.
    assert (again.cached_tokens, times(again)) == (96, (200, 204, 204))
    assert (longer.cached_tokens, times(longer)) == (100, (300, 310, 310))
    assert (other.cached_tokens, times(other)) == (40, (400, 460, 460))


def test_what_was_generated_is_cached_for_the_next_turn(bench):
    b = bench()
    b.submit(0, prompt=8, output=9, digests=[1, 2, 3, 4])
    b.run()
    turn = b.submit(1000, prompt=20, output=1, digests=[1, 2, 3, 4, 5])
    # Of 17 tokens the last was made, and nothing computed from it: 16 are in memory.
    assert turn.cached_tokens == 16


def test_a_prefix_is_shared_as_soon_as_it_is_computed(bench):
    b = bench(prefill_chunk_tokens=40)
    b.submit(0, prompt=80, output=50, digests=list(range(20)))
    twin = b.submit(41, prompt=80, output=1, digests=list(range(20)))
    b.run(200)
    assert twin.cached_tokens == 76
    assert b.engine.cache.in_use == 20 + 13


def test_requests_queue_while_memory_is_full(bench, times):
    b = bench(kv_tokens=400, max_model_len=400)
    one = b.submit(0, prompt=300, output=2)
    two = b.submit(1, prompt=100, output=1)
    small = b.submit(2, prompt=4, output=1)
    b.run()
    assert times(one) == (0, 300, 310)
    # 76 blocks are taken and 26 needed, of 100. The small one would fit, but it came later.
    assert times(two)[0] == times(small)[0] == 310


def test_the_least_recently_used_prefix_is_evicted_first(bench):
    b = bench(kv_tokens=400, max_model_len=400)
    for start, at in ((0, 0), (1000, 200), (2000, 400)):
        b.submit(at, prompt=120, output=1, digests=list(range(start, start + 30)))
    b.submit(600, prompt=120, output=1, digests=list(range(30)))
    # 3 x 30 blocks are kept, of which the first were used last; 31 more need 21 of the second.
    b.submit(800, prompt=120, output=1, digests=list(range(5000, 5030)))
    b.run()
    cache = b.engine.cache
    assert cache.match(range(30), 30) == 30
    assert cache.match(range(1000, 1030), 30) == 9
    assert cache.match(range(2000, 2030), 30) == 30


def test_a_cancelled_request_frees_its_slot_at_once(bench, times):
    b = bench(max_batch=1)
    one = b.submit(0, prompt=100, output=1000)
    two = b.submit(1, prompt=10, output=1)
    b.cancel(50, one)
    b.run()
    assert times(one) == (0, None, None)
    # Nobody is left in the step under way, so it ends with the request.
    assert times(two) == (50, 60, 60)


def test_a_request_cancelled_in_the_queue_lets_a_smaller_one_pass(bench, times):
    b = bench(kv_tokens=400, max_model_len=400)
    b.submit(0, prompt=100, output=100)
    large = b.submit(1, prompt=300, output=1)
    small = b.submit(2, prompt=20, output=1)
    b.cancel(105, large)
    b.run()
    assert large.admitted_ns is None
    assert times(small)[0] == 110


def test_a_cancelled_request_leaves_what_was_computed_in_the_cache(bench):
    b = bench(prefill_chunk_tokens=40)
    one = b.submit(0, prompt=100, output=10, digests=list(range(25)))
    b.cancel(45, one)
    assert b.engine.cache.in_use == 0
    assert b.engine.cache.match(range(25), 25) == 10


def test_cancelling_twice_or_after_the_end_changes_nothing(bench):
    b = bench()
    one = b.submit(0, prompt=10, output=1)
    two = b.submit(0, prompt=10, output=100)
    b.run(50)
    assert one.ended
    b.cancel(50, one)
    b.cancel(51, two)
    b.cancel(52, two)
    assert (b.engine.running, b.engine.waiting, b.engine.step_end_ns) == (0, 0, None)
    assert b.engine.cache.in_use == 0


def test_a_request_that_no_memory_holds_is_refused(bench):
    b = bench(kv_tokens=400, max_model_len=400)
    with pytest.raises(ValueError, match=r"300 \+ 101 tokens do not fit into memory"):
        b.submit(0, prompt=300, output=101)
    assert b.engine.waiting == 0
