"""What runs in Kubernetes, by the chart or by the plain manifests: the golden renders say all of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import build, goldens, short, values_of, written
from shipped import (
    CASES,
    CHART,
    DEPLOY,
    GOLDEN,
    KUSTOMIZATIONS,
    PEERS,
    Object,
    call,
    containers,
    needs,
    objects,
    ours,
    pod_spec,
    schema_versions,
)
from starlette.routing import Route

from otel_agentperf_proxy.admin import create_admin
from otel_agentperf_proxy.config import ProxyConfig, load

RENDERS = sorted(goldens())
KEDA = DEPLOY / "k8s" / "keda" / "scaledobject.yaml"
CRDS = PEERS / "deploy" / "crds"
ENDS_S = 20
"""What relays and observer take to end after the drain."""


@pytest.fixture(params=RENDERS, ids=lambda path: path.stem)
def rendered(request: pytest.FixtureRequest) -> list[Object]:
    path: Path = request.param
    return objects(path.read_text())


def workloads(each: list[Object]) -> list[tuple[Object, Object, Object]]:
    """Objects that run the proxy, with their pod and the proxy's container."""
    return [(one, spec, container) for one in each if (spec := pod_spec(one)) and (container := ours(one)) is not None]


def configuration(each: list[Object], tmp_path: Path) -> ProxyConfig:
    """What the proxy reads."""
    (text,) = (one["data"]["proxy.toml"] for one in each if "proxy.toml" in one.get("data", {}))
    (tmp_path / "proxy.toml").write_text(text)
    return load(tmp_path / "proxy.toml", {})


@needs("kubernetes-validate")
@pytest.mark.parametrize("version", schema_versions())
def test_kubernetes_knows_every_field(rendered: list[Object], version: str, tmp_path: Path) -> None:
    standard = [each for each in rendered if each["apiVersion"].partition("/")[0] not in CUSTOM]
    (tmp_path / "objects.yaml").write_text(written(standard))
    done = call("kubernetes-validate", "--strict", "--kubernetes-version", version, tmp_path / "objects.yaml")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(" passed for resource ") == len(standard)


CUSTOM = frozenset(("monitoring.coreos.com", "gateway.networking.k8s.io", "keda.sh"))
"""Groups whose schemas are not Kubernetes' own."""


@needs("check-jsonschema")
@pytest.mark.skipif(not CRDS.exists(), reason=f"no definitions in {CRDS}: python tests/peers/install.py DIR deploy")
@pytest.mark.parametrize("path", [*RENDERS, KEDA], ids=lambda path: path.stem)
def test_operators_know_every_field(path: Path, tmp_path: Path) -> None:
    """Of Prometheus, Gateway API and KEDA."""
    for each in objects(path.read_text()):
        if each["apiVersion"].partition("/")[0] not in CUSTOM:
            continue
        if isinstance(each["spec"], str):
            each["spec"] = yaml.safe_load((CHART / each["spec"]).read_text())
        (tmp_path / "schema.json").write_text(json.dumps(schema_of(each)))
        (tmp_path / "object.json").write_text(json.dumps(each))
        files = ["--schemafile", tmp_path / "schema.json", tmp_path / "object.json"]
        done = call("check-jsonschema", "--regex-variant", "python", *files)
        assert done.returncode == 0, done.stdout


class _Definitions(yaml.CSafeLoader):
    """YAML in which `=` is a text, as in Kubernetes' own reader."""


