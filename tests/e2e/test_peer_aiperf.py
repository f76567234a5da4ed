"""AIPerf through the proxy: it counts the same tokens for every request, and its sessions are our trajectories."""

from collections import Counter

import peer_aiperf as peer
import pytest

pytestmark = [
    pytest.mark.peer("aiperf"),
    pytest.mark.skipif(peer.found() is None, reason=peer.MISSING),
    pytest.mark.timeout(900),
]

LOAD = ("--request-count", "12", "--concurrency", "3", "--isl", "200", "--osl", "20")


def test_tokens_agree_exactly(recorded, tmp_path):
    theirs = peer.run(peer.found(), recorded.url, tmp_path / "theirs", *LOAD)
    ours = recorded.rows("turns")
    pairs = peer.pair(theirs, ours)
    assert len(pairs) == len(ours) == 12
    for pair in pairs:
        their_tokens, our_tokens = pair.tokens
        assert our_tokens == their_tokens
        assert pair.ours["status"] == "ok"
        assert pair.ours["agent_name"] == "aiperf"
        assert pair.ours["trajectory_id"] == pair.theirs["metadata"]["x_correlation_id"]
    assert {pair.ours["output_tokens"] for pair in pairs} == {20}
    # The proxy sees the request later and each chunk earlier than a client: so the same things were timed.
    for pair in pairs:
        assert pair.ours["ttft_s"] <= pair.metric("time_to_first_token") / 1000
        assert pair.ours["ttft_s"] + pair.ours["generation_s"] <= pair.metric("request_latency") / 1000
    assert Counter(pair.ours["turn_index"] for pair in pairs) == {0: 12}
