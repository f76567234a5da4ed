"""Files that are given beside the spans: outcomes and power samples, and what is said of wrong ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf.errors import UsageError
from otel_agentperf_analyzers import Database, Deployment, Inputs, load_outcomes, load_power

NEW_YEAR_NS = 1_767_225_600 * 10**9


@pytest.mark.parametrize(
    "text",
    [
        "trajectory_id,outcome\na,success\nb,failure\n",
        "outcome,trajectory_id,note\nsuccess,a,\nfailure,b,x\n",
        '{"trajectory_id": "a", "outcome": "success"}\n\n{"trajectory_id": "b", "outcome": "failure"}\n',
        "\ufefftrajectory_id,outcome\na,failure\na,success\nb,failure\n",
    ],
)
def test_outcomes_of_csv_and_json_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "outcomes"
    path.write_text(text, "utf-8")
    assert load_outcomes(path) == {"a": "success", "b": "failure"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name the columns trajectory_id and outcome"),
        ("id,outcome\na,success\n", "must name the columns"),
        ("trajectory_id,outcome\na,won\n", "2: outcome 'won'; write one of success, failure, unknown"),
        ("trajectory_id,outcome\n,success\n", "2: no trajectory_id"),
        ("trajectory_id,outcome\na\n", "2: no outcome"),
        ('{"trajectory_id": "a"}', "1: no outcome"),
        ('{"trajectory_id": ', "1: not a JSON object"),
        ('{"trajectory_id": 1, "outcome": "success"}', "1: no trajectory_id"),
    ],
)
def test_wrong_outcomes_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "outcomes"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_outcomes(path)
    assert str(path) in str(caught.value)


def test_power_of_several_accelerators_is_summed_up_by_time(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text("time,gpu,watts\n2026-01-01T00:00:00Z,0,100\n1767225600,1,50.5\n2026-01-01 00:00:01,0,7\n")
    assert load_power(path) == ((NEW_YEAR_NS, 150.5), (NEW_YEAR_NS + 10**9, 7.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,watts\n1,2\n", "fewer than two power samples"),
        ("time,watts\nnoon,2\n", "2: not a time and watts"),
        ("time,watts\n1,many\n", "2: not a time and watts"),
        ("time,watts\ninf,2\n", "2: not a time and watts"),
        ("time,watts\n1,-2\n", "2: -2.0 watts"),
        ("time,watts\n1,nan\n", "2: nan watts"),
        ('{"time": 1, "watts": null}', "1: no watts"),
    ],
)
def test_wrong_power_samples_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "power"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_power(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accelerators": 0}, "at least 1"),
        ({"power_w": 0.0}, "the power must be more than 0"),
        ({"power_w": float("nan")}, "the power must be more than 0"),
        ({"price_per_hour": 2.0}, "needs the number of accelerators too"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Deployment(**given)  # type: ignore[arg-type]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read outcomes from .*none: No such file"):
        load_outcomes(tmp_path / "none")


def event(name: str, label: str, at_s: int, of: str = "outcome") -> dict[str, Any]:
    values = {"gen_ai.evaluation.name": of, "gen_ai.evaluation.score.label": label}
    return {
        "name": name,
        "timeUnixNano": str(NEW_YEAR_NS + at_s * 10**9),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in values.items()],
    }


def test_an_evaluation_event_named_outcome_tells_how_a_task_came_out(
    make_call: Callable[..., dict[str, Any]], open_many: Callable[..., Database]
) -> None:
    result = "gen_ai.evaluation.result"
    calls = [make_call(number, t=0, traj=name, end=1) for number, name in enumerate("abcd", 1)]
    calls[0]["events"] = [event(result, "failure", 1), event(result, "success", 2)]
    calls[1]["events"] = [event(result, "pass", 1, of="relevance"), event("log", "success", 1)]
    calls[2]["events"] = [event(result, "perhaps", 1)]
    rows = open_many(calls).query("SELECT trajectory_id, outcome FROM trajectories ORDER BY 1").to_pylist()
    assert [row["outcome"] for row in rows] == ["success", "unknown", "unknown", "unknown"]


def test_a_file_of_outcomes_wins_over_what_spans_tell(open_spans: Callable[..., Database]) -> None:
    spans = "call t=0 traj=a end=1 outcome=success\ncall t=0 traj=b end=1 outcome=success\ncall t=0 traj=c end=1"
    database = open_spans(spans, Inputs(outcomes={"a": "failure", "c": "success", "nobody": "failure"}))
    rows = database.query("SELECT trajectory_id, outcome FROM trajectories ORDER BY 1").to_pylist()
    assert [row["outcome"] for row in rows] == ["failure", "success", "success"]
