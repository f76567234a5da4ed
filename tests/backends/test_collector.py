"""An OpenTelemetry collector, built from its own modules: takes our spans, and its file exporter is a source."""

import subprocess
from pathlib import Path

import peer_backends as backends
import pytest

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import open_source

COLLECTOR = backends.found("otelcol")
CONFIGS = sorted((Path(__file__).parents[2] / "deploy").glob("**/collector/*.yaml"))

pytestmark = [
    pytest.mark.peer("otelcol"),
    pytest.mark.skipif(COLLECTOR is None, reason=backends.missing("otelcol")),
]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_its_file_holds_what_the_store_holds(protocol, traffic, same_rows, tmp_path):
    file = tmp_path / "traces.jsonl"
    exporters = {"file": {"path": str(file), "flush_interval": "100ms"}}
    with backends.collector(COLLECTOR, tmp_path, exporters) as peer:
        target = f"http://{peer.grpc}" if protocol == "grpc" else peer.http
        store = traffic(target, otlp_protocol=protocol)
        same_rows(str(file), store)


def test_its_compressed_file_holds_what_the_store_holds(traffic, same_rows, tmp_path):
    file = tmp_path / "traces.jsonl.zst"
    exporters = {"file": {"path": str(file), "compression": "zstd"}}
    options = ["--feature-gates=exporter.file.nativeCompression"]
    with backends.collector(COLLECTOR, tmp_path, exporters, options=options) as peer:
        store = traffic(peer.http)
    same_rows(str(file), store)


def test_what_it_compresses_message_by_message_is_refused(traffic, tmp_path):
    """That is no zstd file: a length stands before each message."""
    file = tmp_path / "traces.jsonl.zst"
    exporters = {"file": {"path": str(file), "compression": "zstd"}}
    with backends.collector(COLLECTOR, tmp_path, exporters) as peer:
        traffic(peer.http)
    with pytest.raises(SourceError, match=r"traces\.jsonl\.zst"):
        open_source(str(file))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_our_configuration_is_one(config):
    done = subprocess.run([COLLECTOR, "validate", "--config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_configuration_that_is_none_is_refused(tmp_path):
    (tmp_path / "bad.yaml").write_text("receivers: {otlp: {protocols: {http: {endpoints: nowhere}}}}\n")
    done = subprocess.run(
        [COLLECTOR, "validate", "--config", tmp_path / "bad.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
