"""Reasons of relation `undefined`, in words."""

from typing import Final

__all__ = ["REASONS"]

REASONS: Final = {
    "not_streamed": "no stream was asked for",
    "failed": "the call failed first",
    "no_output": "no output came, or not as a stream",
    "not_observed": "not in the spans",
    "no_usage": "no token count was told",
    "fewer_than_2_tokens": "fewer than 2 tokens",
    "zero_window": "no time passed",
    "fewer_than_2_chunks": "fewer than 2 chunks",
    "only_reasoning": "nothing but reasoning",
    "cached_tokens_not_reported": "the server does not report cached tokens",
    "untold_by_server": "the server does not tell",
    "no_turns": "only auxiliary calls",
    "no_price": "no price fits, or none was given",
    "tokens_estimated": "tokens are an estimate",
    "nothing_shared": "no earlier turn began alike",
    "no_input": "requests of no bytes or no tokens",
    "outcome_unknown": "nobody told the outcome",
    "fewer_than_2_turns": "no step from turn to turn",
}
"""What a report says for each."""
