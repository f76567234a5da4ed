"""Reading a streamed answer as lightly as honesty allows.

Events are parsed one by one only until the first output. Then bytes are kept, not parsed, and of these only the last
`TAIL_BYTES`: they hold all that is still to be known (the last output, usage, the terminal event, an error).
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

__all__ = ["AnswerFacts", "EventReader", "StreamReader"]

TAIL_BYTES: Final = 16 * 1024

_decode = msgspec.json.Decoder().decode


@dataclass(slots=True)
class AnswerFacts:
    """What the events of an answer said. Counts are None when the server did not say."""

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    complete: bool = False
    """The answer's terminal event came."""
    error: str | None = None
    """An error event's text."""


class EventReader(Protocol):
    """Understands the events of one dialect."""

    facts: AnswerFacts

    def terminal(self, data: bytes) -> bool:
        """Whether the data of an event, which is not JSON, is the end of the stream."""

    def event(self, event: dict[str, Any]) -> bool:
        """Take an event; whether it carried output: content, reasoning, or a tool's name or arguments."""


class StreamReader:
    """One response body, chunk by chunk with the time of each.

    Attributes:
        first_output_ns: end of the chunk that completed the first event with output.
        last_output_ns: the same of the last event with output; known after `finish`.
        streamed: the body is a stream of events; None while it is empty.
    """

    def __init__(self, events: EventReader) -> None:
        self._events = events
        self._rest = b""
        self._tail: deque[tuple[int, bytes]] = deque()
        self._tail_bytes = 0
        self._cut = False
        self.first_output_ns: int | None = None
        self.last_output_ns: int | None = None
        self.streamed: bool | None = None

    @property
    def facts(self) -> AnswerFacts:
        """What the events said so far."""
        return self._events.facts

    def feed(self, time_ns: int, data: bytes) -> None:
        """Take the next chunk."""
        if self.first_output_ns is None:
            if self.streamed is None:
                start = data.lstrip()[:1]
                if start:
                    self.streamed = start not in (b"{", b"[", b"<")
            self._rest = self._lines(time_ns, self._rest + data)
            if self.first_output_ns is not None:
                self._keep(time_ns, self._rest)
        else:
            self._keep(time_ns, data)

    def finish(self) -> None:
        """The body has ended, cleanly or not: read what was kept."""
        rest = b"" if self._tail else self._rest
        for time_ns, data in self._tail:
            if self._cut:
                # The first line lost its head with the bytes that were dropped: an event too large to be anything
                # but output.
                _, newline, data = data.partition(b"\n")
                self.last_output_ns = time_ns
                if not newline:
                    continue
                self._cut = False
            rest = self._lines(time_ns, rest + data)
        if rest:
            self._line(0, rest)
        self._tail.clear()
        self._rest = b""

    def _keep(self, time_ns: int, data: bytes) -> None:
        tail = self._tail
        tail.append((time_ns, data))
        self._tail_bytes += len(data)
        while self._tail_bytes - len(tail[0][1]) >= TAIL_BYTES:
            _, dropped = tail.popleft()
            self._tail_bytes -= len(dropped)
            self._cut = not dropped.endswith(b"\n")

    def _lines(self, time_ns: int, data: bytes) -> bytes:
        """Take the complete lines; what follows the last line break comes back."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(time_ns, line)
        return rest

    def _line(self, time_ns: int, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if self._events.terminal(data):
            self._events.facts.complete = True
            return
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        try:
            output = isinstance(event, dict) and self._events.event(event)
        except (AttributeError, TypeError):
            # Of another shape than the API's: it says nothing that could be used.
            return
        if output and time_ns:
            self.last_output_ns = time_ns
            if self.first_output_ns is None:
                self.first_output_ns = time_ns
