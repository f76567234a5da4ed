"""PromQL: what a query reads, and the metrics that there are."""

import re
from dataclasses import dataclass, field
from typing import Final

import promql_parser as promql
from shipped import rules

from otel_agentperf import instruments

OF_THE_SCRAPE: Final = frozenset(("job", "instance", "le"))
"""Labels that Prometheus or a histogram adds."""

FOREIGN: Final = ("vllm:", "kube_", "up")
"""Metrics of others that a panel shows beside ours."""

_SUFFIXES: Final = ("_bucket", "_sum", "_count")


@dataclass
class Read:
    """What a query names."""

    metrics: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)


def filled(query: str, window: str = "5m") -> str:
    """A panel's query as Grafana sends it: with all values of its variables."""
    query = query.replace("$__rate_interval", window).replace("$__range", window)
    return re.sub(r"\$\w+", ".*", query)


def read(query: str) -> Read:
    """What a query names. Raises ValueError when it is no PromQL."""
    found = Read()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            assert node.name, query
            found.metrics.add(node.name)
            found.labels.update(matcher.name for matcher in node.matchers.matchers)
        elif isinstance(node, promql.AggregateExpr | promql.BinaryExpr) and node.modifier is not None:
            # The lists of `by`, `without`, `on`, `ignoring`, `group_left` and `group_right`.
            for names in re.findall(r"\(([^()]*)\)", str(node.modifier)):
                found.labels.update(filter(None, map(str.strip, names.split(","))))

    promql.walk(promql.parse(filled(query)), visit)
    return found


def base(metric: str, histograms: frozenset[str]) -> str:
    """A metric without the suffix of a histogram's series."""
    for suffix in _SUFFIXES:
        if metric.endswith(suffix) and metric.removesuffix(suffix) in histograms:
            return metric.removesuffix(suffix)
    return metric


def histograms() -> frozenset[str]:
    """Prometheus names of the histograms."""
    return frozenset(
        each.prometheus_name for each in instruments.instruments() if each.kind is instruments.Kind.HISTOGRAM
    )


def exported() -> dict[str, set[str]]:
    """Labels of each metric that a proxy exports, by its Prometheus name."""
    return {
        each.prometheus_name: {instruments.prometheus_label(name) for name in each.attributes}
        for each in instruments.instruments()
    }


def recorded() -> dict[str, set[str]]:
    """Labels of each metric that a rule records: what it aggregates by, and those of recorded ones that it reads."""
    found: dict[str, set[str]] = {}
    for rule in rules():
        if "record" in rule:
            by = {label for names in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in re.findall(r"\w+", names)}
            found[rule["record"]] = by.union(*(found[name] for name in read(rule["expr"]).metrics if name in found))
    return found
