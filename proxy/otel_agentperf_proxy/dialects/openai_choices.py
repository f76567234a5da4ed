"""What responses of OpenAI's chat and completions have in common: chunks of choices, usage, errors, and their end."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct

from otel_agentperf import semconv
from otel_agentperf_proxy.dialects import content
from otel_agentperf_proxy.dialects.base import UNNAMED_ERROR, BodyParser, error_type
from otel_agentperf_proxy.dialects.canonical import Part
from otel_agentperf_proxy.dialects.openai_usage import read_timings, read_usage
from otel_agentperf_proxy.dialects.shallow import string
from otel_agentperf_proxy.facts import RequestFacts

ABORTED: Final = "abort"
"""Finish reason of vLLM and SGLang for an answer that the engine gave up: what follows it is the end of a good one."""


class Head(Struct):
    """What a chunk, or a whole answer, says beside its choices."""

    id: Any = None
    model: Any = None
    usage: Any = None
    timings: Any = None
    error: Any = None
    object: Any = None
    type: Any = None
    status: Any = None
    code: Any = None
    x_groq: Any = None


class ChoicesParser(BodyParser):
    """Reads a response of choices, streamed or not.

    A stream is complete with `[DONE]`, or as soon as every choice that was asked for has a finish reason: not every
    server sends both. An answer that was given up is never complete.
    """

    ends_with_done: ClassVar[bool] = True

    def __init__(
        self, request: RequestFacts, status: int, content_type: str, *, content: bool = False, prompts: int = 1
    ) -> None:
        super().__init__(request, status, content_type, content=content)
        asked = request.attributes.get(semconv.GEN_AI_REQUEST_CHOICE_COUNT, 1)
        self._expected = prompts * (asked if isinstance(asked, int) else 1)
        self._timings: Any = None

    def take_head(self, found: Head) -> None:
        """Take over what a chunk says beside its choices."""
        facts = self.facts
        if facts.id is None:
            facts.id = string(found.id)
        if facts.model is None:
            facts.model = string(found.model)
        if found.usage is not None:
            read_usage(found.usage, facts)
        if isinstance(found.x_groq, dict):
            # Groq's streams tell the usage, and a sentence of what went wrong, apart.
            read_usage(found.x_groq.get("usage"), facts)
            if found.x_groq.get("error") is not None:
                facts.error_type = UNNAMED_ERROR
        if found.timings is not None:
            self._timings = found.timings
        if found.error is not None or found.object == "error":
            facts.error_type = error_type(msgspec.structs.asdict(found)) or UNNAMED_ERROR

    def take_error(self, error: Any) -> None:
        """Take over the error of a choice; OpenRouter puts those of its providers there."""
        if error is not None:
            self.facts.error_type = error_type({"error": error}) or UNNAMED_ERROR

    def end(self, reasons: Iterable[str | None]) -> None:
        """The response has ended; `reasons` are the finish reasons of its choices."""
        facts, found = self.facts, tuple(reasons)
        read_timings(self._timings, facts)
        finished = len(found) >= self._expected and all(reason is not None for reason in found)
        facts.terminal = (facts.terminal or finished) and ABORTED not in found
        facts.finish_reasons = tuple([reason for reason in found if reason is not None])
        if "error" in found and facts.error_type is None:
            facts.error_type = UNNAMED_ERROR

    def show(self, choices: Sequence[Sequence[Part]], reasons: Sequence[str | None]) -> None:
        """Put the choices into the content attributes when they are asked for."""
        if self.content:
            messages = [
                content.message("assistant", parts, reason or "")
                for parts, reason in zip(choices, reasons, strict=True)
            ]
            self.facts.content = {semconv.GEN_AI_OUTPUT_MESSAGES: content.encode(messages)}
