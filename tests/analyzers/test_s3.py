"""Object storage: segments go to a bucket that moto serves, by hour, and any SOURCE reads them back."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import zstandard
from installed import program
from typer.testing import CliRunner

from otel_agentperf.cli.main import app
from otel_agentperf.errors import SourceError, UsageError
from otel_agentperf_analyzers import open_source
from otel_agentperf_analyzers.shipping import NOTES, Shipper
from otel_agentperf_analyzers.sources import s3
from otel_agentperf_analyzers.sources.bucket import Place
from otel_agentperf_analyzers.sources.s3 import partition, partition_bounds_ns

SERVER = program("moto", "moto_server")

pytestmark = [
    pytest.mark.peer("moto"),
    pytest.mark.skipif(SERVER is None, reason="moto is not installed: tests/peers/install.py DIR moto"),
]

BUCKET = "traces"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """URL of an S3 service."""
    with closing(socket.create_server(("127.0.0.1", 0))) as one:
        port = one.getsockname()[1]
    process = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "Running on" in line:
            break
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    reader.start()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(60)
    reader.join()
    process.stderr.close()


@pytest.fixture
def bucket(service, monkeypatch) -> str:
    """An empty bucket, named by the usual variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", service)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    httpx.post(f"{service}/moto-api/reset").raise_for_status()
    httpx.put(f"{service}/{BUCKET}").raise_for_status()
    return f"s3://{BUCKET}/agentperf"


def line(at: datetime, number: int) -> bytes:
    """A call span that starts at some time."""
    start_ns = round(at.timestamp()) * 10**9 + number
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat m",
        "kind": 3,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + 10**9),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": str(number)}},
            {"key": "of.ours", "value": {"stringValue": "else"}},
        ],
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode() + b"\n"


def seal(store: Path, name: str, lines: list[bytes]) -> Path:
    store.mkdir(exist_ok=True)
    path = store / f"spans-{name}.jsonl.zst"
    path.write_bytes(zstandard.compress(b"".join(lines)))
    return path


@pytest.fixture
def store(tmp_path) -> Path:
    """Two sealed segments over three hours, and one that is being written."""
    store = tmp_path / "store"
    seal(store, "a-000000", [line(NOON + at * HOUR, at * 10 + number) for at in (0, 1) for number in range(4)])
    seal(store, "a-000001", [line(NOON + at * HOUR, at * 10 + number) for at in (1, 2) for number in range(4, 8)])
    (store / "spans-a-000002.jsonl").write_bytes(line(NOON, 99))
    return store


def keys(service: str) -> list[str]:
    listing = httpx.get(f"{service}/{BUCKET}?list-type=2").raise_for_status().text
    return re.findall("<Key>(.*?)</Key>", listing)


def output_tokens(source: str, **period: datetime) -> list[int]:
    with open_source(source, **period) as database:
        return [row["n"] for row in database.query("SELECT output_tokens AS n FROM turns ORDER BY n").to_pylist()]


def test_what_is_shipped_is_there_by_hour_and_reads_like_the_store(bucket, service, store):
    done = Shipper(store, Place.parse(bucket)).run()
    assert (done.segments, done.objects, done.spans, done.failed) == (2, 4, 16, 0)
    assert keys(service) == [
        "agentperf/date=2026-11-25/hour=12/spans-a-000000.parquet",
        "agentperf/date=2026-11-25/hour=13/spans-a-000000.parquet",
        "agentperf/date=2026-11-25/hour=13/spans-a-000001.parquet",
        "agentperf/date=2026-11-25/hour=14/spans-a-000001.parquet",
    ]
    (store / "spans-a-000002.jsonl").unlink()
    with open_source(bucket) as there, open_source(str(store)) as here:
        for relation in ("spans", "turns", "trajectories"):
            query = f"SELECT * FROM {relation} ORDER BY ALL"
            assert there.query(query).to_pylist() == here.query(query).to_pylist()


