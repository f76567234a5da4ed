"""A real Prometheus scrapes a real proxy: every panel and every rule gives data, and dots lead to traces."""

import json
import math
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from queries import FOREIGN, base, exported, filled, histograms, read
from shipped import DASHBOARDS, DEPLOY, RULES, call, expressions, needs, rules, tool
from traffic import PATIENCE_S, Busy, busy_proxy, wait

from otel_agentperf_analyzers import open_source

pytestmark = [pytest.mark.timeout(400)]

FROM_DEBIAN = "apt-get install prometheus"
WINDOW = "5m"
"""Of rates; longer than the traffic."""

NO_TROUBLE = {"agentperf_observer_errors_total": "the observer fails at nothing here"}
"""Metrics that only trouble brings which cannot be made from outside: their queries may be empty."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    """A proxy to be watched."""
    with busy_proxy(tmp_path_factory.mktemp("busy")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def prometheus(busy: Busy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Prometheus after it has watched the proxy at work, with the rules that are shipped."""
    with running_prometheus(busy.admin, tmp_path_factory.mktemp("prometheus")) as client:
        yield client


@contextmanager
def running_prometheus(target: str, directory: Path) -> Iterator[httpx.Client]:
    """Prometheus, as compose configures it but for addresses and pace; gives a client of its API."""
    config = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(path) for path in RULES]
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "otel-agentperf")
    job["static_configs"] = [{"targets": [target]}]
    config["scrape_configs"] = [job]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    flags = [word for word in compose_flags() if word.startswith("--enable-feature")]
    assert flags
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = tool("prometheus")
    assert program is not None
    places = [f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, *places, f"--web.listen-address={address}", *flags], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=PATIENCE_S) as client:
            wait(lambda: httpx.get(f"http://{address}/-/ready").status_code == 200, process)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def compose_flags() -> list[str]:
    """What compose starts Prometheus with."""
    flags: list[str] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]["prometheus"][
        "command"
    ]
    return flags


def ask(client: httpx.Client, path: str, **parameters: str) -> Any:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def values(client: httpx.Client, query: str) -> list[float]:
    """Of the series that a query gives now."""
    return [float(series["value"][1]) for series in ask(client, "/query", query=query)["result"]]


@pytest.fixture(scope="module")
def watched(busy: Busy, prometheus: httpx.Client) -> httpx.Client:
    """Prometheus when it has seen the traffic begin and go on."""

    def seen() -> bool:
        """The latest scrape knows all that the proxy counts."""
        text = busy.metrics()
        (family,) = (each for each in text_string_to_metric_families(text) if each.name == "agentperf_spans")
        return values(prometheus, "agentperf_spans_total") == [family.samples[0].value]

    for _ in range(2):
        busy.work()
        wait(seen, busy.process)
    # Rules build on rules: each group is evaluated after the last scrape.
    wait(lambda: bool(values(prometheus, "agentperf:slo_burn:ratio_rate5m")), busy.process)
    return prometheus


@needs("prometheus", FROM_DEBIAN)
@pytest.mark.parametrize(("where", "query"), expressions(), ids=lambda value: value if len(value) < 60 else "")
def test_a_panel_shows_data(watched: httpx.Client, where: str, query: str) -> None:
    metrics = read(query).metrics
    found = values(watched, filled(query, WINDOW))
    if any(metric.startswith(FOREIGN) for metric in metrics) or metrics & NO_TROUBLE.keys():
        return
    assert found, where
    assert any(math.isfinite(value) for value in found), where


@needs("prometheus", FROM_DEBIAN)
def test_rules_are_evaluated_and_record(watched: httpx.Client) -> None:
    groups = ask(watched, "/rules")["groups"]
    found = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert found.keys() == {rule.get("record") or rule["alert"] for rule in rules()}
    assert {name: rule["lastError"] for name, rule in found.items() if rule["health"] != "ok"} == {}
    for rule in rules():
        if "record" in rule:
            assert any(map(math.isfinite, values(watched, rule["record"]))), rule["record"]


