"""A stream of JSON documents, one a line, sans I/O: each line is an event."""

from otel_agentperf_proxy.dialects.framing import Event
from otel_agentperf_proxy.dialects.sse import MAX_EVENT_BYTES


class NDJSONFraming:
    """Lines. Those of more than `max_event_bytes` are skipped and counted in `skipped`."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.skipped = 0
        self._limit = max_event_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._cut = False
        """The start of the line was not seen."""

    def feed(self, data: bytes) -> list[Event]:
        """The lines that these bytes complete."""
        first, *rest = data.split(b"\n")
        self._keep(first)
        events: list[Event] = []
        for line in rest:
            events += self._line()
            self._keep(line)
        return events

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _line(self) -> list[Event]:
        line = b"".join(self._pieces).strip()
        too_large, cut = self._size > self._limit, self._cut
        self._pieces.clear()
        self._size = 0
        self._cut = False
        if too_large:
            self.skipped += 1
        return [(b"", line)] if line and not cut else []

    def resumed(self) -> "NDJSONFraming":
        """Begins with the next line."""
        fresh = NDJSONFraming(self._limit)
        fresh.skipped = self.skipped
        fresh._cut = True
        return fresh

    def finish(self) -> list[Event]:
        """The last line, when it has no line end."""
        return self._line()
