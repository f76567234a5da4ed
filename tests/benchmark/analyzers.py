"""What it costs to read spans: `python tests/benchmark/analyzers.py lines|store|large`; figures are in analyzers.md.

lines   OTLP JSON lines to queryable, against orjson's bare parse of the same bytes (needs orjson)
store   a store of `--turns`: the first reading, then the whole report, `slo` and `turns` from its cache, and the report
        after few more turns
large   a Parquet export of `--turns`: the whole report within `--memory`, spilled to disk where it must be

Each command of ours runs in a process of its own, by the console command; wall time, processor time and the largest
resident memory are those of that process and its children.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import zstandard

from otel_agentperf_analyzers.sources import rows
from otel_agentperf_analyzers.sources.parquet import TYPES

GOLDEN = Path(__file__).parents[1] / "data" / "spans" / "proxy.jsonl"
COMMAND = [sys.executable, "-m", "otel_agentperf"]
SEGMENT = 64 * 2**20
TURNS_OF_TRAJECTORY = 20


@dataclass
class Cost:
    wall_s: float
    cpu_s: float
    rss_bytes: int

    def __str__(self) -> str:
        return f"{self.wall_s:7.2f} s wall  {self.cpu_s:7.2f} s cpu  {self.rss_bytes / 2**30:5.2f} GiB"


def cost(arguments: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Run a command; its output goes nowhere."""
    began = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    assert status == 0, f"{arguments} failed"
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def best(times: int, run: Callable[[], Cost]) -> Cost:
    return min((run() for _ in range(times)), key=lambda each: each.wall_s)


# --- Spans as they are written ----------------------------------------------------------------------------------------


