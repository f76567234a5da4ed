"""What goes out of what the sampler says: whole trajectories, and runs that are kept for what happened in them."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from otlp_sink import HTTPSink

from otel_agentperf import instruments as metric
from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.config import load
from otel_agentperf_proxy.keeping import Keeping

from .conftest import SECOND, delta, sse
from .test_call_spans import ANSWER, EVENT_STREAM, PLAIN
from .test_metrics import points, turns
from .test_store import span


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")


@pytest.fixture
def sink() -> Iterator[HTTPSink]:
    one = HTTPSink()
    yield one
    one.close()


def by_trajectory(spans: list[Any]) -> Counter[str]:
    """Spans by trajectory, of the store or of the sink."""
    found: Counter[str] = Counter()
    for one in spans:
        if isinstance(one, dict):
            found[one["attributes"]["agentperf.trajectory.id"]] += 1
        else:
            (told,) = [item for item in one.attributes if item.key == "agentperf.trajectory.id"]
            found[told.value.string_value] += 1
    return found


def failing_turn(relay: Any, session: str) -> None:
    told = relay.open(headers={"x-session-id": session})
    told.body(json.dumps({"model": "m-8b", "messages": [{"role": "user", "content": "and this?"}]}).encode())
    told.head(status=500, headers={"content-type": "application/json"})
    told.end(30)


def test_trajectories_are_exported_whole_or_not_at_all(new_relay, sink, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    relay = new_relay(otlp_endpoint=sink.endpoint)
    for agent in range(24):
        turns(relay, 3, session=f"S{agent}")
    for agent in range(24):
        # Another run of each, in a trace of its own.
        relay.observer.tick(relay.now_ns + 20 * SECOND)
        failing_turn(relay, f"S{agent}")
    stored, exported = by_trajectory(relay.spans()), by_trajectory(sink.received.spans())
    assert len(stored) == 24
    assert 0 < len(exported) < 24
    assert exported == {trajectory: stored[trajectory] for trajectory in exported}


@pytest.fixture
def unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")


def test_a_run_with_an_error_is_kept_whole(new_relay, sink, unsampled):
    relay = new_relay(otlp_endpoint=sink.endpoint, export_keep=("error",))
    turns(relay, 3, session="good")
    turns(relay, 2, session="bad")
    failing_turn(relay, "bad-from-the-start")
    broken = relay.open(headers={"x-session-id": "bad"})
    messages = [
        {"role": "user", "content": "Fix it."},
        {"role": "assistant", "content": None, "tool_calls": [_call(0)]},
        {"role": "tool", "tool_call_id": "c0", "content": "done"},
        {"role": "assistant", "content": "ab"},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    broken.body(json.dumps({"model": "m-8b", "messages": messages, "stream": True}).encode())
    broken.head(status=503)
    broken.end(50)
    stats = relay.observer.stats()
    assert stats["keeping"]["runs_kept"] == 2
    assert points(relay, metric.EXPORT_RUNS_KEPT) == {(): 2}
    stored = relay.spans()
    exported = by_trajectory(sink.received.spans())
    assert set(exported) == {"bad", "bad-from-the-start"}
    assert exported["bad"] == by_trajectory(stored)["bad"] == 5, "three calls, a tool, the run"
    assert relay.observer.stats()["export"]["spans_unsampled"] == by_trajectory(stored)["good"]
    assert relay.observer.stats()["keeping"]["spans_held"] == 0


def _call(number: int) -> dict[str, Any]:
    return {"id": f"c{number}", "type": "function", "function": {"name": "bash", "arguments": "{}"}}


def test_a_run_that_misses_its_tier_is_kept(new_relay, sink, unsampled):
    relay = new_relay(otlp_endpoint=sink.endpoint, export_keep=("slo_miss",), slo=("demo:standard",))
    for session, first in (("fast", 20), ("slow", 5000)):
        told = relay.open(headers={"x-session-id": session})
        told.body(
            json.dumps({"model": "m", "messages": [{"role": "user", "content": session}], "stream": True}).encode()
        )
        told.head(headers=EVENT_STREAM)
        told.chunk(first, sse(delta({"content": "a"})))
        told.chunk(first + 10, sse(delta({"content": "b"}, "stop")))
        told.chunk(first + 11, sse({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}, "[DONE]"))
        told.end(first + 20)
    relay.observer.close()
    assert by_trajectory(sink.received.spans()) == {"slow": 2}


def test_a_run_that_took_long_is_kept(new_relay, sink, unsampled):
    relay = new_relay(otlp_endpoint=sink.endpoint, export_keep_slower_s=15.0)
    turns(relay, 2, session="10 s")
    turns(relay, 3, session="20 s")
    relay.observer.close()
    assert set(by_trajectory(sink.received.spans())) == {"20 s"}


def test_what_the_client_left_out_stays_out(new_relay, sink):
    relay = new_relay(otlp_endpoint=sink.endpoint, export_keep=("error",))
    told = relay.open(parent_span_id=b"\0" * 7 + b"\1", sampled=False, headers={"x-session-id": "S"})
    told.body(PLAIN)
    told.head(status=500)
    told.end(30)
    relay.observer.close()
    assert sink.received.spans() == []


def test_an_exchange_of_no_run_is_kept_for_itself(new_relay, sink, unsampled):
    relay = new_relay(otlp_endpoint=sink.endpoint, export_keep=("error",))
    for status in (200, 502):
        told = relay.open("GET", "/v1/models")
        told.body(b"")
        told.head(status=status)
        told.end(30)
    relay.call(PLAIN, ANSWER)
    relay.observer.close()
    assert [one.name for one in sink.received.spans()] == ["GET"]


def test_held_spans_are_bounded():
    out: list[tuple[str, bool]] = []
    keeping = Keeping(lambda one, sampled: out.append((one.name, sampled)), max_spans=3)
    for number in range(3):
        keeping.add("first", span(number), is_reason=False)
    keeping.add("second", span(4), is_reason=False)
    assert [sampled for _, sampled in out] == [False] * 3
    keeping.add("second", span(5), is_reason=True)
    keeping.add("second", span(6), is_reason=False)
    assert [sampled for _, sampled in out[3:]] == [True] * 3
    keeping.end("second")
    keeping.add("second", span(7), is_reason=False)
    assert len(out) == 6
    keeping.close()
    assert out[-1][1] is False
    assert keeping.stats() == {"runs_kept": 1, "runs_let_go": 1, "spans_held": 0}


def test_misses_need_tiers():
    with pytest.raises(UsageError, match="slo_miss needs slo"):
        load(None, {"upstream": "http://h", "export_keep": ["slo_miss"]})
