"""Requests that two readers could read as two different ones, that have no end, or that are for somebody else."""

import asyncio
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from otel_agentperf.processes import address_of, listen

pytestmark = pytest.mark.face("native")

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def answers(peer):
    while True:
        await peer.request()
        await peer.say(OK)


async def statuses(running, sent: bytes) -> list[int]:
    """The statuses of all answers to what was sent on one connection, which the client then ends."""
    async with running.client(sent) as client, asyncio.timeout(20):
        client.writer.write_eof()
        said = await client.reader.read()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


async def first_status(running, sent: bytes) -> int:
    async with running.client(sent) as client, asyncio.timeout(20):
        return int((await client.reader.readuntil(b"\r\n\r\n")).split()[1])


POST = b"POST / HTTP/1.1\r\nhost: p\r\n"

REFUSED = {
    "two lengths": (POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
    "the same length twice": (POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
    "a list of lengths": (POST + b"content-length: 3, 3\r\n\r\nabc", 400),
    "a signed length": (POST + b"content-length: +3\r\n\r\nabc", 400),
    "a length and chunks": (POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and a length": (POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 400),
    "chunks twice": (POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks that are not last": (POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "chunks of something coded": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a coding by another name": (POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "a space before the colon": (POST + b"content-length : 3\r\n\r\nabc", 400),
    "a folded field": (POST + b"x-a: 1\r\n 2\r\n\r\n", 400),
    "a field without a name": (POST + b": 1\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\nhost: p\n\n", 400),
    "a bare carriage return": (b"GET / HTTP/1.1\r\nhost: p\r\nx-a: 1\r2\r\n\r\n", 400),
    "a zero byte": (b"GET / HTTP/1.1\r\nhost: p\r\nx-a: 1\x002\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nhost: p\r\nhost: q\r\n\r\n", 400),
    "a host that is a path": (b"GET / HTTP/1.1\r\nhost: p/q\r\n\r\n", 400),
    "a host with a space": (b"GET / HTTP/1.1\r\nhost: p q\r\n\r\n", 400),
    "a user in the host": (b"GET http://u:p@h/ HTTP/1.1\r\nhost: p\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nhost: p\r\n\r\n", 400),
    "bytes in the target": (b"GET /\xff HTTP/1.1\r\nhost: p\r\n\r\n", 400),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nhost: p\r\n\r\n", 400),
    "a star": (b"OPTIONS * HTTP/1.1\r\nhost: p\r\n\r\n", 400),
    "an unknown method": (b"BREW / HTTP/1.1\r\nhost: p\r\n\r\n", 400),
    "another version": (b"GET / HTTP/2.0\r\nhost: p\r\n\r\n", 505),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a tunnel": (b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n", 405),
    "chunks by HTTP/1.0": (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "an unreadable chunk": (POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_is_refused_and_reaches_nobody(bench, name):
    sent, status = REFUSED[name]
    async with bench(answers) as running:
        assert await first_status(running, sent) == status
        assert not any(peer.head for peer in running.peers)


@pytest.mark.parametrize("name", REFUSED)
async def test_what_follows_it_is_not_read(bench, name):
    """A request behind one that cannot be read could be its body."""
    sent, status = REFUSED[name]
    hidden = b"GET /hidden HTTP/1.1\r\nhost: p\r\n\r\n"
    async with bench(answers) as running:
        assert await statuses(running, sent + hidden) == [status]
        assert not any(b"hidden" in peer.head for peer in running.peers)


async def test_a_request_before_it_is_answered(bench):
    good = POST + b"content-length: 2\r\n\r\nhi"
    async with bench(answers) as running, running.client(good + good + b"GARBAGE\r\n\r\n") as client:
        async with asyncio.timeout(20):
            said = await client.reader.read()
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", said) == [b"200", b"200", b"400"]


async def test_a_target_of_a_forward_proxy_is_taken_as_a_path(bench):
    """The proxy goes to its upstreams only, whatever a client names."""
    async with bench(answers) as running:
        sent = b"GET http://example.com/v1/models?a=1 HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n"
        assert await first_status(running, sent) == 200
        lines = running.peers[0].head.split(b"\r\n")
        assert lines[:2] == [b"GET /v1/models?a=1 HTTP/1.1", b"host: " + running.relay.routes.default.authority]


# --- Limits


async def test_a_head_that_is_too_large(bench):
    async with bench(answers, max_head_bytes=2000) as running:
        fields = b"".join(b"x-%d: %b\r\n" % (number, b"v" * 100) for number in range(30))
        assert await first_status(running, b"GET / HTTP/1.1\r\nhost: p\r\n" + fields + b"\r\n") == 431
        assert not running.peers
        assert running.relay.errors == {"refused_431": 1}


async def test_a_head_without_an_end_takes_no_memory(bench):
    async with bench(answers, max_head_bytes=2000) as running, running.client(b"GET / HTTP/1.1\r\n") as client:
        async with asyncio.timeout(20):
            head = asyncio.ensure_future(client.reader.readuntil(b"\r\n\r\n"))
            while not head.done():
                client.writer.write(b"x-a: b\r\n")
                await asyncio.sleep(0)
            assert (await head).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(("begin", "more"), [(b"1;", b"x" * 100), (b"0\r\n", b"t: 1\r\n"), (b"0\r\nt: ", b"x" * 100)])
async def test_a_body_that_brings_nothing_has_an_end(bench, begin, more):
    """Extensions of chunks and trailers: nobody counts them but us."""
    sent = POST + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n" + begin
    silent = bench(lambda peer: peer.until_closed(), max_head_bytes=2000)
    async with silent as running, running.client(sent) as client, asyncio.timeout(20):
        head = asyncio.ensure_future(client.reader.readuntil(b"\r\n\r\n"))
        while not head.done():
            client.writer.write(more)
            await asyncio.sleep(0)
        assert (await head).startswith(b"HTTP/1.1 400 ")


async def test_a_head_that_does_not_come_in_time(bench, monkeypatch):
    monkeypatch.setattr("otel_agentperf_proxy.listener.SWEEP_S", 0.01)
    async with bench(answers, head_timeout_s=0.05) as running:
        async with running.client(b"GET / HTTP/1.1\r\nhost:") as client, asyncio.timeout(20):
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")
        async with running.client() as client, asyncio.timeout(20):
            assert await client.reader.read() == b""
        async with running.client(POST + b"content-length: 2\r\n\r\n") as client, asyncio.timeout(20):
            # A body may take its time.
            await asyncio.sleep(0.2)
            client.writer.write(b"hi")
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_more_connections_than_are_allowed(bench):
    empty = POST + b"content-length: 0\r\n\r\n"
    async with bench(answers, max_connections=2) as running, running.client(empty) as first, asyncio.timeout(20):
        await first.reader.readuntil(b"ok")
        async with running.client(empty) as second:
            await second.reader.readuntil(b"ok")
            async with running.client() as third:
                head = await third.reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                assert b"retry-after: 1" in head
        first.writer.write(empty)
        await first.reader.readuntil(b"ok")


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(bench):
    async with bench(answers, max_body_bytes=100) as running:
        sent = POST + b"expect: 100-continue\r\ncontent-length: 101\r\n\r\n"
        assert await first_status(running, sent) == 413
        assert not running.peers


async def test_the_answer_to_a_refused_upload_reaches_a_client_that_sends_on(bench):
    sent = POST + b"content-length: 20000000\r\n\r\n"
    async with bench(answers, max_body_bytes=100) as running, running.client(sent) as client, asyncio.timeout(20):
        client.writer.write(b"x" * 10_000_000)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        assert b"100 bytes" in await client.reader.read()


# --- nginx as reference


@pytest.fixture(scope="module")
def nginx():
    """Address of an nginx in front of an upstream whose port is told later: `connect(port)` starts it."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
    if binary is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    started = []

    def connect(port: int) -> int:
        with listen("127.0.0.1", 0) as free:
            address = address_of(free)
        work = Path(tempfile.mkdtemp())
        work.chmod(0o755)
        temporary = " ".join(
            f"{name}_temp_path {work}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (work / "nginx.conf").write_text(
            f"daemon off; error_log stderr emerg; pid {work}/pid; events {{}} http {{ access_log off; {temporary} "
            f"server {{ listen {address}; location / {{ proxy_http_version 1.1; proxy_set_header Connection ''; "
            f"proxy_pass http://127.0.0.1:{port}; }} }} }}"
        )
        started.append((subprocess.Popen([binary, "-p", str(work), "-c", str(work / "nginx.conf")]), work))
        return int(address.rpartition(":")[2])

    yield connect
    for process, work in started:
        process.terminate()
        process.wait(20)
        shutil.rmtree(work)


async def seen_through(port: int, sent: bytes, heads: list[bytes]) -> tuple[list[int], list[bytes]]:
    """Statuses of the answers to what was sent, and the request lines that the upstream then saw."""
    heads.clear()
    for _ in range(200):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    writer.write(sent)
    said = b""
    try:
        async with asyncio.timeout(20):
            while data := await reader.read(65536):
                said += data
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]
    return found, [head.split(b"\r\n")[0] for head in heads]


LAST = b"GET /last HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n"

DIFFERENTIALS = {
    **{name: sent + LAST for name, (sent, _) in REFUSED.items()},
    "two requests": POST + b"content-length: 2\r\n\r\nhi" + LAST,
    "a request in a body": POST + b"content-length: %d\r\n\r\n" % len(LAST) + LAST + LAST,
    "a request in a chunk": POST
    + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST)
    + LAST,
    "a request behind the last chunk": POST + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + LAST,
    "chunks with extensions": POST + b"transfer-encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\r\n" + LAST,
    "chunks with trailers": POST + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: 1\r\n\r\n" + LAST,
    "a GET with a body": b"GET / HTTP/1.1\r\nhost: p\r\ncontent-length: 2\r\n\r\nhi" + LAST,
    "lines before a request": b"\r\n\r\n" + LAST,
    "a length in capitals": b"POST / HTTP/1.1\r\nHOST: p\r\nCONTENT-LENGTH: 2\r\n\r\nhi" + LAST,
    "chunks in capitals": POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n" + LAST,
    "a connection that names a length": POST + b"connection: content-length\r\ncontent-length: 2\r\n\r\nhi" + LAST,
}


@pytest.mark.peer("nginx")
async def test_no_request_is_seen_that_nginx_would_not_show(bench, nginx):
    """An upstream sees through the proxy what it sees through nginx, or less."""
    heads = []

    async def script(peer):
        while True:
            heads.append(await peer.request())
            await peer.say(OK)

    async with bench(script) as running:
        theirs = nginx(running.relay.routes.default.origin.port)
        for name, sent in DIFFERENTIALS.items():
            expected, lines = await seen_through(theirs, sent, heads)
            found, ours = await seen_through(running.port, sent, heads)
            assert ours == lines[: len(ours)], (name, ours, lines)
            if name not in REFUSED:
                assert (found, len(ours)) == (expected, len(lines)), name
