"""Whatever goes wrong with a call: the client is never told a clean end that is none, and one span says what it was."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Any

import pytest

from otel_agentperf_analyzers import open_source

BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
WHOLE_BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"a"},'
    b'"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
ERROR = b'data: {"error":{"message":"out of memory","type":"server_error","code":500}}\n\n'
ANSWER = (
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
REFUSAL = b'{"error":{"message":"slow down","type":"rate_limit","code":"rate_limit"}}'


def request(body: bytes = BODY, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\ncontent-length: %d\r\n\r\n" % size + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: bytes, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, size)
    return head + body


STREAM = HEAD + chunk(TOKEN) + chunk(TOKEN) + chunk(LAST) + b"0\r\n\r\n"


def rows(store: Any) -> list[dict[str, Any]]:
    with open_source(str(store)) as database:
        assert database.skipped.lines == 0
        found: list[dict[str, Any]] = database.query("SELECT * FROM attempts ORDER BY start_time").to_pylist()
        return found


# --- The upstream's faults: what it answers, and what then is true


@dataclass(frozen=True)
class Upstream:
    """What an upstream does with a request, and what comes of it."""

    answer: bytes
    status: str
    http_status: int | None
    error_type: str | None = None
    reset: bool = False
    clean: bool = True
    sent: bytes = BODY


UPSTREAMS = {
    "a stream": Upstream(STREAM, "ok", 200),
    "a body": Upstream(whole(b"200 OK", ANSWER), "ok", 200, sent=WHOLE_BODY),
    "a body until the connection ends": Upstream(b"HTTP/1.1 200 OK\r\n\r\n" + ANSWER, "ok", 200, sent=WHOLE_BODY),
    "a refusal": Upstream(whole(b"429 Too Many Requests", REFUSAL), "error", 429, "rate_limit"),
    "an error status": Upstream(whole(b"503 Service Unavailable", b"busy"), "error", 503, "503"),
    "an error in the stream": Upstream(HEAD + chunk(TOKEN) + chunk(ERROR) + b"0\r\n\r\n", "error", 200, "server_error"),
    "a stream without its last event": Upstream(HEAD + chunk(TOKEN) + b"0\r\n\r\n", "truncated", 200, "truncated"),
    "no answer": Upstream(b"", "error", 502, "upstream_reset"),
    "a reset": Upstream(b"", "error", 502, "upstream_reset", reset=True),
    "half a head": Upstream(b"HTTP/1.1 200 OK\r\ncontent-ty", "error", 502, "upstream_reset"),
    "no HTTP": Upstream(b"SSH-2.0-OpenSSH_9.2\r\n", "error", 502, "upstream_protocol_error"),
    "a switch of protocols": Upstream(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        "error",
        502,
        "upstream_protocol_error",
    ),
    "a body in a coding of the transfer": Upstream(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\n\x1f\x8b\r\n0\r\n\r\n",
        "error",
        502,
        "upstream_protocol_error",
    ),
    "a short body": Upstream(
        whole(b"200 OK", ANSWER[:90], 10_000), "truncated", 200, "upstream_reset", clean=False, sent=WHOLE_BODY
    ),
    "a stream that stops": Upstream(HEAD + chunk(TOKEN), "truncated", 200, "upstream_reset", clean=False),
    "a stream that is reset": Upstream(HEAD + chunk(TOKEN), "truncated", 200, "upstream_reset", True, clean=False),
    "a chunk that stops": Upstream(
        HEAD + chunk(TOKEN) + b"ff\r\ndata: {", "truncated", 200, "upstream_reset", clean=False
    ),
    "a chunk without a size": Upstream(
        HEAD + chunk(TOKEN) + b"zz\r\ndata", "truncated", 200, "upstream_protocol_error", clean=False
    ),
}


@pytest.mark.parametrize("name", UPSTREAMS)
async def test_an_upstream_that_gives(bench, tmp_path, name):
    case = UPSTREAMS[name]
    delivered = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.say(case.answer)
        if not case.clean:
            await delivered.wait()
        if case.reset:
            peer.reset()

    async with bench(script, store=str(tmp_path)) as running, running.client(request(case.sent)) as client:
        async with asyncio.timeout(20):
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % case.http_status)
            if not case.clean:
                delivered.set()
                rest = await client.reader.read()
                assert not rest.endswith(b"0\r\n\r\n")
                assert b"content-length" not in head or len(rest) < 10_000
        await running.sink.end_of()
        assert running.relay.inflight == 0
    (row,) = rows(tmp_path)
    assert (row["status"], row["http_status"], row["error_type"]) == (case.status, case.http_status, case.error_type)


async def test_an_upstream_that_is_not_there(bench, tmp_path):
    async with bench(None, store=str(tmp_path)) as running:
        head, _ = await running.exchange(request())
        assert head.startswith(b"HTTP/1.1 502 ")
    (row,) = rows(tmp_path)
    assert (row["status"], row["error_type"], row["request_model"]) == ("error", "upstream_connect_failed", "m")


# --- The client leaves: at every point of an exchange, in both ways that TCP has


@dataclass(frozen=True)
class Leaving:
    """What has been sent when the client leaves, what the client waits for first, and what then is true."""

    sent: bytes
    answered: bytes
    seen: bytes
    status: str
    http_status: int | None


LEAVINGS = {
    "during its upload": Leaving(request(BODY, 1000), b"", b"", "cancelled", None),
    "before the head": Leaving(request(), b"", b"", "cancelled", None),
    "before the head of a body": Leaving(request(WHOLE_BODY), b"", b"", "cancelled", None),
    "before the first token": Leaving(request(), HEAD, b"\r\n\r\n", "cancelled", 200),
    "in the stream": Leaving(request(), HEAD + chunk(TOKEN), b"\n\n\r\n", "cancelled", 200),
    "in a body": Leaving(
        request(WHOLE_BODY), whole(b"200 OK", ANSWER[:50], len(ANSWER)), ANSWER[:50], "cancelled", 200
    ),
    "after the last event": Leaving(request(), HEAD + chunk(TOKEN) + chunk(LAST), b"[DONE]\n\n\r\n", "ok", 200),
}


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("when", LEAVINGS)
async def test_a_client_that_leaves(bench, tmp_path, when, how):
    case = LEAVINGS[when]

    async def script(peer):
        await peer.request(body=False)
        await peer.say(case.answered)
        await peer.until_closed()

    async with bench(script, store=str(tmp_path)) as running:
        async with running.client(case.sent) as client, asyncio.timeout(20):
            peer = await running.peer()
            if case.seen:
                await client.reader.readuntil(case.seen)
            if how == "RST":
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.writer.transport.abort()
            else:
                client.writer.close()
            await peer.gone.wait()
        await running.sink.end_of()
        assert running.relay.inflight == 0
        assert running.relay.client.stats() == {"connections": 0, "idle": 0}
    (row,) = rows(tmp_path)
    assert (row["status"], row["http_status"]) == (case.status, case.http_status)


# --- The proxy's own


async def test_a_proxy_that_is_cut_short(bench, tmp_path):
    async def script(peer):
        await peer.request()
        await peer.say(HEAD + chunk(TOKEN))
        await peer.until_closed()

    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(bench(script, store=str(tmp_path)))
        client = await stack.enter_async_context(running.client(request()))
        await client.reader.readuntil(b"\n\n\r\n")
    (row,) = rows(tmp_path)
    assert row["status"] in ("truncated", "cancelled")


@pytest.mark.parametrize(
    ("config", "sent", "status"),
    [
        ({"max_body_bytes": 20}, request(), 413),
        ({"max_body_bytes": 20}, request().replace(b"content-length: 71", b"transfer-encoding: chunked"), 413),
        ({"upstream": "", "upstreams": ({"url": "http://127.0.0.1:9", "path": "/other"},)}, request(), 404),
        ({"upstream": "", "upstreams": ({"url": "http://127.0.0.1:9", "host": "other"},)}, request(), 421),
    ],
)
async def test_a_request_that_the_proxy_refuses(bench, tmp_path, config, sent, status):
    if b"chunked" in sent:
        head, _, body = sent.partition(b"\r\n\r\n")
        sent = head + b"\r\n\r\n" + chunk(body)
    async with bench(lambda peer: peer.until_closed(), store=str(tmp_path), **config) as running:
        head, _ = await running.exchange(sent)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        await running.sink.end_of()
    (row,) = rows(tmp_path)
    assert (row["status"], row["http_status"], row["error_type"]) == ("error", status, "request_refused")
    assert row["dialect"] == "openai.chat"