@needs("prometheus", FROM_DEBIAN)
def test_the_query_of_keda_counts_agents_at_work(watched: httpx.Client, busy: Busy) -> None:
    scaled = yaml.safe_load((DEPLOY / "k8s" / "keda" / "scaledobject.yaml").read_text())
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    # It looks every 15 s, at full quarters of minutes.
    wait(lambda: bool(values(watched, query)), busy.process)
    (agents,) = values(watched, query)
    assert agents >= 1


@needs("prometheus", FROM_DEBIAN)
def test_figures_of_panels_are_right(watched: httpx.Client) -> None:
    """Shares are shares, a P95 is no lower than the median, and who is at work takes of the capacity."""
    by_title = dict(expressions())
    within = values(watched, filled(by_title["agents: Calls within the tier A"], WINDOW))
    failing = values(watched, filled(by_title["agents: Calls that fail A"], WINDOW))
    cached = values(watched, filled(by_title["agents: Prefix cache hit A"], WINDOW))
    assert [0 < share < 1 for share in (*within, *failing, *cached)] == [True] * 3
    p95, median = (
        max(values(watched, filled(by_title[f"agents: Time to first token {target}"], WINDOW))) for target in "AB"
    )
    assert p95 >= median > 0
    (active,) = values(watched, filled(by_title["agents: Agents at work A"]))
    (used,) = values(watched, filled(by_title["agents: Capacity in use A"]))
    assert used == pytest.approx(active / 8)


@needs("prometheus", FROM_DEBIAN)
def test_exemplars_lead_to_traces_of_the_store(busy: Busy, watched: httpx.Client) -> None:
    config = yaml.safe_load((DEPLOY / "compose" / "grafana" / "datasources" / "datasources.yaml").read_text())
    (source,) = (each for each in config["datasources"] if each["type"] == "prometheus")
    labels = {each["name"] for each in source["jsonData"]["exemplarTraceIdDestinations"]}
    assert len(labels) == 1
    (label,) = labels
    (agents,) = (path for path in DASHBOARDS if path.stem == "agents")
    asked = {
        query["expr"]
        for panel in json.loads(agents.read_text())["panels"]
        for query in panel.get("targets", ())
        if query.get("exemplar")
    }
    assert len(asked) >= 3
    with open_source(str(busy.store)) as database:
        stored = {row["trace_id"] for row in database.query("SELECT DISTINCT trace_id FROM spans").to_pylist()}
    for query in asked:
        selectors = re.findall(r"\w+_bucket\{[^}]*\}", filled(query))
        window = {"start": str(busy.began), "end": str(busy.began + 3600)}
        found = ask(watched, "/query_exemplars", query=selectors[0], **window)
        traces = {one["labels"][label] for series in found for one in series["exemplars"]}
        assert traces, query
        assert traces <= stored


def test_what_queries_name_is_scraped(busy: Busy, request: pytest.FixtureRequest) -> None:
    """By the text of `/metrics` alone: every metric, with the labels that are asked for."""
    if tool("prometheus") is None:
        busy.work()
    else:
        request.getfixturevalue("watched")
    scraped: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(busy.metrics()):
        for sample in family.samples:
            scraped.setdefault(base(sample.name, histograms()), set()).update(sample.labels)
    ours = exported()
    for where, query in expressions():
        for metric in read(query).metrics - NO_TROUBLE.keys():
            name = base(metric, histograms())
            if name in ours:
                assert name in scraped, f"{where}: {metric} is not on /metrics"
                assert ours[name] <= scraped[name] - {"le"}, f"{where}: {metric}"


@needs("promtool", FROM_DEBIAN)
def test_promtool_finds_nothing_to_say_about_the_metrics(busy: Busy, watched: httpx.Client) -> None:
    done = call("promtool", "check", "metrics", input=busy.metrics())
    assert (done.returncode, done.stdout) == (0, "")
