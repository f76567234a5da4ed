"""WebSockets through a running proxy: with a library at both ends, and refused as Codex meets it."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trustme
import uvicorn
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from otel_agentperf_proxy.app import create_app
from otel_agentperf_proxy.config import ProxyConfig

ASK = {
    "type": "response.create",
    "model": "m",
    "input": [{"type": "message", "role": "user", "content": "hello " * 2000}],
}
USAGE = {"input_tokens": 2000, "output_tokens": 40}


async def respond(connection: ServerConnection) -> None:
    """Answer each request with forty words, a millisecond apart."""
    async for message in connection:
        id = json.loads(message)["id"]
        response: dict[str, Any] = {"id": id, "model": "m"}
        await connection.send(json.dumps({"type": "response.created", "response": response}))
        for number in range(40):
            event = {"type": "response.output_text.delta", "output_index": 0, "delta": f"word {number} "}
            await connection.send(json.dumps(event))
            await asyncio.sleep(0.001)
        response |= {"status": "completed", "usage": USAGE}
        await connection.send(json.dumps({"type": "response.completed", "response": response}))


@contextlib.asynccontextmanager
async def responding(**options: Any) -> AsyncIterator[str]:
    """A server of the websocket mode; gives its base URL."""
    async with serve(respond, "127.0.0.1", 0, **options) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def url_of(proxy: Any) -> str:
    return f"{proxy.url.replace('http', 'ws', 1)}/v1/responses"


async def ask(connection: Any, id: str) -> int:
    """One request; returns the number of its events."""
    await connection.send(json.dumps({**ASK, "id": id}))
    count = 0
    while True:
        event = json.loads(await connection.recv())
        count += 1
        if event["type"] == "response.completed":
            assert event["response"]["id"] == id
            return count


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_calls_over_a_websocket_are_turns(start_proxy, read_store, compression):
    async with responding(compression=compression) as upstream:
        proxy = await asyncio.to_thread(start_proxy, upstream, "--workers", "2")
        headers = {"x-agentperf-trajectory-id": "T", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        async with connect(url_of(proxy), compression=compression, additional_headers=headers) as connection:
            for number in range(3):
                assert await ask(connection, f"r{number}") == 42
        await asyncio.to_thread(proxy.wait_until, lambda status: status["observer"]["stats"]["calls"].get("ok", 0) == 4)
        await asyncio.to_thread(proxy.stop)
    turns = read_store(proxy.store, "turns")
    assert [(row["status"], row["trajectory_id"], row["dialect"]) for row in turns] == [
        ("ok", "T", "openai.responses")
    ] * 3
    assert [(row["input_tokens"], row["output_tokens"], row["usage_source"]) for row in turns] == [
        (2000, 40, "server")
    ] * 3
    for row in turns:
        assert row["chunk_count"] == 40
        assert 0 < row["ttft_s"] < row["e2e_latency_s"]
        assert row["http_status"] is None
    attempts = [row for row in read_store(proxy.store, "spans") if row["name"] == "GET"]
    assert [row["http.response.status_code"] for row in attempts] == [101]


async def test_over_tls_on_both_sides(start_proxy, read_store, tmp_path):
    """Where no side can end alone, the first end ends both."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    certificate.configure_cert(serving)
    authority.configure_trust(trusting)
    config = tmp_path / "proxy.toml"
    config.write_text(f'upstream-ca = "{tmp_path}/ca.pem"\ntls-cert = "{tmp_path}/server.pem"\n')
    async with responding(ssl=serving) as upstream:
        upstream = upstream.replace("http", "https")
        proxy = await asyncio.to_thread(start_proxy, upstream, "--config", str(config))
        url = url_of(proxy).replace("ws", "wss", 1)
        for _ in range(2):
            async with connect(url, ssl=trusting) as connection:
                assert await ask(connection, "r") == 42
        async with connect(url, ssl=trusting) as connection:
            await connection.send(json.dumps({**ASK, "id": "r"}))
            await connection.recv()
            connection.transport.close()
        await asyncio.to_thread(
            proxy.wait_until, lambda status: sum(status["observer"]["stats"]["calls"].values()) == 6
        )
        stats = proxy.status()["relays"][0]["stats"]
        assert (stats["tunnels"], stats["inflight"], stats["upstream"]["connections"]) == (0, 0, 0)
        await asyncio.to_thread(proxy.stop)
    assert [row["status"] for row in read_store(proxy.store, "turns")] == ["ok", "ok", "cancelled"]


async def test_a_server_without_websockets_refuses_and_http_goes_on(endpoint, start_proxy):
    proxy = await asyncio.to_thread(start_proxy, endpoint[0])
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url_of(proxy)):
            pass
    async with httpx.AsyncClient() as client:
        direct = await client.get(f"{endpoint[0]}/v1/responses")
        assert refused.value.response.status_code == direct.status_code
        assert refused.value.response.body == direct.content
        call = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.post(f"{proxy.url}/v1/chat/completions", json=call)).status_code == 200


async def test_an_open_websocket_has_its_time_when_the_proxy_ends(start_proxy, read_store):
    async with responding() as upstream:
        proxy = await asyncio.to_thread(start_proxy, upstream, "--drain", "30")
        async with connect(url_of(proxy)) as connection:
            await connection.send(json.dumps({**ASK, "id": "r"}))
            await connection.recv()
            proxy.process.terminate()
            events = [json.loads(await connection.recv())["type"] for _ in range(41)]
            assert events[-1] == "response.completed"
        await asyncio.to_thread(proxy.stop)
    (turn,) = read_store(proxy.store, "turns")
    assert turn["status"] == "ok"


async def test_a_websocket_that_stays_open_is_cut_off_in_the_end(start_proxy, read_store):
    async with responding() as upstream:
        proxy = await asyncio.to_thread(start_proxy, upstream, "--drain", "1")
        async with connect(url_of(proxy)) as connection:
            await ask(connection, "r0")
            stopping = asyncio.create_task(asyncio.to_thread(proxy.stop))
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            await stopping
    (turn,) = read_store(proxy.store, "turns")
    assert turn["status"] == "ok"
    rows = [row for row in read_store(proxy.store, "spans") if row["name"] == "GET"]
    assert [(row["http.response.status_code"], row["error.type"]) for row in rows] == [(101, "proxy_shutdown")]


async def test_mounted_in_an_application_a_websocket_is_refused(tmp_path):
    async with responding() as upstream:
        app = create_app(ProxyConfig(upstream=upstream, store=str(tmp_path / "store")), observer="inline")
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="websockets-sansio"))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://127.0.0.1:{port}/v1/responses"):
                    pass
            assert refused.value.response.status_code == 403
        finally:
            await server.shutdown()
