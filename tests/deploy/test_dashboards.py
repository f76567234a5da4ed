"""The dashboards: made by their generator, and asking for nothing that is not there."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from queries import FOREIGN, OF_THE_SCRAPE, base, exported, histograms, read, recorded
from shipped import DASHBOARDS, DEPLOY, PEERS, expressions, panels, rules, searches

from otel_agentperf import semconv

DEFINED = {**exported(), **recorded()}
KEDA = yaml.safe_load((DEPLOY / "k8s" / "keda" / "scaledobject.yaml").read_text())
SOURCES = yaml.safe_load((DEPLOY / "compose" / "grafana" / "datasources" / "datasources.yaml").read_text())[
    "datasources"
]
TO_METRICS = next(each["jsonData"]["tracesToMetrics"] for each in SOURCES if each["type"] == "tempo")
# Grafana fills in a matcher for each tag of the span.
TAGS = ", ".join(f'{tag["value"]}="v"' for tag in TO_METRICS["tags"])
PROMQL = [
    *((f"tempo: {each['name']}", each["query"].replace("$$__tags", TAGS)) for each in TO_METRICS["queries"]),
    *expressions(),
    *((f"rule {rule.get('record') or rule['alert']}", rule["expr"]) for rule in rules()),
    *((f"keda {trigger['name']}", trigger["metadata"]["query"]) for trigger in KEDA["spec"]["triggers"]),
]
TRACEQL = searches()


def load(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(path.read_text())
    return made


def test_they_are_what_their_generator_makes() -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "dashboards" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("where", "query"), PROMQL, ids=lambda value: value if len(value) < 60 else "")
def test_a_query_reads_metrics_and_labels_that_the_proxy_has(where: str, query: str) -> None:
    found = read(query)
    known = set(OF_THE_SCRAPE)
    for metric in found.metrics:
        if metric.startswith(FOREIGN):
            continue
        name = base(metric, histograms())
        assert name in DEFINED, f"{where}: {metric}"
        known |= DEFINED[name]
    assert found.labels <= known, where


def test_a_wrong_name_would_be_found() -> None:
    """The check can fail: each part of a query is looked at."""
    query = (
        'sum by (a, le) (rate(b_bucket{c="1"}[5m])) / on (d) group_left (e) max without (f) (g unless ignoring (h) i)'
    )
    found = read(query)
    assert found.metrics == {"b_bucket", "g", "i"}
    assert found.labels == {"a", "le", "c", "d", "e", "f", "h"}
    with pytest.raises(ValueError, match="invalid"):
        read("sum by (le (rate(x[5m])))")


def test_rates_are_of_counters_and_quantiles_of_histograms() -> None:
    """What `rate` and `increase` read grows; `_sum` and `_count` are never read without."""
    grown = {name for name in exported() if name.endswith("_total")}
    for where, query in PROMQL:
        windows = set(re.findall(r"([a-z_:]+)(?:\{[^}]*\})?\[", query))
        for metric in windows:
            if metric.startswith(FOREIGN):
                continue
            assert metric in grown or base(metric, histograms()) != metric, f"{where}: {metric}"
        for metric in read(query).metrics:
            if metric in grown or base(metric, histograms()) != metric:
                assert metric in windows, f"{where}: {metric} is looked at over its whole life"


def test_every_variable_of_a_query_exists() -> None:
    builtin = {"__rate_interval", "__range", "__from", "__to", "__value", "__all"}
    for path in DASHBOARDS:
        text = path.read_text()
        defined = {variable["name"] for variable in load(path)["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", text))
        # Links lead to another dashboard of the set with its variables.
        assert used - builtin <= defined | {"trajectory"}, path.name
        for variable in load(path)["templating"]["list"]:
            if variable["type"] == "query":
                metric, labels, label = re.fullmatch(
                    r"label_values\((\w+)(?:\{(.*)\})?, (\w+)\)", variable["definition"]
                ).groups()  # type: ignore[union-attr]
                assert label in exported()[metric] | {"job", "instance"}
                assert set(re.findall(r"(\w+)=~", labels or "")) <= {"job"}


def test_every_panel_is_placed_once_and_says_its_unit() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        board = load(path)
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        titles = [panel["title"] for panel in board["panels"] if panel["title"]]
        assert len(set(titles)) == len(titles)
        for panel in board["panels"]:
            grid = panel["gridPos"]
            cells = {
                (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
            }
            assert grid["x"] + grid["w"] <= 24, panel["title"]
            assert not cells & taken, panel["title"]
            taken |= cells
            if panel["type"] in ("timeseries", "stat"):
                assert panel["fieldConfig"]["defaults"]["unit"]


def test_dashboards_have_names_of_their_own() -> None:
    boards = [load(path) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards) == 4
    uids = {board["uid"] for board in boards}
    linked = {uid for path in DASHBOARDS for uid in re.findall(r"/d/([\w-]+)", path.read_text())}
    assert linked
    assert linked <= uids


def test_exemplars_lead_from_the_time_to_first_token_to_a_trace() -> None:
    (agents,) = (path for path in DASHBOARDS if path.stem == "agents")
    (panel,) = (panel for panel in panels(agents) if panel["title"] == "Time to first token")
    assert any(query["exemplar"] and "0.95" in query["expr"] for query in panel["targets"])


def test_spans_lead_to_metrics_by_attributes_of_the_vocabulary() -> None:
    known = {value for value in vars(semconv).values() if isinstance(value, str)}
    assert {tag["key"] for tag in TO_METRICS["tags"]} <= known


@pytest.mark.parametrize(("where", "query"), TRACEQL, ids=lambda value: value if len(value) < 60 else "")
def test_a_search_names_attributes_of_the_vocabulary(where: str, query: str) -> None:
    known = {value for value in vars(semconv).values() if isinstance(value, str)}
    named = set(re.findall(r"(?:span|resource|event|link)\.([a-z][\w.]*)", query))
    assert named <= known, where
    assert named or query == "$trace"


def test_a_search_asks_for_values_that_there_are() -> None:
    """Of `agentperf.status`, `agentperf.turn.kind` and `gen_ai.operation.name`."""
    said = "|".join(("GEN_AI_OPERATION_NAME", "TURN_KIND"))
    documented = re.findall(
        rf'^(?:{said}): Final = .*?\n"""(.*?)"""', inspect.getsource(semconv), re.DOTALL | re.MULTILINE
    )
    assert len(documented) == 2
    known = set(re.findall(r"`(\w+)`", " ".join(documented)))
    known |= {value for value in vars(semconv.Status).values() if isinstance(value, str)}
    for where, query in TRACEQL:
        for values in re.findall(
            r'span\.(?:agentperf\.status|agentperf\.turn\.kind|gen_ai\.operation\.name) (?:=~|!=|=) "([^"]+)"', query
        ):
            assert set(values.split("|")) <= known, where


GRAMMAR = PEERS / "deploy" / "node_modules"


@pytest.mark.peer("lezer-traceql")
@pytest.mark.skipif(
    not (GRAMMAR / "@grafana" / "lezer-traceql").exists() or shutil.which("node") is None,
    reason="the grammar of TraceQL, or node, is not installed: python tests/peers/install.py DIR deploy",
)
def test_searches_are_traceql() -> None:
    """By the grammar of Grafana's editor."""
    written = [re.sub(r"\$slow", "5", query.replace("$filter", "true")) for _, query in TRACEQL if query != "$trace"]
    wrong = ["{ span.a = }", "{ true } | rate( by (span.a)", "{ span.a = 1 } | select(span.b"]
    done = subprocess.run(
        ["node", Path(__file__).with_name("traceql.cjs")],
        input=json.dumps(written + wrong),
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "NODE_PATH": str(GRAMMAR)},
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    assert [(query, error) for query, error in zip(written, errors, strict=False) if error] == []
    assert all(errors[len(written) :])


def test_runbooks_name_what_is_on_the_dashboards() -> None:
    """What stands in italics is a dashboard, a row or a panel."""
    boards = [load(path) for path in DASHBOARDS]
    titles = {panel["title"] for board in boards for panel in board["panels"]}
    titles |= {board["title"].removeprefix("LLM agents: ") for board in boards}
    texts = [re.sub("`[^`]*`", "", path.read_text()) for path in sorted((DEPLOY / "runbooks").glob("*.md"))]
    named = {" ".join(name.split()) for text in texts for name in re.findall(r"(?<!\*)\*([^*\s][^*]*)\*(?!\*)", text)}
    assert len(named) > 10
    assert named <= titles
