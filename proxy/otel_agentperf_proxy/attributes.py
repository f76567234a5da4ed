"""Attribute values as OTLP takes them, whatever a client or a server wrote."""

from collections.abc import Mapping
from typing import Final

from otel_agentperf import semconv
from otel_agentperf_proxy.facts import AttributeValue

Attributes = dict[str, AttributeValue]

MAX_TEXT: Final = 4096
"""Characters of a string value. What is longer is cut, and ends in an ellipsis."""

MAX_ITEMS: Final = 128
"""Values of a list; the rest is left out."""

CONTENT: Final = frozenset(
    (
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.GEN_AI_TOOL_DEFINITIONS,
        semconv.SHAPE_MESSAGES,
        semconv.LINK_KEYS,
    )
)
"""Attributes of any length: somebody asked for them; `LINK_KEYS` has bounds of its own."""

_PLACED: Final = frozenset(("trajectory.id", "parent.id", "agent.name"))
"""Launcher tags that decide where a call belongs; what came of them stands on the span."""

_INTEGERS: Final = frozenset((semconv.LEVEL, semconv.AGENT_INDEX))
_OUTCOMES: Final = frozenset(("success", "failure"))
_BOOLEANS: Final = frozenset((semconv.TRAJECTORY_FINAL,))


def put(attributes: Attributes, name: str, value: AttributeValue | None) -> None:
    """Set an attribute unless it is not known."""
    if value is not None:
        attributes[name] = value


def clean(attributes: Attributes) -> Attributes:
    """The attributes with text that every encoder and store takes."""
    return {
        name: value if isinstance(value, int | float) or name in CONTENT else _clean(value)
        for name, value in attributes.items()
    }


def text(value: str) -> str:
    """The value without lone surrogates, cut to `MAX_TEXT`."""
    if len(value) > MAX_TEXT:
        value = value[: MAX_TEXT - 1] + "…"
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def tag_attributes(tags: Mapping[str, AttributeValue]) -> Attributes:
    """Launcher tags as attributes; values that are not of the attribute's type are left out."""
    attributes: Attributes = {}
    for tag, value in tags.items():
        name = semconv.LAUNCHER_TAGS.get(tag)
        if name is None or tag in _PLACED or value == "":
            continue
        if name in _INTEGERS:
            put(attributes, name, _integer(str(value)))
        elif name in _BOOLEANS:
            put(attributes, name, str(value).lower() in ("true", "1") or None)
        elif name != semconv.OUTCOME or value in _OUTCOMES:
            attributes[name] = value
    return attributes


def _clean(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int | float):
        return value
    return tuple([text(item) for item in value[:MAX_ITEMS]])


def _integer(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None
