"""However the bytes are cut on their way, both sides get what the other one sent."""

import asyncio

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy.frames import Kind, Outcome

SLICES = st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=12)
BODIES = st.lists(st.binary(min_size=1, max_size=60), max_size=6)


def sliced(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` in parts of these sizes, over and over."""
    parts, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        parts.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return parts


def framed(parts: list[bytes], chunked: bool) -> tuple[bytes, bytes]:
    """The framing field and the body."""
    if not chunked:
        body = b"".join(parts)
        return b"content-length: %d\r\n" % len(body), body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"transfer-encoding: chunked\r\n", chunks + b"0\r\n\r\n"


@pytest.mark.face("native")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BODIES, BODIES, st.booleans(), st.booleans(), SLICES, SLICES)
def test_bodies_pass_byte_by_byte(bench, asked, answered, asks_chunked, answers_chunked, there, back):
    asks_framing, asks_body = framed(asked, asks_chunked)
    answers_framing, answers_body = framed(answered, answers_chunked)

    async def script(peer):
        await peer.request()
        for part in sliced(b"HTTP/1.1 200 OK\r\n" + answers_framing + b"\r\n" + answers_body, back):
            await peer.say(part)
            await asyncio.sleep(0)
        await peer.until_closed()

    async def play():
        async with bench(script) as running, running.client() as client, asyncio.timeout(20):
            for part in sliced(b"POST / HTTP/1.1\r\nhost: p\r\n" + asks_framing + b"\r\n" + asks_body, there):
                client.writer.write(part)
                await asyncio.sleep(0)
            head = await client.reader.readuntil(b"\r\n\r\n")
            body = b""
            if answers_chunked:
                while size := int(await client.reader.readuntil(b"\r\n"), 16):
                    body += (await client.reader.readexactly(size + 2))[:-2]
                assert await client.reader.readexactly(2) == b"\r\n"
            else:
                body = await client.reader.readexactly(len(b"".join(answered)))
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == b"".join(answered)
            end = await running.sink.end_of()
            assert running.peers[0].body == b"".join(asked)
            assert running.sink.bytes_of(Kind.REQUEST_BODY) == b"".join(asked)
            assert running.sink.bytes_of(Kind.RESPONSE_BODY) == b"".join(answered)
            assert end.outcome == Outcome.COMPLETE
            assert running.relay.client.stats() == {"connections": 1, "idle": 1}

    # As the proxied port does.
    uvloop.run(play())