def test_shipping_again_sends_nothing_and_an_interrupted_segment_whole(bucket, service, store):
    Shipper(store, Place.parse(bucket)).run()
    before = keys(service)
    assert Shipper(store, Place.parse(bucket)).run().segments == 0
    (note,) = (store / NOTES).glob("*/spans-a-000001")
    note.unlink()
    again = Shipper(store, Place.parse(bucket)).run()
    assert (again.segments, again.spans) == (1, 8)
    assert keys(service) == before
    assert len(output_tokens(bucket)) == 16


def test_each_destination_has_notes_of_its_own_and_they_go_with_the_segments(bucket, store):
    Shipper(store, Place.parse(bucket)).run()
    assert Shipper(store, Place.parse(f"s3://{BUCKET}/other")).run().segments == 2
    (store / "spans-a-000000.jsonl.zst").unlink()
    Shipper(store, Place.parse(bucket)).run()
    assert len(list((store / NOTES).glob("*/*"))) == 3


@pytest.mark.parametrize(
    ("since", "until", "found", "read"),
    [
        (None, None, 16, 4),
        (NOON + HOUR, None, 12, 3),
        (None, NOON + HOUR, 4, 1),
        (NOON + HOUR, NOON + 2 * HOUR, 8, 2),
        (NOON + 2 * HOUR, NOON + 3 * HOUR, 4, 1),
    ],
)
def test_only_the_hours_that_are_asked_for_are_read(bucket, store, monkeypatch, since, until, found, read):
    Shipper(store, Place.parse(bucket)).run()
    copied = []
    copy = s3._copy
    monkeypatch.setattr(s3, "_copy", lambda client, info, to: (copied.append(info.path), copy(client, info, to)))
    assert len(output_tokens(bucket, since=since, until=until)) == found
    assert len(copied) == read


def test_hours_without_spans(bucket, store):
    Shipper(store, Place.parse(bucket)).run()
    with pytest.raises(SourceError, match="holds no Parquet and no OTLP JSON lines of these hours"):
        open_source(bucket, since=NOON + timedelta(days=3))


def test_objects_are_named_by_globs_or_alone_and_may_be_lines(bucket, service, store):
    Shipper(store, Place.parse(bucket)).run()
    httpx.put(f"{service}/{BUCKET}/collector/a.jsonl", content=line(NOON, 70)).raise_for_status()
    httpx.put(f"{service}/{BUCKET}/collector/note.txt", content=b"no spans").raise_for_status()
    assert len(output_tokens(f"{bucket}/date=*/hour=13/*.parquet")) == 8
    assert len(output_tokens(f"{bucket}/date=2026-11-25/hour=12/spans-a-000000.parquet")) == 4
    assert output_tokens(f"s3://{BUCKET}/collector") == [70]
    assert len(output_tokens(f"s3://{BUCKET}")) == 17


def test_a_bucket_that_goes_away_on_the_way_gives_one_error_and_nothing_else(bucket, store, monkeypatch):
    Shipper(store, Place.parse(bucket)).run()
    place = Place.parse(bucket)
    with Breaking(place, after=2) as broken:
        monkeypatch.setenv("AWS_ENDPOINT_URL", broken.url)
        with pytest.raises(SourceError, match=rf"^cannot read {bucket}: ") as told:
            open_source(bucket)
    assert "\n" not in str(told.value)


def test_an_object_that_breaks_off_is_not_half_a_result(bucket, store, monkeypatch):
    Shipper(store, Place.parse(bucket)).run()
    with Breaking(Place.parse(bucket), after=2, within=200) as broken:
        monkeypatch.setenv("AWS_ENDPOINT_URL", broken.url)
        with pytest.raises(SourceError, match=rf"^cannot read {bucket}: "):
            open_source(bucket)


