"""Who writes: what is told, what is detected, and what wins."""

import os
import socket

import pytest

from otel_agentperf import __version__
from otel_agentperf_proxy.resource import PROXY_SERVICE, resource

DETECTORS = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", DETECTORS):
        monkeypatch.delenv(name, raising=False)


def in_container(monkeypatch: pytest.MonkeyPatch, container: str) -> None:
    monkeypatch.setattr("opentelemetry.resource.detector.containerid._get_container_id", lambda: container)


def test_host_and_process_are_detected(monkeypatch):
    in_container(monkeypatch, "3f" * 32)
    attributes = resource().attributes
    assert attributes["service.name"] == "otel-agentperf-proxy"
    assert attributes["service.version"] == __version__
    assert attributes["host.name"] == socket.gethostname()
    assert attributes["process.pid"] == os.getpid()
    assert attributes["container.id"] == "3f" * 32
    assert not [name for name in attributes if "command" in name or "path" in name or "owner" in name]
    assert attributes["service.instance.id"] != resource().attributes["service.instance.id"]


def test_the_last_word_of_a_control_group_is_no_container(monkeypatch):
    in_container(monkeypatch, "3")
    assert "container.id" not in resource().attributes


def test_what_is_told_wins(monkeypatch):
    """As by Kubernetes' downward API."""
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES",
        "k8s.pod.name=proxy-0,k8s.namespace.name=llm,host.name=node%2D7,service.instance.id=llm.proxy-0,service.name=x",
    )
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway")
    attributes = resource().attributes
    assert attributes["k8s.pod.name"] == "proxy-0"
    assert attributes["k8s.namespace.name"] == "llm"
    assert attributes["host.name"] == "node-7"
    assert attributes["service.instance.id"] == "llm.proxy-0"
    assert attributes["service.name"] == "gateway"


def test_named_detectors_replace_ours(monkeypatch):
    monkeypatch.setenv(DETECTORS, "process")
    attributes = resource().attributes
    assert attributes["process.executable.path"]
    assert "host.name" not in attributes
    monkeypatch.setenv(DETECTORS, "otel")
    assert "process.pid" not in resource().attributes
    in_container(monkeypatch, "3f" * 32)
    monkeypatch.setenv(DETECTORS, "host,containerid")
    attributes = resource().attributes
    assert attributes["host.name"] == socket.gethostname()
    assert attributes["container.id"] == "3f" * 32
    assert attributes["service.name"] == PROXY_SERVICE
