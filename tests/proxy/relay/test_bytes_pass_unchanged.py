"""What the client sends is what the upstream gets, and the other way round."""

import asyncio
import os

import pytest

from otel_agentperf_proxy.frames import Kind, Outcome

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def fields(head: bytes) -> list[bytes]:
    return head.split(b"\r\n")[1:-2]


def once(response: bytes):
    async def script(peer):
        await peer.request()
        await peer.say(response)

    return script


async def test_a_request_is_forwarded_with_its_fields_and_a_trace_context(bench):
    async with bench(once(OK)) as running:
        head, body = await running.exchange(
            b"POST /v1/chat/completions?key=a%20b HTTP/1.1\r\nHost: proxy\r\nX-Two: 1\r\nx-two: 2\r\n"
            b"X-Latin: caf\xe9\r\nAuthorization: Bearer secret\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n"
            b"x-agentperf-trajectory-id: T\r\nContent-Length: 4\r\n\r\n{}  "
        )
        peer = running.peers[0]
        assert body == b"ok"
        assert peer.body == b"{}  "
        assert peer.head.startswith(b"POST /v1/chat/completions?key=a%20b HTTP/1.1\r\n")
        *forwarded, traceparent = fields(peer.head)
        assert forwarded == [
            b"host: " + running.relay.routes.default.authority,
            b"x-two: 1",
            b"x-two: 2",
            b"x-latin: caf\xe9",
            b"authorization: Bearer secret",
            b"content-length: 4",
        ]
        opened = running.sink.opened[1]
        expected = f"traceparent: 00-{opened.trace_id.hex()}-{opened.span_id.hex()}-01"
        assert traceparent.decode() == expected
        assert head.startswith(b"HTTP/1.1 200 ")


async def test_the_response_keeps_its_fields_in_order_and_adds_none(bench):
    response = (
        b"HTTP/1.1 429 Slow Down\r\nServer: upstream\r\nDate: then\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Retry-After: 7\r\nContent-Encoding: gzip\r\nConnection: x-mine\r\nX-Mine: 1\r\nContent-Length: 3\r\n\r\nabc"
    )
    async with bench(once(response)) as running:
        head, body = await running.exchange(b"GET / HTTP/1.1\r\nhost: proxy\r\n\r\n")
    assert body == b"abc"
    assert fields(head) == [
        b"server: upstream",
        b"date: then",
        b"set-cookie: a=1",
        b"set-cookie: b=2",
        b"retry-after: 7",
        b"content-encoding: gzip",
        b"content-length: 3",
    ]


async def test_no_cookie_or_credential_reaches_the_observer(bench):
    secret = b"hunter2"
    async with bench(once(b"HTTP/1.1 200 OK\r\nset-cookie: s=hunter2\r\ncontent-length: 0\r\n\r\n")) as running:
        await running.exchange(
            b"GET /x?key=hunter2 HTTP/1.1\r\nhost: p\r\nAuthorization: Bearer hunter2\r\nX-Api-Key: hunter2\r\n"
            b"Cookie: s=hunter2\r\nX-Goog-Api-Key: hunter2\r\n\r\n"
        )
        await running.sink.end_of()
        told = repr((running.sink.opened, running.sink.frames, running.sink.ended)).encode()
    assert secret not in told


async def test_a_clients_trace_context_wins_and_its_state_passes(bench):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with bench(once(OK)) as running:
        await running.exchange(
            f"GET / HTTP/1.1\r\nhost: p\r\ntraceparent: 00-{trace}-{span}-00\r\ntracestate: a=1\r\n\r\n".encode()
        )
        opened = running.sink.opened[1]
        head = running.peers[0].head.decode()
    assert (opened.trace_id.hex(), opened.parent_span_id.hex()) == (trace, span)
    assert f"traceparent: 00-{trace}-{opened.span_id.hex()}-00" in head
    assert "tracestate: a=1" in head


async def test_calls_of_one_named_trajectory_share_its_trace(bench):
    async def script(peer):
        for _ in range(2):
            await peer.request()
            await peer.say(OK)

    request = b"GET / HTTP/1.1\r\nhost: p\r\nx-claude-code-session-id: S1\r\n\r\n"
    async with bench(script) as running:
        await running.exchange(request)
        await running.exchange(request)
        first, second = running.sink.opened.values()
    assert first.trace_id == second.trace_id
    assert first.identity_key == second.identity_key is not None


async def test_a_launchers_path_prefix_is_taken_off(bench):
    async with bench(once(OK)) as running:
        await running.exchange(b"GET /~/trajectory.id=run%207;level=8/v1/models HTTP/1.1\r\nhost: p\r\n\r\n")
        assert running.peers[0].head.startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert running.sink.opened[1].tags == {"trajectory.id": "run 7", "level": "8"}
        assert running.sink.opened[1].path == "/v1/models"


