"""Wall-clock anchors, and percentiles by hand."""

import pytest

from otel_agentperf_proxy.clock import WallClock
from otel_agentperf_proxy.timing import percentile


def test_an_anchor_is_the_tightest_of_its_readings():
    # Each reading is monotonic, wall, monotonic: the second one takes 2 ns, the others a million.
    monotonic = iter([0, 1_000_000, 2_000_000, 2_000_002, 3_000_000, 4_000_000])
    wall = iter([10_000_000_000, 10_002_000_001, 10_005_000_000])
    clock = WallClock(monotonic=lambda: next(monotonic), wall=lambda: next(wall))
    assert clock.unix_ns(2_000_001) == 10_002_000_001


def test_a_new_anchor_is_taken_each_minute():
    now = {"monotonic": 0, "wall": 1_000}
    clock = WallClock(monotonic=lambda: now["monotonic"], wall=lambda: now["wall"], every_ns=60)
    now.update(monotonic=59, wall=5_000)
    clock.tick(59)
    assert clock.unix_ns(59) == 1_059
    now.update(monotonic=60, wall=5_060)
    clock.tick(60)
    assert clock.unix_ns(61) == 5_061


@pytest.mark.parametrize(
    ("values", "p", "expected"),
    [([7], 0.5, 7), ([1, 2], 0.5, 1.5), ([0, 10, 20, 30, 40], 0.95, 38), ([0, 10], 1.0, 10)],
)
def test_percentiles_interpolate_linearly(values, p, expected):
    assert percentile(values, p) == pytest.approx(expected)
