"""`create_app` inside somebody's Starlette application, with and without its lifespan."""

import asyncio
import contextlib
import json

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from otel_agentperf.errors import UsageError
from otel_agentperf_proxy.app import create_app
from otel_agentperf_proxy.config import ProxyConfig

CALL = {"model": "m", "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@contextlib.asynccontextmanager
async def serving(app, *, lifespan: str = "on"):
    """Serve an application on a socket of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan=lifespan, log_config=None, access_log=False))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        await server.shutdown()


async def talk(client: httpx.AsyncClient, prefix: str = "") -> None:
    async with client.stream("POST", f"{prefix}/v1/chat/completions", json=CALL) as response:
        assert response.status_code == 200
        lines = [line async for line in response.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[0][6:])["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("observer", ["process", "inline"])
async def test_mounted_with_its_lifespan(endpoint, tmp_path, observer, read_store):
    proxy = create_app(ProxyConfig(upstream=endpoint[0], store=str(tmp_path / "store")), observer=observer)
    own = Route("/own", lambda _: PlainTextResponse("own"))
    app = Starlette(routes=[own, Mount("/llm", proxy)], lifespan=proxy.lifespan)
    async with serving(app) as client:
        await talk(client, "/llm")
        assert (await client.get("/own")).text == "own"
        assert (await client.get("/llm/v1/models")).json()["data"]
        # The observer may still be starting.
        while (status := await proxy.status())["observer"] is None:
            await asyncio.sleep(0.02)
        assert status["relay"]["outcomes"] == {"complete": 2}
    rows = read_store(tmp_path / "store", "attempts")
    assert [row["status"] for row in rows if row["dialect"]] == ["ok"]


@pytest.mark.parametrize("observer", ["process", "inline"])
async def test_the_host_can_serve_its_metrics(endpoint, tmp_path, observer):
    proxy = create_app(ProxyConfig(upstream=endpoint[0], store=str(tmp_path / "store")), observer=observer)

    async def metrics(request: Request) -> Response:
        body, content_type = await proxy.metrics(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    app = Starlette(routes=[Route("/metrics", metrics), Mount("/llm", proxy)], lifespan=proxy.lifespan)
    async with serving(app) as client:
        await talk(client, "/llm")
        text = ""

        async def is_counted() -> bool:
            nonlocal text
            text = (await client.get("/metrics")).text
            return "agentperf_ttft_seconds_count{" in text

        async with asyncio.timeout(60):
            while not await is_counted():
                await asyncio.sleep(0.02)
        assert 'agentperf_proxy_exchanges_total{agentperf_exchange_outcome="complete",agentperf_worker="0"} 1.0' in text
        assert "agentperf_observer_up 1.0" in text
        answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text"})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert 'trace_id="' in answer.text


async def test_mounted_without_lifespan_starts_with_the_first_request(endpoint, tmp_path, read_store, until):
    proxy = create_app(ProxyConfig(upstream=endpoint[0], store=str(tmp_path / "store"), flush_interval_s=0.05))
    async with serving(Starlette(routes=[Mount("/llm", proxy)])) as client:
        await talk(client, "/llm")
        store = tmp_path / "store"
        await until(lambda: any(path.stat().st_size for path in store.glob("spans-*")))
        async with proxy.lifespan():
            pass
    (row,) = read_store(store, "attempts")
    assert (row["status"], row["request_model"]) == ("ok", "m")


async def test_served_by_itself(endpoint, tmp_path, read_store):
    proxy = create_app(ProxyConfig(upstream=endpoint[0], store=str(tmp_path / "store")))
    async with serving(proxy) as client:
        await talk(client)
    (row,) = read_store(tmp_path / "store", "attempts")
    assert row["status"] == "ok"


def test_a_bad_upstream_is_said_so_at_once():
    with pytest.raises(UsageError, match="not an http or https URL"):
        create_app("ftp://somewhere")
