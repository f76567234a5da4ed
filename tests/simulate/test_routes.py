"""Everything that is no answer: models, health, unknown paths, injected faults."""

import pytest


async def test_models_tell_the_context_length(inline):
    e = inline(model="glm", max_model_len=65_536)
    body = (await e.client.get("/v1/models")).json()
    assert body["object"] == "list"
    (entry,) = body["data"]
    assert (entry["id"], entry["max_model_len"]) == ("glm", 65_536)
    assert (await e.client.get("/v1/models/any/name")).json()["id"] == "any/name"


async def test_health(inline):
    e = inline()
    assert (await e.client.get("/health")).json() == {"status": "ok"}
    head = await e.client.head("/health")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        ("GET", "/", {}, 404, "openai"),
        ("POST", "/v1/completions", {}, 404, "openai"),
        ("GET", "/v1/chat/completions", {}, 405, "openai"),
        ("POST", "/v1/models", {}, 405, "openai"),
        ("POST", "/v1/messages/batches", {}, 404, "anthropic"),
        ("GET", "/v1/messages", {}, 405, "anthropic"),
        ("GET", "/v1/files", {"anthropic-version": "2023-06-01"}, 404, "anthropic"),
    ],
)
async def test_what_is_not_there_is_said_in_the_shape_of_the_dialect(inline, method, path, headers, status, kind):
    e = inline()
    response = await e.client.request(method, path, headers=headers)
    assert response.status_code == status
    body = response.json()
    if kind == "openai":
        assert body["error"]["type"] == "invalid_request_error"
    else:
        assert body["type"] == "error"
        assert body["error"]["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert path in body["error"]["message"]


async def test_injected_errors_have_their_status_and_the_shape_of_the_dialect(inline):
    e = inline(error_rate=1.0, error_status=529)
    chat = await e.chat(messages=[{"role": "user", "content": "x"}])
    messages = await e.messages(messages=[{"role": "user", "content": "x"}])
    assert chat.status_code == messages.status_code == 529
    assert chat.json()["error"]["type"] == "server_error"
    assert messages.json()["error"]["type"] == "overloaded_error"
    assert {line["http_status"] for line in e.truth()} == {529}


async def test_the_same_requests_meet_the_same_faults(inline):
    statuses = []
    for _ in range(2):
        e = inline(error_rate=0.5, seed=3)
        asked = [await e.chat(messages=[{"role": "user", "content": "x"}], max_tokens=1) for _ in range(12)]
        statuses.append([response.status_code for response in asked])
    assert statuses[0] == statuses[1]
    assert set(statuses[0]) == {200, 503}


async def test_the_request_id_comes_back(inline):
    e = inline()
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    headers = {"x-request-id": "abc"}
    assert (await e.client.post("/v1/chat/completions", json=body, headers=headers)).headers["x-request-id"] == "abc"
    assert (await e.client.post("/v1/messages", json=body, headers=headers)).headers["request-id"] == "abc"
    assert (await e.client.post("/v1/messages", json=body)).headers["request-id"] == "sim-3"
