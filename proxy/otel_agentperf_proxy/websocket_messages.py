"""WebSocket messages, sans I/O: the bytes of one direction in, whole messages out, with the times they came.

Frames are parsed, unmasked and inflated by the `websockets` library (RFC 6455, RFC 7692); what is here puts fragments
together and keeps times. A reader that comes out of step stays silent from there on: nothing in the bytes says where
the next frame begins.
"""

from collections.abc import Generator
from typing import Final, NamedTuple

from websockets.exceptions import InvalidHeader
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CTRL_OPCODES, OP_CLOSE, OP_CONT, OP_TEXT, Frame
from websockets.headers import parse_extension

DEFLATE: Final = "permessage-deflate"
"""The only extension that is registered and changes messages (RFC 7692)."""


class Message(NamedTuple):
    """A data message. Times are monotonic nanoseconds."""

    first_ns: int
    """Its first byte came."""
    last_ns: int
    """It was complete."""
    is_text: bool
    data: bytes


class MessageReader:
    """One direction of a connection. Never raises.

    Args:
        extensions: the values of the server's `Sec-WebSocket-Extensions` fields.
        from_client: the direction; what a client sends is masked.
        limit_bytes: a longer message is not read, nor anything after it.
    """

    def __init__(self, extensions: list[str], *, from_client: bool, limit_bytes: int) -> None:
        self.closed = False
        """A close frame came: no message will."""
        self.broken: str | None = None
        """Why the rest is not read, in a few words."""
        self._from_client = from_client
        self._limit = limit_bytes
        self._extensions: list[Extension] = []
        self._buffer = bytearray()
        self._now_ns = 0
        self._frame_ns = 0
        self._messages: list[Message] = []
        try:
            self._extensions = _agreed(extensions, from_client)
        except (InvalidHeader, ValueError) as exc:
            self.broken = f"extensions not understood: {type(exc).__name__}"
        self._parser = self._parse()
        next(self._parser)

    def feed(self, time_ns: int, data: bytes) -> list[Message]:
        """The messages that these bytes, read at that time, complete."""
        if self.closed or self.broken is not None:
            return []
        self._now_ns = time_ns
        self._buffer += data
        try:
            next(self._parser)
        except StopIteration:
            self._buffer.clear()
        except Exception as exc:  # the library says so of whatever is no WebSocket
            self.broken = f"{type(exc).__name__}: {exc}"
            self._buffer.clear()
        messages, self._messages = self._messages, []
        return messages

    def _parse(self) -> Generator[None]:
        pieces: list[bytes] = []
        size = 0
        is_text = False
        first_ns: int | None = None
        while True:
            while not self._buffer:
                yield
            self._frame_ns = self._now_ns
            frame = yield from Frame.parse(
                self._read, mask=self._from_client, max_size=self._limit - size, extensions=self._extensions
            )
            if frame.opcode is OP_CLOSE:
                self.closed = True
                return
            if frame.opcode in CTRL_OPCODES:
                continue
            if (frame.opcode is OP_CONT) is (first_ns is None):
                raise ValueError("fragments out of order")
            if first_ns is None:
                first_ns = self._frame_ns
                is_text = frame.opcode is OP_TEXT
            pieces.append(bytes(frame.data))
            size += len(frame.data)
            if frame.fin:
                self._messages.append(Message(first_ns, self._now_ns, is_text, b"".join(pieces)))
                pieces, size, first_ns = [], 0, None

    def _read(self, size: int) -> Generator[None, None, bytes]:
        buffer = self._buffer
        while len(buffer) < size:
            yield
        data = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        return data


def _agreed(values: list[str], from_client: bool) -> list[Extension]:
    """Decoders for what a side sends under the extensions that were agreed on."""
    decoders: list[Extension] = []
    for value in values:
        for name, parameters in parse_extension(value):
            if name != DEFLATE:
                raise ValueError(name)
            told = dict(parameters)
            side = "client" if from_client else "server"
            bits = int(told.get(f"{side}_max_window_bits") or 15)
            if not 8 <= bits <= 15:
                raise ValueError(bits)
            # It only decodes: without a context of its own it keeps no window for what would be sent.
            decoders.append(PerMessageDeflate(f"{side}_no_context_takeover" in told, True, bits, 15))
    return decoders
