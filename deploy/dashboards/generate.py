"""Writes the dashboards' JSON into the chart, where compose mounts it from too.

python deploy/dashboards/generate.py            write the files that are out of date
python deploy/dashboards/generate.py --check    only say which these are
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

import agents
import operation
import traces

TARGET: Final = Path(__file__).parents[1] / "helm" / "otel-agentperf" / "files" / "dashboards"

DASHBOARDS: Final = {
    "agents.json": agents.DASHBOARD,
    "proxy.json": operation.DASHBOARD,
    "traces.json": traces.TRACES,
    "trajectory.json": traces.ONE_TRAJECTORY,
}


def main() -> int:
    """Write or check all files; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the dashboards' JSON into the chart.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is out of date")
    check = parser.parse_args().check
    stale = []
    for name, dashboard in DASHBOARDS.items():
        path, made = TARGET / name, json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != made:
            stale.append(name)
            if not check:
                path.write_text(made, encoding="utf-8")
    extra = sorted(path.name for path in TARGET.glob("*.json") if path.name not in DASHBOARDS)
    if check and (stale or extra):
        sys.stderr.write(f"out of date: {', '.join(stale + extra)}; run `python deploy/dashboards/generate.py`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
