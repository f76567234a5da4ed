"""What operators can switch on: asking for token counts, the access log; and what is told of nobody."""

import json

import httpx

CALL = {"model": "m", "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def stream(url: str, **fields: object) -> list[str]:
    """The events of a streamed chat completion."""
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**CALL, **fields}, timeout=60) as response:
        assert response.status_code == 200
        return [line for line in response.iter_lines() if line]


def test_token_counts_that_the_client_did_not_ask_for(endpoint, start_proxy, read_store):
    proxy = start_proxy(endpoint[0], "--ask-usage")
    plain = stream(proxy.url)
    asked = stream(proxy.url, stream_options={"include_usage": True})
    assert plain[-1] == asked[-1] == "data: [DONE]"
    assert not any(json.loads(event[6:])["choices"] == [] for event in plain[:-1])
    assert json.loads(asked[-2][6:])["usage"]
    assert proxy.status()["relays"][0]["stats"]["usage"] == {"asked": 1, "hidden": 1}
    assert (
        'agentperf_proxy_usage_chunks_total{agentperf_usage_step="hidden",agentperf_worker="0"} 1.0' in proxy.metrics()
    )
    proxy.stop()
    one, other = read_store(proxy.store, "attempts")
    for row in (one, other):
        assert (row["status"], row["usage_source"]) == ("ok", "server")
        assert row["input_tokens"] > 0
        assert row["output_tokens"] > 0


def test_the_access_log(endpoint, start_proxy):
    proxy = start_proxy(endpoint[0], "--access-log", "json", "--workers", "2")
    headers = {"authorization": "Bearer sk-hidden", "x-request-id": "r-1", "user-agent": "agent/1"}
    for number in range(3):
        url = f"{proxy.url}/v1/chat/completions?key=hidden-{number}"
        assert httpx.post(url, json={**CALL, "stream": False}, headers=headers).status_code == 200
    assert httpx.get(f"{proxy.url}/nowhere").status_code == 404
    log = proxy.stop()
    assert "hidden" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert len(lines) == 4
    calls = [line for line in lines if line["method"] == "POST"]
    for line in calls:
        assert (line["path"], line["status"], line["outcome"]) == ("/v1/chat/completions", 200, "ok")
        assert (line["client"], line["request_id"], line["user_agent"]) == ("127.0.0.1", "r-1", "agent/1")
        assert line["model"] == "m"
        assert line["duration_s"] > 0
    (other,) = [line for line in lines if line["method"] == "GET"]
    assert (other["path"], other["status"]) == ("/nowhere", 404)


def test_no_secret_is_told_of_calls_that_work_fail_or_reach_nobody(endpoint, start_proxy, read_store, tmp_path):
    """Keys in queries, as Gemini's clients send them, and in fields: not in logs, spans, metrics or the status."""
    file = tmp_path / "proxy.toml"
    file.write_text(f'[[upstreams]]\nurl = "{endpoint[0]}"\npath = "/there"\nstrip_path = true\n')
    proxy = start_proxy("http://127.0.0.1:9", "--access-log", "json", "--config", str(file))
    names = ("authorization", "cookie", "x-goog-api-key", "api-key", "x-session-token", "proxy-authorization")
    headers = dict.fromkeys(names, "hunter2")
    calls = {
        "/there/v1/chat/completions?key=hunter2": 200,
        "/there/v1beta/models/gemini:generateContent?key=hunter2": 404,
        "/v1beta/models/gemini:generateContent?key=hunter2": 502,
        "/~/trajectory.id=t/v1/messages?api_key=hunter2": 502,
    }
    for path, status in calls.items():
        answer = httpx.post(proxy.url + path, json=CALL, headers=headers)
        assert (answer.status_code, "hunter2" in answer.text) == (status, False), path
    told = [json.dumps(proxy.status()), proxy.metrics(), proxy.stop()]
    assert told[2].count('"status":502') == 2
    spans = read_store(proxy.store, "spans")
    assert len(spans) >= len(calls)
    assert "hunter2" not in repr((told, spans))
    assert len(read_store(proxy.store, "attempts")) == len(calls)
