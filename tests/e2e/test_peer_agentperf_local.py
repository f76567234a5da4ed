"""The benchmark owner's own replay: through the proxy both count the same tokens; its results give its figures."""

import json

import peer_agentperf_local as peer
import pytest

from otel_agentperf_analyzers import open_source


@pytest.mark.peer("agentperf-local")
@pytest.mark.skipif(peer.found() is None, reason=peer.MISSING)
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


@pytest.mark.peer("agentperf-local")
@pytest.mark.skipif(peer.found() is None, reason=peer.MISSING)
def test_its_summary_comes_out_of_its_turns(endpoint, tmp_path):
    peer.run(peer.found(), endpoint[0], tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    with open_source(str(tmp_path)) as database:
        assert not database.skipped
        [level] = database.relation("levels").to_pylist()
        [ours] = database.query("""
            SELECT
                COUNT(*) AS turns,
                COUNT(*) FILTER (status = 'ok') AS successful_turns,
                COUNT(*) FILTER (status <> 'ok') AS failed_turns,
                (SELECT COUNT(*) FROM tool_calls) AS tool_calls,
                SUM(e2e_latency_s) FILTER (status = 'ok') * 1000 AS total_inference_latency_ms,
                (SELECT SUM(duration_s) FROM tool_calls) * 1000 AS total_replayed_tool_delay_ms,
                SUM(input_tokens) FILTER (status = 'ok') AS total_server_prompt_tokens,
                SUM(cached_input_tokens) FILTER (status = 'ok') AS total_server_cached_prompt_tokens,
                SUM(input_tokens - cached_input_tokens) FILTER (status = 'ok') AS total_server_uncached_prompt_tokens,
                SUM(output_tokens) FILTER (status = 'ok') AS total_server_output_tokens
            FROM turns
        """).to_pylist()
        distributions = {
            name: database.query(f"""
                SELECT COUNT({column}) AS count, 1000 * AVG({column}) AS mean,
                    1000 * QUANTILE_CONT({column}, 0.5) AS p50, 1000 * QUANTILE_CONT({column}, 0.95) AS p95
                FROM turns WHERE status = 'ok'
            """).to_pylist()[0]
            for name, column in (("e2e", "e2e_latency_s"), ("time_to_first_token", "ttft_s"))
        }
        turns = database.relation("turns").to_pylist()
    assert level["pooled_speed_tps"] == pytest.approx(summary["output_tokens_per_second"], rel=1e-9)
    assert level["pooled_e2e_speed_tps"] == pytest.approx(summary["end_to_end_output_tokens_per_second"], rel=1e-9)
    assert level["tool_call_turn_share"] == sum(turn["tool_call_count"] > 0 for turn in turns) / len(turns)
    assert ours == pytest.approx({name: summary["totals"][name] for name in ours}, rel=1e-9)
    for name, found in distributions.items():
        assert found == pytest.approx(summary["latency_distributions_ms"][name], rel=1e-9)
