"""Comparisons: known differences, pairing by task, levels, and what is said where the data cannot say."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers import Database, open_source
from otel_agentperf_analyzers.compare import compare, regressions

Open = Callable[[str, str], Database]


@pytest.fixture
def store(tmp_path: Path, to_lines: Callable[[str], str]) -> Iterator[Open]:
    """`store(name, notation)`: a database; closed after the test."""
    with ExitStack() as stack:

        def opened(name: str, notation: str) -> Database:
            path = tmp_path / f"{name}.jsonl"
            path.write_text(to_lines(notation))
            return stack.enter_context(open_source(str(path)))

        yield opened


def traffic(ttft: Callable[[int], float], number: int = 30, words: str = "") -> str:
    """So many trajectories of one turn of ten seconds, their times to first token as told."""
    return "\n".join(
        f"call t={20 * each} traj=t{each} in=10 out=11 first={ttft(each)} last={ttft(each) + 1} end=10 {words}"
        for each in range(number)
    )


def rows(table: Any) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in table.to_pylist()}


def test_a_difference_that_is_there_is_shown_and_regresses(store: Open) -> None:
    a = store("a", traffic(lambda each: 1 + each / 100))
    b = store("b", traffic(lambda each: 2 + each / 100))
    found = compare(a, b)
    ttft = rows(found)["ttft_p50"]
    assert (ttft["a"], ttft["b"], ttft["change"]) == pytest.approx((1.145, 2.145, 1.0))
    assert ttft["relative"] == pytest.approx(1 / 1.145)
    assert 0.8 < ttft["change_low"] < 1.0 < ttft["change_high"] < 1.2
    assert (ttft["verdict"], ttft["regressed"], ttft["paired"], ttft["level"]) == ("worse", True, False, None)
    assert rows(compare(b, a))["ttft_p50"]["verdict"] == "better"
    assert rows(compare(a, b, threshold=2.0))["ttft_p50"]["regressed"] is False
    assert any(text.startswith("ttft_p50: 1.145 to 2.145 s (+87.3%)") for text in regressions(found))
    assert rows(found)["e2e_latency_p50"]["verdict"] == "not shown"


def test_the_same_traffic_twice_shows_nothing(store: Open) -> None:
    a = store("a", traffic(lambda each: 1 + each % 7))
    b = store("b", traffic(lambda each: 1 + each % 7))
    assert {row["verdict"] for row in compare(a, b).to_pylist()} == {"not shown"}
    assert not list(regressions(compare(a, b)))


def test_a_few_trajectories_have_no_interval(store: Open) -> None:
    a, b = store("a", traffic(lambda _: 1, 3)), store("b", traffic(lambda _: 2, 3))
    ttft = rows(compare(a, b))["ttft_p50"]
    assert (ttft["change"], ttft["change_low"], ttft["verdict"], ttft["regressed"]) == (1, None, "too few", False)


def test_a_figure_that_one_side_lacks_is_undefined(store: Open) -> None:
    a, b = store("a", traffic(lambda _: 1, words="cached=5")), store("b", traffic(lambda _: 1))
    for found, sides in ((compare(a, b), (0.5, None)), (compare(b, a), (None, 0.5))):
        hit = rows(found)["cache_hit"]
        assert (hit["a"], hit["b"], hit["change"]) == (*sides, None)
        assert (hit["verdict"], hit["regressed"]) == ("undefined", False)
    assert "cache_hit" not in rows(compare(b, b))


def tasks(extra: float) -> str:
    """Ten tasks of very different lengths, each a bit slower."""
    return "\n".join(
        f"call t={200 * each} traj=t{each} task=k{each} in=10 out=11 first={1 + 10 * each + extra} "
        f"last={3 + 10 * each + extra} end={5 + 10 * each + extra}"
        for each in range(10)
    )


def test_the_same_tasks_are_paired_so_that_their_differences_do_not_hide_the_change(store: Open) -> None:
    ttft = rows(compare(store("a", tasks(0)), store("b", tasks(0.5))))["ttft_p50"]
    assert (ttft["paired"], ttft["verdict"]) == (True, "worse")
    assert (ttft["change_low"], ttft["change_high"]) == pytest.approx((0.5, 0.5))
    # The same without task ids: what ten trajectories say is not enough.
    plain = [text.replace("task=k", "agentperf.task.domain=k") for text in (tasks(0), tasks(0.5))]
    assert rows(compare(store("c", plain[0]), store("d", plain[1])))["ttft_p50"]["verdict"] == "not shown"


def test_only_tasks_of_both_sides_count(store: Open) -> None:
    more = tasks(0) + "\ncall t=9000 traj=x task=other in=10 out=11 first=500 last=501 end=600"
    latency = rows(compare(store("a", tasks(0)), store("b", more)))["e2e_latency_p95"]
    assert latency["change"] == 0


def benchmark(levels: dict[int, float]) -> str:
    lines = []
    for start, (level, ttft) in enumerate(levels.items()):
        begin = 1000 * start
        lines += [
            f"call t={begin + 10 * each} traj=l{level}t{each} bench=b level={level} agent=0 phase=steady in=10 out=11 "
            f"first={ttft + each / 100} last=8 end=9"
            for each in range(20)
        ]
        lines.append(f"level t={begin}..{begin + 999} bench=b level={level}")
    return "\n".join(lines)


def test_levels_are_compared_with_their_like(store: Open) -> None:
    found = compare(store("a", benchmark({1: 1, 2: 1, 4: 1})), store("b", benchmark({2: 1, 4: 3})))
    assert [row["level"] for row in found.to_pylist() if row["metric"] == "ttft_p50"] == [2, 4]
    assert [row["verdict"] for row in found.to_pylist() if row["metric"] == "ttft_p50"] == ["not shown", "worse"]


def test_what_cannot_be_compared_is_told(store: Open) -> None:
    a, b = store("a", benchmark({1: 1, 2: 1})), store("b", benchmark({4: 1, 8: 1}))
    with pytest.raises(UsageError, match="no level in common: one side has 1, 2, the other 4, 8"):
        compare(a, b)
    with pytest.raises(UsageError, match=r"no benchmark 'x' in .*a\.jsonl; there is b"):
        compare(a, b, benchmarks=("x", None))
    both = store("both", benchmark({1: 1}) + "\ncall t=5000 traj=live end=1")
    with pytest.raises(UsageError, match=r"holds the benchmarks b and live traffic; say which one: .*both\.jsonl#b"):
        compare(both, a)


def test_shares_regress_by_points(store: Open) -> None:
    good = traffic(lambda _: 1)
    bad = "\n".join(
        line + (" status=error" if number % 3 == 0 else "") for number, line in enumerate(good.splitlines())
    )
    errors = rows(compare(store("a", good), store("b", bad)))["error_rate"]
    assert (errors["a"], errors["b"], errors["relative"]) == (0, pytest.approx(1 / 3), None)
    assert (errors["verdict"], errors["regressed"]) == ("worse", True)
    assert rows(compare(store("a", good), store("b", bad), threshold=0.5))["error_rate"]["regressed"] is False
