"""What the SLO verdicts of millions of spans cost on ClickHouse's engine, and on DuckDB over the same spans.

    python tests/benchmark/clickhouse.py [--spans 1000000,10000000] [-o FILE]

Needs chdb (`tests/peers/install.py`). The spans are made by SQL in the table of the collector's exporter: live traffic
of 200 agents at a time, 48 calls and tool executions in turn, an auxiliary call and the root of the run each. DuckDB
reads them from Parquet files, as it does from a store that was read before.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow.parquet as pq

from otel_agentperf_analyzers import Database, open_source
from otel_agentperf_analyzers.clickhouse.database import ClickHouseDatabase
from otel_agentperf_analyzers.clickhouse.spans import SpanTable
from otel_agentperf_analyzers.sources import Intake, Period

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
import peer_clickhouse as peer

STATEMENT_SPANS = 500_000
PARQUET_WAVES = 50
AGENTS = 200
"""At work at a time; they begin within a wave."""

WAVE_NS = 500 * 10**9

COMMON = """
    'agentperf.trajectory.id', trajectory, 'agentperf.trajectory.source', 'header',
    'agentperf.trajectory.confidence', '1', 'agentperf.run.id', concat(trajectory, '/0'), 'agentperf.run.index', '0',
    'agentperf.tenant', substring(trace, 1, 16), 'gen_ai.conversation.id', trajectory,
    'gen_ai.agent.name', ['claude-code', 'codex', 'opencode'][1 + agent % 3]
"""

SPANS = f"""
INSERT INTO otel.otel_traces
WITH
    number AS n,
    intDiv(n, 50) AS agent,
    n % 50 AS place,
    intDiv(place, 2) AS turn,
    lower(hex(sipHash128(agent))) AS trace,
    toString(agent) AS trajectory,
    (cityHash64(n) % 1000) / 1000 AS luck,
    toUInt64(1767225600e9) + intDiv(agent, 200) * 500000000000 + (agent % 200) * 2000000000 AS began,
    multiIf(place = 48, 'run', place = 49, 'auxiliary', place % 2 = 0, 'turn', 'tool') AS what,
    toUInt64(
        multiIf(what = 'run', 480e9, what = 'tool', 2e9 + 8e9 * luck, what = 'turn', 3e9 + 6e9 * luck, 8e8)
    ) AS lasts,
    began + multiIf(
        what = 'run', 0, what = 'auxiliary', 1000000, turn * 20000000000 + (what = 'tool') * 9500000000
    ) AS start,
    0.15 + luck * luck AS first,
    lasts / 1e9 AS end,
    2000 + turn * 3500 + cityHash64(n, 1) % 900 AS input,
    40 + cityHash64(n, 2) % 400 AS output,
    luck > 0.996 AS is_failed
