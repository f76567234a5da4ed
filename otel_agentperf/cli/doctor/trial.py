"""One short streamed call through a proxy of its own: the whole chain, tried."""

import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import httpx

from otel_agentperf.cli.doctor.endpoint import Upstream
from otel_agentperf.cli.doctor.findings import Finding, Verdict, ok, problem
from otel_agentperf.cli.doctor.traffic import traffic
from otel_agentperf.errors import AgentPerfError

__all__ = ["Dialect", "trial"]

PROMPT: Final = "Count from one to thirty, in words."
ANSWER_S: Final = 300.0
"""A model that thinks, on a server that is cold."""


class Dialect(StrEnum):
    """Wire format of the call."""

    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"


def trial(asked: Upstream, model: str, dialect: Dialect, key: str | None) -> Iterator[Finding]:
    """Call a model once, and judge what the proxy saw of it.

    Args:
        asked: the endpoint.
        model: to call.
        dialect: of the call.
        key: the API key, if it wants one.
    """
    from otel_agentperf.cli.embed import proxy_in_front
    from otel_agentperf_analyzers import open_source

    with tempfile.TemporaryDirectory(prefix="otel-agentperf-") as place:
        store = Path(place) / "store"
        try:
            settings = {"upstream_ca": asked.ca, "upstream_insecure": asked.insecure}
            with proxy_in_front(asked.url, store, **settings) as url:
                status, words = _call(url, model, dialect, key)
            if status != 200:
                yield problem(
                    "trial", f"{model} was not to be had: {status} {words}", "see the model's name and the key"
                )
                return
            with open_source(str(store)) as database:
                yield _seen(database.relation("turns").to_pylist())
                yield from (
                    found for found in traffic(database, "trial") if found.verdict in (Verdict.WARNING, Verdict.PROBLEM)
                )
        except (AgentPerfError, httpx.HTTPError) as exc:
            yield problem("trial", f"the call failed: {exc or type(exc).__name__}", "see the findings on the upstream")


def _seen(turns: list[dict[str, Any]]) -> Finding:
    if not turns:
        return problem("trial", "the call left no span", "please report this, with the server and its version")
    turn = turns[-1]
    ttft = "no first token seen" if turn["ttft_s"] is None else f"first token after {turn['ttft_s']:.3f} s"
    speed = "" if turn["output_speed_tps"] is None else f", {turn['output_speed_tps']:.0f} tokens/s"
    return ok(
        "trial",
        f"{turn['response_model'] or turn['request_model']} answered a call through a proxy: {ttft}{speed}, "
        f"{turn['output_tokens']} tokens in {turn['chunk_count']} chunks, counted by {turn['usage_source']}",
    )


def _call(url: str, model: str, dialect: Dialect, key: str | None) -> tuple[int, str]:
    """Make one streamed call and read it to its end; its status, and words of a refusal."""
    path, body = _request(dialect, model)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    if dialect is Dialect.MESSAGES:
        headers = {"anthropic-version": "2023-06-01"} | ({} if key is None else {"x-api-key": key})
    with (
        httpx.Client(base_url=url, trust_env=False, timeout=ANSWER_S) as client,
        client.stream("POST", path, json=body, headers=headers) as response,
    ):
        content = response.read()
    return response.status_code, " ".join(content[:300].decode("utf-8", "replace").split())


def _request(dialect: Dialect, model: str) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": PROMPT}]
    common = {"model": model, "stream": True}
    if dialect is Dialect.CHAT:
        return "/v1/chat/completions", {**common, "messages": messages, "stream_options": {"include_usage": True}}
    if dialect is Dialect.MESSAGES:
        return "/v1/messages", {**common, "messages": messages, "max_tokens": 1024}
    return "/v1/responses", {**common, "input": PROMPT}
