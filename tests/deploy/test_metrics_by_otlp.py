"""The dashboards work on metrics that go by OTLP to the shipped collector, which Prometheus scrapes."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from collectors import free_address, running_collector
from prometheus_client.parser import text_string_to_metric_families
from queries import base, exported, histograms, read
from shipped import expressions, needs
from traffic import busy_proxy, wait


@needs("otelcol", "python tests/peers/install.py DIR otelcol")
@pytest.mark.timeout(300)
def test_a_collector_gives_prometheus_the_same_names_and_labels(tmp_path: Path) -> None:
    scraped_at = free_address()

    def change(config: dict[str, Any]) -> None:
        assert config["exporters"]["prometheus"]["endpoint"].endswith(":9464")
        config["exporters"]["prometheus"]["endpoint"] = scraped_at
        config["processors"]["batch"]["timeout"] = "100ms"

    def metrics(text: str) -> dict[str, set[str]]:
        """Labels by metric; an empty label is none."""
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = {label for label, value in sample.labels.items() if value}
                found.setdefault(base(sample.name, histograms()), set()).update(labels)
        return found

    def collected() -> dict[str, set[str]]:
        return metrics(httpx.get(f"http://{scraped_at}/metrics", timeout=30).text)

    with (
        running_collector("config", tmp_path, change) as url,
        busy_proxy(tmp_path, url, OTEL_METRIC_EXPORT_INTERVAL="1000") as busy,
    ):
        busy.work()
        own = metrics(busy.metrics())
        ours = exported().keys() & own.keys()
        wait(lambda: ours <= collected().keys(), busy.process)
        by_otlp = collected()
    assert {"job", "instance"} <= by_otlp["agentperf_build_info"]
    asked = {base(metric, histograms()) for _, query in expressions() for metric in read(query).metrics} & ours
    assert len(asked) > 30
    for name in asked:
        assert own[name] <= by_otlp[name], name