SELECT
    fromUnixTimestamp64Nano(toInt64(start)), trace, lower(hex(cityHash64(n, 3))),
    multiIf(what = 'run', '', lower(hex(cityHash64(agent * 50 + 48, 3)))), '',
    multiIf(what = 'run', 'invoke_agent', what = 'tool', 'execute_tool Bash', 'chat m'),
    if(what IN ('run', 'tool'), 'Internal', 'Client'), 'otel-agentperf-proxy',
    map('service.name', 'otel-agentperf-proxy', 'service.instance.id', 'a1', 'host.name', 'node-1'),
    'otel-agentperf', '0.1',
    CAST(multiIf(
        what = 'run',
        map({COMMON}, 'gen_ai.operation.name', 'invoke_agent', 'agentperf.status', 'ok'),
        what = 'tool',
        map({COMMON}, 'gen_ai.operation.name', 'execute_tool', 'gen_ai.tool.name', ['Bash', 'Read', 'Edit'][1 + n % 3],
            'gen_ai.tool.call.id', concat('call_', toString(n)), 'agentperf.tool.duration_source', 'gap',
            'agentperf.tool.turn_id', concat(trajectory, '-', toString(turn))),
        map({COMMON}, 'gen_ai.operation.name', 'chat', 'gen_ai.provider.name', 'openai',
            'gen_ai.request.model', ['gpt-oss-120b', 'DeepSeek-V4-Pro'][1 + agent % 2],
            'gen_ai.response.model', ['gpt-oss-120b', 'DeepSeek-V4-Pro'][1 + agent % 2],
            'gen_ai.request.stream', 'true',
            'gen_ai.request.max_tokens', '8192', 'gen_ai.response.id', concat('r-', toString(n)),
            'gen_ai.response.finish_reasons', '["tool_calls"]', 'http.request.method', 'POST', 'url.path',
            '/v1/chat/completions',
            'http.response.status_code', if(is_failed, '500', '200'), 'server.address', 'llm', 'server.port', '8000',
            'user_agent.original', 'agent/1', 'agentperf.dialect', 'openai.chat',
            'agentperf.turn.id', concat(trajectory, if(what = 'turn', '-', '~'), toString(turn)),
            'agentperf.turn.index', toString(turn), 'agentperf.turn.kind', what, 'agentperf.attempt.index', '0',
            'agentperf.segment.index', '0', 'agentperf.agent.depth', '0',
            'agentperf.request.id', concat('q-', toString(n)),
            'agentperf.status', if(is_failed, 'error', 'ok'), 'agentperf.usage.source', 'server',
            'gen_ai.usage.input_tokens', toString(input), 'gen_ai.usage.output_tokens', toString(output),
            'gen_ai.usage.cache_read.input_tokens', toString(intDiv(input * 9, 10)),
            'agentperf.time.sent', '0.002', 'agentperf.time.first_chunk', toString(first),
            'agentperf.time.first_output', toString(first), 'agentperf.time.first_answer', toString(first),
            'agentperf.time.last_output', toString(end - 0.01), 'agentperf.time.end', toString(end),
            'agentperf.upload_s', '0.001', 'agentperf.proxy.overhead_s', '0.0004',
            'agentperf.chunk.count', toString(output),
            'agentperf.chunk.gap_p50_s', '0.01', 'agentperf.chunk.gap_p95_s', '0.02',
            'agentperf.chunk.gap_p99_s', '0.03',
            'agentperf.chunk.gap_max_s', '0.2', 'agentperf.chunk.stall_count', '0', 'agentperf.tool.call_count', '1',
            'agentperf.request.bytes', toString(input * 4), 'agentperf.response.bytes', toString(output * 5),
            'agentperf.prefix.shared_bytes', toString(input * 3), 'agentperf.context.system_bytes', '4000',
            'agentperf.context.tools_bytes', '9000', 'agentperf.context.messages_bytes', toString(input),
            'agentperf.context.tool_results_bytes', toString(input),
            'agentperf.message.count', toString(turn * 2 + 1))
    ), 'Map(LowCardinality(String), String)'),
    lasts, if(is_failed, 'Error', 'Unset'), '', [], [], [], [], [], [], []
FROM numbers({{first}}, {{count}})
"""


@dataclass
class Figures:
    """Of one engine over one number of spans."""

    spans: int
    engine: str
    wall_s: float
    cpu_s: float
    peak_mib: float
    rows: int


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The most memory that a process had since `forget_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextmanager
def serving(python: Path, directory: Path) -> Iterator[tuple[str, int]]:
    """A server over the tables of a directory: HOST:PORT and its process."""
    script = Path(__file__).parents[1] / "peers" / "clickhouse_server.py"
    process = subprocess.Popen([python, script, directory], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.kill()
        process.communicate()


def statement(address: str, sql: str, form: str = "TabSeparated") -> bytes:
    response = httpx.post(f"http://{address}/", params={"default_format": form}, content=sql, timeout=None)
    if response.status_code != 200:
        raise SystemExit(response.text)
    return response.content


class Files:
    """Parquet files of spans, as a source of DuckDB's."""

    def __init__(self, directory: Path) -> None:
        self.name = str(directory)
        self._files = sorted(directory.glob("*.parquet"))

    def read(self, intake: Intake) -> None:
        for path in self._files:
            intake.file(path, pq.read_metadata(path).num_rows)


