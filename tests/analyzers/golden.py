"""All plain-text cases of the metrics as one set of spans, each case with ids of its own."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import captures
import zstandard

from otel_agentperf import semconv

CASES = Path(__file__).parents[1] / "cases" / "metrics"
PROXY = Path(__file__).parents[1] / "data" / "spans" / "proxy.jsonl"

_EPOCH_S = 1_767_225_600

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


def lines(to_lines: Callable[[str], str], stores: Path) -> str:
    """OTLP JSON lines of all cases, and of real traffic through a proxy and through several.

    Args:
        stores: a directory for those of the several.
    """
    cases = sorted(CASES.glob("*.txt"))
    written = [PROXY.read_text(), of_fleet(stores, _EPOCH_S + (len(cases) + 1) * 3600)]
    for number, path in enumerate(cases, 1):
        for notation in re.findall(r"^=== spans\n(.*?)(?=^=== )", path.read_text(), re.MULTILINE | re.DOTALL):
            written += [json.dumps(_own(json.loads(line), number)) + "\n" for line in to_lines(notation).splitlines()]
    return "".join(written)


def of_fleet(directory: Path, begins_s: int, *, proxies: int = 3) -> str:
    """OTLP JSON lines that some proxies write, one span each, of captured agents whose calls a round robin gives them;
    every other agent says nowhere who it is.

    Args:
        directory: where the proxies have their stores.
        begins_s: when the first agent begins, seconds since 1970.
    """
    agents = [each.anonymous() if at % 2 else each for at, each in enumerate(captures.load())]
    captures.play_fleet(captures.interleaved(agents, 0), directory, proxies=proxies)
    found = []
    for path in sorted(directory.glob("*/spans-*")):
        for line in zstandard.decompress(path.read_bytes()).splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += [{**resource, "scopeSpans": [{**scope, "spans": [span]}]} for span in scope["spans"]]
    documents = [{"resourceSpans": [each]} for each in found]
    shift_ns = begins_s * 10**9 - min(int(s["startTimeUnixNano"]) for each in documents for s in _spans(each))
    for document in documents:
        _move(document, shift_ns, "f1ee7000")
    return "".join(json.dumps(document) + "\n" for document in documents)


def _own(document: dict[str, Any], number: int) -> dict[str, Any]:
    # A case begins at its own hour.
    _move(document, number * 3600 * 10**9, f"{number:08x}")
    for span in _spans(document):
        for attribute in span["attributes"]:
            if attribute["key"] in _IDS and "stringValue" in attribute["value"]:
                value = attribute["value"]["stringValue"]
                # Policies are for models by their names.
                prefix = "" if attribute["key"] == semconv.GEN_AI_REQUEST_MODEL and len(value) > 2 else f"{number}-"
                attribute["value"]["stringValue"] = prefix + value
    return document


def _move(document: dict[str, Any], shift_ns: int, trace: str) -> None:
    """To another time, and to traces whose ids begin otherwise."""
    for span in _spans(document):
        for key in ("startTimeUnixNano", "endTimeUnixNano"):
            span[key] = str(int(span[key]) + shift_ns)
        for item in (span, *span.get("links", [])):
            item["traceId"] = trace + item["traceId"][8:]


def _spans(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]
