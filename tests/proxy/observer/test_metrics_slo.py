"""Single calls judged by tiers."""

from pathlib import Path
from typing import Any

import pytest

from otel_agentperf import semconv
from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.metrics.slo import Judge, figures, judges

POLICY = """
[[policy]]
name = "own"
max_error_rate = 0.02
skip_tool_call_turns = {skip}
use_estimated_tokens = {estimates}

[[policy.tier]]
name = "chat"
min_output_speed_tps = 100
max_ttft_s = 2

[[policy.tier]]
name = "tight"
[[policy.tier.target]]
metric = "ttft"
percentile = 50
max = 0.5
[[policy.tier.target]]
metric = "ttft"
percentile = 95
max = 2
[[policy.tier.target]]
metric = "e2e_latency"
max = 10
"""


@pytest.fixture
def judge(tmp_path: Path) -> Any:
    def make(tier: str = "chat", *, skip: bool = False, estimates: bool = False) -> Judge:
        path = tmp_path / "own.toml"
        path.write_text(POLICY.format(skip=str(skip).lower(), estimates=str(estimates).lower()))
        (one,) = judges([f"{path}:{tier}"])
        return one

    return make


def call(*, failed: bool = False, **changes: Any) -> Any:
    """First output at 1 s, last at 2 s, 201 tokens: 200 tokens per second; sent at 0.4 s, ended at 3 s."""
    attributes = {
        semconv.TIME_FIRST_CHUNK: 0.9,
        semconv.TIME_FIRST_OUTPUT: 1.0,
        semconv.TIME_FIRST_ANSWER: 1.5,
        semconv.TIME_LAST_OUTPUT: 2.0,
        semconv.TIME_END: 3.0,
        semconv.TIME_SENT: 0.4,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 201,
        semconv.USAGE_SOURCE: semconv.USAGE_SERVER,
    }
    names = {
        "first": semconv.TIME_FIRST_OUTPUT,
        "last": semconv.TIME_LAST_OUTPUT,
        "tokens": semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
        "source": semconv.USAGE_SOURCE,
        "tools": semconv.TOOL_CALL_COUNT,
        "end": semconv.TIME_END,
    }
    attributes |= {names[name]: value for name, value in changes.items()}
    return figures({name: value for name, value in attributes.items() if value is not None}, failed=failed)


def test_figures_are_those_of_the_catalogue():
    assert call().values == {
        "ttft": 1.0,
        "server_ttft": 0.6,
        "time_to_first_chunk": 0.9,
        "ttfot": 1.5,
        "tpot": 0.005,
        "e2e_latency": 3.0,
        "output_speed": 200.0,
        "e2e_speed": 67.0,
    }


@pytest.mark.parametrize(
    ("changes", "verdicts", "met"),
    [
        ({}, [True, True], True),
        ({"first": 2.0, "last": 3.0}, [True, True], True),
        ({"first": 2.1, "last": 3.1}, [True, False], False),
        ({"tokens": 50}, [False, True], False),
        ({"failed": True}, [None, None], False),
        # Not streamed.
        ({"first": None, "last": None}, [None, None], False),
        # Nobody told the tokens.
        ({"tokens": None}, [None, True], False),
        # Too short to have a speed.
        ({"tokens": 1}, [None, True], True),
        ({"last": 1.0}, [None, True], True),
        ({"tokens": 1, "first": 2.5, "last": 2.5}, [None, False], False),
        # Nobody but an estimate counted.
        ({"source": semconv.USAGE_ESTIMATED}, [None, True], False),
        ({"source": semconv.USAGE_ESTIMATED, "tokens": 1}, [None, True], False),
        # Tool calls count where the policy does not leave them out.
        ({"tools": 1, "tokens": 50}, [False, True], False),
    ],
)
def test_a_call_is_judged(judge, changes, verdicts, met):
    chat = judge()
    told = call(**changes)
    assert [bound.name for bound in chat.bounds] == ["output_speed", "ttft"]
    assert chat.verdicts(told) == verdicts
    assert chat.meets(told, verdicts) == met


def test_a_policy_may_leave_out_tool_calls_and_take_estimates(judge):
    lenient = judge(skip=True, estimates=True)
    buffered = call(tools=1, tokens=50)
    assert lenient.verdicts(buffered) == [None, True]
    assert lenient.meets(buffered, lenient.verdicts(buffered))
    guessed = call(source=semconv.USAGE_ESTIMATED, tokens=50)
    assert lenient.verdicts(guessed) == [False, True]


def test_of_several_targets_the_loosest_decides_and_each_is_told(judge):
    tight = judge("tight")
    assert [(bound.name, bound.value, bound.objective, bound.decides) for bound in tight.bounds] == [
        ("ttft_p50_max", 0.5, 0.5, False),
        ("ttft_p95_max", 2.0, 0.95, True),
        ("e2e_latency", 10.0, 0.95, True),
    ]
    told = call()
    assert tight.verdicts(told) == [False, True, True]
    assert tight.meets(told, tight.verdicts(told))


def test_objectives_are_the_shares_that_have_to_meet(judge):
    assert [(bound.name, bound.objective) for bound in judge().bounds] == [("output_speed", 0.75), ("ttft", 0.95)]


def test_a_tier_judges_every_model_those_of_a_policy_their_own():
    (one,) = judges(["aa-agentperf:gpt-oss-120b#1"])
    assert one.fits("anything")
    all_of_them = judges(["aa-agentperf"])
    assert len(all_of_them) > 3
    assert [judge.tier.tier for judge in all_of_them if judge.fits("openai/GPT-OSS-120b")] == [
        judge.tier.tier for judge in all_of_them if judge.tier.tier.startswith("gpt-oss-120b")
    ]
    both = judges(["aa-agentperf", "aa-agentperf:gpt-oss-120b#1"])
    assert len(both) == len(all_of_them)
    assert sum(judge.fits("anything") for judge in both) == 1


def test_an_unknown_tier():
    with pytest.raises(UsageError, match="unknown SLO tier"):
        judges(["nothing:at-all"])