def on_clickhouse(address: str, pid: int, spans: int) -> tuple[Figures, list[dict[str, object]]]:
    """The verdicts, from opening the source to the rows."""
    forget_peak(pid)
    wall, cpu = time.perf_counter(), cpu_s(pid)
    own = time.process_time()
    with open_source(f"clickhouse+http://{address}/otel") as database:
        assert isinstance(database, ClickHouseDatabase)
        rows = database.slo().to_pylist()
    used = cpu_s(pid) - cpu + time.process_time() - own
    return Figures(spans, "ClickHouse", time.perf_counter() - wall, used, peak_mib(pid), len(rows)), rows


def on_duckdb(directory: Path, spans: int) -> tuple[Figures, list[dict[str, object]]]:
    """The same in this process."""
    forget_peak(os.getpid())
    wall, cpu = time.perf_counter(), time.process_time()
    with Database(Files(directory)) as database:
        rows = database.slo().to_pylist()
    used = time.process_time() - cpu
    return Figures(spans, "DuckDB", time.perf_counter() - wall, used, peak_mib(os.getpid()), len(rows)), rows


def agree(ours: list[dict[str, object]], theirs: list[dict[str, object]]) -> bool:
    """Whether both gave the same verdicts and figures, to nine digits."""

    def told(rows: list[dict[str, object]]) -> list[str]:
        return sorted(
            repr(
                [
                    f"{value:.9g}" if isinstance(value, float) else value
                    for key, value in row.items()
                    if key != "targets"
                ]
            )
            for row in rows
        )

    return told(ours) == told(theirs)


def measure(python: Path, spans: list[int], scratch: Path) -> Iterator[tuple[Figures, bool | None]]:
    made = 0
    with serving(python, scratch / "clickhouse") as (address, _):
        statement(address, "CREATE DATABASE otel")
        statement(address, peer.TABLE.format(name="otel.otel_traces"))
    parquet = scratch / "parquet"
    parquet.mkdir()
    for count in sorted(spans):
        with serving(python, scratch / "clickhouse") as (address, _):
            while made < count:
                more = min(STATEMENT_SPANS, count - made)
                statement(address, SPANS.format(first=made, count=more))
                made += more
                print(f"made {made:,} spans", file=sys.stderr, flush=True)
        with serving(python, scratch / "clickhouse") as (address, pid):
            ours, found = on_clickhouse(address, pid, count)
        yield ours, None
        with serving(python, scratch / "clickhouse") as (address, _):
            export(address, parquet, count)
        theirs, wanted = on_duckdb(parquet, count)
        yield theirs, agree(found, wanted)


def export(address: str, directory: Path, spans: int) -> None:
    """The spans as Parquet files, some waves of agents each."""
    for path in directory.glob("*.parquet"):
        path.unlink()
    # The last agents are at work for two waves more.
    waves = -(-spans // (50 * AGENTS)) + 2
    for first in range(0, waves, PARQUET_WAVES):
        bounds = [1_767_225_600_000_000_000 + wave * WAVE_NS for wave in (first, first + PARQUET_WAVES)]
        select = SpanTable("otel.otel_traces", Period(*bounds)).select()
        path = directory / f"spans-{first:06}.parquet"
        statement(address, f"{select} INTO OUTFILE '{path}' FORMAT Parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", default="1000000,10000000")
    parser.add_argument("--scratch", type=Path, help="where the tables go; a temporary directory by default")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    python = peer.found()
    if python is None:
        raise SystemExit(f"chdb is not in ${peer.PEERS}: tests/peers/install.py")
    scratch = Path(tempfile.mkdtemp(prefix="otel-agentperf-", dir=given.scratch))
    lines = [
        "| Spans | Engine | Time | Processor time | Peak memory | Verdicts | Same |",
        "|--:|---|--:|--:|--:|--:|---|",
    ]
    try:
        for figures, is_same in measure(python, [int(each) for each in given.spans.split(",")], scratch):
            same = "" if is_same is None else "yes" if is_same else "no"
            lines.append(
                f"| {figures.spans:,} | {figures.engine} | {figures.wall_s:.1f} s | {figures.cpu_s:.1f} s"
                f" | {figures.peak_mib:,.0f} MiB | {figures.rows} | {same} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = "\n".join(lines) + "\n"
    if given.output is None:
        print(text, end="")
    else:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