def test_a_service_that_is_gone_keeps_segments_for_later(bucket, store):
    with closing(socket.create_server(("127.0.0.1", 0))) as one:
        gone = one.getsockname()[1]
    place = Place.parse(f"{bucket}?endpoint=http://127.0.0.1:{gone}")
    waits: list[float] = []
    done = Shipper(store, place, sleep=waits.append).run()
    assert (done.segments, done.failed) == (0, 2)
    assert done.problem
    assert done.retries == len(waits) == 2
    assert waits == sorted(waits)
    later = Shipper(store, Place.parse(bucket)).run()
    assert (later.segments, later.failed) == (2, 0)


def test_a_bucket_that_is_not_there(bucket, store, service):
    missing = "s3://nothing/here"
    with pytest.raises(SourceError, match=r"^cannot list s3://nothing/here: no such bucket"):
        open_source(missing)
    done = Shipper(store, Place.parse(missing), sleep=lambda _: None).run()
    assert (done.segments, done.retries) == (0, 0)
    assert done.failed > 0


def test_the_command_ships_once(bucket, store):
    result = CliRunner().invoke(app, ["ship", str(store), "--to", bucket])
    assert result.exit_code == 0
    result = CliRunner().invoke(app, ["ship", str(store), "--to", "s3://nothing/here"])
    assert result.exit_code == 3


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "s3://key:secret@bucket/x"])
def test_urls_that_name_no_bucket(url):
    with pytest.raises(UsageError):
        Place.parse(url)


def test_a_query_names_endpoint_and_region_and_a_glob_may_have_question_marks():
    place = Place.parse("s3://b/a/spans-?.parquet?endpoint=http://127.0.0.1:9000&region=eu-west-1")
    assert (place.bucket, place.prefix, place.endpoint, place.region) == (
        "b",
        "a/spans-?.parquet",
        "http://127.0.0.1:9000",
        "eu-west-1",
    )
    assert Place.parse("s3://b/a?.parquet").prefix == "a?.parquet"


def test_partitions_and_their_bounds():
    hour = round(NOON.timestamp()) // 3600
    assert partition(hour) == "date=2026-11-25/hour=12"
    first = round(NOON.timestamp()) * 10**9
    assert partition_bounds_ns(f"b/p/{partition(hour)}/x.parquet") == (first, first + 3600 * 10**9 - 1)
    day = round(NOON.replace(hour=0).timestamp()) * 10**9
    assert partition_bounds_ns("b/date=2026-11-25") == (day, day + 86_400 * 10**9 - 1)
    assert partition_bounds_ns("b/date=2026-13-25/x") is None
    assert partition_bounds_ns("b/x.parquet") is None


class Breaking:
    """Passes requests on to the service until enough objects were got; then it is gone.

    Args:
        after: objects that come whole.
        within: bytes of the next one that come before the connection breaks; None refuses it.
    """

    def __init__(self, place: Place, *, after: int, within: int | None = None) -> None:
        self._upstream = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        self._after = after
        self._within = within
        self._got = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> "Breaking":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = client.recv(65_536)
                    if not data:
                        return
                    head += data
                method, target = head.split(b" ", 2)[:2]
                is_object = method == b"GET" and b".parquet" in target and b"list-type" not in target
                with self._lock:
                    self._got += is_object
                    gone = is_object and self._got > self._after
                if gone and self._within is None:
                    return
                answer = self._ask(head)
                if gone:
                    client.sendall(answer[: answer.index(b"\r\n\r\n") + 4 + (self._within or 0)])
                    return
                client.sendall(answer)
                return

    def _ask(self, head: bytes) -> bytes:
        host, _, port = self._upstream.partition(":")
        lines = head.split(b"\r\n\r\n")[0].split(b"\r\n")
        lines = [one for one in lines if not one.lower().startswith(b"connection:")] + [b"Connection: close"]
        with socket.create_connection((host, int(port))) as upstream:
            upstream.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
            answer = b""
            while data := upstream.recv(65_536):
                answer += data
        return answer
