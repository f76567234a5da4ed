"""SLO policies: the presets, how tiers are named, files of one's own."""

from pathlib import Path

import pytest

from otel_agentperf import policies
from otel_agentperf.errors import UsageError

PUBLISHED = {
    "2026-07": {
        "deepseek-v4-pro": [(20, 10), (60, 5), (180, 3)],
        "gpt-oss-120b": [(100, 5), (250, 3), (500, 2), (2000, 1)],
    },
    "2026-05": {"deepseek-v3.2": [(30, 15), (100, 15), (300, 15)]},
}


def test_the_published_tiers_are_all_there() -> None:
    found = [tier for tier in policies.load_presets() if tier.policy == "aa-agentperf"]
    expected = {
        (version, f"{model}#{number}", speed, ttft)
        for version, models in PUBLISHED.items()
        for model, targets in models.items()
        for number, (speed, ttft) in enumerate(targets, 1)
    }
    assert {(t.version, t.tier, t.min_output_speed_tps, t.max_ttft_s) for t in found} == expected
    for tier in found:
        assert [(it.metric, it.percentile, it.bound) for it in tier.targets] == [
            ("output_speed", 25, "min"),
            ("ttft", 95, "max"),
        ]
        assert (tier.min_trajectories, tier.min_trajectories_per_agent) == (30, 3)
        assert (tier.min_steady_s, tier.min_hold_s) == (600, 30)
        assert tier.comparable
        assert not tier.fallback


def test_demo_tiers_are_marked_as_not_comparable() -> None:
    demo = policies.select("demo")
    assert len(demo) == 3
    assert all(tier.fallback and not tier.comparable and tier.fits("anything") for tier in demo)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("aa-agentperf:gpt-oss-120b#1", "aa-agentperf@2026-07:gpt-oss-120b#1"),
        ("aa-agentperf@2026-07:gpt-oss-120b#4", "aa-agentperf@2026-07:gpt-oss-120b#4"),
        ("aa-agentperf:deepseek-v3.2#1", "aa-agentperf@2026-05:deepseek-v3.2#1"),
        ("demo:fast", "demo@1:fast"),
    ],
)
def test_names_of_tiers(name: str, label: str) -> None:
    tier = policies.parse(name)
    assert tier.label == label
    assert policies.parse(label) == tier


def test_a_policy_or_a_model_names_several_tiers() -> None:
    assert len(policies.select("aa-agentperf")) == 7
    assert len(policies.select("aa-agentperf@2026-05")) == 3
    assert len(policies.select("aa-agentperf:gpt-oss-120b")) == 4
    with pytest.raises(UsageError, match="names several SLO tiers: aa-agentperf:gpt-oss-120b#1, "):
        policies.parse("aa-agentperf:gpt-oss-120b")


@pytest.mark.parametrize("name", ["", ":", "nope", "aa-agentperf:gpt-oss-120b#9", "demo@2025-01", "demo:fast:x"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown SLO tier .* there are .*aa-agentperf:gpt-oss-120b#1, .*demo:fast"):
        policies.parse(name)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean aa-agentperf:gpt-oss-120b#1"):
        policies.parse("aa-agentperf:gpt-oss-120#1")


def test_models_are_matched_by_pattern_whatever_their_case() -> None:
    tier = policies.parse("aa-agentperf:gpt-oss-120b#1")
    assert tier.fits("openai/GPT-OSS-120B")
    assert tier.fits("gpt-oss-120b-mxfp4")
    assert not tier.fits("gpt-oss-20b")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("""
        [[policy]]
        name = "mine"
        min_steady_s = 5
        [[policy.tier]]
        name = "chat"
        max_ttft_s = 1
        [[policy]]
        name = "theirs"
        [[policy.tier]]
        name = "batch"
        min_output_speed_tps = 10
    """)
    tier = policies.parse(f"{path}:chat")
    assert (tier.label, tier.max_ttft_s, tier.min_output_speed_tps) == ("mine@1:chat", 1, None)
    assert (tier.min_steady_s, tier.models, tier.comparable) == (5, ("*",), False)
    assert policies.parse(f"{path}:theirs:batch").tier == "batch"
    assert len(policies.select(str(path))) == 2
    with pytest.raises(UsageError, match="names several SLO tiers: mine:chat, theirs:batch"):
        policies.parse(str(path))
    with pytest.raises(UsageError, match="there are mine:chat, theirs:batch"):
        policies.parse(f"{path}:nope")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[policy]", "is not TOML"),
        ("", "does not hold SLO policies"),
        ('[[policy]]\nname = "x"', "missing required field `tier`"),
        ('[[policy]]\nname = "x"\ntier = []', "does not hold SLO policies"),
        ('[[policy]]\nname = "x"\nspeed = 1\n[[policy.tier]]\nname = "a"', "unknown field `speed`"),
        ('[[policy]]\nname = "x"\nspeed_percentile = 101\n[[policy.tier]]\nname = "a"\nmax_ttft_s = 1', "<= 100"),
        ('[[policy]]\nname = "x"\n[[policy.tier]]\nname = "a"', "tier a has no target"),
        ('[[policy]]\nname = "x"\n[[policy.tier]]\nname = "a"\nmax_ttft_s = 0', "> 0"),
        ('[[policy]]\nname = "x:y"\n[[policy.tier]]\nname = "a"\nmax_ttft_s = 1', "policy.*name"),
        ('[[policy]]\nname = "x"\n' + '[[policy.tier]]\nname = "a"\nmax_ttft_s = 1\n' * 2, "x@1:a is there twice"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        policies.parse(str(path))
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read SLO policies from .*none\.toml: No such file"):
        policies.parse(f"{tmp_path}/none.toml:chat")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is not UTF-8 text"):
        policies.load(tmp_path / "binary.toml")


def test_targets_of_other_shapes(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("""
        [[policy]]
        name = "mine"
        speed_percentile = 10
        use_estimated_tokens = true
        [[policy.tier]]
        name = "e2e"
        models = ["big-*"]
        max_ttft_s = 2
        [[policy.tier.target]]
        metric = "e2e_speed"
        min = 30
        [[policy.tier.target]]
        metric = "tpot"
        max = 0.05
        percentile = 50
    """)
    tier = policies.parse(f"{path}:e2e")
    assert [str(target) for target in tier.targets] == [
        "P95 ttft ≤ 2 s",
        "P10 e2e_speed ≥ 30 tok/s",
        "P50 tpot ≤ 0.05 s",
    ]
    assert (tier.max_ttft_s, tier.min_output_speed_tps) == (2, None)
    assert tier.use_estimated_tokens
    assert tier.fits("BIG-1")
    assert not tier.fits("small")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ('metric = "tpot"', "target tpot of tier a needs either min or max"),
        ('metric = "tpot"\nmin = 1\nmax = 2', "needs either min or max"),
        ('metric = "speed"\nmin = 1', "Invalid enum value 'speed'"),
        ('metric = "tpot"\nmax = -1', "> 0"),
    ],
)
def test_a_wrong_target_is_told_in_one_line(tmp_path: Path, target: str, message: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(
        f'[[policy]]\nname = "x"\n[[policy.tier]]\nname = "a"\n[[policy.tier.target]]\n{target}\n',
    )
    with pytest.raises(UsageError, match=message):
        policies.parse(str(path))
