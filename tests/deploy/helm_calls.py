"""Helm without its program: lints or renders a chart by its library; JSON on standard output.

Run by an interpreter that has helm-python-sdk: helm_calls.py lint|render CHART VALUES.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import helm_python as helm


def answer(what: str, chart: str, values: dict[str, Any]) -> dict[str, Any]:
    """`refused` with the reason, or what was asked for: lint messages, or texts by template."""
    try:
        if what == "lint":
            return {"messages": helm.lint(chart, values, kube_version="v1.33.0")["messages"]}
        with helm.Chart.load(chart) as loaded:
            loaded.validate_schema(values)
            return {"texts": loaded.render(values, name="demo", namespace="llm")}
    except helm.HelmError as exc:
        return {"refused": str(exc)}


if __name__ == "__main__":
    json.dump(answer(sys.argv[1], sys.argv[2], json.loads(Path(sys.argv[3]).read_text())), sys.stdout)
