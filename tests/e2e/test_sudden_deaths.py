"""`kill -9` of each process in the middle of traffic: who is not concerned is not troubled; what had ended is kept."""

import asyncio
import os
import signal
import subprocess
import sys

import httpx
import pytest

FLUSH_S = 1.0
CLIENT = """
import sys, httpx
with httpx.stream("POST", sys.argv[1] + "/v1/chat/completions", json={
    "model": "m", "stream": True, "max_tokens": 100000, "ignore_eos": True,
    "messages": [{"role": "user", "content": "hi"}]}, timeout=60) as response:
    for line in response.iter_lines():
        print(line, flush=True)
"""


def call(tokens: int) -> dict:
    """A request whose answer has so many tokens."""
    return {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "work " * 500}],
    }


async def stream(client: httpx.AsyncClient, url: str, request_id: str, tokens: int, seen: asyncio.Event | None = None):
    """Play a call to its end; returns its last line. `seen` is set in the middle of the answer."""
    last = ""
    count = 0
    headers = {"x-request-id": request_id}
    async with client.stream("POST", f"{url}/v1/chat/completions", json=call(tokens), headers=headers) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line:
                last = line
                count += 1
                if seen is not None and count == 20:
                    seen.set()
    return last


@pytest.fixture
async def client():
    async with httpx.AsyncClient(timeout=60) as opened:
        yield opened


@pytest.fixture
def own_endpoint():
    """A simulated endpoint that may die."""
    command = ["simulate", "--listen", "127.0.0.1:0", "--decode-ms", "1", "--prefill-tokens-per-s", "200000"]
    process = subprocess.Popen([sys.executable, "-m", "otel_agentperf", *command], stderr=subprocess.PIPE)
    line = process.stderr.readline().decode()
    yield line.split()[-1], process
    if process.poll() is None:
        process.kill()
    process.wait(20)
    process.stderr.close()


async def test_the_observer(endpoint, start_proxy, client, read_store, until):
    proxy = start_proxy(endpoint[0])
    for number in range(3):
        assert await stream(client, proxy.url, f"before-{number}", 20) == "data: [DONE]"
    await asyncio.sleep(2 * FLUSH_S)
    seen = [asyncio.Event() for _ in range(8)]
    during = [
        asyncio.create_task(stream(client, proxy.url, f"during-{number}", 1500, event))
        for number, event in enumerate(seen)
    ]
    for event in seen:
        await event.wait()
    os.kill(proxy.status()["observer"]["pid"], signal.SIGKILL)
    assert await asyncio.gather(*during) == ["data: [DONE]"] * 8
    proxy.wait_until(lambda status: status["observer"]["restarts"] == 1 and status["observer"]["stats"] is not None)
    for number in range(3):
        assert await stream(client, proxy.url, f"after-{number}", 20) == "data: [DONE]"
    assert "is restarted" in proxy.stop()
    rows = {row["request_id"]: row for row in read_store(proxy.store, "attempts")}
    assert len(rows) == 14
    for name, row in rows.items():
        if name.startswith("during"):
            assert row["status"] == "partial"
            assert row["http_status"] == 200
            assert row["e2e_latency_s"] > 0
            assert row["output_speed_tps"] is None
        else:
            assert (row["status"], row["output_tokens"]) == ("ok", 20)


