"""The observer in a process of its own, at the other end of real channels."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

import pytest

from otel_agentperf_proxy.channel import Channel
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import End, Kind, Open, Outcome, ResponseHead, encode_record
from otel_agentperf_proxy.observing import ObserverProcess
from otel_agentperf_proxy.trajectory import identify, identity_key

from .conftest import TENANT, UPSTREAM, delta, read_spans, span_id, sse, trace_id
from .test_call_spans import EVENT_STREAM, STREAMED

WAIT_S = 60.0


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something to become true."""
    began = monotonic()
    while not condition():
        assert monotonic() - began < WAIT_S, "did not happen"
        await asyncio.sleep(0.01)


class Calls:
    """Tells calls over a channel, as a relay does."""

    def __init__(self, channel: Channel, first: int = 1) -> None:
        self.channel = channel
        self.count = first

    def open(self, session: str | None = None) -> int:
        number, self.count = self.count, self.count + 1
        headers = [(b"x-session-id", session.encode())] if session else []
        identity = identify(headers, {})
        record = Open(
            method="POST",
            path="/v1/chat/completions",
            headers=headers,
            tags={},
            tenant=TENANT,
            server_address="llm.internal",
            server_port=8000,
            trace_id=trace_id(number),
            span_id=span_id(number),
            identity_key=identity_key(identity, TENANT) if identity else None,
        )
        self.channel.open(number, monotonic_ns(), record)
        return number

    def ask(self, number: int) -> None:
        self.channel.put(Kind.REQUEST_BODY, number, monotonic_ns(), STREAMED)
        self.channel.put(Kind.REQUEST_END, number, monotonic_ns(), b"")
        head = ResponseHead(200, [(name.encode(), value.encode()) for name, value in EVENT_STREAM.items()])
        self.channel.put(Kind.RESPONSE_HEAD, number, monotonic_ns(), encode_record(head))

    def answer(self, number: int) -> None:
        data = sse(delta({"content": "a"}), delta({}, "stop"), "[DONE]").encode()
        self.channel.put(Kind.RESPONSE_BODY, number, monotonic_ns(), data)

    def end(self, number: int, **changes: Any) -> None:
        values = {
            "outcome": Outcome.COMPLETE,
            "error_type": None,
            "status": 200,
            "request_bytes": len(STREAMED),
            "response_bytes": 0,
            "sent_ns": None,
            "upload_ns": 0,
            "first_chunk_ns": None,
            "last_chunk_ns": None,
            "overhead_ns": None,
            "dropped_frames": 0,
            "unread_bytes": 0,
        }
        self.channel.end(number, monotonic_ns(), End(**{**values, **changes}))

    def whole(self, session: str | None = None) -> int:
        number = self.open(session)
        self.ask(number)
        self.answer(number)
        self.end(number)
        return number


@pytest.fixture
def config(tmp_path: Path) -> ProxyConfig:
    return ProxyConfig(upstream=UPSTREAM, store=str(tmp_path / "store"), flush_interval_s=0.05)


@pytest.fixture
async def process(config: ProxyConfig) -> AsyncIterator[ObserverProcess]:
    one = ObserverProcess(config)
    one.start()
    assert await one.ready()
    yield one
    await one.stop()


@pytest.fixture
async def new_channel(process: ObserverProcess) -> AsyncIterator[Callable[[str], Channel]]:
    channels: list[Channel] = []

    def make(worker: str) -> Channel:
        channel = Channel(process.path, worker, limit_bytes=1 << 20)
        channel.start()
        channels.append(channel)
        return channel

    yield make
    for channel in channels:
        await channel.close()


def statuses(config: ProxyConfig) -> dict[int, list[str]]:
    """Statuses of the call spans by the number of the call."""
    found: dict[int, list[str]] = {}
    for span in read_spans(Path(config.store or "")):
        if span["kind"] == "CLIENT":
            found.setdefault(int(span["span"], 16), []).append(span["attributes"]["agentperf.status"])
    return found


async def test_calls_of_several_relays_leave_their_spans(process, new_channel, config):
    relays = [Calls(new_channel(f"{index}-1"), first=1 + 1000 * index) for index in range(3)]
    for _ in range(50):
        for relay in relays:
            relay.whole()
    await asyncio.gather(*(relay.channel.close() for relay in relays))
    await process.stop()
    found = statuses(config)
    assert len(found) == 150
    assert Counter(status for one in found.values() for status in one) == {"ok": 150}


