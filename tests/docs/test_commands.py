"""Every command of the documentation runs as it stands there, page by page, or says why it does not."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import backend_shapes as shapes
import documented
import httpx
import peer_clickhouse as clickhouse
import pytest
import zstandard

from otel_agentperf import replay
from otel_agentperf.cli.bench import record_levels
from otel_agentperf.cli.embed import proxy_in_front, simulated_endpoint
from otel_agentperf.processes import address_of, listen
from otel_agentperf.simulate import SimulateConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
ELSEWHERE = {ROOT / "docs" / "library.md"}
"""Its blocks share their names: tests/analyzers/test_library.py runs them."""

COMMAND = Path(documented.__file__).with_name("documented_command.py")
AGENTS = ("anna", "bert")
CLICKHOUSE = "8123"


def blocks_of(page: Path) -> list[documented.Block]:
    return list(documented.blocks(str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")))


TOLD = {page: found for page in PAGES if page not in ELSEWHERE and (found := blocks_of(page))}


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """`HOST:PORT` of the endpoint that all pages ask."""
    config = SimulateConfig(prefill_tokens_per_s=400_000, decode_ms=0.5, decode_slope_ms=0.01, tool_call_rate=1.0)
    with simulated_endpoint(config) as url:
        yield url.removeprefix("http://")


@pytest.fixture(scope="session")
def live(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the traffic of two agents."""
    place = tmp_path_factory.mktemp("live") / "store"
    with proxy_in_front(f"http://{endpoint}", place, capture="content") as url:
        for name in AGENTS:
            messages: list[dict[str, object]] = [{"role": "user", "content": f"{name}: why does the build fail?"}]
            for _ in range(2):
                answer = httpx.post(
                    f"{url}/v1/chat/completions",
                    json={"model": "simulated", "messages": messages, "max_tokens": 20},
                    headers={"x-agentperf-trajectory-id": name},
                ).json()
                messages += [answer["choices"][0]["message"], {"role": "user", "content": "go on"}]
    return place


