"""GuideLLM through the proxy: it counts the same tokens for every request."""

import peer_guidellm as peer
import pytest

from otel_agentperf_analyzers import open_source

pytestmark = [
    pytest.mark.peer("guidellm"),
    pytest.mark.skipif(peer.found() is None, reason=peer.MISSING),
    pytest.mark.timeout(900),
]

LOAD = (
    *("--profile", "kind=concurrent,streams=3", "--constraint", "kind=max_requests,count=12"),
    *("--data", "kind=synthetic_text,prompt_tokens=200,output_tokens=20"),
)


def test_tokens_agree_exactly(recorded, tmp_path):
    theirs = peer.run(peer.found(), recorded.url, tmp_path / "theirs.json", *LOAD)
    recorded.finish()
    with open_source(str(recorded.store)) as database:
        ours = database.query(peer.OURS).to_pylist()
    pairs = peer.pair(theirs, ours)
    assert len(pairs) == len(ours) == 12
    for pair in pairs:
        their_tokens, our_tokens = pair.tokens
        assert our_tokens == their_tokens
        assert pair.ours["status"] == "ok"
        assert pair.ours["output_tokens"] == 20
        # The proxy sees the request later and each chunk earlier than a client: so the same things were timed.
        assert pair.ours["generation_s"] <= pair.ours["e2e_latency_s"] <= pair.theirs["request_latency"]
        assert pair.ours["ttft_s"] <= pair.theirs["time_to_first_token_ms"] / 1000
        assert pair.tpot_s[1] <= pair.tpot_s[0]