async def test_finished_calls_are_on_the_disk_while_it_runs(new_channel, config):
    relay = Calls(new_channel("0-1"))
    number = relay.whole()
    await until(lambda: number in statuses(config))


async def test_relays_learn_the_traces_of_runs(new_channel):
    one, two = Calls(new_channel("0-1")), Calls(new_channel("1-1"), first=100)
    number = one.open("S1")
    one.ask(number)
    key = f"{TENANT}/S1"
    await until(lambda: key in one.channel.traces and key in two.channel.traces)
    assert two.channel.traces[key] == trace_id(number)
    late = new_channel("2-1")
    await until(lambda: key in late.traces)
    one.answer(number)
    one.end(number)
    await until(lambda: not one.channel.traces and not late.traces)


async def test_kill_nine_of_the_observer_leaves_one_span_of_every_call(process, new_channel, config):
    relay = Calls(new_channel("0-1"))
    before = [relay.whole() for _ in range(20)]
    await until(lambda: set(before) <= set(statuses(config)))

    in_the_middle = [relay.open("S1"), relay.open(), relay.open()]
    for number in in_the_middle:
        relay.ask(number)
    await until(lambda: not relay.channel.stats()["waiting_bytes"])
    pid = process.pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not relay.channel.stats()["connected"] or relay.channel.connects > 1)
    while_dead = relay.whole()
    relay.end(in_the_middle[0])
    await until(lambda: process.restarts == 1 and process.pid not in (None, pid))
    for number in in_the_middle[1:]:
        relay.answer(number)
        relay.end(number)
    after = [relay.whole() for _ in range(20)]
    await until(lambda: set(after) <= set(statuses(config)))
    await relay.channel.close()
    await process.stop()

    found = statuses(config)
    assert set(found) == {*before, *in_the_middle, while_dead, *after}
    assert {number: one for number, one in found.items() if len(one) != 1} == {}
    assert {found[number][0] for number in in_the_middle} == {"partial"}
    assert {found[number][0] for number in before + after} == {"ok"}


async def test_kill_nine_of_a_relay_leaves_partial_spans(process, new_channel, config):
    channel = new_channel("0-1")
    relay = Calls(channel)
    number = relay.open()
    relay.ask(number)
    await until(lambda: not channel.stats()["waiting_bytes"])
    assert channel._sock is not None
    channel._closing = True
    channel._disconnect()
    await until(lambda: number in statuses(config))
    assert statuses(config) == {number: ["partial"]}


async def test_a_full_channel_costs_details_but_no_span(process, config):
    channel = Channel(process.path, "0-1", limit_bytes=20_000)
    channel.start()
    relay = Calls(channel)
    # Nothing is sent before the loop gets its turn.
    numbers = [relay.open() for _ in range(50)]
    for number in numbers:
        relay.ask(number)
    for number in numbers:
        relay.answer(number)
        relay.end(number)
    assert channel.stats()["frames_dropped"] > 0
    await channel.close()
    await process.stop()
    found = statuses(config)
    assert len(found) == 50
    counted = Counter(status for one in found.values() for status in one)
    assert counted["partial"] > 0
    assert counted["ok"] + counted["partial"] == 50


async def test_a_stranger_on_the_socket_is_shown_the_door(process, new_channel, config):
    reader, writer = await asyncio.open_unix_connection(process.path)
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
    assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    writer.close()
    relay = Calls(new_channel("0-1"))
    number = relay.whole()
    await until(lambda: number in statuses(config))


async def test_stats_come_over_the_parents_line(process, new_channel):
    relay = Calls(new_channel("0-1"))
    relay.whole()
    stats: dict[str, Any] = {}

    async def counted() -> bool:
        stats.update(await process.stats() or {})
        return stats.get("calls") == {"ok": 1}

    began = monotonic()
    while not await counted():
        assert monotonic() - began < WAIT_S
        await asyncio.sleep(0.01)
    assert stats["relays"] == 1
    assert stats["store"]["failing"] is None
