"""An outcome that is told by itself is a span of its own, and in the store when it was answered."""

import asyncio
import socket

from otel_agentperf import semconv
from otel_agentperf_proxy import observing
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import Frame, Kind, TaskOutcome, encode_record
from otel_agentperf_proxy.observing import ObserverProcess
from otel_agentperf_proxy.trajectory.state import derived_id


def tell(relay, *args, at_ns: int = 5_000_000_000) -> None:
    relay.observer.feed("", Frame(Kind.TASK_OUTCOME, 0, at_ns, encode_record(TaskOutcome(*args))))


def test_its_span(relay):
    tell(relay, "T", "failure", 0.25, "0123456789abcdef")
    tell(relay, "T", "success")
    one, other = relay.spans()
    assert (one["name"], one["kind"], one["parent"], one["status"]) == (
        "gen_ai.evaluation.result",
        "INTERNAL",
        None,
        "UNSET",
    )
    assert one["start_ms"] == one["end_ms"] == 5000
    assert one["attributes"] == {
        semconv.GEN_AI_EVALUATION_NAME: "outcome",
        semconv.GEN_AI_EVALUATION_SCORE_LABEL: "failure",
        semconv.GEN_AI_EVALUATION_SCORE_VALUE: 0.25,
        semconv.TRAJECTORY_ID: "T",
        semconv.OUTCOME: "failure",
        semconv.TENANT: "0123456789abcdef",
    }
    assert one["trace"] == other["trace"] == derived_id(16, "outcome", "T").hex()
    assert one["span"] != other["span"]
    assert semconv.GEN_AI_EVALUATION_SCORE_VALUE not in other["attributes"]
    assert relay.observer.stats()["outcomes"] == 2


def test_who_tells_outcomes_is_no_relay(relay):
    tell(relay, "T", "success")
    assert relay.observer.stats()["relays"] == 0
    assert not relay.observer.holds


def test_a_record_that_is_none_is_counted(relay):
    relay.observer.feed("", Frame(Kind.TASK_OUTCOME, 0, 0, b"\xc1"))
    assert relay.spans() == []
    assert list(relay.observer.stats()["errors"].values()) == [1]


async def test_the_observers_process_answers_when_it_is_written(tmp_path):
    store = tmp_path / "told"
    process = ObserverProcess(ProxyConfig(upstream="http://llm", store=str(store), flush_interval_s=3600))
    process.start()
    try:
        assert await process.tell(TaskOutcome("T", "success", 1.0))
        assert any(b"gen_ai.evaluation.result" in path.read_bytes() for path in store.glob("spans-*"))
        async with asyncio.timeout(20):
            while (stats := await process.stats()) is None:
                await asyncio.sleep(0.01)
        assert (stats["outcomes"], stats["relays"]) == (1, 0)
    finally:
        await process.stop()
    assert not await process.tell(TaskOutcome("T", "success"))


async def test_an_observer_that_is_stuck_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(observing, "TELL_S", 0.05)
    process = ObserverProcess(ProxyConfig(upstream="http://llm", store=str(tmp_path)))
    try:
        # Nobody accepts; the connection is made all the same.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(process.path)
        assert not await process.tell(TaskOutcome("T", "success"))
    finally:
        process.close()
