"""The channel to the observer, over a real Unix socket: nothing waits, everything that is lost is counted.

The tests play the observer; the channel under test never learns more of it than its socket.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy import channel as channel_module
from otel_agentperf_proxy import sinks
from otel_agentperf_proxy.channel import Channel
from otel_agentperf_proxy.frames import (
    HEADER,
    MAX_PAYLOAD,
    End,
    Frame,
    FrameDecoder,
    Hello,
    Kind,
    Open,
    Outcome,
    RunTrace,
    encode,
    encode_batch,
    encode_record,
)
from otel_agentperf_proxy.sinks import InlineChannel, remember

PATIENCE_S = 20.0
LIMIT = 64 * 1024

_decode_open = msgspec.msgpack.Decoder(Open).decode
_decode_end = msgspec.msgpack.Decoder(End).decode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode


def opening(path: str = "/v1/messages") -> Open:
    return Open("POST", path, [(b"a", b"b")], {}, "0" * 16, "host", 80, b"t" * 16, b"s" * 8)


def ending(dropped: int = 0) -> End:
    return End(Outcome.COMPLETE, None, 200, 1, 2, 3, 4, 5, 6, 7, dropped, 0)


class FakeObserver:
    """Accepts connections on a socket path and reads frames when told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener: socket.socket | None = None
        self.sock: socket.socket | None = None
        self._decoder = FrameDecoder()
        self.frames: list[Frame] = []

    def listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._listener.setblocking(False)

    async def accept(self) -> None:
        """Take the next connection; its HELLO comes first."""
        assert self._listener is not None
        if self.sock is not None:
            self.sock.close()
        async with asyncio.timeout(PATIENCE_S):
            self.sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        self.sock.setblocking(False)
        self._decoder = FrameDecoder()
        self.frames = []
        await self.until(lambda frames: bool(frames))
        assert self.frames[0].kind == Kind.HELLO

    async def until(self, enough: Callable[[list[Frame]], bool], size: int = 1 << 20) -> list[Frame]:
        """Read until the frames of this connection are enough."""
        assert self.sock is not None
        async with asyncio.timeout(PATIENCE_S):
            while not enough(self.frames):
                data = await asyncio.get_running_loop().sock_recv(self.sock, size)
                assert data, "the channel closed"
                self.frames += self._decoder.feed(data)
        return self.frames

    async def until_end(self, *calls: int) -> list[Frame]:
        """Read until these calls have ended."""
        return await self.until(lambda frames: set(calls) <= {frame.call for frame in frames if frame.kind == Kind.END})

    def kinds(self, call: int) -> list[int]:
        return [frame.kind for frame in self.frames if frame.call == call]

    async def tell(self, *records: RunTrace) -> None:
        assert self.sock is not None
        data = b"".join(encode(Kind.RUN_TRACE, 0, 0, encode_record(record)) for record in records)
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def die(self) -> None:
        assert self.sock is not None
        self.sock.close()
        self.sock = None

    def close(self) -> None:
        for sock in (self.sock, self._listener):
            if sock is not None:
                sock.close()


@pytest.fixture
def observer(tmp_path: Path) -> "AsyncIterator[FakeObserver]":
    found = FakeObserver(tmp_path / "observer")
    found.listen()
    yield found
    found.close()


