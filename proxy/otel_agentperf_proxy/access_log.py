"""The access log: one line of JSON on standard error for each exchange that ended.

Lines are written by a thread of their own. A reader that does not read costs lines, which are counted, never the
observer's time.
"""

import os
import threading
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from typing import Any, Final

import msgspec

from otel_agentperf_proxy.attributes import text
from otel_agentperf_proxy.calls import Call, header, trace_of

WAITING: Final = 10_000
"""Lines that wait for their reader."""

BATCH: Final = 100

CLOSE_S: Final = 1.0
"""At the end, how long lines that wait may still be written."""

MAX_CHARS: Final = 512
"""Of a value that a client chose; what is longer is cut, so that a line is written in one piece."""

_encode = msgspec.json.Encoder().encode


def entry(call: Call, unix_ns: int) -> dict[str, Any]:
    """What the log tells of a call: who asked what, and what came of it. No query, no credential, no content.

    Args:
        call: ended.
        unix_ns: wall-clock time of its t0.
    """
    opened, end, placement = call.opened, call.end, call.placement
    time = datetime.fromtimestamp(unix_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told: dict[str, Any] = {
        "time": time,
        "client": opened.client,
        "method": opened.method,
        "path": opened.path,
        "status": call.http_status,
        "duration_s": ((call.end_ns or call.last_ns) - call.t0_ns) / 1e9,
        "request_bytes": end.request_bytes if end is not None else None,
        "response_bytes": end.response_bytes if end is not None else None,
        "outcome": call.status,
        "error": call.error_type,
        "upstream": f"{opened.server_address}:{opened.server_port}",
        "request_id": call.request_id,
        "trajectory_id": placement.run.trajectory_id if placement is not None else None,
        "model": call.request.model if call.request is not None else None,
        "user_agent": header(opened.headers, b"user-agent"),
        "trace_id": trace_of(call).hex(),
        "span_id": opened.span_id.hex(),
    }
    return {
        name: text(value)[:MAX_CHARS] if isinstance(value, str) else value
        for name, value in told.items()
        if value is not None
    }


class AccessLog:
    """Writes lines to a file descriptor.

    Args:
        descriptor: standard error unless told.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self.lines = 0
        self.dropped = 0
        self._descriptor = descriptor
        self._queue: Queue[bytes | None] = Queue(WAITING)
        self._thread = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._thread.start()

    def write(self, told: dict[str, Any]) -> None:
        """Append a line; never waits."""
        try:
            self._queue.put_nowait(_encode(told) + b"\n")
        except Full:
            self.dropped += 1
        else:
            self.lines += 1

    def stats(self) -> dict[str, int]:
        """Lines taken, and lines that no reader made room for."""
        return {"lines": self.lines, "dropped": self.dropped}

    def close(self) -> None:
        """Let what waits be written, for a short time."""
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except Full:
            return
        self._thread.join(CLOSE_S)

    def _write_all(self) -> None:
        open_ended = True
        while open_ended:
            lines = [self._queue.get()]
            try:
                while len(lines) < BATCH:
                    lines.append(self._queue.get_nowait())
            except Empty:
                pass
            open_ended = None not in lines
            data = memoryview(b"".join([line for line in lines if line is not None]))
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                # Nobody reads any more.
                self.dropped += sum(line is not None for line in lines)