async def test_the_upstreams_base_path_comes_first(bench):
    async with bench(once(OK), base_path="/tenant/a") as running:
        await running.exchange(b"GET /v1/models?x=1 HTTP/1.1\r\nhost: p\r\n\r\n")
        assert running.peers[0].head.startswith(b"GET /tenant/a/v1/models?x=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("size", "chunked"),
    [(1, False), (1, True), (65_537, True), (5_000_000, False), (5_000_000, True), (100_000_000, False)],
)
async def test_bodies_of_any_size_pass_in_both_directions(bench, size, chunked):
    sent = os.urandom(size)

    async def echo(peer):
        await peer.request()
        if chunked:
            await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for at in range(0, size, 40_000):
                part = peer.body[at : at + 40_000]
                await peer.say(b"%x\r\n%b\r\n" % (len(part), part))
            await peer.say(b"0\r\n\r\n")
        else:
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + peer.body)

    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, sent) if chunked else sent
    async with bench(echo) as running:
        _, received = await running.exchange(b"PUT /anything HTTP/1.1\r\nhost: p\r\n" + framing + b"\r\n\r\n" + body)
        end = await running.sink.end_of()
        assert received == sent
        assert (end.request_bytes, end.response_bytes) == (size, size)
        observed = sent[: running.relay.config.observed_body_bytes]
        assert running.sink.bytes_of(Kind.REQUEST_BODY) == running.sink.bytes_of(Kind.RESPONSE_BODY) == observed
        assert end.unread_bytes == 2 * (size - len(observed))
        assert end.outcome == Outcome.COMPLETE


async def test_what_is_past_the_observation_limit_passes_and_is_counted(bench):
    async def echo(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + peer.body)

    sent = os.urandom(300_000)
    async with bench(echo, observed_body_bytes=100_000) as running:
        _, received = await running.exchange(b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 300000\r\n\r\n" + sent)
        end = await running.sink.end_of()
        assert received == sent
        assert running.sink.bytes_of(Kind.REQUEST_BODY) == sent[:100_000]
        assert end.unread_bytes == 400_000


async def test_a_full_channel_changes_nothing_for_the_client(bench):
    async with bench(once(OK)) as running:
        running.sink.full = True
        _, body = await running.exchange(b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 2\r\n\r\nhi")
        end = await running.sink.end_of()
    assert body == b"ok"
    # Request body, its end, response head, response body.
    assert end.dropped_frames == 4


async def test_chunks_pass_at_once(bench):
    """The upstream sends the next chunk only when the client has told it that it got the one before."""
    got = asyncio.Semaphore(0)

    async def stream(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(5):
            await peer.say(b"9\r\ndata: %d\n\n\r\n" % number)
            await got.acquire()
        await peer.say(b"0\r\n\r\n")

    async with bench(stream) as running, running.client(b"GET / HTTP/1.1\r\nhost: p\r\n\r\n") as client:
        async with asyncio.timeout(20):
            await client.reader.readuntil(b"\r\n\r\n")
            for number in range(5):
                assert await client.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number
                got.release()
            assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        end = await running.sink.end_of()
        times = [time_ns for kind, _, time_ns, _ in running.sink.frames if kind is Kind.RESPONSE_BODY]
        assert len(times) == 5
        assert times == sorted(times)
        assert (end.first_chunk_ns, end.last_chunk_ns) == (times[0], times[-1])
        assert end.sent_ns <= end.first_chunk_ns
        assert end.overhead_ns > 0


@pytest.mark.parametrize("method", [b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"])
async def test_any_method_passes(bench, method):
    async with bench(once(b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n")) as running:
        head, _ = await running.exchange(method + b" /some/path HTTP/1.1\r\nhost: p\r\n\r\n")
        assert running.peers[0].head.startswith(method + b" /some/path HTTP/1.1\r\n")
    assert head.startswith(b"HTTP/1.1 204 ")
    assert fields(head) == [b"x-a: b"]


async def test_the_length_that_head_tells_is_kept(bench):
    async with bench(once(b"HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n")) as running:
        async with running.client(b"HEAD / HTTP/1.1\r\nhost: p\r\n\r\n") as client, asyncio.timeout(20):
            head = await client.reader.readuntil(b"\r\n\r\n")
        assert fields(head) == [b"content-length: 12345"]
        assert (await running.sink.end_of()).outcome == Outcome.COMPLETE


async def test_expect_100_continue_is_answered_by_the_proxy(bench):
    async with bench(once(OK)) as running:
        request = b"POST / HTTP/1.1\r\nhost: p\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        async with running.client(request) as client, asyncio.timeout(20):
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            await client.say(b"abc")
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert running.peers[0].body == b"abc"
        assert b"expect" not in running.peers[0].head


async def test_connections_are_kept_in_both_directions(bench):
    async def script(peer):
        while True:
            await peer.request()
            await peer.say(OK)

    async with bench(script) as running, running.client() as client, asyncio.timeout(20):
        for _ in range(3):
            await client.say(b"POST / HTTP/1.1\r\nhost: p\r\ncontent-length: 1\r\n\r\nx")
            await client.reader.readuntil(b"\r\n\r\nok")
        assert len(running.peers) == 1
        assert running.relay.outcomes == {Outcome.COMPLETE: 3}
