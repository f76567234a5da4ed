"""Values that make a deployment, and those that make none."""

import pytest

from otel_agentperf.errors import UsageError
from otel_agentperf.simulate import SimulateConfig


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_batch": 0}, "max-batch must be above 0, not 0"),
        ({"decode_ms": float("nan")}, "decode-ms must be a finite number, not nan"),
        ({"decode_ms": float("inf")}, "decode-ms must be a finite number, not inf"),
        ({"prefill_tokens_per_s": -3.0}, "prefill-tokens-per-s must be above 0, not -3.0"),
        ({"error_rate": 2.0}, "error-rate must be between 0 and 1, not 2.0"),
        ({"error_status": 200}, "error-status must be an HTTP status from 400 to 599, not 200"),
        ({"decode_slope_ms": -1.0}, "decode-slope-ms must not be below 0, not -1.0"),
        ({"kv_tokens": 1000, "max_model_len": 2000}, r"kv-tokens 1000 \(blocks of 16\) hold no request"),
        ({"kv_tokens": 5}, r"kv-tokens 5 \(blocks of 16\) hold no request"),
        ({"kv_tokens": -5}, "kv-tokens must be above 0, not -5"),
        ({"block_tokens": 0, "kv_tokens": 100}, "block-tokens must be above 0, not 0"),
        ({"max_model_len": 1}, "max-model-len must be at least 2"),
        ({"model": ""}, "model must not be empty"),
    ],
)
def test_a_value_that_makes_no_deployment_is_named(values, says):
    with pytest.raises(UsageError, match=says):
        SimulateConfig.fitting(**values)


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        ({}, 131_072),
        ({"kv_tokens": 50_000}, 50_000),
        ({"kv_tokens": 50_001}, 50_000),
        ({"kv_tokens": 50_000, "block_tokens": 4096}, 49_152),
        ({"kv_tokens": 10_000_000}, 131_072),
        ({"kv_tokens": 50_000, "max_model_len": 1000}, 1000),
    ],
)
def test_the_longest_context_is_what_memory_holds_unless_told(values, longest):
    assert SimulateConfig.fitting(**values).max_model_len == longest


def test_step_times():
    config = SimulateConfig(prefill_tokens_per_s=1000, decode_ms=10, decode_slope_ms=0.5)
    assert config.prefill_ns(3) == 3_000_000
    assert [config.decode_ns(batch) for batch in (0, 1, 3)] == [0, 10_000_000, 11_000_000]
