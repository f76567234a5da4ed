"""Capacity: resampling against a slow reference, live traffic whose answer is known, the published normalisations."""

import io
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from otel_agentperf import policies
from otel_agentperf_analyzers import Database, Deployment, Inputs, bootstrap, curve, open_source, relations
from otel_agentperf_analyzers.report import build, render

TURNS = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3)), min_size=1, max_size=20)


def naive_percentile(values: list[float], share: float) -> float:
    if not values:
        return math.nan
    ordered = sorted(values)
    rank = (len(ordered) - 1) * share
    low, high = math.floor(rank), math.ceil(rank)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


@settings(deadline=None)
@given(
    turns=TURNS,
    drawn=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    share=st.sampled_from((0.0, 0.25, 0.5, 0.95)),
)
def test_a_weighted_percentile_is_that_of_the_sample_with_copies(
    turns: list[tuple[float, int]], drawn: list[int], share: float
) -> None:
    values = np.array([value for value, _ in turns])
    cluster = np.array([number for _, number in turns])
    [found] = bootstrap.percentiles(values, cluster, np.array([drawn]), share)
    expected = naive_percentile([value for value, number in turns for _ in range(drawn[number])], share)
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_ratio_is_taken_of_sums_over_clusters() -> None:
    weights = np.array([[1, 1], [0, 2], [0, 0]])
    found = bootstrap.ratios(np.array([1.0, 3.0]), np.array([4.0, 4.0]), weights)
    assert found[:2].tolist() == [0.5, 0.75]
    assert math.isnan(found[2])


def test_draws_are_the_same_each_time_and_draw_as_many_as_there_are() -> None:
    first, again = bootstrap.draws(7, 20), bootstrap.draws(7, 20)
    assert (first == again).all()
    assert (first.sum(axis=1) == 7).all()
    assert bootstrap.resamples_for(10) == 1000
    assert bootstrap.resamples_for(10**9) == 200


def test_an_interval_holds_most_resamples_and_is_none_when_many_are_undefined() -> None:
    assert bootstrap.interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert bootstrap.interval(np.array([np.nan, 1.0])) is None
    assert bootstrap.interval(np.array([])) is None


def test_intervals_over_trajectories_are_wider_than_over_turns() -> None:
    """Ten trajectories of 100 equal turns say no more than ten turns."""
    values = np.repeat(np.arange(10.0), 100)
    by_trajectory = np.repeat(np.arange(10), 100)
    widths = []
    for cluster in (by_trajectory, np.arange(1000)):
        weights = bootstrap.draws(int(cluster.max()) + 1, 500)
        low, high = bootstrap.interval(bootstrap.percentiles(values, cluster, weights, 0.5)) or (0.0, 0.0)
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


@pytest.mark.parametrize("highest", [1, 3, 4, 100])
def test_bins_cover_every_load_once(highest: int) -> None:
    found = list(curve.bins(highest))
    assert found[0][0] == 1
    assert all(before[1] + 1 == after[0] for before, after in pairwise(found))
    assert found[-1][1] >= highest
    assert all(high - low <= low / 4 for low, high in found)


