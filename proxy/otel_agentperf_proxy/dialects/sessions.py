"""Ids in a request's body by which a client names the session, or the agent in it, that the request belongs to.

Only ids that nothing but one conversation bears: never a device's, an installation's, a user's (`user`,
`safety_identifier`) or a response's. A `prompt_cache_key` is a hint for routing that applications share between
conversations, and Codex between an agent and its sub-agents; it counts only where its form tells whose it is.
"""

import re
from typing import Any, Final

from otel_agentperf_proxy.dialects.shallow import Shallow, fields, string

MAX_ID_CHARS: Final = 512
"""A longer value is no id."""

_OPENCODE: Final = re.compile(r"ses_[0-9A-Za-z]{20,40}")
"""opencode 1.18.33 (captured): each agent has a session of its own."""


def session_id(
    *,
    thread_id: Any = None,
    conversation: Shallow = None,
    prompt_cache_key: Shallow = None,
    session_id: Shallow = None,
    litellm_session_id: Shallow = None,
    metadata: Shallow = None,
) -> str | None:
    """The first that is an id, most specific first. Arguments are fields of a request as they came."""
    told = fields(metadata)
    for value in (
        # Codex 0.169.0 (captured), in `client_metadata`: one thread per agent; `session_id` beside it is shared.
        thread_id,
        # OpenAI responses: an id, or an object that holds it.
        fields(conversation).get("id") if isinstance(conversation, dict) else conversation,
        # OpenRouter, from its documentation.
        session_id,
        # LiteLLM, from its documentation.
        litellm_session_id,
        told.get("litellm_session_id"),
        told.get("session_id"),
        _matching(_OPENCODE, prompt_cache_key),
    ):
        if (found := string(value)) and len(found) <= MAX_ID_CHARS:
            return found
    return None


def _matching(pattern: re.Pattern[str], value: Shallow) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
