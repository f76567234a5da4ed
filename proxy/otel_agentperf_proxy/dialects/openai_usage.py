"""Token counts, costs and times as servers of OpenAI's formats report them, each with names of its own."""

from typing import Any, Final

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects.shallow import integer, number
from otel_agentperf_proxy.facts import ResponseFacts, Usage

_PROMPT: Final = "prompt_tokens_details"
_COMPLETION: Final = "completion_tokens_details"


def read_usage(value: Any, facts: ResponseFacts) -> None:
    """Take over a `usage` object of chat and completions; servers that send several send totals so far."""
    if not isinstance(value, dict):
        return
    prompt, completion = _details(value, _PROMPT), _details(value, _COMPLETION)
    # DeepSeek names hits and misses; Moonshot has the cached tokens without details.
    hits = integer(value.get("prompt_cache_hit_tokens"))
    misses = integer(value.get("prompt_cache_miss_tokens"))
    both = hits + misses if hits is not None and misses is not None else None
    # SGLang has the reasoning tokens without details.
    reasoning = _first(completion.get("reasoning_tokens"), value.get("reasoning_tokens"))
    output = integer(value.get("completion_tokens"))
    if output is not None and reasoning:
        # xAI counts them apart; the total tells.
        total, given = integer(value.get("total_tokens")), integer(value.get("prompt_tokens"))
        if total is not None and given is not None and total == given + output + reasoning:
            output += reasoning
    _take(
        facts.usage,
        input=_first(value.get("prompt_tokens"), both),
        output=output,
        cached=_first(prompt.get("cached_tokens"), hits, value.get("cached_tokens")),
        cache_write=integer(prompt.get("cache_write_tokens")),
        reasoning=reasoning,
    )
    # OpenRouter's credits are US dollars.
    put_number(facts, semconv.USAGE_COST, value.get("cost"))
    # Groq.
    put_number(facts, semconv.SERVER_QUEUE_S, value.get("queue_time"))
    put_number(facts, semconv.SERVER_PREFILL_S, value.get("prompt_time"))
    put_number(facts, semconv.SERVER_DECODE_S, value.get("completion_time"))


def read_responses_usage(value: Any, usage: Usage) -> None:
    """Take over the counters of a `usage` object of responses."""
    if not isinstance(value, dict):
        return
    given, made = _details(value, "input_tokens_details"), _details(value, "output_tokens_details")
    _take(
        usage,
        input=integer(value.get("input_tokens")),
        output=integer(value.get("output_tokens")),
        cached=integer(given.get("cached_tokens")),
        cache_write=integer(given.get("cache_write_tokens")),
        reasoning=integer(made.get("reasoning_tokens")),
    )


def read_timings(value: Any, facts: ResponseFacts) -> None:
    """Take over llama.cpp's `timings`: its times, and its counters where it sent no usage."""
    if not isinstance(value, dict):
        return
    usage = facts.usage
    cached, fresh = integer(value.get("cache_n")), integer(value.get("prompt_n"))
    _take(
        usage,
        input=fresh + (cached or 0) if fresh is not None and usage.input is None else None,
        output=integer(value.get("predicted_n")) if usage.output is None else None,
        cached=cached if usage.cached is None else None,
    )
    put_number(facts, semconv.SERVER_PREFILL_S, value.get("prompt_ms"), per_s=1000)
    put_number(facts, semconv.SERVER_DECODE_S, value.get("predicted_ms"), per_s=1000)


def put_number(facts: ResponseFacts, name: str, value: Any, *, per_s: int = 1) -> None:
    """Keep a number of 0 or more as an attribute; of a time, `per_s` units make a second."""
    found = number(value)
    if found is not None and found >= 0:
        facts.attributes[name] = found / per_s


def _take(usage: Usage, **counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None:
            setattr(usage, name, count)


def _first(*values: Any) -> int | None:
    return next((count for count in map(integer, values) if count is not None), None)


def _details(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
