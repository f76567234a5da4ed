"""JSON read one level at a time, so that a wrong type somewhere costs that field only, never the whole body.

A field typed `Shallow` takes any JSON value: scalars as themselves, arrays and objects with their members unparsed.
"""

import json
import math
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

Shallow = str | int | float | bool | None | list[Raw] | dict[str, Raw]

JSON_ERRORS: Final = (ValueError, RecursionError, OverflowError)
"""What reading hostile JSON can raise; msgspec's errors and UnicodeError are ValueErrors."""

MAX_INTEGER_DIGITS: Final = 4300
"""CPython's own limit for converting digits to an int."""

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | Raw) -> T:
    """Decode, and once more after `repair` when the text is JSON only by a looser reading. Raises JSON_ERRORS."""
    try:
        return decoder.decode(raw)
    except (ValueError, OverflowError):
        repaired = repair(raw)
        if repaired is None:
            raise
        return decoder.decode(repaired)


def repair(raw: bytes | Raw) -> bytes | None:
    """Strict JSON for text that servers accept all the same: invalid UTF-8, lone surrogates, NaN, numbers out of range.

    What has no strict form becomes null or U+FFFD. None when it is no JSON at all.
    """
    try:
        value = json.loads(
            bytes(raw).decode("utf-8", "replace"), parse_constant=_null, parse_int=_integer, parse_float=_float
        )
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    except JSON_ERRORS:
        return None


def _null(_: str) -> None:
    return None


def _integer(text: str) -> int | None:
    return int(text) if len(text) < MAX_INTEGER_DIGITS else None


def _float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def string(value: Any) -> str | None:
    """The value when it is a non-empty string."""
    return value if isinstance(value, str) and value else None


def integer(value: Any) -> int | None:
    """The value when it is a whole number of 0 or more that fits a signed 64-bit attribute."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else None


def number(value: Any) -> float | None:
    """The value as a finite float when it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def strings(value: Shallow) -> list[str] | None:
    """A list of strings, or the one string that stands for it; None when it is neither."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for text in map(_scalar, value) if isinstance(text, str)]
    return None


def _scalar(raw: Raw) -> Any:
    try:
        return decode(_ANY, raw)
    except JSON_ERRORS:
        return None


def shallow(raw: bytes | Raw) -> Shallow:
    """One level of a JSON value. Raises JSON_ERRORS."""
    return decode(_SHALLOW, raw)


def fields(value: Shallow) -> dict[str, Any]:
    """The members of an object, decoded in full; members that cannot be decoded are left out."""
    if not isinstance(value, dict):
        return {}
    result = {}
    for name, raw in value.items():
        try:
            result[name] = _ANY.decode(raw)
        except JSON_ERRORS:
            continue
    return result


_ANY: Final = msgspec.json.Decoder()
_SHALLOW: Final[msgspec.json.Decoder[Shallow]] = msgspec.json.Decoder(Shallow)
