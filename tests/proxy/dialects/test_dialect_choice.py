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
        ("POST", "/v1/completions", "openai.completions"),
        ("POST", "/openai/deployments/x/completions", "openai.completions"),
        ("POST", "/completions", None),
        ("POST", "/v1/embeddings", "openai.embeddings"),
        ("POST", "/v1beta/openai/embeddings", "openai.embeddings"),
        ("POST", "/v1/openai/completions", "openai.completions"),
        ("POST", "/embeddings", None),
        ("POST", "/v1/responses", "openai.responses"),
        ("POST", "/backend-api/codex/responses", "openai.responses"),
        ("POST", "/v1/responses/compact", "openai.responses.compact"),
        ("POST", "/v1/responses/input_tokens", "openai.responses.input_tokens"),
        ("POST", "/v1/responses/resp_1/cancel", None),
        ("GET", "/v1/responses/resp_1", None),
        ("POST", "/v1beta/models/gemini-3-pro:generateContent", "gemini.generate"),
        ("POST", "/v1beta/tunedModels/x-1:generateContent", "gemini.generate"),
        ("POST", "/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent", "gemini.generate"),
        ("POST", "/v1beta/models/gemini-3-pro:countTokens", "gemini.count_tokens"),
        ("POST", "/v1beta/models/gemini-3-pro:embedContent", None),
        ("POST", "/api/chat", "ollama.chat"),
        ("POST", "/api/generate", "ollama.generate"),
        ("POST", "/api/tags", None),
        ("POST", "/messages", None),
        ("HEAD", "/", None),
    ],
)
def test_the_end_of_the_path_decides(method: str, path: str, name: str | None) -> None:
    found = find(method, path)
    assert (found.name if found else None) == name


def test_a_path_tells_what_the_body_does_not() -> None:
    base = "/v1beta/models/gemini-3-pro"
    for method, stream in (("generateContent", False), ("streamGenerateContent", True)):
        found = find("POST", f"{base}:{method}")
        assert found is not None
        facts = found.parse_request(b"oops")
        assert (facts.model, facts.stream, facts.problem) == ("gemini-3-pro", stream, "request is not JSON")


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
    assert error("/v1/responses", 504) == {
        "error": {"message": "no upstream", "type": "server_error", "param": None, "code": "gateway_timeout"}
    }
    for path in ("/v1/completions", "/v1/embeddings", "/v1/responses/compact"):
        assert error(path, 502) == error("/v1/chat/completions", 502)
    gemini = "/v1beta/models/g:streamGenerateContent"
    assert error(gemini, 502) == {"error": {"code": 502, "message": "no upstream", "status": "UNAVAILABLE"}}
    assert error(gemini, 504) == {"error": {"code": 504, "message": "no upstream", "status": "DEADLINE_EXCEEDED"}}
    assert error(gemini, 418)["error"] == {"code": 418, "message": "no upstream", "status": "INVALID_ARGUMENT"}
    assert error("/api/chat", 502) == {"error": "no upstream"}
    assert json.loads(plain_error_body(502, "no upstream")) == {
        "error": {"message": "no upstream", "type": "proxy_error", "code": 502}
    }