def live(loads: dict[int, float], rounds: int = 20) -> str:
    """Rounds of agents that begin and end together: so many at once, each with a turn of that speed."""
    lines, start = [], 0
    for agents, speed in loads.items():
        for number in range(rounds):
            lines += [
                f"call t={start} traj=n{agents}r{number}a{agent} in=10 out={round(speed) + 1} first=0.1 last=1.1 end=2"
                for agent in range(agents)
            ]
            start += 10
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("loads", "max_agents", "first_fail", "statement"),
    [
        ({1: 60, 2: 60, 3: 30}, 2, 3, "2 agents; 3 is shown to fail"),
        ({1: 60, 2: 60}, 2, None, "at least 2: more were never at work"),
        ({2: 30}, None, 2, "no load is shown to hold; 2 is shown to fail"),
        (
            {1: 30, 2: 60},
            None,
            1,
            "no load is shown to hold; 1 is shown to fail; more agents than that hold it again, so it is doubtful",
        ),
    ],
)
def test_live_traffic_of_known_capacity(
    open_spans: Callable[..., Database], loads: dict[int, float], max_agents: int, first_fail: int, statement: str
) -> None:
    database = open_spans(live(loads), Inputs(deployment=Deployment(accelerators=4, power_w=1000, price_per_hour=0.5)))
    [row] = database.judged("capacity", [policies.parse("demo:standard")]).to_pylist()
    assert (row["method"], row["max_agents"], row["first_fail"]) == ("live", max_agents, first_fail)
    assert row["statement"] == statement
    if max_agents is not None:
        assert row["agents_per_accelerator"] == max_agents / 4
        assert row["agents_per_mw"] == max_agents * 1000
        assert row["agents_per_dollar_hour"] == max_agents / 2
        assert row["headroom_agents"] == pytest.approx(max_agents - row["agents_now"])
    mean = sum(agents for agents in loads) / len(loads)
    assert row["agents_now"] == pytest.approx(mean)


def test_what_reaches_over_the_target_is_unclear(open_spans: Callable[..., Database]) -> None:
    """Half of the trajectories are fast: P25 of the speeds may be either side of the target."""
    notation = "\n".join(
        f"call t={number * 10} traj=t{number} in=10 out={61 if number % 4 else 31} first=0.1 last=1.1 end=2"
        for number in range(20)
    )
    database = open_spans(notation)
    [bin_] = database.judged("capacity_curve", [policies.parse("demo:standard")]).to_pylist()
    assert (bin_["verdict"], bin_["trajectories"]) == ("unclear", 20)
    speed = next(target for target in bin_["targets"] if target["metric"] == "output_speed")
    assert speed["low"] < 50 <= speed["high"]
    [row] = database.judged("capacity", [policies.parse("demo:standard")]).to_pylist()
    assert row["statement"] == "the data cannot say: every interval reaches over a target"


def test_a_target_without_a_value_is_said_to_be_that(open_spans: Callable[..., Database]) -> None:
    """Nothing is streamed: there is no interval that could reach over a target."""
    notation = "\n".join(
        f"call t={number * 10} traj=t{number} plain in=10 out=61 chunk=1 end=2" for number in range(20)
    )
    database = open_spans(notation)
    [row] = database.judged("capacity", [policies.parse("demo:standard")]).to_pylist()
    assert row["statement"] == "the data cannot say: no load has a value for each target"


def test_the_report_shows_the_curve_and_says_what_it_comes_to(open_spans: Callable[..., Database]) -> None:
    database = open_spans(live({1: 60, 2: 60, 3: 30}), Inputs(deployment=Deployment(accelerators=4)))
    tiers = [policies.parse(f"demo:{name}") for name in ("standard", "fast")]
    report = build(database, tiers=tiers)
    standard, fast = report.live_capacity
    assert (standard.policy, standard.tier, standard.model) == ("demo@1", "standard", "m")
    assert (standard.max_agents, standard.first_fail, standard.agents_per_accelerator) == (2, 3, 0.5)
    assert [(load.agents_low, load.verdict) for load in standard.curve] == [(1, "holds"), (2, "holds"), (3, "fails")]
    assert standard.headroom_agents == pytest.approx(0)
    speed = next(target for target in standard.curve[2].targets if target.metric == "output_speed")
    assert (speed.wanted, speed.found, speed.low, speed.high) == (50, 30, 30, 30)
    assert fast.max_agents is None
    file = io.StringIO()
    render(report, Console(file=file, width=100, highlight=False))
    text = [line.rstrip() for line in file.getvalue().splitlines()]
    assert "Capacity demo@1 · m · 2.00 agents at work on average" in text
    assert [line.split() for line in text if line.split()[:3] == ["3", "60", "60"]] == [
        ["3", "60", "60", "fails", "30.0–30.0", "fails", "30.0–30.0"]
    ]
    assert "standard: 2 agents; 3 is shown to fail; headroom 0.000; 0.500 per accelerator" in text
    assert msgspec.json.decode(msgspec.json.encode(report))["live_capacity"][0]["curve"][0]["error_rate_low"] == 0


