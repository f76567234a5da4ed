"""Builds Arrow batches of `rows.SCHEMA` from Python values: one list per span, in the order of the schema."""

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from otel_agentperf_analyzers.sources import rows

BATCH: Final = 8192
"""Spans per Arrow batch."""

SLOTS: Final = {name: position for position, name in enumerate(rows.ATTRIBUTES, start=len(rows.HEAD))}
"""Attribute to its position in a row."""

INT_SLOTS: Final = frozenset(SLOTS[name] for name, kind in rows.ATTRIBUTES.items() if kind == rows.INT)
NO_ATTRIBUTES: Final = [None] * len(rows.ATTRIBUTES)

KINDS: Final = {
    "SPAN_KIND_INTERNAL": 1,
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": 5,
}
STATUS_CODES: Final = {"STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}


class Builder:
    """Collects rows of a source whose attributes are plain Python values, and gives them as batches."""

    def __init__(self) -> None:
        self._pending: list[list[Any]] = []

    def add(
        self,
        *,
        trace_id: str,
        span_id: str,
        parent_span_id: str | None,
        name: str,
        kind: int,
        start_ns: int,
        end_ns: int,
        status_code: int,
        status_message: str | None,
        events: list[dict[str, Any]] | None,
        links: list[dict[str, Any]] | None,
        resource: dict[str, Any],
        scope_name: str | None,
        attributes: dict[str, Any],
    ) -> None:
        """Add one span. Events and links are as OTLP JSON has them."""
        resource = dict(resource)
        service, instance = resource.pop("service.name", None), resource.pop("service.instance.id", None)
        others: list[tuple[str, str | None]] = []
        content: list[tuple[str, str | None]] = []
        row = [
            trace_id,
            span_id,
            parent_span_id or None,
            name,
            kind,
            start_ns,
            end_ns,
            status_code,
            status_message or None,
            msgspec.json.encode(events).decode() if events else None,
            msgspec.json.encode(links).decode() if links else None,
            as_text(service),
            as_text(instance),
            scope_name or None,
            [(key, as_text(value)) for key, value in resource.items()],
            others,
            content,
            *NO_ATTRIBUTES,
        ]
        for key, value in attributes.items():
            slot = SLOTS.get(key)
            if slot is not None:
                row[slot] = coerced(value, rows.SCHEMA.types[slot])
            elif key in rows.CONTENT:
                content.append((key, as_text(value)))
            else:
                others.append((key, as_text(value)))
        self._pending.append(row)

    def full(self) -> Iterator[pa.RecordBatch]:
        """A batch, when one is full."""
        if len(self._pending) >= BATCH:
            yield from self.rest()

    def rest(self) -> Iterator[pa.RecordBatch]:
        """What has gathered."""
        if self._pending:
            yield batch(self._pending)
            self._pending = []


def as_text(value: Any) -> str | None:
    """A value as text; lists and maps as JSON."""
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def sql_text(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def otlp_item(fields: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """An event or a link as OTLP JSON has it, its attributes from a plain map."""
    attributes = item.get("attributes")
    if isinstance(attributes, dict) and attributes:
        fields["attributes"] = [{"key": key, "value": any_value(value)} for key, value in attributes.items()]
    elif isinstance(attributes, list) and attributes:
        fields["attributes"] = attributes
    return fields


def any_value(value: Any) -> dict[str, Any]:
    """A plain value as OTLP JSON has it."""
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [any_value(item) for item in value]}}
        case _:
            return {"stringValue": msgspec.json.encode(value).decode()}


def batch(pending: list[list[Any]]) -> pa.RecordBatch:
    """Rows as a batch of `rows.SCHEMA`."""
    columns = zip(*pending, strict=True)
    arrays = [_array(values, kind) for values, kind in zip(columns, rows.SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=rows.SCHEMA)


def _array(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    """A column. Values of another type than the vocabulary says are converted where that is exact, else left out."""
    if kind == rows.MAP:
        return _maps(values)
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError, UnicodeError):
        return pa.array([coerced(value, kind) for value in values], kind)


def _maps(values: tuple[list[tuple[str, str | None]], ...]) -> pa.Array:
    """A column of maps. Spans of one resource share its list of attributes, which is converted once; so are empty ones.
    A key that is there twice, which OTLP forbids, has its last value."""
    places: dict[int, int] = {}
    distinct: list[list[tuple[str, str | None]]] = []
    indices = []
    for items in values:
        place = places.setdefault(id(items) if items else 0, len(distinct))
        if place == len(distinct):
            distinct.append(list(dict(items).items()))
        indices.append(place)
    return pa.array(distinct, rows.MAP).take(pa.array(indices, pa.int32()))


def coerced(value: Any, kind: pa.DataType) -> Any:
    """The value as the column's type, or None."""
    if value is None or kind == rows.MAP:
        return value
    if kind == rows.TEXTS:
        items = value if isinstance(value, list) else _listed(value)
        return [coerced(item, rows.TEXT) for item in items]
    if kind == rows.TEXT:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return text.encode("utf-8", "replace").decode()
    if kind == rows.BOOL:
        return {True: True, False: False, "true": True, "false": False}.get(value) if _is_scalar(value) else None
    if not _is_scalar(value) or isinstance(value, bool):
        return None
    try:
        number = float(value)
        if kind == rows.DOUBLE:
            return number if math.isfinite(number) else None
        whole = int(value) if isinstance(value, (int, str)) else int(number)
    except (ValueError, OverflowError):
        return None
    return whole if whole == number and -(2**63) <= whole < 2**63 else None


def _listed(value: Any) -> list[Any]:
    """A list that a backend keeps as JSON text; any other value is the only item."""
    if isinstance(value, str) and value.startswith("["):
        try:
            found = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return [value]
        return found if isinstance(found, list) else [value]
    return [value]


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
