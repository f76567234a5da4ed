"""Content codings undone as the bytes come. RFC 9110 section 8.4.1, zstd with the window limit of RFC 9659.

A decoder never raises: data it cannot read makes it `broken`, and from then on it gives nothing.
"""

import importlib
import zlib
from typing import Any, Final, Protocol

import zstandard

MAX_OUTPUT_BYTES: Final = 64 * 1024 * 1024
"""Decoded bytes of one `feed`; more is taken for a bomb."""

MAX_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024

TOO_LARGE: Final = "decoded size limit"


class Decoder(Protocol):
    """A content coding being undone."""

    @property
    def broken(self) -> str | None:
        """Why the data cannot be decoded any further, in a few words."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What these bytes decode to; b"" once broken."""
        ...


class Identity:
    """No coding."""

    broken: str | None = None

    def feed(self, data: bytes) -> bytes:
        return data


class Zlib:
    """gzip with any number of members, and deflate with or without its zlib wrapper (many servers leave it out)."""

    def __init__(self, *, gzip: bool, limit: int = MAX_OUTPUT_BYTES) -> None:
        self.broken: str | None = None
        self._gzip = gzip
        self._limit = limit
        self._member = zlib.decompressobj(wbits=31) if gzip else None
        self._head = b""

    def feed(self, data: bytes) -> bytes:
        if self.broken or not data:
            return b""
        try:
            return self._decode(data)
        except zlib.error:
            self.broken = "not gzip data" if self._gzip else "not deflate data"
            return b""

    def _decode(self, data: bytes) -> bytes:
        if self._member is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            wrapped = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._member = zlib.decompressobj(wbits=15 if wrapped else -15)
        output = []
        size = 0
        while data:
            if self._member.eof:
                # Padding with zeros after a member is allowed (gzip manual, section 7); a new member begins otherwise.
                data = data.lstrip(b"\0") if self._gzip else b""
                if not data:
                    break
                self._member = zlib.decompressobj(wbits=31)
            piece = self._member.decompress(data, self._limit - size + 1)
            size += len(piece)
            if size > self._limit:
                self.broken = TOO_LARGE
                return b""
            output.append(piece)
            data = self._member.unused_data
        return b"".join(output)


class _TooLarge(Exception):
    """The output of one feed went over its limit."""


class Zstandard:
    """zstd, any number of frames."""

    def __init__(self, *, limit: int = MAX_OUTPUT_BYTES) -> None:
        self.broken: str | None = None
        self._limit = limit
        self._output: list[bytes] = []
        self._size = 0
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
        # The stream writer hands over its output in pieces, so that a bomb can be stopped midway.
        self._stream = decompressor.stream_writer(self, closefd=False)  # type: ignore[arg-type]

    def write(self, data: bytes) -> int:
        """Called by the stream writer with each piece of output."""
        self._size += len(data)
        if self._size > self._limit:
            raise _TooLarge
        self._output.append(bytes(data))
        return len(data)

    def feed(self, data: bytes) -> bytes:
        if self.broken or not data:
            return b""
        self._size = 0
        try:
            self._stream.write(data)
        except _TooLarge:
            self.broken = TOO_LARGE
        except zstandard.ZstdError:
            self.broken = "not zstd data"
        output = b"" if self.broken else b"".join(self._output)
        self._output.clear()
        return output


class Brotli:
    """br, by the `brotli` package; its 1.2 brought the output limit without which a bomb cannot be stopped.

    Where a distribution puts an older one in its place, br is a coding that is not known.
    """

    def __init__(self, module: Any, *, limit: int = MAX_OUTPUT_BYTES) -> None:
        self.broken: str | None = None
        self._limit = limit
        self._error: type[Exception] = module.error
        self._stream = module.Decompressor()

    def feed(self, data: bytes) -> bytes:
        if self.broken or not data:
            return b""
        output = []
        size = 0
        try:
            while True:
                piece: bytes = self._stream.process(data, output_buffer_limit=self._limit - size + 1)
                size += len(piece)
                if size > self._limit:
                    self.broken = TOO_LARGE
                    return b""
                output.append(piece)
                data = b""
                if self._stream.can_accept_more_data() or not piece:
                    return b"".join(output)
        except self._error:
            self.broken = "not br data"
            return b""


class Chain:
    """Several codings, undone from the last applied to the first."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    @property
    def broken(self) -> str | None:
        return next((decoder.broken for decoder in self._decoders if decoder.broken), None)

    def feed(self, data: bytes) -> bytes:
        if self.broken:
            return b""
        for decoder in self._decoders:
            data = decoder.feed(data)
        return data


def decoder(content_encoding: str) -> Decoder | None:
    """A decoder for the value of a Content-Encoding header; None when a coding in it is unknown here."""
    decoders: list[Decoder] = []
    for name in reversed(content_encoding.lower().split(",")):
        match name.strip():
            case "" | "identity":
                continue
            case "gzip" | "x-gzip":
                decoders.append(Zlib(gzip=True))
            case "deflate":
                decoders.append(Zlib(gzip=False))
            case "zstd":
                decoders.append(Zstandard())
            case "br" if (module := _brotli()) is not None:
                decoders.append(Brotli(module))
            case _:
                return None
    if len(decoders) > 1:
        return Chain(decoders)
    return decoders[0] if decoders else Identity()


def _brotli() -> Any:
    try:
        module = importlib.import_module("brotli")
    except ImportError:
        return None
    return module if hasattr(module.Decompressor, "can_accept_more_data") else None
