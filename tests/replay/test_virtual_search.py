"""The search under the full rules of AA-AgentPerf, on a virtual clock, against every level played. In small; the table
of all seeds is made by `tests/benchmark/search.py`."""

import msgspec
import pytest
from virtual import DEPLOYMENTS, Deployment, benchmark, capacity, sweep, tier_of

from otel_agentperf.replay import PRESETS, FixedLevels, Search

SMALL = {
    # Deployments of the same kind with room for a few agents.
    "TTFT-bound": ({"max_batch": 3}, tier_of(2.2, 1.0)),
    "speed-bound": ({"decode_slope_ms": 9.0}, tier_of(10.0, 20.0)),
    "cache-bound": ({"kv_tokens": 33_000}, tier_of(2.0, 10.0)),
}


@pytest.mark.parametrize("full", DEPLOYMENTS, ids=lambda each: each.name)
def test_the_search_finds_what_playing_every_level_finds(full: Deployment) -> None:
    changes, tier = SMALL[full.name]
    deployment = Deployment(full.name, msgspec.structs.replace(full.config, **changes), tier)
    result = benchmark(deployment, Search([tier.label], most=16), seed=1)
    (outcome,) = result.outcomes
    truth = capacity(sweep(deployment, seed=1, beyond=1))
    assert outcome.finished
    assert outcome.max_agents is not None
    assert 2 <= truth <= 20, "a case that tells something"
    assert abs(outcome.max_agents - truth) <= max(1, 0.05 * truth)
    rules = PRESETS["agentperf"]
    for level in result.levels:
        if level.abandoned is None:
            assert level.steady_end_ns is not None
            assert level.steady_start_ns is not None
            assert level.steady_end_ns - level.steady_start_ns >= rules.seconds * 1e9
            assert level.completed_trajectories >= max(30, 3 * level.agents)
            assert level.lateness_max_s == 0, "the generator is never late on this clock"


def test_a_level_left_early_would_have_failed() -> None:
    """What is left early on the way to the answer is missed when it is played to its end, too."""
    changes, tier = SMALL["speed-bound"]
    deployment = Deployment("", msgspec.structs.replace(DEPLOYMENTS[1].config, **changes), tier)
    left = [level for level in benchmark(deployment, Search([tier.label], most=8), seed=2).levels if level.abandoned]
    assert left
    for level in left:
        (whole,) = benchmark(deployment, FixedLevels((level.agents,)), seed=2, look_out=False).levels
        assert whole.abandoned is None
        assert whole.verdicts[tier.label].passed is False
        assert level.end_ns - level.start_ns < whole.end_ns - whole.start_ns


def test_the_same_seed_gives_the_same_benchmark() -> None:
    deployment = Deployment("", DEPLOYMENTS[1].config, DEPLOYMENTS[1].tier)
    one, other = (benchmark(deployment, FixedLevels((3,)), seed=4, rules=PRESETS["quick"]) for _ in range(2))
    assert one.levels[0].client_ttft_p95_s == other.levels[0].client_ttft_p95_s
    assert one.levels[0].requests == other.levels[0].requests
