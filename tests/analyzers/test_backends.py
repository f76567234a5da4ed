"""Trace backends over real sockets: all give the same rows for the same traffic; paging, errors, credentials."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import backend_shapes as shapes
import pyarrow.parquet as pq
import pytest
import trustme
from backend_shapes import Request, Response

from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers import open_source
from otel_agentperf_analyzers.sources import backend, clickhouse, jaeger, paging, tempo

GOLDEN = Path(__file__).parents[1] / "data" / "spans" / "proxy.jsonl"
SERVICE = "otel-agentperf-proxy"
Answer = Callable[[Request], Response]


@pytest.fixture(scope="module")
def golden() -> list[shapes.Span]:
    return shapes.spans_of(GOLDEN.read_text())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts are noted instead of waited."""
    waits: list[float] = []
    original = backend.Backend.__init__

    def patched(self: backend.Backend, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs, sleep=waits.append)

    monkeypatch.setattr(backend.Backend, "__init__", patched)
    for name in (backend.HEADERS, backend.USER, backend.PASSWORD):
        monkeypatch.delenv(name, raising=False)
    return waits


@contextmanager
def source(kind: str, spans: list[shapes.Span], tmp_path: Path) -> Iterator[str]:
    """The spans as a source of that kind."""
    answers: dict[str, tuple[str, Answer]] = {
        "jaeger-v3": (f"jaeger+http://{{}}?service={SERVICE}", shapes.jaeger_v3(spans)),
        "jaeger-v3-in-pieces": (f"jaeger+http://{{}}?service={SERVICE}", shapes.jaeger_v3(spans, in_pieces=True)),
        "jaeger-classic": (f"jaeger+http://{{}}?service={SERVICE}", shapes.jaeger_classic(spans)),
        "tempo": ('tempo+http://{}?q={{resource.service.name="' + SERVICE + '"}}', shapes.tempo(spans)),
        "tempo-json": ("tempo+http://{}", shapes.tempo(spans, form="json")),
        "tempo-old": ("tempo+http://{}", shapes.tempo(spans, has_v2=False)),
        "tempo-old-json": ("tempo+http://{}", shapes.tempo(spans, has_v2=False, form="json")),
        "clickhouse": ("clickhouse+http://{}/otel?table=otel_traces&compute=here", shapes.clickhouse(spans)),
    }
    if kind in answers:
        url, answer = answers[kind]
        with shapes.serving(answer) as server:
            yield url.format(server.base)
    elif kind == "parquet-otlp":
        shapes.write_otlp_extension(spans, tmp_path / "otlp.parquet")
        yield str(tmp_path / "otlp.parquet")
    elif kind == "parquet-export":
        with open_source(str(GOLDEN)) as database:
            pq.write_table(database.query("FROM spans"), tmp_path / "export.parquet")
        yield str(tmp_path / "export.parquet")
    else:
        assert kind == "store"
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / "spans-a-0.jsonl").write_bytes(GOLDEN.read_bytes())
        yield str(tmp_path / "store")


KINDS = [
    "jaeger-v3", "jaeger-v3-in-pieces", "jaeger-classic", "tempo", "tempo-json", "tempo-old", "tempo-old-json",
    "clickhouse", "parquet-otlp", "parquet-export", "store",
]  # fmt: skip


