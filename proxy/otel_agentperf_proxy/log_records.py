"""Log records of the proxy's processes, on their way to the observer, which exports them (`log_export`).

The other processes send theirs over the observer's socket, one connection each: there are few of them, and none waits.
"""

import contextlib
import logging
import os
import socket
from time import monotonic_ns
from typing import Final

import msgspec

from otel_agentperf.logs import SPAN_ID, TRACE_ID
from otel_agentperf_proxy.frames import Kind, encode, encode_record

MAX_CHARS: Final = 8192
"""Of a message or a traceback."""

OWN: Final = ("otel_agentperf", "otel_agentperf_proxy")
"""Loggers whose records are exported."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A log record, on its way to the observer."""

    unix_ns: int
    level: int
    """As Python's."""
    logger: str
    message: str
    process_id: int
    exception: str | None = None
    trace_id: str | None = None
    """Hex digits; of the call that the record is about."""
    span_id: str | None = None


def entry(record: logging.LogRecord) -> Entry:
    """What is told of a record."""
    exception = logging.Formatter().formatException(record.exc_info)[:MAX_CHARS] if record.exc_info else None
    return Entry(
        round(record.created * 1e9),
        record.levelno,
        record.name,
        record.getMessage()[:MAX_CHARS],
        record.process or os.getpid(),
        exception,
        getattr(record, TRACE_ID, None),
        getattr(record, SPAN_ID, None),
    )


class Forwarding(logging.Handler):
    """Sends the records of this process to the observer; what it does not take is on standard error all the same.

    Args:
        path: of the observer's socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.connect(self._path)
            sock.send(encode(Kind.LOG, 0, monotonic_ns(), encode_record(entry(record))))


def attach(handler: logging.Handler) -> None:
    """Give our own loggers the handler too."""
    for name in OWN:
        logging.getLogger(name).addHandler(handler)


def detach(handler: logging.Handler) -> None:
    """Take it away from them."""
    for name in OWN:
        logging.getLogger(name).removeHandler(handler)
