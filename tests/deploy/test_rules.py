"""Recording rules and alerts, by promtool; alerts have runbooks and cases."""

from pathlib import Path

import pytest
import yaml
from shipped import DEPLOY, RULES, call, needs, rules

CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@needs("promtool", "apt-get install prometheus")
@pytest.mark.parametrize("file", RULES, ids=lambda path: path.stem)
def test_prometheus_takes_the_rules(file: Path) -> None:
    done = call("promtool", "check", "rules", "--lint=all", "--lint-fatal", file)
    assert done.returncode == 0, done.stdout


@needs("promtool", "apt-get install prometheus")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_rules_give_what_their_cases_say(case: Path) -> None:
    done = call("promtool", "test", "rules", case)
    assert done.returncode == 0, done.stdout


def test_every_rule_has_a_case() -> None:
    """Alerts one in which they fire; recording rules one with their value, or an alert that reads them."""
    said = [test for case in CASES for test in yaml.safe_load(case.read_text())["tests"]]
    fired = {one["alertname"] for test in said for one in test.get("alert_rule_test", ()) if one["exp_alerts"]}
    assert fired == set(ALERTS)
    read = "\n".join(
        [one["expr"] for test in said for one in test.get("promql_expr_test", ())] + [rule["expr"] for rule in rules()]
    )
    for rule in rules():
        if "record" in rule:
            assert rule["record"] in read, rule["record"]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("page", "ticket", "info")
    annotations = alert["annotations"]
    assert annotations["summary"]
    assert "$value" in annotations["description"] or "$labels" in annotations["description"]
    runbook = DEPLOY / annotations["runbook"]
    assert f"`{name}`" in runbook.read_text()
