"""OpenAI embeddings: `POST .../embeddings`. No turn of an agent, and nothing is generated; the prompt is counted."""

import re
from typing import ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import canonical
from otel_agentperf_proxy.dialects.base import JSONDialect
from otel_agentperf_proxy.dialects.canonical import MessageCache
from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.openai_choices import ChoicesParser, Head
from otel_agentperf_proxy.dialects.openai_messages import error_body
from otel_agentperf_proxy.dialects.shallow import Shallow, decode, shallow, string, strings
from otel_agentperf_proxy.facts import RequestFacts


class _Request(Struct):
    model: Shallow = None
    input: Raw = Raw(b"")


_REQUEST: Final = msgspec.json.Decoder(_Request)
_ANSWER: Final = msgspec.json.Decoder(Head)


class OpenAIEmbeddings(JSONDialect):
    """The dialect `openai.embeddings`."""

    name: ClassVar[str] = "openai.embeddings"
    operation: ClassVar[str] = semconv.OPERATION_EMBEDDINGS
    provider: ClassVar[str] = "openai"
    path: ClassVar[re.Pattern[str]] = re.compile(r"/(?:v\d+|openai|deployments/[^/]+)/embeddings$")

    def read_request(self, facts: RequestFacts, body: bytes, content: bool, cache: MessageCache | None) -> None:
        facts.auxiliary = True
        request = decode(_REQUEST, body)
        facts.model = string(request.model)
        facts.message_bytes = len(request.input)
        if len(request.input):
            # Token ids are no text.
            facts.text_bytes = sum([canonical.utf8_bytes(text) for text in strings(shallow(request.input)) or ()])

    def response_parser(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False
    ) -> "OpenAIEmbeddingsParser":
        return OpenAIEmbeddingsParser(request, status, content_type, content=content)

    def error_body(self, status: int, message: str) -> bytes:
        return error_body(status, message)


class OpenAIEmbeddingsParser(ChoicesParser):
    """Reads what an answer says beside its vectors."""

    def on_event(self, time_ns: int, event: Event) -> None:
        """Vectors do not come as a stream; a server that sends one all the same is read as far as it goes."""
        self.take_head(decode(_ANSWER, event[1]))

    def on_stream_end(self) -> None:
        self.end(())

    def on_body(self, body: bytes) -> None:
        self.take_head(decode(_ANSWER, body))
        self.facts.terminal = True
