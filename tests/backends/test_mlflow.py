"""MLflow's tracking server: takes our spans for an experiment and gives them back, attribute by attribute."""

import json
import subprocess
from pathlib import Path

import httpx
import peer_backends as backends
import pytest

MLFLOW = backends.found("mlflow")
READER = Path(backends.__file__).with_name("mlflow_spans.py")

pytestmark = [
    pytest.mark.peer("mlflow"),
    pytest.mark.skipif(MLFLOW is None, reason=backends.missing("mlflow")),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    with backends.mlflow(MLFLOW, tmp_path_factory.mktemp("mlflow")) as running:
        yield running


def experiment(url, name):
    answer = httpx.post(f"{url}/api/2.0/mlflow/experiments/create", json={"name": name}, timeout=60)
    return answer.raise_for_status().json()["experiment_id"]


def spans(url, number, make_span):
    """All spans of an experiment, as MLflow's own client reads them."""
    done = subprocess.run(
        [MLFLOW.parent / "python", READER, url, number], capture_output=True, text=True, check=True, timeout=120
    )
    return [
        make_span(
            row["trace_id"].removeprefix("tr-"),
            row["span_id"],
            row["parent_span_id"],
            row["name"],
            row["start_unix_ns"],
            row["end_unix_ns"],
            row["attributes"],
        )
        for row in map(json.loads, done.stdout.splitlines())
    ]


def test_it_gives_back_every_attribute(peer, traffic, stored, same_spans, make_span):
    number = experiment(peer.http, "agents")
    store = traffic(
        peer.http,
        environment={
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-mlflow-experiment-id={number}",
            "OTEL_METRICS_EXPORTER": "none",
        },
    )
    same_spans(lambda: spans(peer.http, number, make_span), stored(store), tolerance_ns=0, added=("mlflow.",))
