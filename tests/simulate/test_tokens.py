"""Tokens of four bytes, and chains of their blocks."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.simulate.tokens import Chain, ChainCache, pad, special


def _whole(raw: msgspec.Raw) -> bytes:
    return special("x") + pad(bytes(raw))


@given(st.lists(st.binary(max_size=200).map(pad)), st.integers(1, 40))
def test_a_chain_depends_on_its_tokens_and_not_on_how_they_came(texts, block_tokens):
    chain = Chain.empty(block_tokens)
    digests = []
    for text in texts:
        chain = chain.extend(text)
        digests += chain.digests
    whole = Chain.empty(block_tokens).extend(b"".join(texts))
    assert digests == whole.digests
    assert (chain.tokens, chain.last, chain.tail, chain.digest) == (whole.tokens, whole.last, whole.tail, whole.digest)
    assert len(digests) == whole.tokens // block_tokens


def test_equal_leading_tokens_give_equal_leading_digests_up_to_the_difference():
    one = Chain.empty(2).extend(b"aaaabbbbccccdddd").digests
    two = Chain.empty(2).extend(b"aaaabbbbccccXXXX").digests
    assert one[0] == two[0]
    assert one[1] != two[1]
    # Equal tokens after a difference are another prefix.
    assert Chain.empty(2).extend(b"XXXXbbbbccccdddd").digests[1] != one[1]


@pytest.mark.parametrize("max_blocks", [10_000, 3])
def test_a_cache_gives_the_same_chains_as_none(max_blocks):
    cache = ChainCache(4, max_blocks)
    messages = [msgspec.Raw(b"[%d,%s]" % (number, b"1" * (37 * number))) for number in range(12)]
    for count in (3, 12, 7, 12):
        chain, digests = cache.build([(_whole, raw) for raw in messages[:count]])
        plain = Chain.empty(4).extend(b"".join([_whole(raw) for raw in messages[:count]]))
        assert digests == plain.digests
        assert chain.digest == plain.digest


def test_a_history_is_read_once():
    read = []

    def render(raw: msgspec.Raw) -> bytes:
        read.append(bytes(raw))
        return pad(bytes(raw))

    cache = ChainCache(4)
    history = [msgspec.Raw(b"%d" % number) for number in range(5)]
    cache.build([(render, raw) for raw in history[:4]])
    cache.build([(render, raw) for raw in history])
    assert read == [b"0", b"1", b"2", b"3", b"4"]
