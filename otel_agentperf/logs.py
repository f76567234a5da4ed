"""How this program's own messages look on standard error: lines of text, or of JSON."""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
"""Attributes of a record that is about a call, in hex: what a span's log records are found by."""


class JSONFormatter(logging.Formatter):
    """One object on each line: `time` (ISO 8601, UTC), `level`, `logger`, `process` (its id), `message`; `trace_id` and
    `span_id` where a record is about a call, `exception` where it has one."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        for name in (TRACE_ID, SPAN_ID):
            if (value := getattr(record, name, None)) is not None:
                told[name] = value
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def use_format(name: str) -> None:
    """Let the handlers of this process write `json`; anything else leaves them as they are."""
    if name == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JSONFormatter())
