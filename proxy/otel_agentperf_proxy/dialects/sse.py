"""Server-sent events, sans I/O: bytes in, events out, any split of the bytes gives the same events.

Follows the HTML standard, section 9.2.6 (line ends LF, CRLF and CR, comments, several data lines), but for `id` and
`retry`, which say nothing about the response, and for errors that servers write outside of it: llama.cpp until
September 2025 in a field `error`, Google as a bare JSON document after the last event. Both become events of type
`error`.
"""

from typing import Final

from otel_agentperf_proxy.dialects.framing import ERROR, Event

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_COMMENT: Final = b":"


class SSEFraming:
    """An event stream. Events whose lines hold more than `max_event_bytes` are skipped and counted in `skipped`."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.skipped = 0
        self._limit = max_event_bytes
        self._at_start = True
        self._after_cr = False
        self._idle = True
        """Between two events, with nothing kept: the state in which `feed` may take its short way."""
        self._line: list[bytes] = []
        self._line_size = 0
        self._type = b""
        self._data: list[bytes] = []
        self._document: list[bytes] = []
        """Lines of a JSON document that stands where an event could."""
        self._event_size = 0
        self._too_large = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        if self._idle and data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2 and b"\r" not in data:
            # Servers mostly send whole events of one data line: no need to look for lines then.
            body = data[6:-2]
            if data.endswith(b"\n") and body and len(data) - 2 <= self._limit:
                self._at_start = False
                return [(b"", body)]
        if not data:
            return []
        return self._lines(data)

    def _lines(self, data: bytes) -> list[Event]:
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        rest = lines.pop()
        events: list[Event] = []
        if lines:
            if self._line:
                self._line.append(lines[0])
                lines[0] = b"".join(self._line)
                self._line.clear()
                self._line_size = 0
            if self._at_start:
                self._at_start = False
                lines[0] = lines[0].removeprefix(_BOM)
            for line in lines:
                self._take(line, events)
        if rest:
            self._keep(rest)
        self._idle = not (self._line or self._event_size or self._too_large or self._after_cr)
        return events

    def _keep(self, piece: bytes) -> None:
        self._line.append(piece)
        self._line_size += len(piece)
        if self._event_size + self._line_size > self._limit:
            self._give_up()
            # The line goes on: as a comment its end is no blank line, which would end the event.
            self._line = [_COMMENT]
            self._line_size = 1

    def _take(self, line: bytes, events: list[Event]) -> None:
        if not line:
            self._dispatch(events)
            return
        if self._event_size + len(line) > self._limit:
            self._give_up()
        if self._too_large or line.startswith(_COMMENT):
            return
        self._event_size += len(line) + 1
        if self._document or (line.startswith(b"{") and not self._data):
            self._document.append(line)
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._type = value.removeprefix(b" ")
        elif name == ERROR:
            self._type = ERROR
            self._data.append(b'{"error":%b}' % value)

    def _give_up(self) -> None:
        self._too_large = True
        self._data.clear()
        self._document.clear()
        self._event_size = 0

    def _dispatch(self, events: list[Event]) -> None:
        if self._too_large:
            self.skipped += 1
        elif self._data:
            data = b"\n".join(self._data)
            if data:
                events.append((self._type, data))
        elif self._document:
            document = b"\n".join(self._document)
            if b'"error"' in document:
                events.append((ERROR, document))
        self._type = b""
        self._data.clear()
        self._document.clear()
        self._event_size = 0
        self._too_large = False

    def resumed(self) -> "SSEFraming":
        """Begins with what is left of an event: its lines do not count unless they begin with a field's name."""
        fresh = SSEFraming(self._limit)
        fresh.skipped = self.skipped
        return fresh

    def finish(self) -> list[Event]:
        """The event that the stream's end left without its blank line. Some servers close right after `[DONE]`."""
        return self._lines(b"\n\n")
