"""HTTP/1.0, clients that wait for a 100, that read slowly, or that send one request after the other."""

import asyncio

import pytest

from otel_agentperf_proxy.frames import Outcome

pytestmark = pytest.mark.face("native")


async def test_http10_gets_no_chunks(bench):
    async def script(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")

    async with bench(script) as running, running.client(b"GET / HTTP/1.0\r\n\r\n") as client, asyncio.timeout(20):
        head, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
    assert body == b"abcdef"
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head


async def test_http10_is_told_by_a_reset_that_a_response_broke_off(bench):
    delivered = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await delivered.wait()

    async with bench(script) as running, running.client(b"GET / HTTP/1.0\r\n\r\n") as client, asyncio.timeout(20):
        await client.reader.readuntil(b"abc")
        delivered.set()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        assert (await running.sink.end_of()).outcome == Outcome.UPSTREAM_FAILED


async def test_interim_responses_of_the_upstream_stay_with_the_proxy(bench):
    async def script(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with bench(script) as running:
        head, body = await running.exchange(b"GET / HTTP/1.1\r\nhost: p\r\n\r\n")
    assert (head, body) == (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"ok")


async def test_a_body_that_waits_for_its_100_is_not_asked_for_twice(bench):
    async def script(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    sent = b"POST / HTTP/1.1\r\nhost: p\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    async with bench(script) as running, running.client(sent) as client, asyncio.timeout(20):
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for byte in (b"a", b"b", b"c", b"d"):
            client.writer.write(byte)
            await client.writer.drain()
            await asyncio.sleep(0.01)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert running.peers[0].body == b"abcd"


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (b"204 No Content", b"content-length: 0\r\n", b""),
        (b"304 Not Modified", b"content-length: 12\r\n", b"content-length: 12\r\n"),
        (b"304 Not Modified", b"", b""),
    ],
)
async def test_statuses_without_a_body(bench, status, fields, expected):
    async def script(peer):
        while True:
            await peer.request()
            await peer.say(b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n")

    async with bench(script) as running, running.client() as client, asyncio.timeout(20):
        for _ in range(2):
            client.writer.write(b"GET / HTTP/1.1\r\nhost: p\r\n\r\n")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 " + status + b"\r\n" + expected + b"\r\n"
        assert len(running.peers) == 1


async def test_requests_one_behind_the_other_are_answered_in_turn(bench):
    async def script(peer):
        while True:
            head = await peer.request()
            number = head.split()[1][1:]
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(number), number))

    many = b"".join(b"GET /%d HTTP/1.1\r\nhost: p\r\n\r\n" % number for number in range(1000, 1300))
    async with bench(script) as running, running.client(many) as client, asyncio.timeout(20):
        for number in range(1000, 1300):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
            assert await client.reader.readexactly(4) == b"%d" % number
        assert len(running.peers) == 1


async def test_a_client_that_asks_on_without_reading_is_not_answered_without_bound(bench):
    answered = 0

    async def script(peer):
        nonlocal answered
        while True:
            await peer.request()
            answered += 1
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)

    async with bench(script) as running, running.client() as client:
        client.writer.transport.pause_reading()
        client.writer.write(b"GET / HTTP/1.1\r\nhost: p\r\n\r\n" * 500)
        before = -1
        async with asyncio.timeout(60):
            while not answered or answered != before:
                before = answered
                await asyncio.sleep(0.2)
        assert answered < 50
        client.writer.transport.abort()
        async with asyncio.timeout(20):
            while running.relay.inflight:
                await asyncio.sleep(0.01)


async def test_a_large_upload_waits_for_an_upstream_that_reads_slowly(bench):
    total = 30_000_000
    taken = asyncio.Event()

    async def script(peer):
        await peer.request(body=False)
        await taken.wait()
        left = total
        while left:
            left -= len(await peer.reader.read(1_000_000))
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with bench(script) as running, running.client() as client, asyncio.timeout(60):
        client.writer.write(b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: %d\r\n\r\n" % total)
        writing = asyncio.ensure_future(send(client, total))
        passed = -1
        while passed != (now := sum(len(frame[3]) for frame in running.sink.frames)) or not now:
            passed = now
            await asyncio.sleep(0.2)
        # Socket buffers of two hops and what both sides hold.
        assert passed < 20_000_000
        taken.set()
        await writing
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await running.sink.end_of()).request_bytes == total


async def send(client, total: int) -> None:
    part = b"x" * 100_000
    for _ in range(total // len(part)):
        client.writer.write(part)
        await client.writer.drain()


async def test_silence_is_no_fault(bench):
    """Nothing in the proxy counts the time of a model that thinks."""

    async def script(peer):
        await peer.request()
        await asyncio.sleep(0.5)
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await asyncio.sleep(0.5)
        await peer.say(b"1\r\nb\r\n0\r\n\r\n")

    async with bench(script, head_timeout_s=0.01, connect_timeout_s=0.2) as running:
        _, body = await running.exchange(b"GET / HTTP/1.1\r\nhost: p\r\n\r\n")
    assert body == b"ab"


@pytest.mark.parametrize(
    ("limits", "answer", "status"),
    [
        ({"response_timeout_s": 0.1}, b"", 504),
        ({"silence_timeout_s": 0.1}, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", 200),
    ],
)
async def test_silence_has_a_limit_where_one_is_set(bench, limits, answer, status):
    async def script(peer):
        await peer.request()
        await peer.say(answer)
        await peer.until_closed()

    sent = b"GET / HTTP/1.1\r\nhost: p\r\n\r\n"
    async with bench(script, **limits) as running, running.client(sent) as client, asyncio.timeout(20):
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d " % status)
        if status == 200:
            assert await client.reader.read() == b"1\r\na\r\n"
        end = await running.sink.end_of()
        assert (end.outcome, end.error_type, end.status) == (Outcome.UPSTREAM_FAILED, "upstream_timeout", status)
        await running.peers[0].gone.wait()


async def test_nothing_of_one_client_reaches_another(bench):
    """Cookies that an upstream sets, credentials that a client sends: over one kept connection, also by host name."""

    async def script(peer):
        while True:
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\nset-cookie: session=first\r\ncontent-length: 0\r\n\r\n")

    async with bench(script) as running:
        first = b"GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer one\r\ncookie: a=1\r\n\r\n"
        head, _ = await running.exchange(first)
        assert b"set-cookie: session=first" in head
        for host in (b"localhost", b"127.0.0.1", b"p"):
            await running.exchange(b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n\r\n")
            told = running.peers[0].head
            assert not any(word in told for word in (b"cookie", b"authorization", b"first", b"one"))
        assert len(running.peers) == 1


async def test_an_answer_has_the_upstreams_server_and_date_and_no_others(bench):
    async def script(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nserver: theirs\r\ndate: then\r\ncontent-length: 0\r\n\r\n")

    async with bench(script) as running:
        head, _ = await running.exchange(b"GET / HTTP/1.1\r\nhost: p\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nserver: theirs\r\ndate: then\r\ncontent-length: 0\r\n\r\n"
