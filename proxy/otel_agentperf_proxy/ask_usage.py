"""Asking a server for token counts that the client did not ask for, and hiding the answer from the client.

A streamed chat completion tells its token counts only when the request says `stream_options.include_usage`; they then
come in a chunk of their own, after the others. With `ask_usage` the proxy puts that into requests that do not speak of
it, and takes that chunk out of what the client gets. Whatever is in doubt passes unchanged: requests that are not
plainly of this kind, chunks that hold anything else.

Pure functions on bytes.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from otel_agentperf_proxy import dialects

DIALECT: Final = "openai.chat"

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Longer requests pass unchanged: they would have to be held whole."""

MAX_CHUNK_BYTES: Final = 64 * 1024
"""A longer event of the stream is no chunk with token counts only."""

ASK: Final = b'"stream_options":{"include_usage":true},'

_BINDING: Final = frozenset(
    (
        b"content-encoding",
        b"content-digest",
        b"content-md5",
        b"digest",
        b"repr-digest",
        b"signature",
        b"x-amz-content-sha256",
    )
)
"""Fields of a request that hold for this very body."""

_HARMLESS: Final = frozenset(
    (
        "choices",
        "created",
        "id",
        "model",
        "object",
        "obfuscation",
        "provider",
        "service_tier",
        "system_fingerprint",
        "usage",
    )
)
"""Members of a chunk that say nothing beyond token counts that the chunks before it did not say."""


class _Request(Struct):
    stream: Any = None
    stream_options: Raw | UnsetType = UNSET


_REQUEST: Final = msgspec.json.Decoder(_Request)
_CHUNK: Final = msgspec.json.Decoder(dict[str, Raw])
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[^\r]*")
_EVENT_END: Final = re.compile(rb"\n\r?\n")
_ONE_DATA_LINE: Final = re.compile(rb"data:[ ]?(\{[^\r\n]*\})\r?\n\r?\n")


def may_ask(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request's head allows to look into its body and change it."""
    found = dialects.find(method, path)
    return found is not None and found.name == DIALECT and not any(name in _BINDING for name, _ in headers)


def asking(body: bytes) -> bytes | None:
    """The request's body, asking for token counts; None when it is to pass as it is."""
    if len(body) > MAX_BODY_BYTES or body.count(b'"stream"') != 1:
        # Twice, somewhere: readers might not agree on which one counts.
        return None
    try:
        request = _REQUEST.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if request.stream is not True or request.stream_options is not UNSET:
        return None
    begin = body.index(b"{") + 1
    return body[:begin] + ASK + body[begin:]


def with_length(head: bytes, length: int) -> bytes:
    """A request's head, for a body of another length. One with a chunked body stays as it is."""
    return _CONTENT_LENGTH.sub(b"\r\ncontent-length: %d" % length, head, count=1)


class Question:
    """Holds a request's body as long as it may be one to ask with."""

    def __init__(self) -> None:
        self.decided = False
        """Nothing is held any more; what comes passes."""
        self.asks = False
        """What was handed on asks for token counts."""
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes, complete: bool) -> bytes:
        """What goes on of the body: nothing until it is complete, or too long to ask."""
        if self.decided:
            return data
        self._parts.append(data)
        self._size += len(data)
        if not complete and self._size <= MAX_BODY_BYTES:
            return b""
        self.decided = True
        body = b"".join(self._parts)
        self._parts.clear()
        changed = asking(body) if complete else None
        self.asks = changed is not None
        return body if changed is None else changed


def may_hide(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response's head allows to take an event out of its body."""
    streams = False
    for name, value in headers:
        if name == b"content-type":
            streams = value.partition(b";")[0].strip().lower() == b"text/event-stream"
        elif name in (b"content-length", b"content-encoding"):
            return False
    return streams and status == 200


class UsageHider:
    """Takes the chunks with nothing but token counts out of an event stream; any split gives the same bytes."""

    def __init__(self) -> None:
        self.hidden = 0
        """Chunks that were taken out."""
        self._held = b""
        """The beginning of an event."""
        self._searched = 0
        """How much of it was searched for its end."""
        self._passing: bytes | None = None
        """The last bytes of an event that is too long to hold and passes as it comes."""

    def feed(self, data: bytes) -> bytes:
        """What the client gets of these bytes, and of those that were held back before."""
        if not self._held and self._passing is None and b'"usage"' not in data and data.endswith(b"\n\n"):
            return data
        out = b""
        if self._passing is not None:
            before = self._passing
            found = _EVENT_END.search(before + data)
            if found is None:
                self._passing = (before + data)[-2:]
                return data
            self._passing = None
            end = found.end() - len(before)
            out, data = data[:end], data[end:]
        data = self._held + data
        pieces = [out]
        begin = 0
        for found in _EVENT_END.finditer(data, self._searched):
            event = data[begin : found.end()]
            begin = found.end()
            if _is_usage(event):
                self.hidden += 1
            else:
                pieces.append(event)
        rest = data[begin:]
        if len(rest) > MAX_CHUNK_BYTES:
            pieces.append(rest)
            self._passing = rest[-2:]
            rest = b""
        self._held = rest
        self._searched = max(len(rest) - 2, 0)
        return b"".join(pieces)

    def finish(self) -> bytes:
        """What is left at the end of the stream: an event without its end is none that was asked for."""
        rest, self._held = self._held, b""
        return rest


def _is_usage(event: bytes) -> bool:
    if b'"usage"' not in event:
        return False
    found = _ONE_DATA_LINE.fullmatch(event)
    if found is None:
        return False
    try:
        chunk = _CHUNK.decode(found[1])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    choices, usage = bytes(chunk.get("choices", b"")), bytes(chunk.get("usage", b""))
    if not usage.startswith(b"{") or choices.translate(None, b" \t") != b"[]":
        return False
    return all(name in _HARMLESS or bytes(value) == b"null" for name, value in chunk.items())
