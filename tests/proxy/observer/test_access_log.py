"""The access log: a line for each exchange, nothing that is secret, and nobody waits for who reads it."""

import json
import os
import threading

import pytest

from otel_agentperf_proxy import access_log, outlet
from otel_agentperf_proxy.access_log import AccessLog
from otel_agentperf_proxy.frames import Outcome

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "a secret"}]}'


@pytest.fixture
def lines(monkeypatch):
    """The lines that observers write, parsed; call it once they are closed."""
    reading, writing = os.pipe()
    monkeypatch.setattr(outlet, "AccessLog", lambda: AccessLog(writing))

    def read():
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            return [json.loads(line) for line in file]

    return read


def test_a_line_for_each_exchange(new_relay, lines):
    relay = new_relay(access_log="json")
    headers = {"user-agent": "agent/1", "x-request-id": "r-1"}
    told = relay.open(headers=headers, tags={"trajectory.id": "T"}, client="192.0.2.1")
    told.body(BODY)
    told.head(429)
    told.end(30)
    told = relay.open("GET", "/v1/models")
    told.body(b"")
    told.end(1500, Outcome.CLIENT_DISCONNECTED, "client_disconnected")
    relay.observer.close()
    one, other = lines()
    assert one == {
        "time": "2027-01-15T08:01:50.000Z",
        "client": "192.0.2.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 429,
        "duration_s": 0.03,
        "request_bytes": len(BODY),
        "response_bytes": 0,
        "outcome": "error",
        "error": "429",
        "upstream": "llm.internal:8000",
        "request_id": "r-1",
        "trajectory_id": "T",
        "model": "m",
        "user_agent": "agent/1",
        "trace_id": "000000000000000000000000000000a1",
        "span_id": "00000000000000b1",
    }
    assert (other["method"], other["outcome"], other["duration_s"]) == ("GET", "cancelled", 1.5)
    assert "status" not in other
    assert relay.observer.stats()["access_log"] == {"lines": 2, "dropped": 0}


def test_an_exchange_whose_relay_died_has_a_line(new_relay, lines):
    relay = new_relay(access_log="json")
    relay.open().body(BODY, 20)
    relay.observer.close()
    (line,) = lines()
    assert (line["outcome"], line["duration_s"]) == ("partial", 0.02)


def test_whatever_a_client_writes_stays_on_its_line(new_relay, lines):
    relay = new_relay(access_log="json")
    told = relay.open("GET", '/"\n{}\x1b[0m\xff' + "x" * 10_000, headers={"user-agent": "a\r\nb"})
    told.end(1)
    relay.observer.close()
    (line,) = lines()
    assert line["path"].startswith('/"\n{}\x1b[0m')
    assert len(line["path"]) <= access_log.MAX_CHARS
    assert line["user_agent"] == "a\r\nb"


def test_none_is_written_unless_asked_for(relay):
    relay.call(BODY, b"{}")
    assert relay.observer.stats()["access_log"] is None


def test_a_reader_that_does_not_read_costs_lines_only(monkeypatch):
    monkeypatch.setattr(access_log, "WAITING", 50)
    monkeypatch.setattr(access_log, "CLOSE_S", 0.05)
    reading, writing = os.pipe()
    log = AccessLog(writing)
    for number in range(500):
        log.write({"number": number, "padding": "x" * 1000})
    log.close()
    assert log.dropped > 0
    assert log.lines + log.dropped == 500
    # What was taken is written once somebody reads.
    with os.fdopen(reading, "rb") as file:
        numbers = [json.loads(file.readline())["number"] for _ in range(log.lines)]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    os.close(writing)


def test_a_reader_that_is_gone_is_counted():
    reading, writing = os.pipe()
    os.close(reading)
    log = AccessLog(writing)
    log.write({"a": 1})
    log.close()
    assert not log._thread.is_alive()
    assert log.dropped == 1
    os.close(writing)


def test_lines_of_many_threads_do_not_mix():
    reading, writing = os.pipe()
    log = AccessLog(writing)
    threads = [threading.Thread(target=lambda: [log.write({"text": "x" * 300}) for _ in range(50)]) for _ in range(4)]
    got = []

    def read():
        with os.fdopen(reading, "rb") as file:
            got.extend(file)

    reader = threading.Thread(target=read)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    os.close(writing)
    reader.join()
    assert [json.loads(line) for line in got] == [{"text": "x" * 300}] * 200
