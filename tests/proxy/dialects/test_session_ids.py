"""Ids of a session or an agent in a request's body, and what is none."""

import json
from typing import Any

import pytest

from otel_agentperf_proxy.dialects import find

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (RESPONSES, {"conversation": "conv_1"}, "conv_1"),
        (RESPONSES, {"conversation": {"id": "conv_1"}}, "conv_1"),
        # A Codex thread is one agent; its session is shared with the sub-agents.
        (RESPONSES, {"client_metadata": {"thread_id": "t", "session_id": "s"}, "prompt_cache_key": "s"}, "t"),
        (RESPONSES, {"prompt_cache_key": "ses_df2244ce4ffe187unKJlcagowt"}, "ses_df2244ce4ffe187unKJlcagowt"),
        (CHAT, {"session_id": "s"}, "s"),
        (CHAT, {"litellm_session_id": "s"}, "s"),
        (CHAT, {"metadata": {"session_id": "s"}}, "s"),
        ("/v1/completions", {"session_id": "s"}, "s"),
        # A key for routing, a user, a device, an earlier response: none of them is one conversation.
        (RESPONSES, {"prompt_cache_key": "01a20dd4-5423-73d2-8603-dd507f0f8e76"}, None),
        (RESPONSES, {"client_metadata": {"x-codex-installation-id": "d"}, "safety_identifier": "u"}, None),
        (RESPONSES, {"previous_response_id": "resp_1", "metadata": {"user_id": "u"}}, None),
        (CHAT, {"user": "u", "metadata": {"topic": "x"}}, None),
        (CHAT, {"session_id": "x" * 513}, None),
        (CHAT, {"session_id": ["s"], "metadata": "s"}, None),
    ],
)
def test_only_what_one_conversation_bears_is_a_session(path: str, body: dict[str, Any], expected: str | None) -> None:
    dialect = find("POST", path)
    assert dialect is not None
    facts = dialect.parse_request(json.dumps(body).encode())
    assert (facts.session_id, facts.problem) == (expected, None)
