"""Which dialect a request is of, and the errors that the proxy itself answers with."""

import json

import pytest

from otel_agentperf_proxy.dialects import find, plain_error_body


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/chat/completions", "openai.chat"),
        ("POST", "/chat/completions", "openai.chat"),
        ("POST", "/openai/deployments/x/chat/completions/", "openai.chat"),
        ("POST", "/v1/messages", "anthropic.messages"),
        ("POST", "/some/base/v1/messages", "anthropic.messages"),
        ("POST", "/v1/messages/count_tokens", "anthropic.count_tokens"),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/v1/messages/batches", None),
        ("POST", "/v1/completions", None),
        ("POST", "/messages", None),
        ("HEAD", "/", None),
    ],
)
def test_the_end_of_the_path_decides(method: str, path: str, name: str | None) -> None:
    found = find(method, path)
    assert (found.name if found else None) == name


def error(path: str, status: int) -> dict[str, object]:
    dialect = find("POST", path)
    assert dialect is not None
    found: dict[str, object] = json.loads(dialect.error_body(status, "no upstream"))
    return found


def test_errors_have_the_shape_of_their_dialect() -> None:
    assert error("/v1/chat/completions", 502) == {
        "error": {"message": "no upstream", "type": "server_error", "param": None, "code": "bad_gateway"}
    }
    assert error("/v1/chat/completions", 400)["error"] == {
        "message": "no upstream",
        "type": "invalid_request_error",
        "param": None,
        "code": "bad_request",
    }
    assert error("/v1/messages", 502) == {"type": "error", "error": {"type": "api_error", "message": "no upstream"}}
    assert error("/v1/messages", 504)["error"] == {"type": "timeout_error", "message": "no upstream"}
    assert json.loads(plain_error_body(502, "no upstream")) == {
        "error": {"message": "no upstream", "type": "proxy_error", "code": 502}
    }
