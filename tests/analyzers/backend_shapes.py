"""Trace backends as small HTTP servers: they answer with given spans in the shapes of Jaeger, Tempo and ClickHouse.

The shapes follow the backends' own code: `internal/jptrace` and `apiv3` of Jaeger, `tempopb` of Tempo, the table of the
collector's ClickHouse exporter.
"""

import base64
import gzip
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

KINDS = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"]


@dataclass
class Request:
    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass
class Response:
    content: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    break_off: bool = False
    """Close the connection in the middle of the body."""


@dataclass
class Server:
    base: str
    requests: list[Request]

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


@contextmanager
def serving(
    answer: Callable[[Request], Response], *, encrypted: Callable[[ssl.SSLContext], None] | None = None
) -> Iterator[Server]:
    """An HTTP server on a free port of 127.0.0.1; over TLS when `encrypted` gives it a certificate."""
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: a client that acknowledges late would wait for the second.
        wbufsize = 2**16
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            size = int(self.headers.get("content-length", 0))
            request = Request(
                self.command,
                parts.path,
                {name: values[0] for name, values in parse_qs(parts.query).items()},
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(size).decode(errors="replace"),
            )
            requests.append(request)
            response = answer(request)
            content, headers = response.content, dict(response.headers)
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
                headers.setdefault("content-type", "application/json")
            if "gzip" in request.headers.get("accept-encoding", ""):
                content = gzip.compress(content)
                headers["content-encoding"] = "gzip"
            self.send_response(response.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if response.break_off:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            else:
                self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if encrypted is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        encrypted(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server(f"127.0.0.1:{server.server_port}", requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- Spans ----------------------------------------------------------------------------------------------------------


@dataclass
class Span:
    """A span of OTLP JSON with what stands around it."""

    otlp: dict[str, Any]
    resource: dict[str, Any]
    scope: dict[str, Any]

    @property
    def trace_id(self) -> str:
        return str(self.otlp["traceId"])

    @property
    def start_ns(self) -> int:
        return int(self.otlp["startTimeUnixNano"])

    @property
    def service(self) -> str:
        return str(attributes(self.resource["attributes"])["service.name"])


def spans_of(lines: str) -> list[Span]:
    """All spans of OTLP JSON lines."""
    return [
        Span(span, each["resource"], scope_spans["scope"])
        for line in lines.splitlines()
        for each in json.loads(line)["resourceSpans"]
        for scope_spans in each["scopeSpans"]
        for span in scope_spans["spans"]
    ]


def traces_of(spans: list[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.trace_id, []).append(span)
    return found


def value(encoded: dict[str, Any]) -> Any:
    """A value of OTLP JSON as plain Python."""
    [(kind, plain)] = encoded.items()
    if kind == "intValue":
        return int(plain)
    return [value(item) for item in plain["values"]] if kind == "arrayValue" else plain


def attributes(items: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {item["key"]: value(item["value"]) for item in items or []}


def resource_spans(spans: list[Span]) -> list[dict[str, Any]]:
    return [
        {"resource": span.resource, "scopeSpans": [{"scope": span.scope, "spans": [dict(span.otlp)]}]} for span in spans
    ]


def chosen(spans: list[Span], service: str | None, lower: int, upper: int, limit: int) -> list[list[Span]]:
    """Traces with a span of the service in the window, the latest first, as backends with a limit give them."""
    found = [
        trace
        for trace in traces_of(spans).values()
        if any(service in (None, span.service) and lower <= span.start_ns <= upper for span in trace)
    ]
    found.sort(key=lambda trace: max(span.start_ns for span in trace), reverse=True)
    return found[:limit]


# --- Jaeger ---------------------------------------------------------------------------------------------------------


def jaeger_v3(spans: list[Span], *, in_pieces: bool = False) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        if request.path == "/api/v3/services":
            return Response({"services": sorted({span.service for span in spans})})
        if request.path != "/api/v3/traces":
            return Response(b"<!doctype html>", headers={"content-type": "text/html"})
        params = request.params
        lower, upper = (_unix_ns(params[f"query.start_time_{end}"]) for end in ("min", "max"))
        found = chosen(spans, params["query.service_name"], lower, upper, int(params["query.search_depth"]))
        if not found:
            return Response({"error": {"httpCode": 404, "message": "No traces found"}}, 404)
        answers = [{"result": {"resourceSpans": resource_spans(trace)}} for trace in found]
        if in_pieces:
            content = b"\n".join(json.dumps(each).encode() for each in answers)
            return Response(content, headers={"content-type": "application/json"})
        whole = [each for one in answers for each in one["result"]["resourceSpans"]]
        return Response({"result": {"resourceSpans": whole}})

    return answer


def _unix_ns(text: str) -> int:
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * 10**9 + int(fraction)


def jaeger_classic(spans: list[Span]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        if request.path != "/api/traces":
            return Response(b"<!doctype html>", headers={"content-type": "text/html"})
        params = request.params
        lower, upper = int(params["start"]) * 1000, int(params["end"]) * 1000
        found = chosen(spans, params["service"], lower, upper, int(params["limit"]))
        return Response({"data": [_classic(trace) for trace in found], "total": 0, "limit": 0, "errors": None})

    return answer


def _classic(trace: list[Span]) -> dict[str, Any]:
    processes: dict[str, Any] = {}
    for span in trace:
        tags = attributes(span.resource["attributes"])
        processes[f"p-{span.service}"] = {"serviceName": tags.pop("service.name"), "tags": _tags(tags)}
    return {"traceID": trace[0].trace_id, "spans": list(map(_classic_span, trace)), "processes": processes}


def _classic_span(span: Span) -> dict[str, Any]:
    otlp = span.otlp
    tags = attributes(otlp["attributes"])
    tags["span.kind"] = KINDS[otlp["kind"]].lower()
    tags["otel.scope.name"], tags["otel.scope.version"] = span.scope["name"], span.scope["version"]
    if otlp.get("status", {}).get("code") == 2:
        tags |= {"otel.status_code": "ERROR", "error": True}
        if message := otlp["status"].get("message"):
            tags["otel.status_description"] = message
    references = []
    if parent := otlp.get("parentSpanId"):
        references.append({"refType": "CHILD_OF", "traceID": span.trace_id, "spanID": parent})
    for link in otlp.get("links", []):
        references.append({"refType": "FOLLOWS_FROM", "traceID": link["traceId"], "spanID": link["spanId"]})
    start, end = int(otlp["startTimeUnixNano"]), int(otlp["endTimeUnixNano"])
    return {
        "traceID": span.trace_id,
        "spanID": otlp["spanId"],
        "operationName": otlp["name"],
        "references": references,
        "startTime": start // 1000,
        "duration": (end - start) // 1000,
        "tags": _tags(tags),
        "logs": [],
        "processID": f"p-{span.service}",
        "warnings": None,
    }


def _tags(plain: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {bool: "bool", int: "int64", float: "float64", str: "string", list: "string"}
    return [
        {"key": key, "type": kinds[type(item)], "value": json.dumps(item) if isinstance(item, list) else item}
        for key, item in plain.items()
    ]


# --- Tempo ----------------------------------------------------------------------------------------------------------


def tempo(
    spans: list[Span], *, form: str = "protobuf", has_v2: bool = True, partial: str = "", gone: str = ""
) -> Callable[[Request], Response]:
    """Args: form: of traces, protobuf or json; partial: message of every trace; gone: a trace that is only found."""
    traces = traces_of(spans)

    def answer(request: Request) -> Response:
        if request.path == "/api/search":
            params = request.params
            lower, upper = int(params["start"]) * 10**9, int(params["end"]) * 10**9
            found = chosen(spans, _service(params["q"]), lower, upper, int(params["limit"]))
            return Response({"traces": [_found(trace) for trace in found], "metrics": {"totalBlocks": 1}})
        if not (match := re.fullmatch(r"/api/(v2/)?traces/(\w+)", request.path)) or match[2] == gone:
            return Response(b"404 page not found", 404, {"content-type": "text/plain"})
        if match[1] and not has_v2:
            return Response(b"404 page not found", 404, {"content-type": "text/plain"})
        document = {"resourceSpans": resource_spans(traces[match[2].rjust(32, "0")])}
        for each in document["resourceSpans"]:
            for span in each["scopeSpans"][0]["spans"]:
                _as_base64(span)
        if form == "json":
            content: Any = {"trace": document, "metrics": {}} if match[1] else {"batches": document["resourceSpans"]}
            return Response(content)
        data = json_format.ParseDict(document, TracesData()).SerializeToString()
        if match[1]:
            told = b"\x18\x01\x22" + bytes([len(partial)]) + partial.encode() if partial else b""
            data = b"\x0a" + _varint(len(data)) + data + b"\x12\x02\x08\x05" + told
        return Response(data, headers={"content-type": "application/protobuf"})

    return answer


def _service(query: str) -> str | None:
    match = re.search(r'service\.name\s*=\s*"([^"]+)"', query)
    return match[1] if match else None


def _found(trace: list[Span]) -> dict[str, Any]:
    # Tempo leaves leading zeros of ids out.
    start = min(span.start_ns for span in trace)
    return {
        "traceID": trace[0].trace_id.lstrip("0"),
        "rootServiceName": trace[0].service,
        "startTimeUnixNano": str(start),
    }


def _as_base64(span: dict[str, Any]) -> None:
    span["links"] = [dict(link) for link in span.get("links", [])]
    for holder in (span, *span["links"]):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in holder:
                holder[name] = base64.b64encode(bytes.fromhex(holder[name])).decode()


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


# --- ClickHouse -----------------------------------------------------------------------------------------------------

CLICKHOUSE_TABLE = """
CREATE TABLE {name} (
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String,
    SpanName LowCardinality(String), SpanKind LowCardinality(String), ServiceName LowCardinality(String),
    ResourceAttributes {attributes}, ScopeName String, ScopeVersion String, SpanAttributes {attributes},
    Duration UInt64, StatusCode LowCardinality(String), StatusMessage String,
    `Events.Timestamp` Array(DateTime64(9)), `Events.Name` Array(LowCardinality(String)),
    `Events.Attributes` Array({attributes}),
    `Links.TraceId` Array(String), `Links.SpanId` Array(String), `Links.TraceState` Array(String),
    `Links.Attributes` Array({attributes})
) ENGINE = MergeTree ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
"""


def clickhouse_rows(spans: list[Span]) -> list[dict[str, Any]]:
    """Rows of the table, for FORMAT JSONEachRow."""
    rows = []
    for span in spans:
        otlp, links = span.otlp, span.otlp.get("links", [])
        start, end = int(otlp["startTimeUnixNano"]), int(otlp["endTimeUnixNano"])
        rows.append(
            {
                "Timestamp": f"{start // 10**9}.{start % 10**9:09}",
                "TraceId": span.trace_id,
                "SpanId": otlp["spanId"],
                "ParentSpanId": otlp.get("parentSpanId", ""),
                "TraceState": "",
                "SpanName": otlp["name"],
                "SpanKind": KINDS[otlp["kind"]],
                "ServiceName": span.service,
                "ResourceAttributes": _strings(attributes(span.resource["attributes"])),
                "ScopeName": span.scope["name"],
                "ScopeVersion": span.scope["version"],
                "SpanAttributes": _strings(attributes(otlp["attributes"])),
                "Duration": end - start,
                "StatusCode": ["Unset", "Ok", "Error"][otlp.get("status", {}).get("code", 0)],
                "StatusMessage": otlp.get("status", {}).get("message", ""),
                "Events.Timestamp": [],
                "Events.Name": [],
                "Events.Attributes": [],
                "Links.TraceId": [link["traceId"] for link in links],
                "Links.SpanId": [link["spanId"] for link in links],
                "Links.TraceState": ["" for _ in links],
                "Links.Attributes": [{} for _ in links],
            }
        )
    return rows


def _strings(plain: dict[str, Any]) -> dict[str, str]:
    """As the exporter writes values: text as it is, others as JSON."""
    return {key: item if isinstance(item, str) else json.dumps(item) for key, item in plain.items()}


def clickhouse(spans: list[Span]) -> Callable[[Request], Response]:
    """Answers our two queries without understanding SQL; the peer test has a real one."""

    def answer(request: Request) -> Response:
        since, until = (
            int(request.params.get(f"param_{name}", default)) for name, default in (("since", 0), ("until", 2**62))
        )
        of_service = request.params.get("param_service")
        wanted = {span.trace_id for span in spans if of_service in (None, span.service)}
        found = [span for span in spans if since <= span.start_ns < until and span.trace_id in wanted]
        if "count()" in request.body:
            minutes: dict[int, int] = {}
            for span in found:
                minutes[span.start_ns // (60 * 10**9)] = minutes.get(span.start_ns // (60 * 10**9), 0) + 1
            lines: list[Any] = [list(item) for item in sorted(minutes.items())]
        else:
            lines = [
                [
                    row["TraceId"], row["SpanId"], row["ParentSpanId"], row["SpanName"], row["SpanKind"],
                    row["ServiceName"], row["ScopeName"], row["StatusCode"], row["StatusMessage"],
                    span.start_ns, row["Duration"],
                    json.dumps(row["ResourceAttributes"]), json.dumps(row["SpanAttributes"]),
                    [], [], [],
                    row["Links.TraceId"], row["Links.SpanId"], ["{}" for _ in row["Links.SpanId"]],
                ]
                for row, span in zip(clickhouse_rows(found), found, strict=True)
            ]  # fmt: skip
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return Response(content, headers={"content-type": "application/x-ndjson"})

    return answer


# --- Parquet --------------------------------------------------------------------------------------------------------


def write_otlp_extension(spans: list[Span], path: Path) -> None:
    """A table as `COPY (FROM read_otlp_traces(...)) TO ...` of the DuckDB extension writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for span in spans:
        otlp = span.otlp
        resource = attributes(span.resource["attributes"])
        rows.append(
            {
                "start_time_unix_nano": span.start_ns,
                "duration_time_unix_nano": int(otlp["endTimeUnixNano"]) - span.start_ns,
                "trace_id": span.trace_id,
                "span_id": otlp["spanId"],
                "parent_span_id": otlp.get("parentSpanId", ""),
                "service_name": span.service,
                "service_instance_id": resource.get("service.instance.id"),
                "scope_name": span.scope["name"],
                "name": otlp["name"],
                "kind": otlp["kind"],
                "status_code": otlp.get("status", {}).get("code", 0),
                "status_status_message": otlp.get("status", {}).get("message"),
                "resource_attributes": json.dumps(resource),
                "span_attributes": json.dumps(attributes(otlp["attributes"])),
                "events_json": "[]",
                "links_json": json.dumps(
                    [{"trace_id": link["traceId"], "span_id": link["spanId"]} for link in otlp.get("links", [])]
                ),
            }
        )
    table = pa.Table.from_pylist(rows)
    times = table.column("start_time_unix_nano").cast(pa.timestamp("ns"))
    pq.write_table(table.set_column(0, "start_time_unix_nano", times), path)
