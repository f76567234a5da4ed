"""Renders of the chart and of the kustomizations, and the golden ones: `python tests/deploy/charts.py` writes those
that are out of date.

A golden render has the objects sorted, and files that the chart passes on named instead of repeated.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from shipped import CASES, CHART, GOLDEN, KUSTOMIZATIONS, Object, call, objects, tool


def ask(what: str, values: dict[str, Any]) -> dict[str, Any]:
    """The answer of `helm_calls.py`."""
    python = tool("python")
    assert python is not None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        script = Path(__file__).with_name("helm_calls.py")
        done = subprocess.run(
            [python, script, what, CHART, file.name], text=True, capture_output=True, check=False, timeout=100
        )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def render(values: dict[str, Any]) -> list[Object]:
    """The objects of a release `demo` in the namespace `llm`."""
    answer = ask("render", values)
    assert "texts" in answer, answer["refused"]
    found = [each for name, text in answer["texts"].items() if not name.endswith(".txt") for each in objects(text)]
    return sorted(found, key=_place)


def values_of(case: Path) -> dict[str, Any]:
    """Of one of the chart's examples."""
    values: dict[str, Any] = yaml.safe_load(case.read_text())
    return values


def build(directory: Path) -> list[Object]:
    """The objects of a kustomization."""
    done = call("kustomize", "build", directory)
    assert done.returncode == 0, done.stdout
    return sorted(objects(done.stdout), key=_place)


def goldens() -> dict[Path, Callable[[], list[Object]]]:
    """The golden renders and how each is made."""
    renders = {GOLDEN / f"chart-{short(case)}.yaml": partial(render, values_of(case)) for case in CASES}
    return {**renders, **{GOLDEN / f"kustomize-{each.name}.yaml": partial(build, each) for each in KUSTOMIZATIONS}}


def written(each: Sequence[Object]) -> str:
    """Objects as a golden render has them."""
    return yaml.safe_dump_all([_shortened(one) for one in each], sort_keys=False, width=120)


def short(case: Path) -> str:
    """Name of an example."""
    return case.stem.removesuffix("-values")


def _place(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def _shortened(each: Object) -> Object:
    files = {path.name: path for path in (CHART / "files").glob("*/*")}
    if each["kind"] == "ConfigMap":
        data = {
            name: f"files/dashboards/{name}" if name in files and text == files[name].read_text() else text
            for name, text in each["data"].items()
        }
        return {**each, "data": data}
    if each["kind"] == "PrometheusRule" and each["spec"] == yaml.safe_load(files["otel-agentperf.yaml"].read_text()):
        return {**each, "spec": "files/rules/otel-agentperf.yaml"}
    return each


if __name__ == "__main__":
    for path, make in goldens().items():
        made = written(make())
        if not path.exists() or path.read_text() != made:
            path.write_text(made)
            sys.stdout.write(f"{path}\n")
