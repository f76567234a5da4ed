"""OTLP/JSON lines to rows: one `{"resourceSpans": [...]}` per line, as the collector's file exporter writes them. Of
lines of log records, `{"resourceLogs": [...]}`, events of Claude Code are read (`events.py`); metrics are no source.

Accepted beside the letter of the format: base64 ids (as generic protobuf encoders write them), enumerations by name,
64-bit integers as numbers or as text.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa

from otel_agentperf_analyzers.sources import events
from otel_agentperf_analyzers.sources.base import Skipped
from otel_agentperf_analyzers.sources.build import BATCH, KINDS, NO_ATTRIBUTES, STATUS_CODES, batch
from otel_agentperf_analyzers.sources.values import ABSENT, Attribute, Resource, Scope, fill, text


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
    attributes: tuple[Attribute, ...] = ()
    status: _Status = _Status()
    events: msgspec.Raw = ABSENT
    links: msgspec.Raw = ABSENT


class _ScopeSpans(msgspec.Struct, gc=False):
    spans: tuple[_Span, ...] = ()
    scope: Scope = Scope()


class _ResourceSpans(msgspec.Struct, gc=False):
    scopeSpans: tuple[_ScopeSpans, ...] = ()
    resource: Resource = Resource()


class _Line(msgspec.Struct, gc=False):
    resourceSpans: tuple[_ResourceSpans, ...] = ()
    resourceLogs: msgspec.Raw = ABSENT


_decode = msgspec.json.Decoder(_Line).decode


def batches(lines: Iterable[tuple[str, int, bytes]], skipped: Skipped) -> Iterator[pa.RecordBatch]:
    """Spans of lines, each given as (file name, line number, bytes); a line that cannot be read is counted."""
    pending: list[list[Any]] = []
    for name, number, line in lines:
        try:
            decoded = _decode(line)
            if decoded.resourceSpans:
                pending += _spans(decoded.resourceSpans)
            elif decoded.resourceLogs:
                pending += events.rows_of(decoded.resourceLogs)
            elif b'"resourceSpans"' not in line:
                skipped.line(name, number, "not an OTLP line of spans: it has neither resourceSpans nor resourceLogs")
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


def _spans(lines: Iterable[_ResourceSpans]) -> list[list[Any]]:
    """The rows of one line, values in the order of `rows.SCHEMA`."""
    found: list[list[Any]] = []
    for resource_spans in lines:
        resource = {item.key: text(item.value) for item in resource_spans.resource.attributes}
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
                fill(row, span.attributes, others, content)
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


def hex_id(identifier: str, length: int) -> str:
    """An id in lower-case hex; one that is not hex of that length may be base64."""
    if len(identifier) == length or not identifier:
        return identifier.lower()
    try:
        raw = base64.b64decode(identifier, validate=True)
    except binascii.Error:
        return identifier
    return raw.hex() if len(raw) * 2 == length else identifier