def test_the_report_says_where_live_traffic_is_too_little(open_spans: Callable[..., Database]) -> None:
    report = build(open_spans("call t=0 first=0.1 last=1.1 end=2 in=10 out=21"), tiers=policies.select("demo"))
    file = io.StringIO()
    render(report, Console(file=file, width=80, highlight=False))
    assert "all tiers: the data cannot say: no load was met by enough trajectories" in file.getvalue()
    assert build(open_spans("call t=0 bench=b level=1 end=2"), tiers=policies.select("demo")).live_capacity == ()


def test_what_was_measured_once_over_a_store_is_kept(
    tmp_path: Path, to_lines: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "MANY_SPANS", 1)
    (tmp_path / "spans-a-0.jsonl").write_text(to_lines(live({1: 60, 2: 30})))
    measured: list[int] = []
    create = curve.create

    def noted(*arguments: Any) -> None:
        measured.append(1)
        create(*arguments)

    monkeypatch.setattr(curve, "create", noted)
    found = []
    for tier in ("demo:standard", "demo:standard", "demo:fast", "demo:fast"):
        with open_source(str(tmp_path)) as database:
            found.append(database.judged("capacity_curve", [policies.parse(tier)]).to_pylist())
    assert len(measured) == 2
    assert found[0] == found[1] != found[2] == found[3]
    for path in tmp_path.glob(".cache/*/results/*/curve_rows-*"):
        path.write_bytes(b"PAR1")
    with open_source(str(tmp_path)) as database:
        assert database.judged("capacity_curve", [policies.parse("demo:fast")]).to_pylist() == found[3]


def test_the_load_of_a_turn_is_the_mean_of_agents_at_work(open_spans: Callable[..., Database]) -> None:
    """a is open from 0 to 10; b from 5 to 10; a's turn meets 1.5 agents, b's 2. A sub-agent adds to none."""
    database = open_spans("""
        call t=0 traj=a end=10
        call t=5 traj=b end=5
        call t=6 traj=s end=1 parent=a
    """)
    table = database.fetch("SELECT trajectory_id, agents FROM turn_loads ORDER BY 1")
    assert {row["trajectory_id"]: row["agents"] for row in table.to_pylist()} == {"a": 1.5, "b": 2, "s": 2}


PUBLISHED = [
    # name, agents, accelerators, watts per accelerator, agents per accelerator, agents per MW
    ("GB300 NVL72 tier 1", 1840, 32, 937.2, 57.5, 61_354),
    ("GB300 tier 2", 768, 40, None, 19.2, None),
    ("H200 tier 1", 11, 8, 530.05, 1.4, 2_594),
]


@pytest.mark.parametrize(
    ("name", "agents", "accelerators", "watts", "each", "per_mw"), PUBLISHED, ids=lambda it: str(it)
)
def test_the_published_headline_figures_come_out(
    open_spans: Callable[..., Database],
    name: str,
    agents: int,
    accelerators: int,
    watts: float | None,
    each: float,
    per_mw: float | None,
) -> None:
    """A level of so many agents that passes, on so many accelerators: figures of AA-AgentPerf for DeepSeek V4 Pro."""
    power = "" if watts is None else f"power={watts * accelerators}"
    database = open_spans(f"""
        call t=1 traj=a bench=b level={agents} agent=0 phase=steady first=0.1 last=1.1 end=2 in=10 out=101 final
        level t=0..600 bench=b level={agents} completed={3 * agents} accelerators={accelerators} {power}
    """)
    [row] = database.judged("capacity", [policies.parse("demo:standard")]).to_pylist()
    assert row["max_agents"] == agents
    assert row["agents_per_accelerator"] == pytest.approx(each, abs=0.05)
    assert row["agents_per_mw"] == (None if per_mw is None else pytest.approx(per_mw, rel=1e-3))
