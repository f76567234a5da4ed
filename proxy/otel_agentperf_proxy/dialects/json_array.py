"""A stream that is one JSON array, sans I/O: each element is an event, complete as soon as its last byte came.

Google's `streamGenerateContent` writes so without `alt=sse`. Only the structure is looked at: whether an element is
JSON, its reader will tell.
"""

import re
from typing import Final

from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.sse import MAX_EVENT_BYTES

_OUTSIDE: Final = re.compile(rb'["{}\[\],]')
_INSIDE: Final = re.compile(rb'["\\]')
"""What ends a string, or takes the meaning from the byte after it."""


class JSONArrayFraming:
    """An array. Elements of more than `max_event_bytes` are skipped and counted in `skipped`."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.skipped = 0
        self._limit = max_event_bytes
        self._depth = 0
        """0 before the array and after it, 1 between its elements."""
        self._in_string = False
        self._escaped = False
        self._ended = False
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The elements that these bytes complete."""
        events: list[Event] = []
        start = at = 0
        end = len(data)
        while at < end and not self._ended:
            if not self._depth:
                start = at = data.find(b"[", at) + 1
                if not start:
                    break
                self._depth = 1
                continue
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (_INSIDE if self._in_string else _OUTSIDE).search(data, at)
            if found is None:
                break
            at = found.end()
            match data[at - 1 : at]:
                case b'"':
                    self._in_string = not self._in_string
                case b"\\":
                    self._escaped = True
                case b"{" | b"[":
                    self._depth += 1
                case b"}" | b"]":
                    self._depth -= 1
                    self._ended = not self._depth
                    if self._depth <= 1:
                        self._keep(data[start : at - self._ended])
                        self._dispatch(events)
                        start = at
                case b"," if self._depth == 1:
                    self._keep(data[start : at - 1])
                    self._dispatch(events)
                    start = at
        if self._depth:
            self._keep(data[start:])
        return events

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _dispatch(self, events: list[Event]) -> None:
        element = b"".join(self._pieces).strip()
        if self._size > self._limit:
            self.skipped += 1
        elif element:
            events.append((b"", element))
        self._pieces.clear()
        self._size = 0

    def resumed(self) -> None:
        """How deep inside what the stream goes on cannot be told."""

    def finish(self) -> list[Event]:
        """Nothing: an element without its end is none."""
        return []