@pytest.fixture
async def channel(observer: FakeObserver) -> AsyncIterator[Channel]:
    found = Channel(str(observer.path), "worker-1", limit_bytes=LIMIT)
    yield found
    await found.close(0)


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until the channel has noticed."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_frames_arrive_in_order_with_their_times(observer: FakeObserver, channel: Channel) -> None:
    channel.start()
    await observer.accept()
    channel.open(1, 100, opening())
    assert channel.put(Kind.REQUEST_BODY, 1, 101, b"body")
    assert channel.put(Kind.REQUEST_END, 1, 102, b"")
    channel.end(1, 103, ending())
    hello, *frames = await observer.until_end(1)
    assert _decode_hello(hello.payload).worker == "worker-1"
    assert [(frame.kind, frame.call, frame.time_ns) for frame in frames] == [
        (Kind.OPEN, 1, 100),
        (Kind.REQUEST_BODY, 1, 101),
        (Kind.REQUEST_END, 1, 102),
        (Kind.END, 1, 103),
    ]
    assert _decode_open(frames[0].payload) == opening()
    assert frames[1].payload == b"body"
    assert _decode_end(frames[3].payload) == ending()
    stats = channel.stats()
    assert stats == {
        "connected": 1,
        "connects": 1,
        "frames": 5,
        "frames_dropped": 0,
        "calls_lost": 0,
        "waiting_bytes": 0,
        "open_calls": 0,
    }


async def test_frames_gather_before_they_are_sent(
    observer: FakeObserver, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "FLUSH_S", 3600.0)
    channel.start()
    channel.open(1, 1, opening())
    for index in range(100):
        channel.put(Kind.RESPONSE_BODY, 1, index, b"x" * 100)
    await asyncio.sleep(0)
    assert channel.stats()["waiting_bytes"] > 100 * 100
    monkeypatch.setattr(channel_module, "FLUSH_BYTES", 32 * 1024)
    for index in range(300):
        channel.put(Kind.RESPONSE_BODY, 1, index, b"x" * 100)
    await observer.accept()
    await observer.until(lambda frames: len(frames) == 402)


async def test_a_small_send_buffer_cuts_no_frame(
    observer: FakeObserver, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "SOCKET_BYTES", 1)
    channel.start()
    await observer.accept()
    channel.open(1, 1, opening())
    payloads = [bytes([index % 256]) * (index * 7 % 900) for index in range(100)]
    for index, payload in enumerate(payloads):
        assert channel.put(Kind.RESPONSE_BODY, 1, index, payload)
    channel.end(1, 1000, ending())
    frames = await observer.until(lambda frames: any(frame.kind == Kind.END for frame in frames), size=37)
    assert [frame.payload for frame in frames if frame.kind == Kind.RESPONSE_BODY] == payloads
    assert channel.stats()["waiting_bytes"] == 0


async def test_a_slow_observer_costs_bounded_memory_and_counted_frames(
    observer: FakeObserver, channel: Channel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel_module, "SOCKET_BYTES", 1)
    channel.start()
    await observer.accept()
    channel.open(1, 1, opening())
    kept = [channel.put(Kind.RESPONSE_BODY, 1, index, b"x" * 1000) for index in range(1000)]
    dropped = kept.count(False)
    assert dropped > 500
    assert channel.stats()["frames_dropped"] == dropped
    assert channel.stats()["waiting_bytes"] <= LIMIT + 2000
    assert "the observer is behind" in caplog.text
    channel.end(1, 2000, ending(dropped))
    frames = await observer.until_end(1)
    assert sum(frame.kind == Kind.RESPONSE_BODY for frame in frames) == kept.count(True)
    assert frames[-2].kind == Kind.GAP
    assert _decode_end(frames[-1].payload).dropped_frames == dropped


