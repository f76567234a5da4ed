"""The truth log: what a simulated deployment did for each request, as JSON lines, to check measurements against."""

import logging
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from otel_agentperf.errors import StoreError

__all__ = ["Truth", "TruthLog"]

logger: Final = logging.getLogger(__name__)


class Truth(Struct, kw_only=True):
    """One request. Times `_ns` are CLOCK_MONOTONIC, taken by the server; durations `_s` are the model's own.

    None: it did not happen, or not that far.
    """

    request_id: str
    """The client's `x-request-id`, or one made here; the response carries it."""
    response_id: str | None = None
    dialect: str
    model: str | None = None
    stream: bool | None = None
    received_ns: int
    """The request's head was received."""
    body_ns: int | None = None
    """Its body was complete."""
    first_token_ns: int | None = None
    """The first chunk with output was handed to the socket; streams only."""
    last_token_ns: int | None = None
    """The last chunk with output was handed to the socket; streams only."""
    done_ns: int | None = None
    """The response was complete, or the request over."""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    """Tokens sent, those of an answer that broke off too."""
    reasoning_tokens: int | None = None
    tool_calls: int | None = None
    queue_s: float | None = None
    """Body complete to admission."""
    prefill_s: float | None = None
    """Admission to first token."""
    decode_s: float | None = None
    """First to last token."""
    status: str = "ok"
    """`ok`, `cancelled` (the client left) or `error`."""
    http_status: int | None = None
    finish_reason: str | None = None


class TruthLog:
    """Writes a line at each request's end, unbuffered."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()
        self.failed = 0
        """Lines that could not be written."""

    @classmethod
    def open(cls, path: Path) -> "TruthLog":
        """Append to a file.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            return cls(path.open("ab", buffering=0))
        except OSError as exc:
            raise StoreError(f"cannot write the truth log {path}: {exc.strerror or exc}") from exc

    def write(self, truth: Truth) -> None:
        """Append a line; a failure is counted, and reported once."""
        try:
            self._file.write(self._encoder.encode(truth) + b"\n")
        except OSError as exc:
            self.failed += 1
            if self.failed == 1:
                logger.error("cannot write the truth log: %s", exc.strerror or exc)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
