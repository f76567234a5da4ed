"""OTLP/JSON lines to rows: one `{"resourceSpans": [...]}` per line, as the collector's file exporter writes them.

Accepted beside the letter of the format: base64 ids (as generic protobuf encoders write them), enumerations by name,
64-bit integers as numbers or as text.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from otel_agentperf_analyzers.sources import rows
from otel_agentperf_analyzers.sources.base import Skipped
from otel_agentperf_analyzers.sources.build import (
    BATCH,
    INT_SLOTS,
    KINDS,
    NO_ATTRIBUTES,
    SLOTS,
    STATUS_CODES,
    batch,
    coerced,
)

_ABSENT: Final = msgspec.Raw()


class _Value(msgspec.Struct, frozen=True, gc=False):
    stringValue: str | None = None
    intValue: int | str | None = None
    doubleValue: float | str | None = None
    boolValue: bool | None = None
    arrayValue: msgspec.Raw = _ABSENT
    kvlistValue: msgspec.Raw = _ABSENT
    bytesValue: str | None = None


class _Attribute(msgspec.Struct, gc=False):
    key: str
    value: _Value = _Value()


class _Status(msgspec.Struct, frozen=True, gc=False):
    code: int | str = 0
    message: str | None = None


class _Span(msgspec.Struct, gc=False):
    traceId: str
    spanId: str
    startTimeUnixNano: int | str
    endTimeUnixNano: int | str | None = None
    parentSpanId: str = ""
    name: str = ""
    kind: int | str = 0
    attributes: tuple[_Attribute, ...] = ()
    status: _Status = _Status()
    events: msgspec.Raw = _ABSENT
    links: msgspec.Raw = _ABSENT


class _Scope(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None


class _ScopeSpans(msgspec.Struct, gc=False):
    spans: tuple[_Span, ...] = ()
    scope: _Scope = _Scope()


class _Resource(msgspec.Struct, frozen=True, gc=False):
    attributes: tuple[_Attribute, ...] = ()


class _ResourceSpans(msgspec.Struct, gc=False):
    scopeSpans: tuple[_ScopeSpans, ...] = ()
    resource: _Resource = _Resource()


class _Line(msgspec.Struct, gc=False):
    resourceSpans: tuple[_ResourceSpans, ...]


_decode = msgspec.json.Decoder(_Line).decode


def batches(lines: Iterable[tuple[str, int, bytes]], skipped: Skipped) -> Iterator[pa.RecordBatch]:
    """Spans of lines, each given as (file name, line number, bytes); a line that cannot be read is counted."""
    pending: list[list[Any]] = []
    for name, number, line in lines:
        try:
            pending += _spans(_decode(line))
        except msgspec.ValidationError as problem:
            skipped.line(name, number, f"not an OTLP line of spans: {problem}")
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            skipped.line(name, number, f"broken JSON: {problem}")
        except ValueError as problem:
            skipped.line(name, number, f"not an OTLP line of spans: {problem}")
        if len(pending) >= BATCH:
            yield batch(pending)
            pending = []
    if pending:
        yield batch(pending)


def _spans(line: _Line) -> list[list[Any]]:
    """The rows of one line, values in the order of `rows.SCHEMA`."""
    found: list[list[Any]] = []
    for resource_spans in line.resourceSpans:
        resource = {item.key: _text(item.value) for item in resource_spans.resource.attributes}
        service = resource.pop("service.name", None)
        instance = resource.pop("service.instance.id", None)
        resource_items = list(resource.items())
        for scope_spans in resource_spans.scopeSpans:
            scope = scope_spans.scope.name
            for span in scope_spans.spans:
                start, end = int(span.startTimeUnixNano), span.endTimeUnixNano
                others: list[tuple[str, str | None]] = []
                content: list[tuple[str, str | None]] = []
                row: list[Any] = [
                    hex_id(span.traceId, 32),
                    hex_id(span.spanId, 16),
                    hex_id(span.parentSpanId, 16) or None,
                    span.name,
                    span.kind if isinstance(span.kind, int) else KINDS.get(span.kind, 0),
                    start,
                    int(end) if end is not None else start,
                    span.status.code if isinstance(span.status.code, int) else STATUS_CODES.get(span.status.code, 0),
                    span.status.message,
                    bytes(span.events).decode() or None,
                    _links(span.links, is_hex=len(span.traceId) == 32) or None,
                    service,
                    instance,
                    scope,
                    resource_items,
                    others,
                    content,
                    *NO_ATTRIBUTES,
                ]
                _fill(row, span.attributes, others, content)
                found.append(row)
    return found


def _links(links: msgspec.Raw, *, is_hex: bool) -> str:
    """The links as they are, or with their ids in hex when those of the span are not."""
    if is_hex or not links:
        return bytes(links).decode()
    found = msgspec.json.decode(links, type=list[dict[str, Any]])
    for link in found:
        link |= {name: hex_id(link[name], size) for name, size in (("traceId", 32), ("spanId", 16)) if name in link}
    return msgspec.json.encode(found).decode()


def _fill(
    row: list[Any],
    attributes: tuple[_Attribute, ...],
    others: list[tuple[str, str | None]],
    content: list[tuple[str, str | None]],
) -> None:
    """Put attributes into their columns, those without one into `others` or `content`."""
    for attribute in attributes:
        slot = SLOTS.get(attribute.key)
        value: Any = attribute.value
        if slot is None:
            (content if attribute.key in rows.CONTENT else others).append((attribute.key, _text(value)))
            continue
        plain = value.stringValue
        if plain is None:
            plain = value.intValue
            if plain is not None:
                plain = int(plain)
            else:
                plain = value.doubleValue
                if plain is not None:
                    # Arrow would cut the fraction off.
                    plain = coerced(plain, rows.INT) if slot in INT_SLOTS else plain
                else:
                    plain = value.boolValue
                    if plain is None:
                        plain = _other(value)
        row[slot] = plain


def _other(value: _Value) -> Any:
    """A value of the rare kinds as plain Python; None when it is empty."""
    if value.arrayValue:
        items = msgspec.json.decode(value.arrayValue, type=_Array).values
        return [_plain(item) for item in items]
    if value.kvlistValue:
        members = msgspec.json.decode(value.kvlistValue, type=_Members).values
        return {member.key: _plain(member.value) for member in members}
    return value.bytesValue


class _Array(msgspec.Struct):
    values: tuple[_Value, ...] = ()


class _Members(msgspec.Struct):
    values: tuple[_Attribute, ...] = ()


def _plain(value: _Value) -> Any:
    if value.intValue is not None:
        return int(value.intValue)
    for plain in (value.stringValue, value.doubleValue, value.boolValue):
        if plain is not None:
            return plain
    return _other(value)


def _text(value: _Value) -> str | None:
    """A value as text; lists and maps as JSON."""
    if value.stringValue is not None:
        return value.stringValue
    plain = _plain(value)
    return plain if plain is None or isinstance(plain, str) else msgspec.json.encode(plain).decode()


def hex_id(identifier: str, length: int) -> str:
    """An id in lower-case hex; one that is not hex of that length may be base64."""
    if len(identifier) == length or not identifier:
        return identifier.lower()
    try:
        raw = base64.b64decode(identifier, validate=True)
    except binascii.Error:
        return identifier
    return raw.hex() if len(raw) * 2 == length else identifier
