"""Wire formats of inference calls: from bytes to facts. Pure: no I/O, no framework, no SDK.

A new dialect is one module here, its entry in `DIALECTS`, and its cases in `tests/cases/dialects/`.
"""

from typing import Final

from otel_agentperf_proxy.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from otel_agentperf_proxy.dialects.base import Dialect, ResponseParser, plain_error_body
from otel_agentperf_proxy.dialects.canonical import MessageCache
from otel_agentperf_proxy.dialects.gemini import GeminiCountTokens, GeminiGenerate
from otel_agentperf_proxy.dialects.ollama import OllamaChat, OllamaGenerate
from otel_agentperf_proxy.dialects.openai_chat import OpenAIChat
from otel_agentperf_proxy.dialects.openai_completions import OpenAICompletions
from otel_agentperf_proxy.dialects.openai_embeddings import OpenAIEmbeddings
from otel_agentperf_proxy.dialects.openai_responses import OpenAICompaction, OpenAIInputTokens, OpenAIResponses

__all__ = ["DIALECTS", "Dialect", "MessageCache", "ResponseParser", "find", "plain_error_body"]

DIALECTS: Final[tuple[Dialect, ...]] = (
    OpenAIChat(),
    OpenAIResponses(),
    OpenAICompaction(),
    OpenAIInputTokens(),
    OpenAICompletions(),
    OpenAIEmbeddings(),
    AnthropicMessages(),
    AnthropicCountTokens(),
    GeminiGenerate(),
    GeminiCountTokens(),
    OllamaChat(),
    OllamaGenerate(),
)


def find(method: str, path: str) -> Dialect | None:
    """The dialect of a request; `path` is without query. None: plain HTTP."""
    return next((found for dialect in DIALECTS if (found := dialect.match(method, path)) is not None), None)