async def test_a_stuck_observer_costs_bounded_memory_however_many_calls_come(
    observer: FakeObserver, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call leaves its OPEN and END once the observer reads again; those that did not fit are marked."""
    monkeypatch.setattr(channel_module, "SOCKET_BYTES", 1)
    channel.start()
    await observer.accept()
    calls = range(1, 2001)
    for call in calls:
        channel.open(call, call, opening())
        channel.put(Kind.REQUEST_BODY, call, call, b"x" * 500)
        channel.end(call, call, ending())
        assert channel.stats()["waiting_bytes"] <= LIMIT + 2000
    await observer.until_end(*calls)
    opened = {frame.call: _decode_open(frame.payload) for frame in observer.frames if frame.kind == Kind.OPEN}
    assert opened.keys() == set(calls)
    assert not opened[1].resumed
    assert opened[2000].resumed
    assert channel.stats()["calls_lost"] == 0


async def test_a_call_that_did_not_fit_is_taken_up_when_there_is_room(
    observer: FakeObserver, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "SOCKET_BYTES", 1)
    channel.start()
    await observer.accept()
    channel.open(1, 1, opening())
    while channel.put(Kind.RESPONSE_BODY, 1, 1, b"x" * 1000):
        pass
    channel.open(2, 2, opening())
    assert not channel.put(Kind.REQUEST_BODY, 2, 3, b"lost")
    await observer.until(lambda frames: channel.stats()["waiting_bytes"] == 0)
    assert channel.put(Kind.RESPONSE_BODY, 2, 4, b"kept")
    channel.end(2, 5, ending(1))
    await observer.until_end(2)
    assert observer.kinds(2) == [Kind.OPEN, Kind.GAP, Kind.RESPONSE_BODY, Kind.END]
    assert _decode_open(next(frame for frame in observer.frames if frame.call == 2).payload).resumed


async def test_without_an_observer_nothing_fails_and_all_is_counted(tmp_path: Path) -> None:
    channel = Channel(str(tmp_path / "nobody"), "w", limit_bytes=LIMIT)
    channel.open(1, 1, opening())
    channel.start()
    assert not channel.put(Kind.REQUEST_BODY, 1, 2, b"x")
    channel.end(1, 3, ending(1))
    stats = channel.stats()
    assert (stats["connected"], stats["frames_dropped"], stats["waiting_bytes"]) == (0, 1, 0)
    await channel.close(0)
    assert channel.stats()["calls_lost"] == 1


async def test_calls_open_and_ended_while_the_observer_was_away_are_told_to_the_next(
    observer: FakeObserver, channel: Channel
) -> None:
    channel.start()
    await observer.accept()
    channel.open(1, 10, opening("/open"))
    channel.open(2, 20, opening("/ended"))
    channel.put(Kind.REQUEST_BODY, 1, 11, b"before")
    await observer.until(lambda frames: len(frames) == 4)
    observer.die()
    await settled(lambda: not channel.stats()["connected"])
    channel.put(Kind.REQUEST_BODY, 1, 12, b"lost")
    channel.end(2, 21, ending())
    channel.open(3, 30, opening("/both"))
    channel.end(3, 31, ending())
    await observer.accept()
    await settled(lambda: bool(channel.stats()["connected"]))
    channel.put(Kind.RESPONSE_BODY, 1, 13, b"after")
    channel.end(1, 14, ending(1))
    frames = await observer.until_end(1, 2, 3)
    assert observer.kinds(1) == [Kind.OPEN, Kind.GAP, Kind.RESPONSE_BODY, Kind.END]
    assert observer.kinds(2) == observer.kinds(3) == [Kind.OPEN, Kind.END]
    opened = {frame.call: (frame.time_ns, _decode_open(frame.payload)) for frame in frames if frame.kind == Kind.OPEN}
    assert {call: (time_ns, record.path) for call, (time_ns, record) in opened.items()} == {
        1: (10, "/open"),
        2: (20, "/ended"),
        3: (30, "/both"),
    }
    assert all(record.resumed for _, record in opened.values())
    assert channel.stats()["connects"] == 2


async def test_an_end_that_the_socket_did_not_take_is_told_to_the_next_observer(
    observer: FakeObserver, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "SOCKET_BYTES", 1)
    channel.start()
    await observer.accept()
    for call in range(1, 40):
        channel.open(call, call, opening())
        channel.put(Kind.REQUEST_BODY, call, call, b"x" * 1000)
        channel.end(call, call, ending())
    await settled(lambda: channel._sending is not None)
    assert channel.stats()["waiting_bytes"] > 1000
    observer.die()
    await observer.accept()
    await observer.until_end(39)
    assert channel.stats()["frames_dropped"] > 0
    resent = {frame.call for frame in observer.frames if frame.kind == Kind.END}
    assert resent == set(range(min(resent), 40))


async def test_of_too_many_missed_calls_the_oldest_are_lost_and_counted(
    observer: FakeObserver, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "MISSED_LIMIT", 10)
    limited = Channel(str(observer.path), "w", limit_bytes=LIMIT)
    for call in range(25):
        limited.open(call, call, opening())
        limited.end(call, call, ending())
    assert limited.stats()["calls_lost"] == 15
    limited.start()
    await observer.accept()
    await observer.until_end(*range(15, 25))
    assert {frame.call for frame in observer.frames if frame.kind == Kind.END} == set(range(15, 25))
    await limited.close()


async def test_many_missed_calls_are_told_in_batches(observer: FakeObserver, channel: Channel) -> None:
    calls = range(1, 1001)
    for call in calls:
        channel.open(call, call, opening())
        channel.end(call, call, ending())
    channel.start()
    assert channel.stats()["frames"] == 1
    await observer.accept()
    await observer.until_end(*calls)


async def test_closing_sends_what_waits(observer: FakeObserver, channel: Channel) -> None:
    channel.start()
    await observer.accept()
    channel.open(1, 1, opening())
    channel.put(Kind.RESPONSE_BODY, 1, 2, b"x" * 50_000)
    channel.end(1, 3, ending())
    await asyncio.gather(channel.close(PATIENCE_S), observer.until_end(1))
    assert channel.stats()["connected"] == 0


async def test_closing_waits_for_an_observer_that_is_being_restarted(observer: FakeObserver, channel: Channel) -> None:
    channel.start()
    await observer.accept()
    observer.die()
    await settled(lambda: not channel.stats()["connected"])
    channel.open(1, 1, opening())
    channel.end(1, 2, ending())
    closing = asyncio.create_task(channel.close(PATIENCE_S))
    await observer.accept()
    await observer.until_end(1)
    await closing
    assert channel.stats()["calls_lost"] == 0


async def test_traces_of_runs_are_noted_and_forgotten(observer: FakeObserver, channel: Channel) -> None:
    channel.start()
    await observer.accept()
    await observer.tell(RunTrace("a", b"1" * 16), RunTrace("b", b"2" * 16), RunTrace("a", b"3" * 16))
    await settled(lambda: len(channel.traces) == 2 and channel.traces["a"] == b"3" * 16)
    await observer.tell(RunTrace("a", None), RunTrace("never", None))
    await settled(lambda: channel.traces == {"b": b"2" * 16})
    observer.die()
    await settled(lambda: channel.traces == {})


@pytest.mark.parametrize(
    "garbage",
    [
        HEADER.pack(MAX_PAYLOAD + 1, Kind.RUN_TRACE, 0, 0),
        encode(Kind.RUN_TRACE, 0, 0, b"\xc1"),
        encode(Kind.RUN_TRACE, 0, 0),
    ],
    ids=["length", "record", "nothing"],
)
async def test_an_observer_that_talks_nonsense_is_left(
    garbage: bytes, observer: FakeObserver, channel: Channel
) -> None:
    channel.start()
    await observer.accept()
    assert observer.sock is not None
    await asyncio.get_running_loop().sock_sendall(observer.sock, garbage)
    assert await asyncio.get_running_loop().sock_recv(observer.sock, 1) == b""
    await observer.accept()
    assert channel.stats()["connects"] == 2


async def test_unknown_frames_of_a_newer_observer_are_passed_over(observer: FakeObserver, channel: Channel) -> None:
    channel.start()
    await observer.accept()
    assert observer.sock is not None
    await asyncio.get_running_loop().sock_sendall(observer.sock, HEADER.pack(2, 199, 0, 0) + b"xx")
    await observer.tell(RunTrace("a", b"1" * 16))
    await settled(lambda: channel.traces == {"a": b"1" * 16})


def test_inline_frames_reach_the_observer_at_once() -> None:
    class Consumer:
        def __init__(self) -> None:
            self.seen: list[tuple[str, Frame]] = []
            self.on_run_trace: Callable[[RunTrace], None] = lambda record: None

        def feed(self, worker: str, frame: Frame) -> None:
            self.seen.append((worker, frame))

    consumer = Consumer()
    channel = InlineChannel(consumer)
    channel.open(1, 1, opening())
    assert channel.put(Kind.RESPONSE_BODY, 1, 2, b"x")
    channel.end(1, 3, ending())
    assert [(worker, frame.kind) for worker, frame in consumer.seen] == [
        ("inline", Kind.OPEN),
        ("inline", Kind.RESPONSE_BODY),
        ("inline", Kind.END),
    ]
    consumer.on_run_trace(RunTrace("a", b"1" * 16))
    assert channel.traces == {"a": b"1" * 16}
    consumer.on_run_trace(RunTrace("a", None))
    assert channel.traces == {}


def test_of_too_many_traces_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "TRACES_LIMIT", 3)
    traces: dict[str, bytes] = {}
    for key in ("a", "b", "a", "c", "d"):
        remember(traces, key, key.encode())
    assert list(traces) == ["a", "c", "d"]


# --- Frames

FRAMES = st.lists(
    st.builds(
        Frame,
        st.sampled_from([kind for kind in Kind if kind != Kind.BATCH]).map(int),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=60),
    ),
    max_size=20,
)


@given(
    frames=FRAMES, batched=st.lists(st.integers(1, 5), max_size=20), cuts=st.lists(st.integers(0, 2000), max_size=30)
)
@settings(max_examples=200, deadline=None)
def test_any_split_gives_the_same_frames(frames: list[Frame], batched: list[int], cuts: list[int]) -> None:
    stream, rest = b"", frames
    for size in batched:
        stream += encode_batch(rest[:size])
        rest = rest[size:]
    stream += b"".join(encode(Kind(frame.kind), frame.call, frame.time_ns, frame.payload) for frame in rest)
    bounds = sorted(min(cut, len(stream)) for cut in cuts)
    decoder = FrameDecoder()
    found = [
        frame
        for start, end in zip([0, *bounds], [*bounds, len(stream)], strict=True)
        for frame in decoder.feed(stream[start:end])
    ]
    assert found == frames


@pytest.mark.parametrize("size", [100, channel_module.COPIED_BYTES + 1, 300_000])
async def test_payloads_of_any_size_arrive_in_order(observer: FakeObserver, channel: Channel, size: int) -> None:
    """Through an observer that takes them in small bites."""
    channel.start()
    await observer.accept()
    channel._limit = 1 << 30
    sent = []
    for number in range(1, 8):
        channel.open(number, number, opening())
        for part in (b"a", bytes([number]) * size, b"z"):
            assert channel.put(Kind.RESPONSE_BODY, number, number, part)
            sent.append(part)
        channel.end(number, number, ending())
    frames = await observer.until(lambda found: sum(frame.kind == Kind.END for frame in found) == 7, size=5000)
    assert [frame.payload for frame in frames if frame.kind == Kind.RESPONSE_BODY] == sent
    await settled(lambda: channel.stats()["waiting_bytes"] == 0)
    assert channel.stats()["frames_dropped"] == 0


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x01", b"\x91\x94\x01\x02\x03\xa1x"])
def test_a_batch_that_is_none(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(FrameDecoder().feed(encode(Kind.BATCH, 0, 0, payload)))


def test_frames_before_a_stream_out_of_step_still_count() -> None:
    frames = FrameDecoder().feed(encode(Kind.REQUEST_END, 1, 2) + HEADER.pack(MAX_PAYLOAD + 1, 0, 0, 0))
    assert next(frames) == Frame(Kind.REQUEST_END, 1, 2, b"")
    with pytest.raises(ValueError, match="frame of"):
        next(frames)
