"""`POST /outcome`: what is told is checked, passed on, and answered by whether it was taken."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from otel_agentperf_proxy.admin import State, create_admin
from otel_agentperf_proxy.frames import TaskOutcome


class Recorder:
    """Stands for a proxy."""

    state = State.READY

    def __init__(self) -> None:
        self.told: list[TaskOutcome] = []
        self.takes = True

    async def status(self) -> dict[str, Any]:
        return {}

    async def tell(self, told: TaskOutcome) -> bool:
        self.told.append(told)
        return self.takes


@pytest.fixture
def proxy() -> Recorder:
    return Recorder()


@pytest.fixture
async def admin(proxy: Recorder) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_admin(proxy))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"trajectory_id": "T", "outcome": "success"}, TaskOutcome("T", "success")),
        (
            {"trajectory_id": "é/1", "outcome": "failure", "score": 0, "tenant": "0123456789abcdef"},
            TaskOutcome("é/1", "failure", 0.0, "0123456789abcdef"),
        ),
        ({"trajectory_id": "x" * 512, "outcome": "failure", "score": None}, TaskOutcome("x" * 512, "failure")),
    ],
)
async def test_an_outcome_is_passed_on(admin, proxy, body, expected):
    response = await admin.post("/outcome", content=json.dumps(body))
    assert response.status_code == 200
    assert response.json() == {"trajectory_id": body["trajectory_id"], "outcome": body["outcome"]}
    assert proxy.told == [expected]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b"{", "truncated"),
        (b"\xff\xff", "no outcome"),
        (b'{"outcome": "success"}', "trajectory_id"),
        (b'{"trajectory_id": "T"}', "outcome"),
        (b'{"trajectory_id": "", "outcome": "success"}', "length >= 1"),
        (b'{"trajectory_id": "%b", "outcome": "success"}' % (b"x" * 513), "length <= 512"),
        (b'{"trajectory_id": "T", "outcome": "maybe"}', "maybe"),
        (b'{"trajectory_id": "T", "outcome": "success", "score": "high"}', "score"),
        (b'{"trajectory_id": "T", "outcome": "success", "score": NaN}', "no outcome"),
        (b'{"trajectory_id": "T", "outcome": "success", "score": 1e999}', "no outcome"),
        (b'{"trajectory_id": "T", "outcome": "success", "tenant": "me"}', "tenant"),
        (b'{"trajectory_id": "T", "outcome": "success", "result": 1}', "result"),
        (b'{"trajectory_id": "T", "outcome": "success", "x": "%b"}' % (b"x" * 20_000), "longer than"),
        (b"[" * 10_000, "no outcome"),
    ],
)
async def test_what_is_no_outcome_is_refused_with_the_reason(admin, proxy, body, why):
    response = await admin.post("/outcome", content=body)
    assert response.status_code == 400
    assert why in response.json()["error"]["message"]
    assert proxy.told == []


async def test_an_observer_that_does_not_answer_is_said(admin, proxy):
    proxy.takes = False
    response = await admin.post("/outcome", json={"trajectory_id": "T", "outcome": "success"})
    assert response.status_code == 503
    assert "again" in response.json()["error"]["message"]


async def test_web_pages_tell_nothing(admin, proxy):
    body = {"trajectory_id": "T", "outcome": "success"}
    response = await admin.post("/outcome", json=body, headers={"origin": "http://elsewhere"})
    assert response.status_code == 403
    assert proxy.told == []


async def test_only_post_tells(admin):
    assert (await admin.get("/outcome")).status_code == 405