def contents(name: str, *, microseconds: bool = False, **period: datetime) -> dict[str, list[dict[str, Any]]]:
    """Spans and what is made of them. Of links only the ids."""
    with open_source(name, **period) as database:
        assert database.skipped.lines == 0, database.skipped.examples
        found = {
            "spans": database.relation("spans", order_by="span_id").to_pylist(),
            "turns": database.relation("turns").to_pylist(),
            "tool_calls": database.relation("tool_calls").to_pylist(),
            "trajectories": database.relation("trajectories").to_pylist(),
        }
    for row in found["spans"]:
        row["links"] = [(link["traceId"], link["spanId"]) for link in json.loads(row["links"] or "[]")]
        for name in ("attributes", "resource_attributes", "content"):
            # Numbers as text are spelled as the backend spells them.
            row[name] = {key: _unspelled(value) for key, value in row[name]}
    if microseconds:
        for rows in found.values():
            for row in rows:
                for name, value in list(row.items()):
                    if name.endswith("_ns") and value is not None:
                        # An end is a start and a duration, each cut to microseconds.
                        row[name] = pytest.approx(value // 1000, abs=1)
                    elif isinstance(value, float):
                        row[name] = pytest.approx(value, abs=3e-6)
                    elif isinstance(value, datetime):
                        row[name] = None
    return found


@cache
def wanted_contents(microseconds: bool) -> dict[str, list[dict[str, Any]]]:
    return contents(str(GOLDEN), microseconds=microseconds)


def _unspelled(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_rows_for_the_same_traffic(
    kind: str, golden: list[shapes.Span], tmp_path: Path
) -> None:
    is_cut = kind == "jaeger-classic"
    with source(kind, golden, tmp_path) as name:
        found = contents(name, microseconds=is_cut)
    wanted = wanted_contents(is_cut)
    for relation, rows in wanted.items():
        assert len(found[relation]) == len(rows)
        for row, other in zip(found[relation], rows, strict=True):
            differing = {name: (row[name], other[name]) for name in other if row[name] != other[name]}
            assert not differing, (relation, differing)
    assert len(found["turns"]) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_since_and_until_mean_the_same_everywhere(kind: str, golden: list[shapes.Span], tmp_path: Path) -> None:
    starts = sorted({span.start_ns // 1000 for span in golden})
    since, until = (datetime.fromtimestamp(starts[at] / 1e6, UTC) for at in (4, 10))
    wanted = sorted(span.otlp["spanId"] for span in golden if starts[4] * 1000 <= span.start_ns < starts[10] * 1000)
    with source(kind, golden, tmp_path) as name, open_source(name, since=since, until=until) as database:
        found = database.query("SELECT span_id FROM spans ORDER BY ALL").column("span_id").to_pylist()
    assert found == wanted
    with source(kind, golden, tmp_path) as name, open_source(name, since=datetime(2100, 1, 1, tzinfo=UTC)) as database:
        assert database.query("FROM spans").num_rows == 0


# --- Paging ---------------------------------------------------------------------------------------------------------


def many(golden: list[shapes.Span], count: int) -> list[shapes.Span]:
    """That many traces of one span each, from 2026 on, a second apart."""
    made = []
    for number in range(count):
        otlp = dict(golden[0].otlp)
        start = 1_767_225_600 * 10**9 + number * 10**9
        otlp |= {"traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}", "parentSpanId": ""}
        otlp |= {"startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 10**8)}
        made.append(shapes.Span(otlp, golden[0].resource, golden[0].scope))
    return made


@pytest.mark.parametrize("kind", ["jaeger-v3", "jaeger-classic", "tempo", "clickhouse"])
def test_a_page_that_comes_back_full_is_asked_for_in_parts(
    kind: str, golden: list[shapes.Span], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaeger, "LIMIT", 7)
    monkeypatch.setattr(tempo, "LIMIT", 7)
    monkeypatch.setattr(clickhouse, "PAGE", 30)
    with source(kind, many(golden, 100), tmp_path) as name, open_source(name) as database:
        assert database.query("SELECT count(*) AS n FROM spans").to_pylist() == [{"n": 100}]
        assert not database.skipped


def test_more_traces_in_the_shortest_window_than_a_page_has_are_asked_for_at_once(
    golden: list[shapes.Span], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = many(golden, 50)
    for span in spans:
        span.otlp["startTimeUnixNano"] = "1767225600000000001"
    monkeypatch.setattr(tempo, "LIMIT", 7)
    with source("tempo", spans, tmp_path) as name, open_source(name) as database:
        assert database.query("FROM spans").num_rows == 50
    monkeypatch.setattr(paging, "MAX_LIMIT", 20)
    with (
        source("tempo", spans, tmp_path) as name,
        pytest.raises(SourceError, match="more than 20 traces within 1 s; narrow the search"),
    ):
        open_source(name)


# --- Errors ---------------------------------------------------------------------------------------------------------


def failing(answer: Answer, failures: list[Response]) -> Answer:
    """Gives these first."""
    left = list(failures)
    return lambda request: left.pop(0) if left else answer(request)


def test_what_passes_is_tried_again_as_the_server_says(golden: list[shapes.Span], no_waiting: list[float]) -> None:
    failures = [
        Response({}, 503, {"retry-after": "7"}),
        Response({}, 429, {"retry-after": "3600"}),
        Response({"a": "b" * 100}, 200, break_off=True),
    ]
    with shapes.serving(failing(shapes.clickhouse(golden), failures)) as server:
        with open_source(f"clickhouse+http://{server.base}/otel?compute=here") as database:
            assert database.query("FROM spans").num_rows == 20
        assert len(server.requests) == 5
    assert no_waiting[:2] == [7, 10]
    assert 0.25 <= no_waiting[2] <= 1.0


@pytest.mark.parametrize(
    ("failure", "attempts", "message"),
    [
        (Response(b"no", 503), 4, r"answers 503 Service Unavailable: no$"),
        (Response({"message": "who?"}, 401), 1, r"answers 401 Unauthorized: .*who.*; set OTEL_AGENTPERF_SOURCE_HEAD"),
        (Response(b"", 403), 1, "answers 403 Forbidden; set OTEL_AGENTPERF_SOURCE_HEADERS, or OTEL_AGENTPERF_SOURCE_U"),
        (Response(b"<html>", 302, {"location": "https://x/", "content-type": "text/html"}), 1, "302 Found; .*https://x/"),
        (Response(b"Code: 60. Exception: no\n such table", 404), 1, "404 Not Found: Code: 60. Exception: no such t"),
        (Response(b"x" * 50, break_off=True), 4, "cannot reach"),
    ],
)  # fmt: skip
def test_an_error_is_one_line(failure: Response, attempts: int, message: str) -> None:
    with shapes.serving(lambda request: failure) as server:
        with pytest.raises(SourceError, match=message) as caught:
            open_source(f"clickhouse+http://{server.base}/otel?compute=here")
        assert "\n" not in str(caught.value)
        assert str(caught.value).count(server.base) == 1
        assert len(server.requests) == attempts


@pytest.mark.parametrize("kind", ["jaeger", "tempo", "clickhouse"])
@pytest.mark.parametrize("content", [b"<!doctype html><title>Grafana</title>", b"[1,2]", b'{"data": 7}', b"null", b""])
def test_another_server_than_was_meant_is_said_in_one_line(kind: str, content: bytes) -> None:
    with shapes.serving(lambda request: Response(content, headers={"content-type": "application/json"})) as server:
        query = "?service=x" if kind == "jaeger" else ""
        with pytest.raises(SourceError, match=r"does not answer as expected|holds no (traces|spans)") as caught:
            open_source(f"{kind}+http://{server.base}{query}")
        assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there(no_waiting: list[float]) -> None:
    with shapes.serving(lambda request: Response()) as server:
        pass
    with pytest.raises(SourceError, match=rf"cannot reach tempo\+http://{server.base}: .*refused"):
        open_source(f"tempo+http://{server.base}")
    assert len(no_waiting) == 3


@pytest.mark.parametrize("kind", ["jaeger-v3", "jaeger-classic", "tempo", "clickhouse"])
def test_an_empty_backend_says_so(kind: str, tmp_path: Path) -> None:
    with source(kind, [], tmp_path) as name, pytest.raises(SourceError, match=r"holds no (spans|traces)"):
        open_source(name)


def test_a_trace_that_is_gone_or_cut_or_broken_is_skipped_and_named(golden: list[shapes.Span]) -> None:
    trace = golden[0].trace_id
    size = len({span.trace_id for span in golden})
    with (
        shapes.serving(shapes.tempo(golden, gone=trace)) as server,
        open_source(f"tempo+http://{server.base}") as found,
    ):
        assert found.skipped.examples == (
            f"tempo+http://{server.base}, trace {trace}: found by the search, but no longer there",
        )
    cut = shapes.tempo(golden, partial="too large")
    with shapes.serving(cut) as server, open_source(f"tempo+http://{server.base}") as found:
        assert found.skipped.lines == size
        assert "only a part of it came: too large" in found.skipped.examples[0]
        assert found.query("FROM spans").num_rows == 20

    def broken(request: Request) -> Response:
        response = shapes.tempo(golden)(request)
        if request.path.endswith(trace):
            response.content = response.content[:40]
        return response

    with shapes.serving(broken) as server, open_source(f"tempo+http://{server.base}") as found:
        assert found.skipped.lines == 1
        assert f"trace {trace}: not a trace" in found.skipped.examples[0]


def test_a_broken_span_costs_only_itself(golden: list[shapes.Span], tmp_path: Path) -> None:
    def classic(request: Request) -> Response:
        response = shapes.jaeger_classic(golden)(request)
        if request.path == "/api/traces":
            del response.content["data"][0]["spans"][0]["startTime"]
            response.content["data"][0]["spans"].append({"spanID": "x"})
        return response

    def rows(request: Request) -> Response:
        response = shapes.clickhouse(golden)(request)
        return response if "count()" in request.body else Response(b"[1]\n" + response.content)

    with shapes.serving(rows) as server, open_source(f"clickhouse+http://{server.base}?compute=here") as found:
        assert found.skipped.lines == 1
        assert found.query("FROM spans").num_rows == 20
    shapes.write_otlp_extension(golden, tmp_path / "otlp.parquet")
    table = pq.read_table(tmp_path / "otlp.parquet")
    at = table.schema.get_field_index("span_attributes")
    texts = ["{", *table.column("span_attributes").to_pylist()[1:]]
    pq.write_table(table.set_column(at, "span_attributes", [texts]), tmp_path / "otlp.parquet")
    with open_source(str(tmp_path / "otlp.parquet")) as found:
        assert found.skipped.lines == 1
        assert "otlp.parquet, row 1: not a span" in found.skipped.examples[0]


# --- Addresses and credentials --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("jaeger+http://localhost:16686", "names no service.*jaeger\\+http://HOST:16686\\?service=NAME"),
        ("jaeger+http://localhost:16686?service=a&limit=3", "no parameter 'limit'; there is service"),
        ("tempo+http://?q={}", "names no host"),
        ("tempo+http://me:secret@localhost:3200", "credentials do not belong into a URL; set OTEL_AGENTPERF_SOURCE_"),
        ("clickhouse+http://localhost:99999/db", "Port out of range"),
        ("clickhouse+http://localhost/a/b", "the path is the name of a database"),
        ("clickhouse+http://localhost/a?table=x&table=y", "table is given 2 times"),
        ("clickhouse+http://localhost/a?compute=now", "compute is here or there, not now"),
        ("loki+http://localhost", "a store directory, a file or glob of OTLP JSON lines"),
        ("jaeger://localhost", "a store directory, a file or glob of OTLP JSON lines"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_told(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_source(url)
    assert "secret" not in str(caught.value)


def test_credentials_come_from_the_environment(golden: list[shapes.Span], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.HEADERS, "X-Scope-OrgID=team%2Ca, Authorization=Bearer t")
    with shapes.serving(shapes.tempo(golden)) as server:
        open_source(f"tempo+http://{server.base}").close()
        assert {request.headers["x-scope-orgid"] for request in server.requests} == {"team,a"}
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer t"}
    monkeypatch.setenv(backend.HEADERS, "")
    monkeypatch.setenv(backend.USER, "reader")
    monkeypatch.setenv(backend.PASSWORD, "pass")
    with shapes.serving(shapes.jaeger_v3(golden)) as server:
        open_source(f"jaeger+http://{server.base}?service={SERVICE}").close()
        assert server.requests[0].headers["authorization"] == "Basic cmVhZGVyOnBhc3M="
    with shapes.serving(shapes.clickhouse(golden)) as server:
        open_source(f"clickhouse+http://{server.base}/otel?compute=here").close()
        assert server.requests[0].headers["x-clickhouse-user"] == "reader"
        assert server.requests[0].headers["x-clickhouse-key"] == "pass"
        assert "authorization" not in server.requests[0].headers
    monkeypatch.setenv(backend.HEADERS, "nonsense")
    with pytest.raises(UsageError, match="OTEL_AGENTPERF_SOURCE_HEADERS is a list NAME=VALUE"):
        open_source("tempo+http://localhost:1")


def test_tls_trusts_the_certificates_that_are_named(
    golden: list[shapes.Span], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    with shapes.serving(shapes.tempo(golden), encrypted=certificate.configure_cert) as server:
        with pytest.raises(SourceError, match="certificate verify failed") as caught:
            open_source(f"tempo+https://{server.base}")
        assert "\n" not in str(caught.value)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with open_source(f"tempo+https://{server.base}") as database:
            assert database.query("FROM spans").num_rows == 20


def test_a_query_is_taken_as_it_stands(golden: list[shapes.Span]) -> None:
    with shapes.serving(shapes.tempo(golden)) as server:
        open_source(f'tempo+http://{server.base}?q={{ name="a+b" && span.x > 1 }}').close()
        open_source(f"tempo+http://{server.base}?q=%7B%20name%3D%22c%22%7D").close()
        assert [request.params["q"] for request in server.requests if request.path == "/api/search"] == [
            '{ name="a+b" && span.x > 1 }',
            '{ name="c"}',
        ]


def test_several_services_and_a_path_before_the_api(golden: list[shapes.Span]) -> None:
    def below(request: Request) -> Response:
        assert request.path.startswith("/jaeger/ui/")
        request.path = request.path.removeprefix("/jaeger/ui")
        return shapes.jaeger_v3(golden)(request)

    with shapes.serving(below) as server:
        url = f"jaeger+http://{server.base}/jaeger/ui/?service=other&service={SERVICE}"
        with open_source(url) as database:
            assert database.query("FROM spans").num_rows == 20
