"""Captured traffic of eight agents at once through the real proxy, against a server that answers the recorded bytes."""

import asyncio
from collections.abc import Awaitable, Callable

import captures
import pytest
from captured_server import answering, call, name, play_all, seen_calls
from captures import EDGE, LINK, Capture, Replayed

from otel_agentperf import semconv


@pytest.fixture
def replayed(start_proxy) -> Callable[[list[Capture]], Awaitable[Replayed]]:
    """`await replayed(captures)`: what the proxy made of them."""

    async def replay(played: list[Capture]) -> Replayed:
        async with answering(played) as upstream:
            proxy = await asyncio.to_thread(start_proxy, upstream, "--workers", "2")
            await play_all(played, lambda exchange: call(proxy.url, exchange))
            stats = (await asyncio.to_thread(proxy.status))["observer"]["stats"]
            await asyncio.to_thread(proxy.stop)
        spans = captures.spans(proxy.store)
        return Replayed(seen_calls(played, spans), spans, stats)

    return replay


async def test_agents_as_they_are(replayed):
    result = await replayed(list(captures.load()))
    scores = captures.score(result)
    assert [name(seen.exchange) for seen in scores.mistaken] == []
    links, edges = scores.total(LINK, without="aider"), scores.total(EDGE)
    assert (links.right, links.true, edges.true) == (155, 155, 8)
    assert edges.right >= 6  # two sub-agents with the task `x` at once cannot be told apart
    named = [seen for seen in result.calls if seen.true and seen.source == "header"]
    assert len(named) == 128
    for seen in named:
        truth, told = seen.exchange.truth, seen.attributes
        place = (told.get(semconv.TURN_INDEX), told[semconv.ATTEMPT_INDEX], told[semconv.SEGMENT_INDEX])
        assert (*place, told[semconv.RUN_INDEX]) == (truth.turn, truth.retry, truth.segment, truth.run), name(
            seen.exchange
        )
    assert (result.stats["errors"], result.stats["problems"]) == ({}, {})


async def test_agents_that_nobody_names(replayed):
    scores = captures.score(await replayed([capture.anonymous() for capture in captures.load()]))
    assert [name(seen.exchange) for seen in scores.mistaken] == []
    links = scores.total(LINK, without="aider")
    assert links.true == 155
    assert links.right >= 0.98 * links.true
