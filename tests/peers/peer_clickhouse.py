"""ClickHouse as a peer: chdb behind a small HTTP server of its own process."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PEERS = "OTEL_AGENTPERF_PEERS"

TABLE = """
CREATE TABLE {name} (
    Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested (
        Timestamp DateTime64(9),
        Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested (
        TraceId String,
        SpanId String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_res_attr_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1
) ENGINE = MergeTree()
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1
"""
"""The table that the collector's ClickHouse exporter makes."""

_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
_STATUSES = ("Unset", "Ok", "Error")


def found() -> Path | None:
    """The interpreter that has chdb, when `tests/peers/install.py` has installed it."""
    python = Path(os.environ.get(PEERS, "/nonexistent")) / "chdb" / "bin" / "python"
    return python if python.exists() else None


@contextmanager
def running(
    python: Path, data: Path | None = None, statements: Iterable[str] = (), users: Path | None = None
) -> Iterator[str]:
    """A server; gives its HOST:PORT.

    Args:
        data: where its tables stay.
        statements: what is run before anything is asked.
        users: a `users.xml`, which says what the user may do; all is asked as `default`.
    """
    script = Path(__file__).with_name("clickhouse_server.py")
    directory = ":memory:" if data is None else str(data)
    if users is not None:
        config = users.with_name("config.xml")
        config.write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>")
        directory += f"?config-file={config}"
    command = [str(python), str(script), directory, *statements]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def rows(lines: str) -> Iterator[str]:
    """Rows of the table, for FORMAT JSONEachRow, of OTLP JSON lines, as the exporter writes them."""
    for line in filter(None, lines.splitlines()):
        for resource in json.loads(line)["resourceSpans"]:
            plain = _strings(resource["resource"].get("attributes", []))
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    yield json.dumps(_row(span, plain, scope.get("scope", {})))


def _row(span: dict[str, Any], resource: dict[str, str], scope: dict[str, Any]) -> dict[str, Any]:
    start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    events, links, status = span.get("events", []), span.get("links", []), span.get("status", {})
    return {
        "Timestamp": _moment(start),
        "TraceId": span["traceId"],
        "SpanId": span["spanId"],
        "ParentSpanId": span.get("parentSpanId", ""),
        "TraceState": "",
        "SpanName": span["name"],
        "SpanKind": _KINDS[span.get("kind", 0)],
        "ServiceName": resource.get("service.name", ""),
        "ResourceAttributes": resource,
        "ScopeName": scope.get("name", ""),
        "ScopeVersion": scope.get("version", ""),
        "SpanAttributes": _strings(span.get("attributes", [])),
        "Duration": end - start,
        "StatusCode": _STATUSES[status.get("code", 0)],
        "StatusMessage": status.get("message", ""),
        "Events.Timestamp": [_moment(int(event["timeUnixNano"])) for event in events],
        "Events.Name": [event["name"] for event in events],
        "Events.Attributes": [_strings(event.get("attributes", [])) for event in events],
        "Links.TraceId": [link["traceId"] for link in links],
        "Links.SpanId": [link["spanId"] for link in links],
        "Links.TraceState": ["" for _ in links],
        "Links.Attributes": [_strings(link.get("attributes", [])) for link in links],
    }


def _moment(unix_ns: int) -> str:
    return f"{unix_ns // 10**9}.{unix_ns % 10**9:09}"


def _strings(attributes: list[dict[str, Any]]) -> dict[str, str]:
    """As the exporter writes values: text as it is, others as JSON."""
    return {each["key"]: _string(each["value"]) for each in attributes}


def _string(value: dict[str, Any]) -> str:
    [(kind, content)] = value.items()
    if kind == "stringValue":
        return str(content)
    if kind == "intValue":
        return str(int(content))
    return json.dumps(_plain(value))


def _plain(value: dict[str, Any]) -> Any:
    [(kind, content)] = value.items()
    if kind == "arrayValue":
        return [_plain(each) for each in content.get("values", [])]
    return int(content) if kind == "intValue" else content
