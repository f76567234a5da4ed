"""What the tests of deploy/ share: where things are, the tools that check them, and Kubernetes objects."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "otel-agentperf"
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
RULES = sorted((CHART / "files" / "rules").glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden"
KUSTOMIZATIONS = [DEPLOY / "k8s" / "gateway", DEPLOY / "k8s" / "sidecar-example"]
CASES = sorted((CHART / "ci").glob("*-values.yaml"))

Object = dict[str, Any]
Test = TypeVar("Test", bound=Callable[..., Any] | type)


PEERS = Path(os.environ.get("OTEL_AGENTPERF_PEERS", "/nonexistent"))


def tool(name: str) -> Path | None:
    """A program of the environment that `tests/peers/install.py DIR deploy` makes, or of the path. Its `python` is the
    one that has Helm's library."""
    for place in (PEERS / "deploy" / "bin" / name, PEERS / "bin" / name):
        if place.exists():
            return place
    found = None if name == "python" else shutil.which(name)
    return Path(found) if found else None


def needs(
    name: str, where: str = "python tests/peers/install.py DIR deploy", *, program: str | None = None
) -> Callable[[Test], Test]:
    """Marks a test that a tool is needed for: it is skipped, with the reason, where its program is missing."""
    skip = pytest.mark.skipif(tool(program or name) is None, reason=f"{name} is not installed: {where}")
    return lambda test: pytest.mark.peer(name)(skip(test))


def call(name: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool; standard error is in its output."""
    program = tool(name)
    assert program is not None
    return subprocess.run(
        [program, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options
    )


def objects(text: str) -> list[Object]:
    """The Kubernetes objects of a YAML text."""
    return [each for each in yaml.safe_load_all(text) if each]


def pod_spec(each: Object) -> Object | None:
    """The pod that an object runs."""
    if each["kind"] == "Pod":
        return each["spec"]
    spec = each.get("spec")
    return spec["template"]["spec"] if isinstance(spec, dict) and "template" in spec else None


def containers(each: Object) -> Iterator[Object]:
    """All containers of an object's pod."""
    spec = pod_spec(each) or {}
    yield from [*spec.get("initContainers", ()), *spec.get("containers", ())]


def ours(each: Object) -> Object | None:
    """The proxy's container of an object's pod."""
    return next((one for one in containers(each) if one["name"] == "otel-agentperf"), None)


def panels(path: Path) -> list[Object]:
    """The panels of a dashboard that ask something."""
    return [panel for panel in json.loads(path.read_text())["panels"] if panel.get("targets")]


def expressions(paths: Sequence[Path] = DASHBOARDS) -> list[tuple[str, str]]:
    """PromQL of the dashboards: where it stands, and what it is."""
    return [
        (f"{path.stem}: {panel['title']} {query['refId']}", query["expr"])
        for path in paths
        for panel in panels(path)
        for query in panel["targets"]
        if query["datasource"]["type"] == "prometheus"
    ]


def searches(paths: Sequence[Path] = DASHBOARDS) -> list[tuple[str, str]]:
    """TraceQL of the dashboards: where it stands, and what it is."""
    return [
        (f"{path.stem}: {panel['title']} {query['refId']}", query["query"])
        for path in paths
        for panel in panels(path)
        for query in panel["targets"]
        if query["datasource"]["type"] == "tempo"
    ]


def rules() -> list[Object]:
    """All rules, recording ones and alerts."""
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def schema_versions() -> tuple[str, ...]:
    """Of Kubernetes: the oldest that the chart says it works with, and one of today."""
    return "1.29", "1.37"