async def test_a_stopped_observer_that_falls_behind(endpoint, start_proxy, client, read_store, tmp_path):
    config = tmp_path / "proxy.toml"
    config.write_text("channel-bytes = 20000\n")
    proxy = start_proxy(endpoint[0], "--config", str(config))
    pid = proxy.status()["observer"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = await asyncio.gather(*(stream(client, proxy.url, f"call-{at}", 3000) for at in range(8)))
        assert done == ["data: [DONE]"] * 8
        dropped = proxy.wait_until(lambda status: status["relays"][0]["stats"]["channel"]["frames_dropped"] > 0)
        assert dropped["observer"]["stats"] is None
        metrics = proxy.metrics()
        assert "agentperf_observer_up 0.0" in metrics
        assert 'agentperf_channel_frames_dropped_total{agentperf_worker="0"} 0.0' not in metrics
    finally:
        os.kill(pid, signal.SIGCONT)
    proxy.wait_until(lambda status: status["relays"][0]["stats"]["channel"]["waiting_bytes"] == 0)
    assert await stream(client, proxy.url, "after", 20) == "data: [DONE]"
    assert "frames dropped" in proxy.stop()
    rows = {row["request_id"]: row for row in read_store(proxy.store, "attempts")}
    assert len(rows) == 9
    assert {row["status"] for name, row in rows.items() if name != "after"} <= {"ok", "partial"}
    assert "partial" in {row["status"] for row in rows.values()}
    assert rows["after"]["status"] == "ok"


async def test_the_upstream(own_endpoint, start_proxy, client, read_store):
    upstream, process = own_endpoint
    proxy = start_proxy(upstream)
    seen = asyncio.Event()
    streaming = asyncio.create_task(stream(client, proxy.url, "during", 100_000, seen))
    await seen.wait()
    process.kill()
    process.wait(20)
    with pytest.raises(httpx.RemoteProtocolError):
        await streaming
    response = await client.post(f"{proxy.url}/v1/chat/completions", json=call(5), headers={"x-request-id": "after"})
    assert response.status_code == 502
    assert response.json()["error"]["message"].startswith("otel-agentperf: cannot connect to ")
    proxy.stop()
    rows = {row["request_id"]: row for row in read_store(proxy.store, "attempts")}
    assert (rows["during"]["status"], rows["during"]["error_type"]) == ("truncated", "upstream_reset")
    assert rows["during"]["ttft_s"] > 0
    assert (rows["after"]["status"], rows["after"]["error_type"]) == ("error", "upstream_connect_failed")
    assert rows["after"]["http_status"] == 502


async def test_the_client(endpoint, start_proxy, read_store, until):
    proxy = start_proxy(endpoint[0])
    client = subprocess.Popen([sys.executable, "-c", CLIENT, proxy.url], stdout=subprocess.PIPE)
    with client:
        assert client.stdout.readline()
        client.kill()
    proxy.wait_until(lambda status: status["relays"][0]["stats"]["inflight"] == 0)
    proxy.stop()
    (row,) = read_store(proxy.store, "attempts")
    assert (row["status"], row["error_type"]) == ("cancelled", "client_disconnected")


async def test_a_relay(endpoint, start_proxy, client, read_store):
    proxy = start_proxy(endpoint[0])
    seen = asyncio.Event()
    streaming = asyncio.create_task(stream(client, proxy.url, "during", 100_000, seen))
    await seen.wait()
    os.kill(proxy.status()["relays"][0]["pid"], signal.SIGKILL)
    with pytest.raises(httpx.TransportError):
        await streaming
    proxy.wait_until(lambda status: status["relay_restarts"] == 1 and status["relays"][0]["stats"] is not None)
    assert await stream(client, proxy.url, "after", 20) == "data: [DONE]"
    proxy.stop()
    rows = {row["request_id"]: row for row in read_store(proxy.store, "attempts")}
    assert rows["during"]["status"] == "partial"
    assert rows["during"]["ttft_s"] > 0
    assert rows["after"]["status"] == "ok"


async def test_everything_at_once(endpoint, start_proxy, client, read_store):
    proxy = start_proxy(endpoint[0])
    for number in range(5):
        assert await stream(client, proxy.url, f"before-{number}", 20) == "data: [DONE]"
    await asyncio.sleep(2 * FLUSH_S)
    seen = asyncio.Event()
    streaming = asyncio.create_task(stream(client, proxy.url, "during", 100_000, seen))
    await seen.wait()
    proxy.kill_all()
    with pytest.raises(httpx.TransportError):
        await streaming
    rows = {row["request_id"]: row for row in read_store(proxy.store, "attempts", torn=1)}
    assert {f"before-{number}" for number in range(5)} <= rows.keys()
    assert all(rows[f"before-{number}"]["status"] == "ok" for number in range(5))

    successor = start_proxy(endpoint[0])
    assert await stream(client, successor.url, "after", 20) == "data: [DONE]"
    successor.stop()
    again = {row["request_id"]: row["status"] for row in read_store(successor.store, "attempts", torn=1)}
    assert again.items() >= {name: row["status"] for name, row in rows.items()}.items()
    assert again["after"] == "ok"


async def test_the_supervisor_takes_its_children_with_it(endpoint, start_proxy, client, read_store, until):
    proxy = start_proxy(endpoint[0])
    assert await stream(client, proxy.url, "before", 20) == "data: [DONE]"
    status = proxy.status()
    pids = [status["relays"][0]["pid"], status["observer"]["pid"]]
    proxy.process.kill()
    proxy.process.wait(20)
    await until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    (row,) = read_store(proxy.store, "attempts")
    assert row["status"] == "ok"


async def test_sigterm_lets_open_streams_end(endpoint, start_proxy, client, read_store):
    proxy = start_proxy(endpoint[0])
    seen = asyncio.Event()
    streaming = asyncio.create_task(stream(client, proxy.url, "during", 1500, seen))
    await seen.wait()
    proxy.process.terminate()
    assert await streaming == "data: [DONE]"
    proxy.stop()
    assert proxy.process.returncode == 0
    (row,) = read_store(proxy.store, "attempts")
    assert (row["status"], row["output_tokens"]) == ("ok", 1500)


async def test_a_second_sigterm_breaks_open_streams_off(endpoint, start_proxy, client, read_store):
    proxy = start_proxy(endpoint[0])
    seen = asyncio.Event()
    streaming = asyncio.create_task(stream(client, proxy.url, "during", 100_000, seen))
    await seen.wait()
    proxy.process.terminate()
    while proxy.status()["state"] != "stopping":
        await asyncio.sleep(0.01)
    proxy.process.terminate()
    with pytest.raises(httpx.TransportError):
        await streaming
    proxy.stop()
    assert proxy.process.returncode == 0
    (row,) = read_store(proxy.store, "attempts")
    assert (row["status"], row["error_type"]) == ("truncated", "proxy_shutdown")
