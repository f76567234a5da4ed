"""Attributes and values of OTLP/JSON, which all of its signals share."""

from typing import Any, Final

import msgspec

from otel_agentperf_analyzers.sources import rows
from otel_agentperf_analyzers.sources.build import INT_SLOTS, SLOTS, coerced

ABSENT: Final = msgspec.Raw()


class Value(msgspec.Struct, frozen=True, gc=False):
    stringValue: str | None = None
    intValue: int | str | None = None
    doubleValue: float | str | None = None
    boolValue: bool | None = None
    arrayValue: msgspec.Raw = ABSENT
    kvlistValue: msgspec.Raw = ABSENT
    bytesValue: str | None = None


class Attribute(msgspec.Struct, gc=False):
    key: str
    value: Value = Value()


class Scope(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None


class Resource(msgspec.Struct, frozen=True, gc=False):
    attributes: tuple[Attribute, ...] = ()


def fill(
    row: list[Any],
    attributes: tuple[Attribute, ...],
    others: list[tuple[str, str | None]],
    content: list[tuple[str, str | None]],
) -> None:
    """Put attributes into their columns, those without one into `others` or `content`."""
    for attribute in attributes:
        slot = SLOTS.get(attribute.key)
        value: Any = attribute.value
        if slot is None:
            (content if attribute.key in rows.CONTENT else others).append((attribute.key, text(value)))
            continue
        found = value.stringValue
        if found is None:
            found = value.intValue
            if found is not None:
                found = int(found)
            else:
                found = value.doubleValue
                if found is not None:
                    # Arrow would cut the fraction off.
                    found = coerced(found, rows.INT) if slot in INT_SLOTS else found
                else:
                    found = value.boolValue
                    if found is None:
                        found = _other(value)
        row[slot] = found


def _other(value: Value) -> Any:
    """A value of the rare kinds as plain Python; None when it is empty."""
    if value.arrayValue:
        items = msgspec.json.decode(value.arrayValue, type=_Array).values
        return [plain(item) for item in items]
    if value.kvlistValue:
        members = msgspec.json.decode(value.kvlistValue, type=_Members).values
        return {member.key: plain(member.value) for member in members}
    return value.bytesValue


class _Array(msgspec.Struct):
    values: tuple[Value, ...] = ()


class _Members(msgspec.Struct):
    values: tuple[Attribute, ...] = ()


def plain(value: Value) -> Any:
    """A value as plain Python; None when it is empty."""
    if value.intValue is not None:
        return int(value.intValue)
    for found in (value.stringValue, value.doubleValue, value.boolValue):
        if found is not None:
            return found
    return _other(value)


def text(value: Value) -> str | None:
    """A value as text; lists and maps as JSON."""
    if value.stringValue is not None:
        return value.stringValue
    found = plain(value)
    return found if found is None or isinstance(found, str) else msgspec.json.encode(found).decode()
