"""All plain-text cases of the metrics as one set of spans, each case with ids of its own."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from otel_agentperf import semconv

CASES = Path(__file__).parents[1] / "cases" / "metrics"
PROXY = Path(__file__).parents[1] / "data" / "spans" / "proxy.jsonl"

_IDS = frozenset(
    (
        semconv.TRAJECTORY_ID,
        semconv.TRAJECTORY_PARENT_ID,
        semconv.RUN_ID,
        semconv.TURN_ID,
        semconv.TOOL_TURN_ID,
        semconv.BENCHMARK_ID,
        semconv.REQUEST_ID,
        semconv.GEN_AI_RESPONSE_ID,
        semconv.GEN_AI_CONVERSATION_ID,
        semconv.GEN_AI_TOOL_CALL_ID,
        semconv.GEN_AI_REQUEST_MODEL,
        "session.id",
        "tool_use_id",
        "request_id",
    )
)


def lines(to_lines: Callable[[str], str]) -> str:
    """OTLP JSON lines of all cases, and of real traffic through the proxy."""
    written = [PROXY.read_text()]
    for number, path in enumerate(sorted(CASES.glob("*.txt")), 1):
        for notation in re.findall(r"^=== spans\n(.*?)(?=^=== )", path.read_text(), re.MULTILINE | re.DOTALL):
            written += [json.dumps(_own(json.loads(line), number)) + "\n" for line in to_lines(notation).splitlines()]
    return "".join(written)


def _own(document: dict[str, Any], number: int) -> dict[str, Any]:
    for span in _spans(document):
        # A case begins at its own hour.
        shift_ns = number * 3600 * 10**9
        for key in ("startTimeUnixNano", "endTimeUnixNano"):
            span[key] = str(int(span[key]) + shift_ns)
        for item in (span, *span.get("links", [])):
            item["traceId"] = f"{number:08x}{item['traceId'][8:]}"
        for attribute in span["attributes"]:
            if attribute["key"] in _IDS and "stringValue" in attribute["value"]:
                value = attribute["value"]["stringValue"]
                # Policies are for models by their names.
                prefix = "" if attribute["key"] == semconv.GEN_AI_REQUEST_MODEL and len(value) > 2 else f"{number}-"
                attribute["value"]["stringValue"] = prefix + value
    return document


def _spans(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]
