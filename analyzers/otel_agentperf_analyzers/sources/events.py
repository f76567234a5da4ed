"""Log events of Claude Code to rows: a call of a model or of a tool is told in one event at its end, with its duration.

Such an event is a row named after it, as long as it says. It has no id of its own: its session, time and number among
the session's events are what it is known by, so that an event that is exported twice is one row. Other log records are
none of calls and are passed over.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import xxhash

from otel_agentperf import semconv
from otel_agentperf_analyzers.sources.build import NO_ATTRIBUTES
from otel_agentperf_analyzers.sources.values import Attribute, Resource, Scope, Value, fill, plain, text

_KINDS: Final = {"api_request": 3, "api_error": 3, "tool_result": 1}
"""Events that are read, and the kind of span that they stand for: client, internal."""

_ERROR: Final = 2


class _Record(msgspec.Struct, gc=False):
    timeUnixNano: int | str = 0
    observedTimeUnixNano: int | str = 0
    traceId: str = ""
    spanId: str = ""
    eventName: str | None = None
    body: Value = Value()
    attributes: tuple[Attribute, ...] = ()


class _ScopeLogs(msgspec.Struct, gc=False):
    logRecords: tuple[_Record, ...] = ()
    scope: Scope = Scope()


class _ResourceLogs(msgspec.Struct, gc=False):
    scopeLogs: tuple[_ScopeLogs, ...] = ()
    resource: Resource = Resource()


_decode = msgspec.json.Decoder(tuple[_ResourceLogs, ...]).decode


def rows_of(logs: bytes | msgspec.Raw) -> Iterable[list[Any]]:
    """The rows of a line's `resourceLogs`, values in the order of `rows.SCHEMA`.

    Raises:
        msgspec.ValidationError: it is something else.
        ValueError: a time is no number.
    """
    for resource_logs in _decode(logs):
        resource = {item.key: text(item.value) for item in resource_logs.resource.attributes}
        service, instance = resource.pop("service.name", None), resource.pop("service.instance.id", None)
        for scope_logs in resource_logs.scopeLogs:
            scope = scope_logs.scope.name
            for record in scope_logs.logRecords:
                event = _event(record, scope)
                if event in _KINDS:
                    yield _row(record, event, [service, instance, scope, list(resource.items())])


def _event(record: _Record, scope: str | None) -> str | None:
    """The event's name without `claude_code.`; None for what no event of Claude Code is."""
    told = next((text(item.value) for item in record.attributes if item.key == "event.name"), None)
    for name in (record.eventName, record.body.stringValue, told):
        if name and name.startswith(semconv.CLAUDE_CODE_PREFIX):
            return name.removeprefix(semconv.CLAUDE_CODE_PREFIX)
    return told if scope is not None and "claude_code" in scope else None


def _row(record: _Record, event: str, origin: list[Any]) -> list[Any]:
    values = {item.key: plain(item.value) for item in record.attributes}
    end = int(record.timeUnixNano) or int(record.observedTimeUnixNano) or _told_ns(values.get("event.timestamp"))
    start = end - round(_number(values.get("duration_ms")) * 1e6)
    identity = [str(values.get(key, "")) for key in (semconv.SESSION_ID, "event.sequence", "prompt.id")]
    known_by = xxhash.xxh3_64_hexdigest("\0".join((*identity, event, str(end))).encode())
    prompt = xxhash.xxh3_128_hexdigest("\0".join((identity[0], identity[2] or known_by)).encode())
    is_failed = event == "api_error" or str(values.get("success")).lower() == "false"
    others: list[tuple[str, str | None]] = []
    content: list[tuple[str, str | None]] = []
    row: list[Any] = [
        record.traceId.lower() or prompt,
        known_by,
        record.spanId.lower() or None,
        semconv.CLAUDE_CODE_PREFIX + event,
        _KINDS[event],
        start,
        end,
        _ERROR if is_failed else 0,
        None,
        None,
        None,
        *origin,
        others,
        content,
        *NO_ATTRIBUTES,
    ]
    fill(row, record.attributes, others, content)
    return row


def _number(value: Any) -> float:
    try:
        return max(float(value), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _told_ns(value: Any) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time."""
    if not isinstance(value, str):
        raise ValueError("a log record without a time")
    moment = datetime.fromisoformat(value)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) * 1000
