"""The application itself, as any ASGI server calls it."""

import pytest

from otel_agentperf.simulate import SimulateConfig, create_app


def receiver(*messages: dict):
    queue = list(messages)

    async def receive() -> dict:
        return queue.pop(0)

    return receive


async def call(app, scope: dict, *messages: dict) -> list[dict]:
    """What the application sends."""
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receiver(*messages), send)
    return sent


async def test_it_takes_part_in_the_lifespan_and_refuses_requests_after_it():
    app = create_app(SimulateConfig())
    lifespan = ({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    sent = await call(app, {"type": "lifespan"}, *lifespan)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    sent = await call(app, scope, {"type": "http.request", "body": body}, {"type": "http.disconnect"})
    assert sent[0]["status"] == 503


async def test_it_works_under_a_mount():
    app = create_app(SimulateConfig())
    scope = {"type": "http", "method": "GET", "path": "/sim/health", "root_path": "/sim", "headers": []}
    assert (await call(app, scope))[0]["status"] == 200


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read_whole():
    app = create_app(SimulateConfig())
    part = {"type": "http.request", "body": bytes(40 * 1024 * 1024), "more_body": True}
    for path, error in (("/v1/messages", b"request_too_large"), ("/v1/chat/completions", b"request_too_large")):
        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        sent = await call(app, scope, part, part)
        assert sent[0]["status"] == 413
        assert error in sent[1]["body"]


async def test_websockets_are_not_spoken():
    with pytest.raises(NotImplementedError):
        await call(create_app(SimulateConfig()), {"type": "websocket"})
