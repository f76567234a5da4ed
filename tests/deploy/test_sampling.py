"""The sampling collector keeps whole trajectories: real spans go in, and what comes out is compared."""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from collectors import PATIENCE_S, running_collector
from shipped import DEPLOY, needs

from otel_agentperf import semconv
from otel_agentperf.semconv import OUTCOME, STATUS, TIME_FIRST_OUTPUT, TRAJECTORY_ID

SLOW_S = 5.0
TRAJECTORIES = 64


def hashed(trajectory: str) -> bool:
    """Whether the policy by hash keeps it: one in eight."""
    return hashlib.sha256(trajectory.encode()).hexdigest() < "20"


def run(number: int, trajectory: str, **facts: Any) -> list[dict[str, Any]]:
    """The spans of an agent run: three turns, of which the last has these facts."""
    trace = hashlib.sha256(f"{trajectory}/{number}".encode()).hexdigest()[:32]
    now = time.time_ns()
    spans = []
    for turn in range(3):
        attributes: dict[str, Any] = {TRAJECTORY_ID: trajectory, STATUS: "ok", TIME_FIRST_OUTPUT: 0.5}
        attributes |= facts if turn == 2 else {}
        failed = attributes[STATUS] != "ok"
        spans.append(
            {
                "traceId": trace,
                "spanId": f"{number:08x}{turn:08x}",
                "name": "chat m",
                "kind": 3,
                "startTimeUnixNano": str(now),
                "endTimeUnixNano": str(now + 1),
                "attributes": [
                    {"key": key, "value": {"doubleValue" if isinstance(value, float) else "stringValue": value}}
                    for key, value in attributes.items()
                ],
                "status": {"code": 2} if failed else {},
            }
        )
    return spans


@contextmanager
def collector(directory: Path) -> Iterator[tuple[str, Path]]:
    """`sampling.yaml`, but that it writes to a file and waits two seconds; gives its address and the file."""
    out = directory / "out.jsonl"

    def change(config: dict[str, Any]) -> None:
        config["processors"]["batch"]["timeout"] = "100ms"
        config["exporters"] = {"file": {"path": str(out), "flush_interval": "100ms"}}
        del config["service"]["pipelines"]["metrics"]
        config["service"]["pipelines"]["traces"]["exporters"] = ["file"]

    with running_collector("sampling", directory, change, DECISION_WAIT="2s") as url:
        yield f"{url}/v1/traces", out


def send(url: str, spans: list[dict[str, Any]]) -> None:
    body = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    httpx.post(url, json=body, timeout=30).raise_for_status()


def kept(out: Path) -> dict[str, int]:
    """Number of spans by trace."""
    found: dict[str, int] = defaultdict(int)
    for line in out.read_text().splitlines() if out.exists() else ():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    found[span["traceId"]] += 1
    return found


def wait_for(out: Path, wanted: dict[str, int]) -> None:
    """Until these spans came, and no more of their traces."""
    until = time.monotonic() + PATIENCE_S
    while kept(out) != wanted and time.monotonic() < until:
        time.sleep(0.1)
    assert kept(out) == wanted


@needs("otelcol", "python tests/peers/install.py DIR otelcol")
def test_trajectories_are_kept_whole_and_trouble_is_kept(tmp_path: Path) -> None:
    names = [f"trajectory-{number}" for number in range(TRAJECTORIES)]
    chosen = [name for name in names if hashed(name)]
    others = [name for name in names if not hashed(name)]
    assert 2 < len(chosen) < TRAJECTORIES / 3
    early = {name: run(1, name) for name in names}
    trouble = {
        "failed": run(3, others[0], **{STATUS: "error"}),
        "broke off": run(3, others[1], **{STATUS: "truncated"}),
        "slow": run(3, others[2], **{TIME_FIRST_OUTPUT: SLOW_S + 0.1}),
        "task failed": run(3, others[3], **{OUTCOME: "failure"}),
    }
    harmless = [run(3, others[4], **{OUTCOME: "success"}), run(3, others[5], **{TIME_FIRST_OUTPUT: SLOW_S - 0.1})]
    with collector(tmp_path) as (url, out):
        for spans in (*early.values(), *trouble.values(), *harmless):
            send(url, spans)
        wanted = {early[name][0]["traceId"]: 3 for name in chosen}
        wanted |= {spans[0]["traceId"]: 3 for spans in trouble.values()}
        wait_for(out, wanted)
        # Another run of each trajectory comes after the decisions on the first ones: it fares as they did.
        late = {name: run(2, name) for name in names}
        for spans in late.values():
            send(url, spans)
        wait_for(out, wanted | {late[name][0]["traceId"]: 3 for name in chosen})


@needs("otelcol", "python tests/peers/install.py DIR otelcol")
def test_what_comes_after_a_decision_follows_it(tmp_path: Path) -> None:
    name = next(name for name in map(str, range(100)) if hashed(name))
    other = next(name for name in map(str, range(100)) if not hashed(name))
    with collector(tmp_path) as (url, out):
        first, dropped = run(1, name), run(1, other)
        send(url, [*first[:1], *dropped[:1]])
        wait_for(out, {first[0]["traceId"]: 1})
        failed = run(1, other, **{STATUS: "error"})
        send(url, [*failed[1:], *first[1:]])
        wait_for(out, {first[0]["traceId"]: 3})


@pytest.mark.parametrize("path", sorted((DEPLOY / "collector").glob("*.yaml")), ids=lambda path: path.stem)
def test_attributes_are_those_of_the_vocabulary(path: Path) -> None:
    known = {value for value in vars(semconv).values() if isinstance(value, str)}
    named = set(re.findall(r'attributes\["([^"]+)"\]', path.read_text()))
    assert named <= known
    assert bool(named) == (path.stem == "sampling")