def pairs() -> Iterator[tuple[str, str]]:
    """A call and a tool span of the proxy as JSON texts with places for ids and times, without end."""
    spans = [
        span
        for line in GOLDEN.read_text().splitlines()
        for each in json.loads(line)["resourceSpans"]
        for scope_spans in each["scopeSpans"]
        for span in scope_spans["spans"]
    ]
    call = next(span for span in spans if span["name"].startswith("chat") and len(span["attributes"]) > 60)
    tool = next(span for span in spans if span["name"].startswith("execute_tool"))
    texts = {name: _template(span) for name, span in (("call", call), ("tool", tool))}
    number = 0
    while True:
        trajectory, index = divmod(number, TURNS_OF_TRAJECTORY)
        start = 1_767_225_600 * 10**9 + (trajectory // 50) * 400 * 10**9 + index * 20 * 10**9 + number * 7919 % 10**9
        end = start + 8 * 10**9 + number * 104_729 % (3 * 10**9)
        run = trajectory * 4 + index // 5
        named = {
            "trace": f"{run:032x}",
            "parent": f"{run + 2**40:016x}",
            "trajectory": f"t{trajectory}",
            "run": f"r{run}",
            "turn": f"{number * 2 + 1:016x}",
            "index": str(index),
            "input": str(5000 + index * 1500),
            "output": str(20 + number * 31 % 400),
        }
        call_text = texts["call"] % {**named, "span": named["turn"], "start": start, "end": end}
        tool_text = texts["tool"] % {
            **named,
            "span": f"{number * 2 + 2:016x}",
            "start": end,
            "end": end + 1_500_000_000,
        }
        yield call_text, tool_text
        number += 1


def _template(span: dict[str, Any]) -> str:
    places = {
        "agentperf.trajectory.id": "%(trajectory)s",
        "agentperf.run.id": "%(run)s",
        "agentperf.turn.id": "%(turn)s",
        "agentperf.tool.turn_id": "%(turn)s",
        "agentperf.turn.index": "%(index)s",
        "gen_ai.usage.input_tokens": "%(input)s",
        "gen_ai.usage.output_tokens": "%(output)s",
    }
    content = (
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
    )
    made = json.loads(json.dumps(span).replace("%", "%%"))
    made |= {"traceId": "%(trace)s", "spanId": "%(span)s", "parentSpanId": "%(parent)s"}
    made |= {"startTimeUnixNano": "%(start)s", "endTimeUnixNano": "%(end)s"}
    made["attributes"] = [each for each in made["attributes"] if each["key"] not in content]
    for each in made["attributes"]:
        if each["key"] in places:
            each["value"] = {next(iter(each["value"])): places[each["key"]]}
    return json.dumps(made, separators=(",", ":"))


def lines(turns: int, begin: int = 0) -> Iterator[bytes]:
    """Lines of 256 spans, two for each turn, after so many turns."""
    head = json.loads(GOLDEN.read_text().splitlines()[0])["resourceSpans"][0]
    before = json.dumps({"resource": head["resource"]}, separators=(",", ":"))[:-1]
    scope = json.dumps(head["scopeSpans"][0]["scope"], separators=(",", ":"))
    source = islice(pairs(), begin, None)
    for first in range(0, turns, 128):
        spans = ",".join(text for _ in range(min(128, turns - first)) for text in next(source))
        document = f'{{"resourceSpans":[{before},"scopeSpans":[{{"scope":{scope},"spans":[{spans}]}}]}}]}}\n'
        yield document.encode()


def measure_lines(directory: Path, turns: int) -> None:
    """One file; the two alternate, so that a busy machine is busy for both."""
    import orjson

    path = directory / "spans.jsonl"
    with path.open("wb") as file:
        file.writelines(lines(turns))
    print(f"{turns * 2:,} spans, {path.stat().st_size / 1e6:.0f} MB")
    code = (
        "import sys; from otel_agentperf_analyzers import open_source\n"
        "with open_source(sys.argv[1]) as database: print(database.query('SELECT count(*), min(start_ns) FROM spans'))"
    )
    bare, ours = [], []
    for _ in range(5):
        began, used = time.perf_counter(), time.process_time()
        with path.open("rb") as file:
            for line in file:
                orjson.loads(line)
        bare.append((time.perf_counter() - began, time.process_time() - used))
        ours.append(cost([sys.executable, "-c", code, str(path)]))
        print(f"  orjson {bare[-1][0]:6.2f} s wall {bare[-1][1]:6.2f} s cpu | ours {ours[-1]}")
    taken = list(zip(ours, bare, strict=True))
    print(
        f"ratio, median of the pairs: {statistics.median(mine.wall_s / wall for mine, (wall, _) in taken):.2f} wall,",
        end=" ",
    )
    print(f"{statistics.median(mine.cpu_s / cpu for mine, (_, cpu) in taken):.2f} cpu")


def measure_store(directory: Path, turns: int) -> None:
    """Sealed segments of 64 MiB, and one that is being written."""
    store = directory / "store"
    store.mkdir()
    number, raw, pending, size = 0, 0, [], 0

    def seal() -> None:
        data = b"".join(pending)
        packed = zstandard.ZstdCompressor(level=3).compress(data)
        (store / f"spans-bench-{number:06}.jsonl.zst").write_bytes(packed)

    for line in lines(turns):
        if size + len(line) > SEGMENT:
            seal()
            number, pending, size = number + 1, [], 0
        pending.append(line)
        size += len(line)
        raw += len(line)
    (store / f"spans-bench-{number:06}.jsonl").write_bytes(b"".join(pending))
    print(f"{turns:,} turns, {turns * 2:,} spans, {raw / 1e9:.2f} GB of lines in {number + 1} segments")
    count = [*COMMAND, "query", "SELECT count(*) AS spans FROM spans", str(store)]
    print("first reading        ", cost(count))
    print("count from the cache ", best(3, lambda: cost(count)))
    print("first report         ", cost([*COMMAND, "report", str(store)]))
    for name in ("report", "slo", "turns --limit 20 -f json", "trajectories --limit 20 -f json"):
        words = name.split()
        arguments = [*COMMAND, words[0], str(store), *words[1:]]
        print(f"{words[0]:<21}", best(3, lambda arguments=arguments: cost(arguments)))  # type: ignore[misc]
    added = turns
    for more in (200, 2_000):
        with (store / f"spans-bench-{number:06}.jsonl").open("ab") as growing:
            growing.writelines(lines(more, added))
        added += more
        print(f"report, {more:,} more turns", cost([*COMMAND, "report", str(store)]))
    cached = sum(path.stat().st_size for path in (store / ".cache").rglob("*") if path.is_file())
    kept = sum(path.stat().st_size for path in store.glob("spans-*"))
    print(f"segments {kept / 1e6:.0f} MB, cache {cached / 1e6:.0f} MB")


# --- Very many spans, made in the database --------------------------------------------------------------------------


def export(path: Path, turns: int, first: int) -> None:
    """A Parquet export of turns with one tool call each."""
    wave_ns = f"(i // {TURNS_OF_TRAJECTORY * 50}) * 400000000000"
    start = f"1767225600000000000 + {wave_ns} + (i % 20) * 20000000000 + h % 1000000000"
    end_s = "8 + h % 3000 / 1000"
    end = f"({start}) + CAST(({end_s}) * 1e9 AS BIGINT)"
    both = {
        "trace_id": "printf('%032x', i // 5)",
        "parent_span_id": "printf('%016x', i // 5 + 1000000000000)",
        "service_name": "'otel-agentperf-proxy'",
        "service_instance_id": "'instance'",
        "scope_name": "'otel_agentperf'",
        "gen_ai.agent.name": "'opencode'",
        "agentperf.trajectory.id": f"'t' || (i // {TURNS_OF_TRAJECTORY})",
        "agentperf.trajectory.source": "'header'",
        "agentperf.run.id": "'r' || (i // 5)",
    }
    call = both | {
        "span_id": "printf('%016x', i * 2 + 1)",
        "name": "'chat gpt-oss-120b'",
        "kind": "3",
        "status_code": "0",
        "start_unix_ns": start,
        "end_unix_ns": end,
        "gen_ai.operation.name": "'chat'",
        "gen_ai.provider.name": "'openai'",
        "gen_ai.request.model": "'gpt-oss-120b'",
        "gen_ai.request.stream": "TRUE",
        "gen_ai.response.id": "printf('chatcmpl-%016x', h)",
        "gen_ai.response.finish_reasons": "['tool_calls']",
        "gen_ai.usage.input_tokens": "5000 + i % 20 * 1500",
        "gen_ai.usage.cache_read.input_tokens": "4000 + i % 20 * 1400",
        "gen_ai.usage.output_tokens": "20 + h % 400",
        "agentperf.dialect": "'openai.chat'",
        "agentperf.status": "CASE WHEN h % 200 = 0 THEN 'error' ELSE 'ok' END",
        "agentperf.usage.source": "'server'",
        "agentperf.request.id": "printf('req-%016x', h)",
        "agentperf.run.index": "i % 20 // 5",
        "agentperf.turn.id": "printf('%016x', i * 2 + 1)",
        "agentperf.turn.index": "i % 20",
        "agentperf.turn.kind": "'turn'",
        "agentperf.attempt.index": "0",
        "agentperf.time.sent": "0.001",
        "agentperf.time.first_chunk": "0.3 + h % 1000 / 1000",
        "agentperf.time.first_output": "0.31 + h % 1000 / 1000",
        "agentperf.time.first_answer": "0.9 + h % 1000 / 1000",
        "agentperf.time.last_output": f"{end_s} - 0.1",
        "agentperf.time.end": end_s,
        "agentperf.proxy.overhead_s": "0.0003 + h % 1000 / 1e7",
        "agentperf.chunk.count": "20 + h % 400",
        "agentperf.chunk.gap_max_s": "0.05 + h % 1000 / 1e5",
        "agentperf.request.bytes": "20000 + i % 20 * 6000",
        "agentperf.prefix.shared_bytes": "i % 20 * 6000",
        "agentperf.tool.call_count": "1",
    }
    tool = both | {
        "span_id": "printf('%016x', i * 2 + 2)",
        "name": "'execute_tool bash'",
        "kind": "1",
        "status_code": "0",
        "start_unix_ns": end,
        "end_unix_ns": f"{end} + 1500000000",
        "gen_ai.operation.name": "'execute_tool'",
        "gen_ai.tool.name": "['bash', 'read', 'edit', 'grep'][1 + i % 4]",
        "gen_ai.tool.call.id": "printf('call_%016x', h)",
        "agentperf.tool.duration_source": "'gap'",
        "agentperf.tool.turn_id": "printf('%016x', i * 2 + 1)",
    }
    named = {"start_unix_ns": "start_ns", "end_unix_ns": "end_ns"}
    selects = [
        "SELECT "
        + ", ".join(
            f'CAST({made.get(field.name, "NULL")} AS {TYPES[field.type]}) AS "{named.get(field.name, field.name)}"'
            for field in rows.SCHEMA
        )
        + f" FROM (SELECT i, CAST(hash(i) % 1000000007 AS BIGINT) AS h FROM range({first}, {first + turns}) AS t(i))"
        for made in (call, tool)
    ]
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({' UNION ALL '.join(selects)}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def measure_large(directory: Path, turns: int, memory: str) -> None:
    step = 500_000
    for first in range(0, turns, step):
        export(directory / f"spans-{first // step:03}.parquet", min(step, turns - first), first)
    size = sum(path.stat().st_size for path in directory.glob("*.parquet"))
    print(f"{turns:,} turns, {turns * 2:,} spans, {size / 1e6:.0f} MB of Parquet, {memory} for DuckDB")
    environment = {"OTEL_AGENTPERF_MEMORY": memory}
    for words in (["slo"], ["report"]):
        print(f"{words[0]:<8}", cost([*COMMAND, *words, f"{directory}/*.parquet"], environment), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lines", "store", "large"))
    parser.add_argument("--turns", type=int, help="default: 50,000, 1,000,000 and 10,000,000")
    parser.add_argument("--memory", default="2500MB", help="DuckDB's limit in `large`")
    given = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="otel-agentperf-benchmark-") as name:
        directory = Path(name)
        match given.what:
            case "lines":
                measure_lines(directory, given.turns or 50_000)
            case "store":
                measure_store(directory, given.turns or 1_000_000)
            case _:
                measure_large(directory, given.turns or 10_000_000, given.memory)


if __name__ == "__main__":
    main()
