"""Jaeger v2, built from its modules: takes our spans by both protocols, and gives them back to the analyzers."""

from datetime import UTC, datetime, timedelta

import peer_backends as backends
import pytest

from otel_agentperf.errors import SourceError
from otel_agentperf_analyzers import open_source
from otel_agentperf_analyzers.sources import jaeger

JAEGER = backends.found("jaeger")
SERVICE = "otel-agentperf-proxy"

CUT_NS = 20_000
"""Jaeger keeps microseconds of a start and of a duration; sums over the spans of a trajectory lose some more."""

pytestmark = [
    pytest.mark.peer("jaeger"),
    pytest.mark.skipif(JAEGER is None, reason=backends.missing("jaeger")),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("jaeger")


@pytest.fixture
def peer(place):
    with backends.jaeger(JAEGER, place) as running:
        yield running


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_it_gives_back_what_the_store_holds(protocol, peer, traffic, same_rows):
    store = traffic(f"http://{peer.grpc}" if protocol == "grpc" else peer.http, otlp_protocol=protocol)
    same_rows(f"jaeger+http://{peer.query}?service={SERVICE}", store, tolerance_ns=CUT_NS)


def test_a_full_window_is_asked_for_in_parts(peer, traffic, same_rows, monkeypatch):
    monkeypatch.setattr(jaeger, "LIMIT", 3)
    same_rows(f"jaeger+http://{peer.query}?service={SERVICE}", traffic(peer.http), tolerance_ns=CUT_NS)


def test_time_bounds_reach_it(peer, traffic, same_rows):
    source = f"jaeger+http://{peer.query}?service={SERVICE}"
    same_rows(source, traffic(peer.http), tolerance_ns=CUT_NS)
    now = datetime.now(UTC)
    with open_source(source, until=now - timedelta(hours=1)) as database:
        assert not database.relation("turns").num_rows
    with open_source(source, since=now - timedelta(hours=1)) as database:
        assert database.relation("turns").num_rows


def test_a_service_that_it_does_not_know_is_told(peer):
    with pytest.raises(SourceError, match="holds no spans of nobody"):
        open_source(f"jaeger+http://{peer.query}?service=nobody")
