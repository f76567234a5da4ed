"""The benchmark owner's own replay through the proxy: both counted the same tokens in the same turns."""

import peer_agentperf_local as peer
import pytest


@pytest.mark.peer("agentperf-local")
@pytest.mark.skipif(peer.found() is None, reason=f"agentperf-local is not in ${peer.PEERS}: tests/peers/install.py")
def test_tokens_agree_exactly(recorded, tmp_path):
    theirs = peer.run(peer.found(), recorded.url, tmp_path / "theirs")
    pairs = peer.pair(theirs, recorded.rows("turns"))
    assert len(pairs) == 6
    for pair in pairs:
        their_tokens, our_tokens = pair.tokens
        assert our_tokens == their_tokens
        assert pair.ours["finish_reason"] == pair.theirs["finish_reason"]
        assert pair.ours["tool_call_count"] == pair.theirs["response_tool_calls"]
        assert pair.ours["status"] == "ok"
    assert len({pair.ours["trajectory_id"] for pair in pairs}) == 1
    assert [pair.ours["turn_index"] for pair in pairs] == list(range(6))
