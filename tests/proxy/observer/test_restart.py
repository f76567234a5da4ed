"""An observer after another one on the same store: explicit ids go on, whatever the end of the first was."""

import json
from pathlib import Path
from typing import Any

import pytest

from otel_agentperf_proxy import journal
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.journal import Journal
from otel_agentperf_proxy.observer import Observer

from .conftest import SECOND, UPSTREAM, PaperRelay, read_spans

SESSION = {"x-session-affinity": "S1", "user-agent": "opencode/1.18.33"}
ANSWER = json.dumps(
    {"choices": [{"message": {"role": "assistant", "content": "done"}, "finish_reason": "stop"}]}
).encode()


def body(*texts: str) -> bytes:
    roles = ("user", "assistant")
    return json.dumps(
        {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]}
    ).encode()


def asking(call_id: str) -> bytes:
    call = {"id": call_id, "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode()


def bringing(call_id: str) -> bytes:
    call = {"id": call_id, "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": "x"},
    ]
    return json.dumps({"messages": messages}).encode()


def crash(relay: PaperRelay) -> None:
    """The observer's process is gone: what it did not flush is lost, and the kernel lets go of its locks."""
    relay.observer.flush()
    assert relay.observer._journal is not None
    relay.observer._journal.close()


@pytest.fixture
def after(tmp_path: Path, clock):
    """`after(relay)`: the relay goes on with a new observer."""
    observers = []

    def begin(relay: PaperRelay, **options) -> PaperRelay:
        config = ProxyConfig(upstream=UPSTREAM, store=str(relay.store), **options)
        observer = Observer(config, clock=clock)
        observers.append(observer)
        again = PaperRelay(observer, relay.store, now_ns=relay.now_ns, count=relay.count)
        again.traces = {record.identity_key: record.trace_id for record in observer.run_traces()}
        return again

    yield begin
    for observer in observers:
        observer.close()


def in_order(store: Path) -> list[dict[str, Any]]:
    """The spans of all observers, in the order of their starts."""
    return sorted(read_spans(store), key=lambda span: span["start_ms"])


def places(store: Path) -> list[tuple[str, int, int]]:
    """Run id, run index and turn index of the calls."""
    chats = [span["attributes"] for span in in_order(store) if span["name"].startswith("chat")]
    names = ("agentperf.run.id", "agentperf.run.index", "agentperf.turn.index")
    return [tuple(attributes[name] for name in names) for attributes in chats]


def test_runs_and_turns_are_counted_on_after_a_crash(relay, after):
    relay.call(body("a"), ANSWER, headers=SESSION)
    relay.observer.tick(relay.now_ns + 5 * SECOND)
    crash(relay)
    again = after(relay)
    again.call(body("a", "done", "b"), ANSWER, headers=SESSION)
    again.observer.close()
    found = places(relay.store)
    assert [place[1:] for place in found] == [(0, 0), (1, 1)]
    assert found[0][0] != found[1][0]


def test_an_open_run_goes_on_in_its_trace(relay, after):
    relay.call(body("a"), asking("call_1"), headers=SESSION)
    crash(relay)
    again = after(relay)
    assert again.traces
    again.call(bringing("call_1"), ANSWER, headers=SESSION)
    again.observer.close()
    spans = in_order(relay.store)
    assert [place[1:] for place in places(relay.store)] == [(0, 0), (0, 1)]
    assert len({span["trace"] for span in spans}) == 1
    (root,) = [span for span in spans if span["name"].startswith("invoke_agent")]
    assert root["attributes"]["agentperf.status"] == "ok"
    assert {span["parent"] for span in spans if span["name"].startswith("chat")} == {root["span"]}
    assert (root["start_ms"], root["end_ms"]) == (110_000, 120_060)


def test_a_run_that_nothing_continues_is_written_by_the_next_observer(relay, after):
    relay.call(body("a"), asking("call_1"), headers=SESSION)
    crash(relay)
    again = after(relay)
    again.observer.tick(relay.now_ns + 700 * SECOND)
    again.observer.close()
    (root,) = [span for span in read_spans(relay.store) if span["name"].startswith("invoke_agent")]
    assert root["attributes"]["agentperf.status"] == "abandoned"


def test_a_session_goes_on_after_an_orderly_end(relay, after):
    relay.call(body("a"), ANSWER, headers=SESSION)
    relay.observer.close()
    again = after(relay)
    again.call(body("a", "done", "b"), ANSWER, headers=SESSION)
    again.observer.close()
    spans = [span for span in in_order(relay.store) if span["name"].startswith("invoke_agent")]
    assert [span["attributes"]["agentperf.run.index"] for span in spans] == [0, 1]
    assert spans[1]["links"] == [(spans[0]["trace"], spans[0]["span"])]


def test_ids_that_were_not_explicit_begin_anew(relay, after):
    relay.call(body("a"), ANSWER)
    relay.observer.close()
    again = after(relay)
    again.call(body("a", "done", "b"), ANSWER)
    again.observer.close()
    assert [place[1:] for place in places(relay.store)] == [(0, 0), (0, 0)]


def test_another_living_observers_memos_are_left_alone(relay, after):
    relay.call(body("a"), ANSWER, headers=SESSION)
    relay.observer.flush()
    other = after(relay)
    other.call(body("b"), ANSWER, headers=SESSION)
    other.observer.close()
    relay.observer.close()
    assert [place[1:] for place in places(relay.store)] == [(0, 0), (0, 0)]
    assert len(list(relay.store.glob(journal.PATTERN))) == 2


def test_a_torn_line_costs_one_change(relay, after):
    relay.call(body("a"), ANSWER, headers=SESSION)
    relay.observer.close()
    (path,) = relay.store.glob(journal.PATTERN)
    path.write_bytes(path.read_bytes() + b'["1111aaaa2222bbbb/S1","S1","11')
    again = after(relay)
    again.call(body("a", "done", "b"), ANSWER, headers=SESSION)
    again.observer.close()
    assert [place[1:] for place in places(relay.store)] == [(0, 0), (1, 1)]


def test_what_was_taken_over_is_one_file(relay, after):
    for _ in range(3):
        relay.call(body("a"), ANSWER, headers=SESSION)
        relay.observer.close()
        relay = after(relay)
    relay.observer.close()
    assert len(list(relay.store.glob(journal.PATTERN))) == 1


def test_the_file_is_bounded(relay, monkeypatch):
    monkeypatch.setattr(journal, "MAX_MEMOS", 10)
    monkeypatch.setattr(journal, "REWRITE_LINES", 40)
    for session in range(100):
        relay.call(body("a"), ANSWER, headers={**SESSION, "x-session-affinity": f"S{session}"})
        relay.observer.flush()
    relay.observer.close()
    (path,) = relay.store.glob(journal.PATTERN)
    assert len(path.read_bytes().splitlines()) <= 40
    memos = Journal(relay.store).open()
    assert [memo.id for memo in memos] == [f"S{session}" for session in range(90, 100)]


def test_memos_that_cannot_be_written_cost_nothing_else(relay, monkeypatch, caplog):
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_write", fails)
    for _ in range(3):
        relay.call(body("a"), ANSWER, headers=SESSION)
        relay.observer.flush()
    assert [record.message for record in caplog.records if "begin anew" in record.message][1:] == []
    assert len([span for span in relay.spans() if span["name"].startswith("chat")]) == 3
    assert relay.observer.stats()["errors"] == {}