@pytest.fixture(scope="session")
def benchmark(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a benchmark of two levels."""
    place = tmp_path_factory.mktemp("benchmark") / "store"
    with proxy_in_front(f"http://{endpoint}", place) as url:
        settings = replay.ReplaySettings(
            endpoint=url, model="simulated", levels=(1, 2), seconds=None, trajectories=2, warmup_s=0.0,
            tool_delays=replay.ToolDelays(fixed_s=0.01),
        )  # fmt: skip
        result = asyncio.run(replay.play(replay.load("mini").limited(3), settings))
    record_levels(place, result)
    return place


@pytest.fixture(scope="session")
def backends(benchmark: Path) -> Iterator[dict[str, str]]:
    """Small servers that answer as trace backends do with the spans of a store, and a collector that takes all."""
    spans = shapes.spans_of("".join(map(lines_of, sorted(benchmark.glob("spans-*")))))
    answers = {
        "16686": shapes.jaeger_v3(spans),
        "3200": shapes.tempo(spans),
        "4318": lambda _: shapes.Response({}),
    }
    with ExitStack() as stack:
        found = {port: stack.enter_context(shapes.serving(answer)).base for port, answer in answers.items()}
        if (python := clickhouse.found()) is not None:
            found[CLICKHOUSE] = stack.enter_context(clickhouse.running(python))
            fill(found[CLICKHOUSE], spans)
        yield found


def fill(address: str, spans: list[shapes.Span]) -> None:
    """Make the collector's table, with spans."""
    table = shapes.CLICKHOUSE_TABLE.format(name="otel.otel_traces", attributes="Map(LowCardinality(String), String)")
    rows = "\n".join(map(json.dumps, shapes.clickhouse_rows(spans)))
    with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        for sql in ("CREATE DATABASE otel", table, f"INSERT INTO otel.otel_traces FORMAT JSONEachRow\n{rows}"):
            assert client.post("/", content=sql).status_code == 200


def lines_of(segment: Path) -> str:
    data = segment.read_bytes()
    if segment.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    return data.decode()


@pytest.fixture
def reader(
    endpoint: str, live: Path, benchmark: Path, backends: dict[str, str], tmp_path: Path
) -> Iterator[documented.Reader]:
    """A directory with what the pages take for granted, and servers at the addresses that they name."""
    place = tmp_path / "reader"
    place.mkdir()
    for name, store in (("agentperf-store", live), ("before", benchmark), ("after", benchmark)):
        shutil.copytree(store, place / name)
    (place / "traces").mkdir()
    for segment in benchmark.glob("spans-*"):
        shutil.copy(segment, place / "traces")
    (place / "prices.toml").write_text('currency = "USD"\n[[price]]\nmodels = ["*"]\ninput = 1.0\noutput = 4.0\n')
    (place / "outcomes.csv").write_text("trajectory_id,outcome\nanna,success\nbert,failure\n")
    for name in ("tests", "docs", "deploy"):
        (place / name).symlink_to(ROOT / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "otel-agentperf").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{COMMAND}" "$@"\n')
    (programs / "otel-agentperf").chmod(0o755)
    with listen("127.0.0.1", 0) as one, listen("127.0.0.1", 0) as other:
        listening, admin = address_of(one), address_of(other)
    host = r"(?:127\.0\.0\.1|localhost|0\.0\.0\.0)"
    addresses = {
        rf"{host}:4000\b": listening,
        rf"{host}:4001\b": admin,
        # vLLM, SGLang, Ollama and llama.cpp listen here.
        rf"{host}:(?:8000|30000|11434|8080)\b": endpoint,
        **{rf"{host}:{port}\b": address for port, address in backends.items()},
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_"))}
    environment |= {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{environment['PATH']}",
        "HOME": str(tmp_path),
        "DOCUMENTED_PLACE": str(place),
        "DOCUMENTED_READER": str(os.getpid()),
        "OTEL_AGENTPERF_LISTEN": listening,
        "OTEL_AGENTPERF_ADMIN": admin,
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": f"http://{listening}/v1",
        "ANTHROPIC_API_KEY": "none",
    }
    reader = documented.Reader(place, addresses, environment)
    yield reader
    reader.leave()


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("page", TOLD, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run(
    page: Path, reader: documented.Reader, live: Path, subtests: pytest.Subtests
) -> None:
    for block in TOLD[page]:
        with subtests.test(str(block)):
            if page.parent.name == "reference":
                # Its examples are no story: each stands for itself.
                shutil.rmtree(reader.place / "agentperf-store")
                shutil.copytree(live, reader.place / "agentperf-store")
            if block.not_run is not None:
                pytest.skip(f"{block}: {block.not_run}")
            if f":{CLICKHOUSE}" in block.text and clickhouse.found() is None:
                pytest.skip(f"{block}: chdb is not in ${clickhouse.PEERS}: tests/peers/install.py")
            if "curl " in block.text and shutil.which("curl") is None:
                pytest.skip(f"{block}: curl is not installed")
            reader.run(block)


def test_most_blocks_are_run() -> None:
    """What is not run is the exception, and each has its reason."""
    blocks = [block for found in TOLD.values() for block in found]
    assert all(block.not_run != "" for block in blocks)
    run = sum(block.not_run is None for block in blocks)
    assert run / len(blocks) > 0.7, [f"{block}: {block.not_run}" for block in blocks if block.not_run is not None]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("```sh\nls\n```\n", [("ls\n", None, 0)]),
        ("```console\n$ ls\nREADME\n$ pwd\n```\n", [("ls\npwd\n", None, 0)]),
        ("```console\nUsage: x\n```\n", []),
        ("```toml\na = 1\n```\n", []),
        ("<!-- not run: too far -->\n\n```sh\nls\n```\n", [("ls\n", "too far", 0)]),
        ("<!-- exits 1 -->\n```bash\nfalse\n```\n", [("false\n", None, 1)]),
        ("```sh\nA=b docker run x\n```\n", [("A=b docker run x\n", "needs docker", 0)]),
    ],
)
def test_blocks_are_found(text: str, wanted: list[tuple[str, str | None, int]]) -> None:
    found = documented.blocks("page.md", text)
    assert [(block.text, block.not_run, block.exits) for block in found] == wanted


def test_a_command_that_fails_is_found(reader: documented.Reader) -> None:
    (block,) = documented.blocks("page.md", "```sh\notel-agentperf turns no-such-store\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: exit status 3, not 0"):
        reader.run(block)
