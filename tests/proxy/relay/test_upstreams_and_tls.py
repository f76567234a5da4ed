"""Several upstreams behind one port, and TLS on both sides."""

import asyncio
import contextlib
import ssl

import msgspec
import pytest
import trustme

from otel_agentperf.errors import UsageError
from otel_agentperf.processes import listen
from otel_agentperf_proxy.config import ProxyConfig
from otel_agentperf_proxy.frames import Outcome
from otel_agentperf_proxy.listener import Listener, server_tls
from otel_agentperf_proxy.relay import Relay
from otel_agentperf_proxy.routes import Routes
from otel_agentperf_proxy.sinks import Nowhere

pytestmark = pytest.mark.face("native")

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nhost: p\r\n\r\n"


def routes(*tables: dict[str, object], default: str = "") -> Routes:
    settings = {"upstream": default, "upstreams": tables, "salt": "00"}
    return Routes(msgspec.convert(settings, ProxyConfig))


def where(found: Routes, host: bytes, path: bytes) -> str | int:
    """The URL that a request goes to, or the status that it is refused with."""
    upstream = found.find(host, path)
    if upstream is None:
        return found.refusal(host)
    return upstream.name.decode() + (upstream.base_path + upstream.stripped(path)).decode()


def test_the_first_table_that_takes_a_request_gets_it():
    found = routes(
        {"url": "http://a", "path": "/v1/messages"},
        {"url": "http://b/base/", "path": "/team", "strip_path": True},
        {"url": "http://c", "host": "C.example"},
        {"url": "http://d", "path": "/v1"},
        default="http://rest",
    )
    for host, path, expected in (
        (b"p", b"/v1/messages", "http://a/v1/messages"),
        (b"p", b"/v1/messages/count_tokens", "http://a/v1/messages/count_tokens"),
        (b"p", b"/v1/messagesx", "http://d/v1/messagesx"),
        (b"p", b"/team/v1/models", "http://b/base/v1/models"),
        (b"p", b"/team", "http://b/base/"),
        (b"p", b"/teams/v1", "http://rest/teams/v1"),
        (b"c.example", b"/v2", "http://c/v2"),
        (b"c.EXAMPLE:4000", b"/v2", "http://c/v2"),
        (b"c.example", b"/v1/messages", "http://a/v1/messages"),
        (b"[::1]:4000", b"/v2", "http://rest/v2"),
    ):
        assert where(found, host, path) == expected


def test_what_no_table_takes_is_refused():
    found = routes({"url": "http://a", "host": "a"}, {"url": "http://b", "host": "b", "path": "/v1"})
    assert where(found, b"a", b"/") == "http://a/"
    assert where(found, b"b", b"/v1/x") == "http://b/v1/x"
    assert where(found, b"b", b"/v2") == 404
    assert where(found, b"c", b"/v1") == 421
    assert where(found, b"", b"/v1") == 421


def test_an_origin_has_one_kind_of_certificates():
    with pytest.raises(UsageError, match="https://a is named twice with different certificates"):
        routes({"url": "https://a", "path": "/x", "insecure": True}, {"url": "https://a"})


async def test_requests_go_where_their_path_says(bench):
    async def script(peer):
        while True:
            await peer.request()
            await peer.say(OK)

    async with bench(script) as other, bench(script) as first:
        port = other.relay.routes.default.origin.port
        config = msgspec.structs.replace(first.relay.config, upstreams=routes_to(port))
        first.relay.routes = Routes(config)
        await first.exchange(b"GET /other/v1/models HTTP/1.1\r\nhost: p\r\n\r\n")
        await first.exchange(b"GET /v1/models HTTP/1.1\r\nhost: p\r\n\r\n")
        assert [peer.head.split(b"\r\n")[0] for peer in other.peers] == [b"GET /v1/models HTTP/1.1"]
        assert [peer.head.split(b"\r\n")[0] for peer in first.peers] == [b"GET /v1/models HTTP/1.1"]
        there, here = first.sink.opened[1], first.sink.opened[2]
        assert (there.server_port, there.path) == (port, "/other/v1/models")
        # Who asks both with one key is two tenants: sessions of one say nothing of the other.
        assert there.tenant != here.tenant


def routes_to(port: int):
    settings = {"upstream": "http://h", "upstreams": [{"url": f"http://127.0.0.1:{port}", "path": "/other"}]}
    settings["upstreams"][0]["strip_path"] = True
    return msgspec.convert(settings, ProxyConfig).upstreams


# --- TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """Files of a certificate for 127.0.0.1 with its key, and of the authority's."""
    place = tmp_path_factory.mktemp("certificates")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(place / "both.pem")
    authority.cert_pem.write_to_path(place / "ca.pem")
    return place


@contextlib.asynccontextmanager
async def secured(files, **config):
    """A TLS upstream and a proxy before it; gives the proxy's port and relay."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files / "both.pem")

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)
        writer.close()

    upstream = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = upstream.sockets[0].getsockname()[1]
    relay = Relay(ProxyConfig(upstream=f"https://127.0.0.1:{port}", salt="00", **config), Nowhere())
    sock = listen("127.0.0.1", 0)
    served = sock.getsockname()[1]
    listener = Listener(relay)
    await listener.start(sock)
    try:
        yield served, relay
    finally:
        await listener.stop(0, asyncio.Event())
        await relay.aclose()
        upstream.close()


async def ask(port: int, tls: ssl.SSLContext | None = None) -> bytes:
    """The head and body of an answer."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    return head


async def test_tls_on_both_sides(face, files, authority):
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    config = {"tls_cert": str(files / "both.pem"), "upstream_ca": str(files / "ca.pem")}
    async with secured(files, **config) as (port, relay):
        for _ in range(2):
            assert (await ask(port, trusting)).startswith(b"HTTP/1.1 200 ")
        assert relay.client.stats()["connections"] == 1


async def test_an_upstream_whose_certificate_nobody_vouches_for(face, files):
    async with secured(files) as (port, relay):
        assert (await ask(port)).startswith(b"HTTP/1.1 502 ")
        assert relay.outcomes == {Outcome.UPSTREAM_FAILED: 1}
    async with secured(files, upstream_insecure=True) as (port, _):
        assert (await ask(port)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_speaks_no_tls_is_not_answered(face, files):
    async with secured(files, tls_cert=str(files / "both.pem"), upstream_insecure=True) as (port, relay):
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            assert not (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert not relay.outcomes


@pytest.mark.parametrize(("setting", "read"), [("tls_cert", server_tls), ("upstream_ca", Routes)])
def test_files_that_cannot_be_read_are_told(face, setting, read, tmp_path):
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        if path.stem == "empty":
            path.write_text("nothing")
        config = ProxyConfig(upstream="https://h", **{setting: str(path)})
        with pytest.raises(UsageError, match=str(path)):
            read(config)
