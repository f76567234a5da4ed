"""Arize Phoenix: takes our spans by both protocols and gives them back, attribute by attribute."""

import httpx
import peer_backends as backends
import pytest

PHOENIX = backends.found("phoenix")
CUT_NS = 2_000
"""Phoenix keeps microseconds."""

ADDED = ("openinference.", "llm.", "input.", "output.", "session.", "tool.")
"""It puts attributes of OpenInference beside those of the GenAI conventions."""

pytestmark = [
    pytest.mark.peer("phoenix"),
    pytest.mark.skipif(PHOENIX is None, reason=backends.missing("phoenix")),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    with backends.phoenix(PHOENIX, tmp_path_factory.mktemp("phoenix")) as running:
        yield running


def spans(query, project, make_span):
    """All spans of a project; none while it is not there."""
    found, cursor = [], None
    while True:
        parameters = {"limit": 100} | ({} if cursor is None else {"cursor": cursor})
        answer = httpx.get(f"http://{query}/v1/projects/{project}/spans/otlpv1", params=parameters, timeout=60)
        if answer.status_code == 404:
            return []
        page = answer.raise_for_status().json()
        found += [
            make_span(
                span["trace_id"],
                span["span_id"],
                span["parent_span_id"],
                span["name"],
                span["start_time_unix_nano"],
                span["end_time_unix_nano"],
                {item["key"]: value_of(item["value"]) for item in span["attributes"]},
            )
            for span in page["data"]
        ]
        cursor = page["next_cursor"]
        if not cursor:
            return found


def value_of(encoded):
    ((kind, value),) = [(kind, value) for kind, value in encoded.items() if value is not None]
    return [value_of(item) for item in value["values"]] if kind == "array_value" else value


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_it_gives_back_every_attribute(protocol, peer, traffic, stored, same_spans, make_span):
    project = f"agents-{protocol.replace('/', '-')}"
    store = traffic(
        f"http://{peer.grpc}" if protocol == "grpc" else peer.http,
        otlp_protocol=protocol,
        environment={
            "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={project}",
            "OTEL_METRICS_EXPORTER": "none",
        },
    )
    same_spans(lambda: spans(peer.query, project, make_span), stored(store), tolerance_ns=CUT_NS, added=ADDED)