_Definitions.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def schema_of(each: Object) -> Object:
    """The schema of a custom resource. Fields that it does not name are wrong: Kubernetes would silently drop them."""
    group, _, version = each["apiVersion"].partition("/")
    text = (CRDS / f"{group}_{each['kind'].lower()}s.yaml").read_text()
    definition = yaml.load(text, Loader=_Definitions)
    assert definition["spec"]["names"]["kind"] == each["kind"]
    (served,) = (one for one in definition["spec"]["versions"] if one["name"] == version)
    schema: Object = _closed(served["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    if isinstance(pattern := schema.get("pattern"), str):
        # Go takes flags anywhere.
        made["pattern"] = pattern.replace("^(?i)", "(?i)^")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return made


@needs("kustomize")
@pytest.mark.parametrize("directory", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_the_golden_render_of_a_kustomization_is_up_to_date(directory: Path) -> None:
    path = GOLDEN / f"kustomize-{directory.name}.yaml"
    assert written(build(directory)) == path.read_text(), "python tests/deploy/charts.py"


def test_something_runs_the_proxy(rendered: list[Object]) -> None:
    assert len(workloads(rendered)) == 1


def test_the_proxy_takes_its_configuration(rendered: list[Object], tmp_path: Path) -> None:
    config = configuration(rendered, tmp_path)
    assert (config.listen, config.admin) == ("0.0.0.0:4000", "0.0.0.0:4001")


@pytest.mark.parametrize("case", CASES, ids=short)
def test_the_configuration_is_what_the_values_say(case: Path, tmp_path: Path) -> None:
    config = configuration(objects((GOLDEN / f"chart-{short(case)}.yaml").read_text()), tmp_path)
    for key, value in values_of(case)["config"].items():
        if key == "upstreams":
            assert [table.url for table in config.upstreams] == [table["url"] for table in value]
        else:
            assert getattr(config, key) == value, key


def test_containers_can_do_nothing_but_their_work(rendered: list[Object]) -> None:
    for each in rendered:
        for container in containers(each):
            if not container["image"].startswith("otel-agentperf"):
                continue
            security = container["securityContext"]
            assert security["runAsNonRoot"] is True
            assert security["runAsUser"] >= 10001
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert "memory" in container["resources"]["limits"]
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_no_pod_of_the_chart_has_a_token_of_kubernetes(request: pytest.FixtureRequest, rendered: list[Object]) -> None:
    if "sidecar-example" in request.node.name:
        return
    for each in rendered:
        if spec := pod_spec(each):
            assert spec["automountServiceAccountToken"] is False


def test_probes_ask_routes_that_exist(rendered: list[Object]) -> None:
    routes = {route.path for route in create_admin(_Proxy()).routes if isinstance(route, Route)}
    for _, _, container in workloads(rendered):
        admin = next(port["containerPort"] for port in container["ports"] if port["name"] == "admin")
        probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
        assert [probe["path"] for probe in probes] == ["/startupz", "/livez", "/readyz"]
        assert {probe["port"] for probe in probes} == {"admin"}
        assert {probe["path"] for probe in probes} <= routes
        assert admin == 4001


def test_streams_have_time_to_end(rendered: list[Object], tmp_path: Path) -> None:
    drain_s = configuration(rendered, tmp_path).drain_s
    for _, spec, container in workloads(rendered):
        before = 5 if "lifecycle" in container else 0
        assert spec["terminationGracePeriodSeconds"] >= before + drain_s + ENDS_S


def test_a_sidecar_is_a_native_one(rendered: list[Object]) -> None:
    for each, spec, container in workloads(rendered):
        beside = [one["name"] for one in spec["containers"] if one["name"] not in ("otel-agentperf", "ship")]
        assert bool(beside) == (container.get("restartPolicy") == "Always")
        if beside:
            assert container in spec["initContainers"]
        if each["kind"] == "Job":
            assert spec["restartPolicy"] == "Never"


def test_what_is_mounted_is_there(rendered: list[Object]) -> None:
    for each, spec, _ in workloads(rendered):
        claims = [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", ())]
        volumes = [volume["name"] for volume in spec.get("volumes", ())] + claims
        assert len(volumes) == len(set(volumes))
        for container in containers(each):
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= set(volumes)
        maps = {one["metadata"]["name"] for one in rendered if one["kind"] == "ConfigMap"} | {"private-ca"}
        assert {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume} <= maps


def test_selectors_select_the_pods(rendered: list[Object]) -> None:
    ((each, _, _),) = workloads(rendered)
    labels = each["spec"]["template"]["metadata"]["labels"].items()
    found = []
    for one in rendered:
        spec = one.get("spec", {})
        match one["kind"]:
            case "Service":
                selector = spec["selector"]
            case "Deployment" | "StatefulSet" | "PodDisruptionBudget":
                selector = spec["selector"]["matchLabels"]
            case "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
            case "PodMonitor":
                selector = spec["selector"]["matchLabels"]
            case _:
                continue
        assert selector, one["kind"]
        assert selector.items() <= labels, one["kind"]
        found.append(one["kind"])
    assert "NetworkPolicy" in found


def test_services_lead_to_ports_that_listen(rendered: list[Object]) -> None:
    ((_, _, container),) = workloads(rendered)
    listening = {port["containerPort"] for port in container["ports"]}
    for each in rendered:
        if each["kind"] == "Service":
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= listening


def test_clients_have_no_way_to_the_control_routes(rendered: list[Object]) -> None:
    (policy,) = (each for each in rendered if each["kind"] == "NetworkPolicy")
    assert "Ingress" in policy["spec"]["policyTypes"]
    for rule in policy["spec"]["ingress"]:
        assert len(rule["ports"]) == 1
        if rule["ports"] == [{"port": 4001}]:
            assert {"podSelector": {}} not in rule["from"]
    for each in rendered:
        if each["kind"] == "Service" and each["spec"].get("clusterIP") != "None":
            assert {port["targetPort"] for port in each["spec"]["ports"]} == {4000}


def test_the_service_monitor_finds_the_service(rendered: list[Object]) -> None:
    for monitor in rendered:
        if monitor["kind"] != "ServiceMonitor":
            continue
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = (
            each for each in rendered if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
        )
        assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_a_store_has_one_writer(rendered: list[Object]) -> None:
    for each, spec, container in workloads(rendered):
        stored = any(argument.startswith("--store=") for argument in container["args"])
        assert stored == any(mount["mountPath"] == "/store" for mount in container["volumeMounts"])
        shared = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
        assert not shared
        if each["spec"].get("volumeClaimTemplates"):
            assert not any(one["kind"] == "HorizontalPodAutoscaler" for one in rendered)


def test_a_disruption_budget_never_blocks_a_drain(rendered: list[Object]) -> None:
    for each in rendered:
        if each["kind"] == "PodDisruptionBudget":
            assert each["spec"]["maxUnavailable"] >= 1
            assert "minAvailable" not in each["spec"]


def test_the_autoscaler_alone_says_how_many(rendered: list[Object]) -> None:
    for scaler in rendered:
        if scaler["kind"] == "HorizontalPodAutoscaler":
            ((each, _, _),) = workloads(rendered)
            reference = scaler["spec"]["scaleTargetRef"]
            assert (reference["kind"], reference["name"]) == (each["kind"], each["metadata"]["name"])
            assert "replicas" not in each["spec"]


def test_the_sidecars_of_chart_and_kustomize_are_the_same() -> None:
    def proxy(path: str) -> Object:
        ((_, _, container),) = workloads(objects((GOLDEN / path).read_text()))
        return {name: container[name] for name in ("args", "ports", "securityContext", "resources", "startupProbe")}

    assert proxy("kustomize-sidecar-example.yaml") == proxy("chart-sidecar-job.yaml")


class _Proxy:
    """As far as routes are made of it."""

    state: Any = None
    status: Callable[..., Any]
    tell: Callable[..., Any]
