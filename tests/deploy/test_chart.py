"""The Helm chart: linted, rendered, refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import ask, goldens, render, short, values_of, written
from shipped import CASES, CHART, DASHBOARDS, DEPLOY, GOLDEN, needs

from otel_agentperf import __version__
from otel_agentperf_proxy.config import load

by_helm = needs("helm-python-sdk", program="python")

LEAST = values_of(CHART / "ci" / "gateway-values.yaml")


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (__version__, __version__)


def test_every_example_has_a_golden_render() -> None:
    assert sorted(GOLDEN.glob("*.yaml")) == sorted(goldens())


@by_helm
@pytest.mark.parametrize("case", CASES, ids=short)
class TestAnExample:
    def test_helm_finds_nothing_to_say(self, case: Path) -> None:
        found = ask("lint", values_of(case))["messages"]
        assert [each for each in found if each["severity"] > 1] == []

    def test_its_golden_render_is_up_to_date(self, case: Path) -> None:
        path = GOLDEN / f"chart-{short(case)}.yaml"
        assert written(goldens()[path]()) == path.read_text(), "python tests/deploy/charts.py"


@by_helm
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "config.upstream is required"),
        ({"config": {"upstream": "vllm:8000"}}, "/config/upstream"),
        ({"config": {**LEAST["config"], "listen": "0.0.0.0:1"}}, "/config/listen"),
        ({**LEAST, "replica": 2}, "'replica' not allowed"),
        ({**LEAST, "mode": "daemon"}, "/mode"),
        ({**LEAST, "mode": "sidecar"}, "/sidecar/containers"),
        ({**LEAST, "image": {"digest": "sha256:12"}}, "/image/digest"),
        ({**LEAST, "store": {"kind": "persistent"}, "autoscaling": {"enabled": True}}, "/store/kind"),
        ({**LEAST, "salt": {"value": "salt"}}, "/salt/value"),
        ({**LEAST, "salt": {"value": "00" * 16, "existingSecret": "salt"}}, "/salt"),
        ({"config": {**LEAST["config"], "salt_file": "/salt"}}, "/config/salt_file"),
        ({**LEAST, "ship": {"to": "s3://traces"}}, "/store/kind"),
        ({**LEAST, "ship": {"to": "traces"}, "store": {"kind": "ephemeral"}}, "/ship/to"),
        ({**LEAST, "podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget"),
        ({**LEAST, "sidecar": {"pod": {"containers": []}}}, "/sidecar/pod/containers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], reason: str) -> None:
    assert reason in ask("render", values).get("refused", "nothing was refused")


@by_helm
def test_pods_are_replaced_when_their_configuration_changes() -> None:
    sums = {
        each["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for workers in (1, 2)
        for each in render({**LEAST, "config": {**LEAST["config"], "workers": workers}})
        if each["kind"] == "Deployment"
    }
    assert len(sums) == 2


@by_helm
def test_runbooks_get_the_address_where_they_are_read() -> None:
    values = {**LEAST, "prometheusRule": {"enabled": True, "runbookBaseUrl": "https://git.example.com/deploy"}}
    (rule,) = (each for each in render(values) if each["kind"] == "PrometheusRule")
    alerts = [one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one]
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].startswith("https://git.example.com/deploy/runbooks/")


@by_helm
def test_all_dashboards_are_found_by_grafanas_sidecar() -> None:
    found = [
        each
        for each in render({**LEAST, "dashboards": {"enabled": True}})
        if each["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    shipped = {path.name: json.loads(path.read_text()) for path in DASHBOARDS}
    assert {key: json.loads(text) for each in found for key, text in each["data"].items()} == shipped


@by_helm
def test_two_releases_share_no_name() -> None:
    names = [
        {(each["kind"], each["metadata"]["name"]) for each in render({**LEAST, "fullnameOverride": name})}
        for name in ("one", "two")
    ]
    assert not names[0] & names[1]


@by_helm
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, []),
        ({"serviceMonitor": {"enabled": True}}, ["none"]),
        ({"serviceMonitor": {"enabled": True}, "env": [{"name": "OTEL_METRICS_EXPORTER", "value": "otlp"}]}, ["otlp"]),
    ],
    ids=["by OTLP", "scraped", "both"],
)
def test_metrics_take_one_way_unless_told(values: dict[str, Any], wanted: list[str]) -> None:
    (workload,) = (each for each in render({**LEAST, **values}) if each["kind"] == "Deployment")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert [one["value"] for one in container["env"] if one["name"] == "OTEL_METRICS_EXPORTER"] == wanted


@by_helm
@pytest.mark.parametrize(
    "values", [{"value": "00" * 16}, {"existingSecret": "mine", "key": "key"}], ids=["made", "own"]
)
def test_the_salt_is_a_file_of_a_secret(values: dict[str, str], tmp_path: Path) -> None:
    found = render({**LEAST, "salt": values})
    made = {each["metadata"]["name"]: each["stringData"] for each in found if each["kind"] == "Secret"}
    assert list(made.values()) == ([{"salt": values["value"]}] if "value" in values else [])
    (workload,) = (each for each in found if each["kind"] == "Deployment")
    pod = workload["spec"]["template"]["spec"]
    (volume,) = (each["secret"] for each in pod["volumes"] if "secret" in each)
    assert volume["secretName"] == values.get("existingSecret", next(iter(made), ""))
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "otel-agentperf-salt")
    (config,) = (each["data"]["proxy.toml"] for each in found if "proxy.toml" in each.get("data", {}))
    (tmp_path / "proxy.toml").write_text(config)
    file = load(tmp_path / "proxy.toml", {}).salt_file
    assert [file] == [f"{mount['mountPath']}/{each['path']}" for each in volume["items"]]
    assert "OTEL_AGENTPERF_SALT" not in [each["name"] for each in pod["containers"][0]["env"]]


@by_helm
def test_pods_are_replaced_when_their_salt_changes() -> None:
    sums = {
        each["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for digit in "01"
        for each in render({**LEAST, "salt": {"value": digit * 32}})
        if each["kind"] == "Deployment"
    }
    assert len(sums) == 2


@by_helm
@pytest.mark.parametrize("mode", ["gateway", "sidecar"])
def test_segments_are_shipped_from_the_store_of_the_proxy(mode: str) -> None:
    values = {
        **LEAST,
        "mode": mode,
        "sidecar": {"containers": [{"name": "agent", "image": "agent:1"}]},
        "store": {"kind": "ephemeral"},
        "ship": {"to": "s3://traces/a b", "endpoint": "http://minio:9000", "existingSecret": "bucket"},
    }
    found = render(values)
    (workload,) = (each for each in found if each["kind"] == "Deployment")
    pod = workload["spec"]["template"]["spec"]
    containers = {each["name"]: each for each in (*pod.get("initContainers", ()), *pod["containers"])}
    ship, proxy = containers["ship"], containers["otel-agentperf"]
    assert ship["args"] == ["ship", "/store", "--to=s3://traces/a b", "--every=60"]
    assert ship["env"] == [{"name": "AWS_ENDPOINT_URL", "value": "http://minio:9000"}]
    assert ship["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    assert "envFrom" not in proxy
    assert ship["securityContext"] == proxy["securityContext"]
    assert ship["securityContext"]["readOnlyRootFilesystem"] is True
    assert ship.get("restartPolicy") == proxy.get("restartPolicy") == ("Always" if mode == "sidecar" else None)
    stores = [[each for each in one["volumeMounts"] if each["name"] == "store"] for one in (ship, proxy)]
    assert stores[0] == stores[1] == [{"name": "store", "mountPath": "/store"}]
    mounts = {each["name"] for each in ship["volumeMounts"]}
    assert mounts <= {each["name"] for each in pod["volumes"]}
    if mode == "gateway":
        (policy,) = (each for each in found if each["kind"] == "NetworkPolicy")
        assert {"port": 9000} in policy["spec"]["egress"][-1]["ports"]


@by_helm
def test_nothing_is_shipped_unless_told() -> None:
    assert "ship" not in str([each.get("spec") for each in render({**LEAST, "store": {"kind": "ephemeral"}})])


README = (CHART / "README.md").read_text()


@by_helm
@pytest.mark.parametrize("page", [DEPLOY / "README.md", CHART / "README.md"], ids=lambda path: path.parent.name)
def test_values_of_documented_commands_render(page: Path) -> None:
    commands = re.findall(r"^helm install ((?:[^\\\n]|\\\n)*)", page.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        values: dict[str, Any] = {}
        for path, value in re.findall(r"--set (\S+?)=(\S+)", command):
            place = values
            *parents, last = path.split(".")
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        images = [
            one["image"]
            for each in render(values)
            if each["kind"] == "Deployment"
            for one in each["spec"]["template"]["spec"]["containers"]
        ]
        assert images == [f"{values['image']['repository']}:{__version__}"]


@by_helm
@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
def test_documented_values_render(text: str, tmp_path: Path) -> None:
    found = render({**LEAST, **yaml.safe_load(text)})
    (config,) = (each["data"]["proxy.toml"] for each in found if "proxy.toml" in each.get("data", {}))
    (tmp_path / "proxy.toml").write_text(config)
    load(tmp_path / "proxy.toml", {})
